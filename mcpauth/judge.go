package mcpauth

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// judge decides on every message of a call. If one is refused, all are.
func (c *Call) judge() *Refusal {
	if !c.mayServer(mcp.ServersUse) {
		return c.endpoint.forbidden(c.ID(), c.stepUp())
	}
	if refusal := c.openCursors(); refusal != nil {
		return refusal
	}
	for i := range c.Messages {
		refusal := c.judgeMessage(&c.Messages[i])
		if refusal == nil {
			continue
		}
		if c.Batch {
			// No single answer can stand for a whole batch.
			refusal.ID = ""
			if refusal.Status < http.StatusBadRequest {
				refusal.Status = http.StatusForbidden
			}
		}
		return refusal
	}
	return nil
}

func (c *Call) judgeMessage(m *jsonrpc.Message) *Refusal {
	if m.Kind == jsonrpc.Response {
		return nil // mcp_proxy knows whether it was asked for
	}
	method := mcp.Lookup(m.Method, mcp.Client, m.Kind, c.Version)
	if method == nil {
		if m.Kind == jsonrpc.Notification && strings.HasPrefix(m.Method, "notifications/") {
			return ignored()
		}
		return unknownMethod(m, c.Version)
	}
	if c.Batch && m.Method == "initialize" {
		return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "batch_initialize", "initialize must not be in a batch")
	}
	if m.Params.Task {
		if refusal := c.judgeTasking(m); refusal != nil {
			return refusal
		}
	}
	if m.Method == "server/discover" {
		c.ReadJSON() // for whether the server hosts tasks
	}
	switch method.Object {
	case mcp.NoObject:
		if method.List != jsonrpc.NoList && method.List != jsonrpc.Tasks {
			return nil // judged item by item
		}
		return c.judgeServer(m, method.Permission)
	case mcp.Tool, mcp.Prompt:
		if !m.Params.Name.Present {
			return c.invalid(m, "name_missing", "params.name is missing")
		}
		if refusal := c.judgeObject(m, method.Object, method.Permission, policy.KindName, m.Params.Name.Value); refusal != nil {
			return refusal
		}
		return c.withoutTasks(m)
	case mcp.Resource:
		if !m.Params.URI.Present {
			return c.invalid(m, "uri_missing", "params.uri is missing")
		}
		return c.judgeObject(m, method.Object, method.Permission, policy.KindURI, m.Params.URI.Value)
	case mcp.Reference:
		return c.judgeReference(m, method.Permission)
	case mcp.Subscription:
		return c.narrow(m)
	case mcp.Task:
		return c.judgeTask(m, method.Permission)
	default:
		return unknownMethod(m, c.Version)
	}
}

func (c *Call) invalid(m *jsonrpc.Message, reason, message string) *Refusal {
	f := refuse(http.StatusBadRequest, jsonrpc.CodeInvalidParams, reason, message)
	f.ID = m.ID
	return f
}

// judgeServer decides on what is about the server as a whole.
func (c *Call) judgeServer(m *jsonrpc.Message, perm mcp.Permission) *Refusal {
	if c.mayServer(perm) {
		return nil
	}
	if m.Kind == jsonrpc.Notification {
		return ignored()
	}
	return c.endpoint.forbidden(m.ID, c.stepUp())
}

func (c *Call) judgeObject(m *jsonrpc.Message, object mcp.Object, perm mcp.Permission, kind policy.ObjectKind, name string) *Refusal {
	asked := c.question(m, perm, kind, name)
	if c.mayUse(asked) {
		return nil
	}
	if scopes := c.stepUp(); len(scopes) > 0 {
		return c.endpoint.insufficient(m.ID, scopes)
	}
	return unknownObject(m, object, c.Version, name)
}

// judgeReference decides on completion/complete, which tells about what it
// completes for: the principal must be allowed that as well.
func (c *Call) judgeReference(m *jsonrpc.Message, perm mcp.Permission) *Refusal {
	ref := &m.Params.Ref
	switch {
	case ref.Type.Value == "ref/prompt" && ref.Name.Present && !ref.URI.Present:
		if refusal := c.judgeObject(m, mcp.Prompt, mcp.PromptsExecute, policy.KindName, ref.Name.Value); refusal != nil {
			return refusal
		}
		return c.judgeObject(m, mcp.Prompt, perm, policy.KindName, ref.Name.Value)
	case ref.Type.Value == "ref/resource" && ref.URI.Present && !ref.Name.Present:
		kind := referenceKind(ref.URI.Value)
		if refusal := c.judgeObject(m, mcp.Resource, mcp.ResourcesRead, kind, ref.URI.Value); refusal != nil {
			return refusal
		}
		return c.judgeObject(m, mcp.Resource, perm, kind, ref.URI.Value)
	}
	return c.invalid(m, "ref", "params.ref must be a ref/prompt with a name or a ref/resource with a uri")
}

