package mcpproxy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newTaskServer is a server of 2026-07-28 that runs every call as a task, which no
// other knows.
func newTaskServer(t *testing.T, name string) *mcpServer {
	t.Helper()
	s := &mcpServer{name: name, sessions: map[string]bool{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Method string
			Params struct{ TaskID string }
		}
		_ = json.NewDecoder(r.Body).Decode(&m)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, m.Method)
		id := m.Params.TaskID
		w.Header().Set("Content-Type", "application/json")
		switch {
		case m.Method == "tools/call":
			id = fmt.Sprint(name, "-", len(s.got))
			s.sessions[id] = true
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":%q,"status":"working","ttlMs":null}}`, id)
		case s.sessions[id]:
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","taskId":%q,"status":"working","ttlMs":null,"at":%q}}`, id, name)
		default:
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Task not found","data":{"at":"`+name+`"}}}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// modern sends a request of 2026-07-28 and returns the body of its answer.
func (w *world) modern(t *testing.T, token, method, member, object string) string {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%q:%q,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}`, method, member, object)
	for range 5 { // as send does
		answer, err := w.tryModern(t, token, method, object, body)
		if err == nil {
			return answer
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	t.Fatal("connections are dropped without an answer")
	return ""
}

func (w *world) tryModern(t *testing.T, token, method, object, body string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.address+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": object,
	} {
		r.Header.Set(name, value)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer), nil
}

// start makes a task and returns its id.
func (w *world) start(t *testing.T, token string) string {
	t.Helper()
	var answer struct{ Result struct{ TaskID string } }
	body := w.modern(t, token, "tools/call", "name", "work")
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Result.TaskID == "" {
		t.Fatalf("no task: %s", body)
	}
	return answer.Result.TaskID
}

// TestTasksStay: what is about a task goes to the upstream that made it, without a
// session, and over a reload; when that is no more, to another.
func TestTasksStay(t *testing.T) {
	one, two := newTaskServer(t, "one"), newTaskServer(t, "two")
	w := newWorld(t, one, two)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	tasks := map[string]string{}
	for range 6 {
		id := w.start(t, token)
		tasks[id], _, _ = strings.Cut(id, "-")
	}
	asked := func(id, at string) {
		t.Helper()
		for range 3 {
			if body := w.modern(t, token, "tasks/get", "taskId", id); !strings.Contains(body, fmt.Sprintf(`"at":%q`, at)) {
				t.Errorf("%s: %s", id, body)
			}
		}
	}
	used := map[string]bool{}
	for id, at := range tasks {
		asked(id, at)
		used[at] = true
	}
	if len(used) != 2 {
		t.Errorf("tasks were made on %v only; the fallback policy is round_robin", used)
	}
	w.mustLoad(t)
	for id, at := range tasks {
		asked(id, at)
	}
	if body := w.modern(t, tokenFor(t, "bob"), "tasks/get", "taskId", w.start(t, token)); reasonOf(body) != "not_found" {
		t.Errorf("another's task: %s", body)
	}
	w.servers = []any{object{"name": "a", "proxy": proxyTo(nil, two)}}
	w.mustLoad(t)
	before := one.requests()
	for id := range tasks {
		asked(id, "two")
	}
	if one.requests() != before {
		t.Error("a request reached the upstream that was taken away")
	}
}

// TestTaskUpstreamDown: a task's upstream that does not answer is not tried for ever.
func TestTaskUpstreamDown(t *testing.T) {
	one, two := newTaskServer(t, "one"), newTaskServer(t, "two")
	w := newWorld(t)
	w.servers = []any{object{"name": "a", "proxy": proxyTo(object{"load_balancing": object{
		"selection_policy": object{"policy": "mcp_session", "fallback": object{"policy": "round_robin"}}, "try_duration": "10s", "try_interval": "1ms",
	}}, one, two)}}
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	id := w.start(t, token)
	for strings.HasPrefix(id, "two") {
		id = w.start(t, token)
	}
	one.Close()
	if body := w.modern(t, token, "tasks/get", "taskId", id); !strings.Contains(body, `"at":"two"`) {
		t.Errorf("%s", body)
	}
}

// TestTaskLimitsReload: the limits of the new configuration are applied when it has
// started.
func TestTaskLimitsReload(t *testing.T) {
	w := newWorld(t, newTaskServer(t, "one"))
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	first, second := w.start(t, token), w.start(t, token)
	w.app = object{"tasks": object{"max": 1, "lifetime": "1h"}}
	w.mustLoad(t)
	if body := w.modern(t, token, "tasks/get", "taskId", first); reasonOf(body) != "not_found" {
		t.Errorf("one too many: %s", body)
	}
	if body := w.modern(t, token, "tasks/get", "taskId", second); reasonOf(body) != "" {
		t.Errorf("the last: %s", body)
	}
	w.app = object{"tasks": object{"lifetime": int64(time.Nanosecond)}}
	w.mustLoad(t)
	if body := w.modern(t, token, "tasks/get", "taskId", w.start(t, token)); reasonOf(body) != "not_found" {
		t.Errorf("after its life: %s", body)
	}
}
