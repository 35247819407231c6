package mcpauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// taskServer is a server that runs every call as a task, with the id that the call's
// argument "as" says.
type taskServer struct {
	// media is the type of its answers, ttl what it says of every task.
	media, ttl string

	mu   sync.Mutex
	seen []string // bodies
}

func (s *taskServer) serve(w http.ResponseWriter, r *http.Request) error {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, string(body))
	s.mu.Unlock()
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			TaskID    string
			Task      any
			Arguments struct{ As string }
			Meta      map[string]any `json:"_meta"`
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	result := `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
	switch {
	case m.Method == "tools/call" && m.Params.Task != nil:
		result = fmt.Sprintf(`{"task":{"taskId":%q,"status":"working","ttl":%s}}`, m.Params.Arguments.As, s.ttl)
	case m.Method == "tools/call" && m.Params.Meta != nil:
		result = fmt.Sprintf(`{"resultType":"task","taskId":%q,"status":"working","ttlMs":%s}`, m.Params.Arguments.As, s.ttl)
	case m.Method == "tasks/get":
		result = fmt.Sprintf(`{"resultType":"complete","taskId":%q,"status":"working","ttl":%[2]s,"ttlMs":%[2]s}`, m.Params.TaskID, s.ttl)
	case m.Method == "tasks/list":
		result = `{"tasks":[{"taskId":"one"},{"taskId":"two"},{"taskId":"three"}],"nextCursor":"c"}`
	}
	w.Header().Set("Content-Type", s.media)
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	if s.media != "application/json" {
		answer = "data: " + answer + "\n\n"
	}
	_, err := io.WriteString(w, answer)
	return err
}

// received says how many requests arrived since it was asked last.
func (s *taskServer) received() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.seen)
	s.seen = nil
	return n
}

// last is the body that arrived last.
func (s *taskServer) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

const tasksDeclared = `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`

// era is a way to speak about tasks.
type era struct {
	version string
	methods []string // those about one task
}

var eras = []era{
	{"2025-11-25", []string{"tasks/get", "tasks/result", "tasks/cancel"}},
	{"2026-07-28", []string{"tasks/get", "tasks/update", "tasks/cancel"}},
}

// start calls a tool as a task that the server gives an id.
func (e era) start(t *testing.T, g *gate, token, tool, id, arguments string) string {
	t.Helper()
	params := fmt.Sprintf(`"name":%q,"arguments":{"as":%q%s}`, tool, id, arguments)
	if e.version == "2025-11-25" {
		return e.send(t, g, token, "tools/call", "", params+`,"task":{"ttl":1}`)
	}
	return e.send(t, g, token, "tools/call", tool, params)
}

// about sends a request about a task.
func (e era) about(t *testing.T, g *gate, token, method, id string) string {
	t.Helper()
	// What else names a task does not decide (row F4), and some clients say again that
	// it is one.
	return e.send(t, g, token, method, id, fmt.Sprintf(`"taskId":%q,"inputResponses":{},"task":{"ttl":1}`, id))
}

func (e era) send(t *testing.T, g *gate, token, method, name, params string) string {
	t.Helper()
	meta := `"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"one"}`
	if e.version == "2026-07-28" {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":` + tasksDeclared
	}
	r := g.post(t, token, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+strings.TrimPrefix(params+","+meta, ",")+`}}}`)
	r.Header.Set("Mcp-Protocol-Version", e.version)
	r.Header.Set("Mcp-Method", method)
	r.Header.Set("Mcp-Name", name)
	_, body := g.do(t, r)
	return body
}

func taskRole(name string, allow ...map[string]any) map[string]any {
	grants := make([]any, len(allow))
	for i := range allow {
		grants[i] = allow[i]
	}
	return map[string]any{"name": name, "when": []any{map[string]any{"claim": "roles", "values": []string{name}}}, "allow": grants}
}

func grant(permission string, objects ...string) map[string]any {
	g := map[string]any{"permission": permission}
	if objects != nil {
		g["objects"] = objects
	}
	return g
}

// newTaskGate is a gate with roles for everything that decides about tasks. The table
// of tasks is shared by the process, as it is over reloads, so it is emptied first.
func newTaskGate(t *testing.T, server *taskServer) *gate {
	t.Helper()
	server.media = cmp.Or(server.media, "application/json")
	server.ttl = cmp.Or(server.ttl, "60000")
	conditional := grant("tools.execute", "notes/work")
	conditional["if"] = `args.limit < 10 && claims.team == "blue"`
	careful := grant("tools.execute", "notes/work")
	careful["if"] = `!has(args.danger)`
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // each has a store of its own
	g := newGate(t, map[string]any{"roles": []any{
		taskRole("worker", grant("tools.execute", "notes/work", "notes/play"), grant("tasks.read"), grant("tasks.write")),
		taskRole("idle", grant("tools.execute", "notes/play"), grant("tasks.read"), grant("tasks.write")),
		taskRole("reader", grant("tools.execute", "notes/work"), grant("tasks.read")),
		taskRole("plain", grant("tools.execute", "notes/work")),
		taskRole("blue", conditional, grant("tasks.read"), grant("tasks.write")),
		taskRole("careful", careful, grant("tasks.read"), grant("tasks.write")),
	}}, server.serve)
	return g
}
