package mcpauth

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// judgeTask decides on what is about a task (MCP 2025-11-25, tasks; tasks extension):
// it must be the principal's own, and the call that made it must be one that the
// principal may make now. Any other task looks like one that does not exist.
func (c *Call) judgeTask(m *jsonrpc.Message, perm mcp.Permission) *Refusal {
	if !m.Params.TaskID.Present {
		return c.invalid(m, "task_missing", "params.taskId is missing")
	}
	if refusal := c.judgeServer(m, perm); refusal != nil {
		return refusal
	}
	if c.Version.Modern() && !m.Params.Meta.Declared.Tasks && !c.taskless().Load() {
		return undeclaredTasks(m)
	}
	task, err := c.tasks.Find(c.context(), c.Server, m.Params.TaskID.Value, c.Principal.Owner())
	switch {
	case errors.Is(err, state.ErrNotFound):
		return c.unknownTask(m)
	case err != nil:
		return c.noStore(m, err)
	}
	asked := c.made(&task)
	if !c.mayUse(asked) {
		if scopes := c.stepUp(); len(scopes) > 0 {
			return c.endpoint.insufficient(m.ID, scopes)
		}
		return c.unknownTask(m)
	}
	c.Prefer = task.Upstream
	if m.Method == "tasks/get" {
		c.ReadJSON() // for how long the task lives
	}
	return nil
}

// unknownTask answers for any task that the principal may not follow as its server
// would for one that does not exist.
func (c *Call) unknownTask(m *jsonrpc.Message) *Refusal {
	if c.taskless().Load() {
		return unknownMethod(m, c.Version)
	}
	return unknownObject(m, mcp.Task, c.Version, "")
}

// taskless is whether the server has said, in the call's era, that it hosts no tasks.
func (c *Call) taskless() *atomic.Bool {
	if c.Version.Modern() {
		return &c.endpoint.taskless[1]
	}
	return &c.endpoint.taskless[0]
}

// made is the question that the call was which made a task. It is asked anew each
// time: what a rule says of the arguments then holds for as long as the task is
// followed.
func (c *Call) made(task *state.Task) policy.Question {
	asked := policy.Question{
		Permission: mcp.ToolsExecute,
		Server:     c.Server,
		Kind:       policy.KindName,
		Object:     task.Tool,
		Claims:     c.Principal.All,
		Client:     c.Principal.ClientID,
	}
	if task.Known {
		asked.Arguments = func() (map[string]any, error) { return arguments(task.Arguments) }
	}
	return asked
}

// mayFollow decides whether the principal may be told about a task.
func (c *Call) mayFollow(id string) bool {
	if !c.Principal.may(mcp.TasksRead, c.Server, policy.KindNone, "") {
		return false
	}
	task, err := c.tasks.Find(c.context(), c.Server, id, c.Principal.Owner())
	return err == nil && c.mayUse(c.made(&task))
}

// noStore answers when it is not known whose a task is.
func (c *Call) noStore(m *jsonrpc.Message, err error) *Refusal {
	c.logger.Error("the store of tasks is not available", zap.Error(err))
	f := refuse(http.StatusServiceUnavailable, mcp.CodeUpstream, "store_unavailable", "it is not known whose this task is; try again")
	f.ID = m.ID
	return f
}

// lookUpTasks finds out about all tasks of a list at once.
func (c *Call) lookUpTasks(f *jsonrpc.Filter, items []jsonrpc.Item) error {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].Key
	}
	there, err := c.tasks.FindAll(c.context(), c.Server, ids)
	if err != nil {
		return err
	}
	keep := f.Keep
	f.Keep = func(list jsonrpc.List, key string) bool {
		return (list != jsonrpc.Tasks || there[key]) && keep(list, key)
	}
	return nil
}

// judgeTasking decides on a call that asks to be run as a task. The revisions before
// 2025-11-25 do not have that, but there are servers that do it all the same, and
// nobody could follow such a task; those after it have servers decide by themselves,
// and ignore what the client asks for.
func (c *Call) judgeTasking(m *jsonrpc.Message) *Refusal {
	if strings.HasPrefix(m.Method, "tasks/") {
		return nil // the TypeScript SDK 1.x says it again each time it asks for the task
	}
	if m.Method != "tools/call" || c.Version < mcp.V20251125 {
		return c.invalid(m, "task", "this can't be run as a task")
	}
	if !c.Version.Modern() {
		c.ReadJSON() // for the task's id
	}
	return c.judgeServer(m, mcp.TasksWrite)
}

// withoutTasks takes the extension for tasks out of what the client declares, when its
// principal may not follow any: the server then answers the call itself.
func (c *Call) withoutTasks(m *jsonrpc.Message) *Refusal {
	if !m.Params.Meta.Declared.Tasks || c.Principal.may(mcp.TasksRead, c.Server, policy.KindNone, "") {
		return nil
	}
	return c.forward(m.AppendWithoutTasks(make([]byte, 0, len(c.Body)), c.Body))
}

// Tasking returns the task that a message asks for, if it does.
func (c *Call) Tasking(m *jsonrpc.Message) (state.Task, bool) {
	if !m.Params.Task || m.Method != "tools/call" || c.Version.Modern() {
		return state.Task{}, false
	}
	return c.newTask(m), true
}

// newTask is a task that a call makes.
func (c *Call) newTask(m *jsonrpc.Message) state.Task {
	task := state.Task{Owner: c.Principal.Owner(), Tool: m.Params.Name.Value, Upstream: c.Upstream, Known: c.looked}
	if c.looked {
		task.Arguments = bytes.Clone(m.Params.Arguments)
	}
	return task
}

// bind enters a task that the server made.
func (c *Call) bind(made *jsonrpc.Task, task state.Task) *Refusal {
	err := errors.New("the task has no id")
	if made.ID.Present {
		err = c.tasks.Bind(context.WithoutCancel(c.context()), c.Server, made.ID.Value, task, made.TTL)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrUnavailable):
		c.logger.Error("task can't be entered: the store is not available", zap.String("server", c.Server), zap.Error(err))
		return refuse(http.StatusServiceUnavailable, mcp.CodeUpstream, "store_unavailable", "it can't be kept whose this task is")
	}
	c.logger.Error("task of the server is refused", zap.String("server", c.Server), zap.String("tool", clip(task.Tool)), zap.Error(err))
	return refuse(http.StatusBadGateway, mcp.CodeUpstream, "task_id", "the server's answer is not acceptable")
}

// undeclaredTasks answers a client that does not declare that it knows tasks (tasks
// extension, error handling).
func undeclaredTasks(m *jsonrpc.Message) *Refusal {
	f := refuse(http.StatusBadRequest, mcp.CodeMissingClientCapability, "capability_missing", "Missing required client capability")
	f.ID = m.ID
	f.data = []any{"requiredCapabilities", jsonrpc.ID(`{"extensions":{"io.modelcontextprotocol/tasks":{}}}`)}
	return f
}
