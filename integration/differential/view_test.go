package differential

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

// seen are the members of a message that decide, by their name here, as canonical text. A
// member that is absent is not in it.
type seen map[string]string

// view is what a reader makes of a body: its messages, or why it does not read it.
type view struct {
	Error    string `json:"error"`
	Batch    bool   `json:"batch"`
	Messages []seen `json:"messages"`
}

// opinion is what came of giving a body to a reader: a view, or several if it can be set to
// read in several ways; or, of a server, the calls that its handlers got.
type opinion struct {
	Views []view `json:"views"`

	Status int    `json:"status"`
	Calls  []seen `json:"calls"`
}

// judged is what the gateway has read of a message.
func judged(m *jsonrpc.Message) seen {
	s := seen{"kind": map[jsonrpc.Kind]string{
		jsonrpc.Request: "request", jsonrpc.Notification: "notification", jsonrpc.Response: "response",
	}[m.Kind]}
	if m.Kind != jsonrpc.Response {
		s["method"] = canonicalString(m.Method)
	}
	if m.ID != "" {
		s["id"] = canonicalText([]byte(m.ID))
	}
	p := &m.Params
	for name, text := range map[string]jsonrpc.Text{
		"name": p.Name, "uri": p.URI, "cursor": p.Cursor, "taskId": p.TaskID, "protocolVersion": p.ProtocolVersion,
		"refType": p.Ref.Type, "refName": p.Ref.Name, "refURI": p.Ref.URI, "version": p.Meta.ProtocolVersion,
	} {
		if text.Present {
			s[name] = canonicalString(text.Value)
		}
	}
	if p.RequestID != "" {
		s["requestId"] = canonicalText([]byte(p.RequestID))
	}
	if p.Arguments != nil {
		s["arguments"] = canonicalText(p.Arguments)
	}
	if p.Task {
		s["task"] = "present"
	}
	if n := p.Notifications; n.Present {
		s["notifications"] = canonicalValue([]any{
			n.ToolsListChanged, n.PromptsListChanged, n.ResourcesListChanged, list(n.ResourceSubscriptions), list(n.TaskIDs),
		})
	}
	return s
}

func list(texts []string) []any {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	return values
}

// differ tells what of a view is not as it was judged. Not to read a body at all is no
// difference: what is not read is not done.
func (v *view) differ(messages []seen, batch bool) string {
	switch {
	case v.Error != "":
		return ""
	case v.Batch != batch:
		return fmt.Sprintf("batch %v, judged %v", v.Batch, batch)
	case len(v.Messages) != len(messages):
		return fmt.Sprintf("%d messages, judged %d", len(v.Messages), len(messages))
	}
	for i, m := range messages {
		names := slices.AppendSeq(slices.Collect(maps.Keys(m)), maps.Keys(v.Messages[i]))
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if ours, theirs := m[name], v.Messages[i][name]; ours != theirs {
				return fmt.Sprintf("message %d, %s: sees %s, judged %s", i, name, orNothing(theirs), orNothing(ours))
			}
		}
	}
	return ""
}

// prototype is the beginning of a member in canonical text that some readers leave out or
// take for the object's prototype. The gateway refuses it in what it judges, also in
// arguments if it judges these, and carries it in arguments that it does not look into.
const prototype = `"__proto__":`

// objectOf is by which member the object is named, of the methods that have one.
var objectOf = map[string]string{
	`"tools/call"`: "name", `"prompts/get"`: "name",
	`"resources/read"`: "uri", `"resources/subscribe"`: "uri", `"resources/unsubscribe"`: "uri",
}

// unjudged tells which of the calls that a server's handlers got is not one of the messages
// that were judged.
func unjudged(calls, messages []seen) string {
	left := slices.Clone(messages)
	for _, call := range calls {
		var why string
		i := slices.IndexFunc(left, func(m seen) bool {
			for name, value := range call {
				if m[name] != value && (name != "arguments" || !strings.Contains(m[name], prototype)) {
					why = fmt.Sprintf("%s: sees %s, judged %s", name, orNothing(value), orNothing(m[name]))
					return false
				}
			}
			// The object, which not every reader tells of methods that have none.
			name := objectOf[call["method"]]
			return m[name] == call[name]
		})
		if i < 0 {
			return "called " + strconv.Quote(call["method"]) + ", " + why
		}
		left = slices.Delete(left, i, i+1)
	}
	return ""
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
