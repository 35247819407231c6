package mcpauth

import (
	"io"
	"strings"
	"testing"
)

// TestResultTypes has row F9: a result of a kind that is unknown, or that the client
// does not declare, is not for the client, and nothing of it reaches it.
func TestResultTypes(t *testing.T) {
	result := func(members string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{` + members + `"content":"recognisable"}}`
	}
	task := `"resultType":"task","taskId":"one",`
	for name, tc := range map[string]struct {
		method, declared, answer, reason string
	}{
		"complete":                     {"tools/call", `{}`, result(`"resultType":"complete",`), ""},
		"absent":                       {"tools/call", `{}`, result(``), ""},
		"input_required":               {"tools/call", `{}`, result(`"resultType":"input_required","requestState":"s",`), ""},
		"a task":                       {"tools/call", tasksDeclared, result(task), ""},
		"a task, escaped":              {"tools/call", tasksDeclared, result(`"resultT\u0079pe":"t\u0061sk","taskId":"one",`), ""},
		"a task, not declared":         {"tools/call", `{}`, result(task), "result_type"},
		"a task, escaped, likewise":    {"tools/call", `{}`, result(`"resultT\u0079pe":"t\u0061sk","taskId":"one",`), "result_type"},
		"a task, declared as none":     {"tools/call", `{"extensions":{"io.modelcontextprotocol/tasks":null}}`, result(task), "result_type"},
		"a task, declared elsewhere":   {"tools/call", `{"experimental":{"io.modelcontextprotocol/tasks":{}},"tasks":{}}`, result(task), "result_type"},
		"a task of what is no call":    {"prompts/get", tasksDeclared, result(task), "result_type"},
		"a task of another request":    {"tools/call", tasksDeclared, strings.Replace(result(task), `"id":1`, `"id":2`, 1), "result_type"},
		"a task, spelled otherwise":    {"tools/call", tasksDeclared, result(`"resultType":"Task","taskId":"one",`), "result_type"},
		"a task without an id":         {"tools/call", tasksDeclared, result(`"resultType":"task",`), "result_type"},
		"a task with an odd id":        {"tools/call", tasksDeclared, result(`"resultType":"task","taskId":7,`), "task_id"},
		"a task like that of 2025":     {"tools/call", tasksDeclared, result(`"resultType":"task","task":{"taskId":"one"},`), "result_type"},
		"unknown":                      {"tools/call", tasksDeclared, result(`"resultType":"vendor/x",`), "result_type"},
		"empty":                        {"tools/call", tasksDeclared, result(`"resultType":"",`), "result_type"},
		"a number":                     {"tools/call", tasksDeclared, result(`"resultType":7,`), "result_type"},
		"null":                         {"tools/call", tasksDeclared, result(`"resultType":null,`), "result_type"},
		"an array":                     {"tools/call", tasksDeclared, result(`"resultType":["complete"],`), "result_type"},
		"twice":                        {"tools/call", tasksDeclared, result(`"resultType":"complete","resultType":"task",`), "answer_malformed"},
		"in two cases":                 {"tools/call", tasksDeclared, result(`"resultType":"complete","ResultType":"task",`), "answer_malformed"},
		"in another case":              {"tools/call", tasksDeclared, result(`"RESULTTYPE":"task",`), "answer_malformed"},
		"of a nested object":           {"tools/call", `{}`, result(`"structuredContent":{"resultType":"x"},`), ""},
		"an error is no result":        {"tools/call", `{}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"recognisable","data":{"resultType":"x"}}}`, ""},
		"two results, one of each":     {"tools/call", `{}`, `[` + result(``) + `,` + result(`"resultType":"x",`) + `]`, "result_type"},
		"a text with the name of it":   {"tools/call", `{}`, result(`"x":"resultType","y":"\"resultType\":\"x\"",`), ""},
		"a task in the text of one":    {"tools/call", `{}`, result(`"resultType":"complete","x":"{\"resultType\":\"task\"}",`), ""},
		"complete, with a task's name": {"tools/call", `{}`, result(`"resultType":"complete","taskId":"one",`), ""},
	} {
		for _, media := range []string{"application/json", "text/event-stream"} {
			t.Run(name+"/"+media, func(t *testing.T) {
				answer := tc.answer
				if media == "text/event-stream" {
					answer = "data: " + answer + "\n\n"
				}
				g := newGate(t, nil, says(media, answer))
				_, body := g.do(t, g.modern(t, tokenOf(t, "admin", nil), tc.method, "name", "x", tc.declared))
				switch {
				case tc.reason == "":
					if body != answer {
						t.Errorf("the client received %s", body)
					}
				case strings.Contains(tc.answer, `"id":1`) && !strings.HasPrefix(tc.answer, "[") && strings.Contains(body, "recognisable"):
					t.Errorf("the client received %s", body)
				case media == "text/event-stream" && tc.reason == "answer_malformed":
					if body != "" {
						t.Errorf("the client received %s", body)
					}
				case !strings.Contains(body, `"reason":"`+tc.reason+`"`) || !strings.Contains(body, `"code":50200`):
					t.Errorf("the client received %s, want %s", body, tc.reason)
				}
			})
		}
	}
}

// The revisions before have no kinds of results; what is named so there is the
// server's own.
func TestResultTypesBefore(t *testing.T) {
	answer := `{"jsonrpc":"2.0","id":1,"result":{"resultType":7,"content":[],"task":{"taskId":"one"}}}`
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25"} {
		for _, media := range []string{"application/json", "text/event-stream"} {
			sent := answer
			if media == "text/event-stream" {
				sent = "data: " + answer + "\n\n"
			}
			for _, role := range []string{"admin", "reader"} {
				g := newGate(t, nil, says(media, sent))
				r := g.post(t, tokenOf(t, role, nil), askCall)
				r.Header.Set("Mcp-Protocol-Version", version)
				if _, body := g.do(t, r); body != sent {
					t.Errorf("%s: the client received %s", version, body)
				}
			}
		}
	}
}

// TestTaskNotifications: what a stream tells of tasks is for their owner, and what it
// asks for needs what a result that asks needs.
func TestTaskNotifications(t *testing.T) {
	note := func(method, id, members string) string {
		return `data: {"jsonrpc":"2.0","method":"` + method + `","params":{"taskId":"` + id + `"` + members + `}}` + "\n\n"
	}
	for _, e := range eras {
		method := map[string]string{"2025-11-25": "notifications/tasks/status", "2026-07-28": "notifications/tasks"}[e.version]
		other := map[string]string{"2025-11-25": "notifications/tasks", "2026-07-28": "notifications/tasks/status"}[e.version]
		asks := `,"inputRequests":{"a":{"method":"elicitation/create"}}`
		kept := note(method, "one", `,"status":"working"`)
		dropped := note(method, "two", "") + note(method, "none", "") + note(other, "one", "") + note(method, "one", asks) + note(method, "one", `,"result":{`+asks[1:]+`}`) +
			`data: {"jsonrpc":"2.0","method":"` + method + `","params":{}}` + "\n\n" +
			`data: {"jsonrpc":"2.0","method":"` + method + `","params":{"taskId":"two","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"one"}}}}` + "\n\n" +
			`data: {"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"task":{}}}` + "\n\n"
		server := &taskServer{}
		g := newTaskGate(t, server)
		e.start(t, g, tokenOf(t, "worker", nil), "work", "one", "")
		e.start(t, g, tokenOf(t, "worker", map[string]any{"sub": "other"}), "work", "two", "")
		for role, want := range map[string]string{"worker": kept, "reader": kept, "idle": "", "plain": ""} {
			again := newGate(t, nil, says("text/event-stream", dropped+kept))
			again.handler.tasks, again.handler.policy = g.handler.tasks, g.handler.policy
			if body := e.send(t, again, tokenOf(t, role, nil), "tools/list", "", ""); body != want {
				t.Errorf("%s, %s: the client received %s", e.version, role, body)
			}
		}
	}
}

