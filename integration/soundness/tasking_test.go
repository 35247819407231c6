package soundness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

var (
	worker = person{"https://rsa.test", "wanda", "app", "worker"}
	// colleague may do the same as worker, which is not to see her tasks.
	colleague = person{"https://rsa.test", "walter", "app", "worker"}
	follower  = person{"https://rsa.test", "wanda", "app", "follower"}
	// lapsed is worker without the tool ok.
	lapsed  = person{"https://rsa.test", "wanda", "app", "lapsed"}
	limited = person{"https://rsa.test", "wanda", "app", "limited"}
)

// tasking is how a revision speaks about tasks.
type tasking struct {
	version string
	// methods are those about one task, notification what tells of it.
	methods      []string
	notification string
}

var taskings = []tasking{
	{v25, []string{"tasks/get", "tasks/result", "tasks/cancel"}, "notifications/tasks/status"},
	{v26, []string{"tasks/get", "tasks/update", "tasks/cancel"}, "notifications/tasks"},
}

// withTasks declares the extension for tasks in a request of 2026-07-28.
func withTasks(body string) string {
	return strings.Replace(body, `"io.modelcontextprotocol/clientCapabilities":{}`,
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`, 1)
}

// request is one of that revision; params are without their braces.
func (k tasking) request(t *testing.T, who person, id, method, name, params string) message {
	t.Helper()
	if k.version == v25 {
		return post(t, who, call(id, method, "{"+params+"}"), "MCP-Protocol-Version: "+v25)
	}
	body := strings.Replace(withTasks(modern(method, params)), `"id":1`, `"id":`+id, 1)
	return post(t, who, body, modernHeaders(method, mcp.EncodeHeader(name))...)
}

// call calls a tool so that the server makes a task, with the id it is told.
func (k tasking) call(t *testing.T, who person, tool, task, arguments string) message {
	t.Helper()
	params := fmt.Sprintf(`"name":%q,"arguments":{"as":%q%s}`, tool, task, arguments)
	if k.version == v25 {
		params += `,"task":{"ttl":60000}`
	}
	return k.request(t, who, "1", "tools/call", tool, params)
}

func (k tasking) about(t *testing.T, who person, method, task string) message {
	t.Helper()
	return k.request(t, who, "1", method, task, fmt.Sprintf(`"taskId":%q`, task))
}

// created is what a server answers that has made a task.
func (k tasking) created(task string) string {
	if k.version == v25 {
		return fmt.Sprintf(`{"task":{"taskId":%q,"status":"working","ttl":60000}}`, task)
	}
	return fmt.Sprintf(`{"resultType":"task","taskId":%q,"status":"working","ttlMs":60000}`, task)
}

// host answers as a server does that runs every call as a task.
func (k tasking) host(w http.ResponseWriter, r *http.Request, got received) {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			TaskID    string `json:"taskId"`
			Arguments struct {
				As string `json:"as"`
			} `json:"arguments"`
		} `json:"params"`
	}
	_ = json.Unmarshal(got.body, &m)
	switch m.Method {
	case "tools/call":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, result(string(m.ID), k.created(m.Params.Arguments.As)))
	case "tasks/get", "tasks/result", "tasks/cancel", "tasks/update":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, result(string(m.ID), fmt.Sprintf(`{"taskId":%q,"status":"working"}`, m.Params.TaskID)))
	default:
		speak(w, r, got)
	}
}
