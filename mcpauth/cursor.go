package mcpauth

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// A server's cursor may hold the name of the last item of its page, whether or not the
// principal may see it (that of the Go SDK does). Who may not see everything of a list
// therefore gets cursors sealed. They are for that principal, server and list only.
//
// It is also only its own cursors that such a principal may send: by made-up ones it
// could find out where in the list something hidden stands. The empty one is an
// exception in both directions. It tells nothing, and some servers and clients mean by
// it the list's end or beginning.

// openCursors gives the server back its own cursors in the place of the sealed ones of
// a request. Who has come to see everything since may still send those.
func (c *Call) openCursors() *Refusal {
	var opened []jsonrpc.Text
	for i := range c.Messages {
		m := &c.Messages[i]
		cursor := m.Params.Cursor.Value
		if cursor == "" {
			continue
		}
		method := mcp.Lookup(m.Method, mcp.Client, m.Kind, c.Version)
		switch {
		case method == nil:
			// It is refused as a whole.
		case c.endpoint.cursors.Sealed(cursor):
			text, ok := c.endpoint.cursors.Open(cursor, c.boundTo(method.List)...)
			if !ok {
				return c.refuseCursor(m)
			}
			if opened == nil {
				opened = make([]jsonrpc.Text, len(c.Messages))
			}
			opened[i] = jsonrpc.Text{Value: text, Present: true}
			c.continued = append(c.continued, m.ID.Key())
		case method.List != jsonrpc.NoList && !c.Principal.seesAll[method.List]:
			return c.refuseCursor(m)
		}
	}
	if opened == nil {
		return nil
	}
	return c.forward(jsonrpc.AppendCursors(make([]byte, 0, len(c.Body)), c.Body, c.Messages, opened))
}

// refuseCursor makes a client begin a list again. It is what a server answers to a
// cursor that it does not know (MCP, pagination).
func (c *Call) refuseCursor(m *jsonrpc.Message) *Refusal {
	f := refuse(http.StatusOK, jsonrpc.CodeInvalidParams, "cursor", "Invalid cursor: begin the list again")
	f.ID = m.ID
	if c.Batch {
		f.ID, f.Status = "", http.StatusBadRequest // no single answer can stand for it
	}
	return f
}

// sealCursor is what a result's cursor, if it has one, has to become. What cannot be
// sealed cannot be passed on.
func (c *Call) sealCursor(m *jsonrpc.Message, body []byte) (jsonrpc.Text, error) {
	if !m.Result.HasNextCursor() {
		return jsonrpc.Text{}, nil
	}
	list, hidden := c.listOf(m)
	if !hidden {
		return jsonrpc.Text{}, nil
	}
	cursor, err := m.NextCursor(body)
	if err != nil || cursor.Value == "" {
		return jsonrpc.Text{}, err
	}
	sealed, err := c.endpoint.cursors.Seal(cursor.Value, c.boundTo(list)...)
	if err != nil {
		return jsonrpc.Text{}, errors.New("the result's nextCursor is too long")
	}
	return jsonrpc.Text{Value: sealed, Present: true}, nil
}

// listOf is the list that a result's cursor goes on with, and whether there may be
// something on it that the principal may not see. A result is judged by what it
// holds; if it holds no list, by what was asked; and if it may be the answer to
// anything, sent again after a broken stream, it goes on with no list we know.
func (c *Call) listOf(m *jsonrpc.Message) (list jsonrpc.List, hidden bool) {
	for _, items := range m.Result.Lists {
		if !c.Principal.seesAll[items.List] {
			return items.List, true
		}
	}
	switch {
	case len(m.Result.Lists) > 0:
		return jsonrpc.NoList, false
	case len(c.Messages) == 1:
		method := mcp.Lookup(c.Messages[0].Method, mcp.Client, c.Messages[0].Kind, c.Version)
		if method == nil || method.List == jsonrpc.NoList {
			return jsonrpc.NoList, false
		}
		return method.List, !c.Principal.seesAll[method.List]
	}
	return jsonrpc.NoList, (len(c.Messages) == 0 || c.filters()) && !c.Principal.seesEverything()
}

// boundTo names for whom, and for what, a cursor is sealed.
func (c *Call) boundTo(list jsonrpc.List) []string {
	p := c.Principal
	return []string{p.Issuer, p.Subject, p.ClientID, c.endpoint.id, listName(list)}
}

// listName names a list for as long as cursors are kept, which the numbers do not.
func listName(list jsonrpc.List) string {
	switch list {
	case jsonrpc.Tools:
		return "tools"
	case jsonrpc.Prompts:
		return "prompts"
	case jsonrpc.Resources:
		return "resources"
	case jsonrpc.ResourceTemplates:
		return "resourceTemplates"
	case jsonrpc.Contents:
		return "contents"
	default:
		return ""
	}
}

// tellsCursor reports whether a response is an error that may repeat a cursor which
// was opened for the request, as errors about cursors like to do.
func (c *Call) tellsCursor(m *jsonrpc.Message) bool {
	return m.Failed && len(c.continued) > 0 && (m.ID == "" || slices.Contains(c.continued, m.ID.Key()))
}