// TestTaskSubscriptions: subscriptions/listen is narrowed to the principal's own tasks.
func TestTaskSubscriptions(t *testing.T) {
	e := eras[1]
	server := &taskServer{}
	g := newTaskGate(t, server)
	e.start(t, g, tokenOf(t, "worker", nil), "work", "one", "")
	e.start(t, g, tokenOf(t, "worker", map[string]any{"sub": "other"}), "work", "two", "")
	for role, want := range map[string]string{
		"worker": `"notifications":{"toolsListChanged":true,"taskIds":["one"]}`,
		"idle":   `"notifications":{"toolsListChanged":true}`,
		"plain":  `"notifications":{"toolsListChanged":true}`,
	} {
		e.send(t, g, tokenOf(t, role, nil), "subscriptions/listen", "", `"notifications":{"toolsListChanged":true,"taskIds":["one","two","none"]}`)
		if got := server.last(); !strings.Contains(got, want) {
			t.Errorf("%s: the server received %s", role, got)
		}
	}
	e.send(t, g, tokenOf(t, "worker", nil), "subscriptions/listen", "", `"notifications":{ "taskIds":["one"]}`)
	if got := server.last(); !strings.Contains(got, `"notifications":{ "taskIds":["one"]}`) {
		t.Errorf("what was the principal's own was rewritten: %s", got)
	}
	server.received()
	r := g.modern(t, tokenOf(t, "worker", nil), "subscriptions/listen", "x", "", `{}`)
	r.Body = io.NopCloser(strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"taskIds":["one"]},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`))
	r.ContentLength = -1
	if _, body := g.do(t, r); reasonOf(body) != "capability_missing" || server.received() != 0 {
		t.Errorf("by a client that knows no tasks: %s", body)
	}
}

// A task that a client would host for its server is not begun, because nobody could
// follow it.
func TestHostedTasks(t *testing.T) {
	plain := `data: {"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"messages":[]}}` + "\n\n"
	hosted := `data: {"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"messages":[],"task":{"ttl":1}}}` + "\n\n" +
		`data: {"jsonrpc":"2.0","id":"r","method":"tasks/get","params":{"taskId":"one"}}` + "\n\n" +
		`data: {"jsonrpc":"2.0","id":"s","method":"tasks/list"}` + "\n\n"
	g := newGate(t, nil, says("text/event-stream", hosted+plain))
	r := g.post(t, tokenOf(t, "admin", nil), askCall)
	r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	if _, body := g.do(t, r); body != plain {
		t.Errorf("the client received %s", body)
	}
}
