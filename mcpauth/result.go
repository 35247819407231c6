package mcpauth

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// judgeResult decides on what a server answers: nil if the principal may have it.
// Otherwise the client is told so in its place, in a JSON-RPC error.
func (c *Call) judgeResult(m *jsonrpc.Message) *Refusal {
	if m.Kind != jsonrpc.Response || !m.Result.Present {
		return nil
	}
	r := &m.Result
	if !c.mayBeAsked(r.Asks) {
		c.logger.Error("input request of the server is not allowed", zap.String("server", c.Server), zap.Strings("methods", r.Asks))
		return refuse(http.StatusForbidden, mcp.CodeForbidden, "input_forbidden", "the server asks for what it may not")
	}
	asked := c.asked(m.ID)
	if asked != nil && asked.Method == "tasks/get" && r.Task != nil && r.Task.ID == asked.Params.TaskID {
		c.tasks.Renew(c.Server, r.Task.ID.Value, c.Principal.Owner(), r.Task.TTL)
	}
	if r.Capabilities && asked != nil && (asked.Method == "server/discover" || asked.Method == "initialize") {
		c.taskless().Store(!r.HostsTasks)
	}
	if c.Version.Modern() {
		return c.judgeType(r, asked)
	}
	if r.Created == nil {
		return nil
	}
	if asked != nil {
		if task, ok := c.Tasking(asked); ok {
			return c.bind(r.Created, task)
		}
	} else if c.onTask != nil {
		if task, ok := c.onTask(m.ID); ok {
			return c.bind(r.Created, task)
		}
	}
	return nil // nobody asked for a task, so this is none
}

// judgeType decides on a result by its kind (MCP 2026-07-28, results). What a client
// would make of one that is unknown, nobody here could tell.
func (c *Call) judgeType(r *jsonrpc.Result, asked *jsonrpc.Message) *Refusal {
	switch kind := r.Type.Value; {
	case !r.NotText && (!r.Type.Present || kind == "complete" || kind == "input_required"):
		return nil
	case kind == "task" && r.Task != nil && asked != nil && asked.Method == "tools/call" && asked.Params.Meta.Declared.Tasks:
		return c.bind(r.Task, c.newTask(asked))
	}
	c.logger.Error("kind of result is refused", zap.String("server", c.Server), zap.String("type", clip(r.Type.Value)))
	return refuse(http.StatusBadGateway, mcp.CodeUpstream, "result_type", "the server's answer is not acceptable")
}

// asked is the request of the call that has that id, nil when there is none.
func (c *Call) asked(id jsonrpc.ID) *jsonrpc.Message {
	for i := range c.Messages {
		if m := &c.Messages[i]; m.Kind == jsonrpc.Request && m.ID.Key() == id.Key() {
			return m
		}
	}
	return nil
}

// mayBeAsked decides whether a server may have these methods answered by the
// principal's client. In a result they are those that were requests of the server in
// the revisions before, and since then the client declares for each request which of
// them it knows.
func (c *Call) mayBeAsked(methods []string) bool {
	for _, name := range methods {
		method := mcp.Lookup(name, mcp.Server, jsonrpc.Request, mcp.V20251125)
		if method == nil || !c.Principal.may(method.Permission, c.Server, policy.KindNone, "") {
			return false
		}
		if c.Version.Modern() && !c.declares(method.Permission) {
			return false
		}
	}
	return true
}

// declares reports whether the client declares that it can be asked for what needs
// that permission.
func (c *Call) declares(perm mcp.Permission) bool {
	if len(c.Messages) != 1 {
		return false
	}
	declared := &c.Messages[0].Params.Meta.Declared
	switch perm {
	case mcp.ClientSampling:
		return declared.Sampling
	case mcp.ClientElicitation:
		return declared.Elicitation
	case mcp.ClientRoots:
		return declared.Roots
	default:
		return false
	}
}