// narrow reduces subscriptions/listen to what the principal may follow. The
// server's acknowledgement then names just that (MCP 2026-07-28, subscriptions).
func (c *Call) narrow(m *jsonrpc.Message) *Refusal {
	p, asked := c.Principal, m.Params.Notifications
	if !asked.Present {
		return c.invalid(m, "notifications_missing", "params.notifications is missing")
	}
	if len(asked.TaskIDs) > 0 && !m.Params.Meta.Declared.Tasks {
		return undeclaredTasks(m)
	}
	if c.wanted != nil {
		return nil // what is not allowed is left out, not refused
	}
	some := func(perm mcp.Permission) bool { return p.maySome(perm, c.Server) }
	allowed := jsonrpc.Notifications{
		Present:              true,
		ToolsListChanged:     asked.ToolsListChanged && some(mcp.ToolsRead),
		PromptsListChanged:   asked.PromptsListChanged && some(mcp.PromptsRead),
		ResourcesListChanged: asked.ResourcesListChanged && some(mcp.ResourcesRead),
	}
	for _, uri := range asked.ResourceSubscriptions {
		if p.may(mcp.ResourcesSubscribe, c.Server, policy.KindURI, uri) {
			allowed.ResourceSubscriptions = append(allowed.ResourceSubscriptions, uri)
		}
	}
	for _, id := range asked.TaskIDs {
		if c.mayFollow(id) {
			allowed.TaskIDs = append(allowed.TaskIDs, id)
		}
	}
	if !asked.Unknown &&
		asked.ToolsListChanged == allowed.ToolsListChanged &&
		asked.PromptsListChanged == allowed.PromptsListChanged &&
		asked.ResourcesListChanged == allowed.ResourcesListChanged &&
		slices.Equal(asked.ResourceSubscriptions, allowed.ResourceSubscriptions) &&
		slices.Equal(asked.TaskIDs, allowed.TaskIDs) {
		return nil
	}
	return c.forward(m.AppendNarrowed(make([]byte, 0, len(c.Body)), c.Body, allowed))
}

// verdict is what the gateway makes of what a server sent.
type verdict struct {
	// bytes is what to send the client instead, nil for nothing.
	bytes []byte
	// changed is whether bytes differ from what the server sent.
	changed bool
}

// carry decides on what a server sent, one message or a batch: what the principal
// may not see is taken out.
func (c *Call) carry(body []byte) (verdict, error) {
	messages, batch, err := jsonrpc.ReadAnswer(body)
	if err != nil {
		return verdict{}, err
	}
	var out [][]byte
	for i := range messages {
		m := &messages[i]
		allowed, refusal := c.mayReceive(m), c.judgeResult(m)
		if c.onMessage != nil {
			allowed = c.onMessage(m, allowed)
		}
		if !allowed {
			continue
		}
		sent := m.Raw
		if m.Kind == jsonrpc.Response {
			f, ok, err := c.filterFor(m, body)
			if err != nil {
				return verdict{}, err
			}
			if ok {
				sent = m.AppendFiltered(nil, body, f)
			}
			if c.tellsCursor(m) {
				sent = jsonrpc.AppendError(nil, m.ID, jsonrpc.CodeInvalidParams, "the server does not go on with this list: begin it again", "reason", "cursor")
			}
			if refusal != nil {
				sent = jsonrpc.AppendError(nil, m.ID, refusal.Code, refusal.Message, "reason", refusal.Reason)
			}
		}
		out = append(out, sent)
	}
	switch {
	case len(out) == 0:
		return verdict{changed: true}, nil
	case batch:
		joined := append([]byte{'['}, bytes.Join(out, []byte{','})...)
		return verdict{append(joined, ']'), true}, nil
	case bytes.Equal(out[0], messages[0].Raw):
		return verdict{bytes: body}, nil
	}
	return verdict{out[0], true}, nil
}

// filterFor returns the filter for a response, and whether it needs one. A response
// is filtered by what it holds, whatever it answers: a client may use an id twice, and
// what is sent again after a broken stream answers nothing of this call. An error means
// that it cannot be made fit to be seen.
func (c *Call) filterFor(m *jsonrpc.Message, body []byte) (jsonrpc.Filter, bool, error) {
	cursor, err := c.sealCursor(m, body)
	told := c.instruct(m)
	if err != nil || len(m.Result.Lists) == 0 && !cursor.Present && told == nil {
		return jsonrpc.Filter{}, false, err
	}
	f, all := c.filter(), true
	for _, list := range m.Result.Lists {
		all = all && c.Principal.seesAll[list.List]
		if list.List == jsonrpc.Tasks {
			if err := c.lookUpTasks(&f, list.Items); err != nil {
				return jsonrpc.Filter{}, false, err
			}
		}
	}
	f.Cursor, f.Instructions = cursor, told
	// What everybody is told in the same way is private only if the rest is.
	f.Private = c.Version.Modern() && (!all || told != nil && c.endpoint.instructions.Mode == "")
	return f, !all || cursor.Present || told != nil, nil
}

// mayReceive decides whether the principal's client may be sent a request or
// notification of the server.
func (c *Call) mayReceive(m *jsonrpc.Message) bool {
	if m.Kind == jsonrpc.Response {
		return true
	}
	method := mcp.Lookup(m.Method, mcp.Server, m.Kind, c.Version)
	if method == nil {
		return false
	}
	switch {
	case m.Params.Task:
		// A task that the client hosts for the server: nobody could follow it.
		return false
	case method.Permission == mcp.PermissionNone:
		return true
	case method.Object == mcp.Task:
		return c.mayFollow(m.Params.TaskID.Value) && c.mayBeAsked(m.Params.Asks)
	case method.Object == mcp.Resource:
		return c.Principal.may(method.Permission, c.Server, policy.KindURI, m.Params.URI.Value)
	}
	return c.Principal.may(method.Permission, c.Server, policy.KindNone, "")
}
