package mcpauth

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestTaskOwners has rows F1, F3 and F4: a task can be followed by who made it, for as
// long as the tool may be called, and by nobody else.
func TestTaskOwners(t *testing.T) {
	for _, e := range eras {
		for _, media := range []string{"application/json", "text/event-stream"} {
			t.Run(e.version+"/"+media, func(t *testing.T) {
				server := &taskServer{media: media}
				g := newTaskGate(t, server)
				mine := tokenOf(t, "worker", nil)
				if made := e.start(t, g, mine, "work", "one", ""); !strings.Contains(made, `"taskId":"one"`) {
					t.Fatalf("not made: %s", made)
				}
				for name, token := range map[string]string{
					"its owner":                     mine,
					"its owner with another token":  tokenOf(t, "worker", map[string]any{"jti": "t-2"}),
					"another subject":               tokenOf(t, "worker", map[string]any{"sub": "other"}),
					"another client":                tokenOf(t, "worker", map[string]any{"client_id": "other"}),
					"its owner without the tool":    tokenOf(t, "idle", nil),
					"its owner with nothing but it": tokenOf(t, "plain", nil),
				} {
					for _, method := range e.methods {
						server.received()
						body := e.about(t, g, token, method, "one")
						want := map[string]string{"its owner": "", "its owner with another token": "", "its owner with nothing but it": "forbidden"}
						reason, ok := want[name]
						if !ok {
							reason = "not_found"
						}
						if got := reasonOf(body); got != reason {
							t.Errorf("%s by %s: %q, want %q: %s", method, name, got, reason, body)
						}
						if n := server.received(); n != map[bool]int{true: 1, false: 0}[reason == ""] {
							t.Errorf("%s by %s: the server received %d requests", method, name, n)
						}
					}
				}
				// Unknown, foreign and lost look the same.
				for _, method := range e.methods {
					foreign := e.about(t, g, tokenOf(t, "worker", map[string]any{"sub": "other"}), method, "one")
					unknown := e.about(t, g, mine, method, "none")
					lost := e.about(t, g, tokenOf(t, "idle", nil), method, "one")
					if foreign != unknown || lost != unknown || !strings.Contains(unknown, "-32602") {
						t.Errorf("%s: foreign %s, unknown %s, lost %s", method, foreign, unknown, lost)
					}
				}
			})
		}
	}
}

// TestTaskReadOnly: tasks.read is to follow, tasks.write to answer and cancel.
func TestTaskReadOnly(t *testing.T) {
	server := &taskServer{}
	g := newTaskGate(t, server)
	for _, e := range eras {
		id := "of " + e.version
		e.start(t, g, tokenOf(t, "worker", nil), "work", id, "")
		for _, method := range e.methods {
			want := map[bool]string{true: "forbidden"}[method == "tasks/cancel" || method == "tasks/update"]
			if got := reasonOf(e.about(t, g, tokenOf(t, "reader", nil), method, id)); got != want {
				t.Errorf("%s in %s: %q, want %q", method, e.version, got, want)
			}
		}
	}
}

// TestTaskIsNotTakenOver: what a server says twice does not move a task.
func TestTaskIsNotTakenOver(t *testing.T) {
	for _, e := range eras {
		for _, media := range []string{"application/json", "text/event-stream"} {
			server := &taskServer{media: media}
			g := newTaskGate(t, server)
			mine, theirs := tokenOf(t, "worker", nil), tokenOf(t, "worker", map[string]any{"sub": "other"})
			e.start(t, g, mine, "work", "one", "")
			for name, body := range map[string]string{
				"another's task":    e.start(t, g, theirs, "work", "one", ""),
				"of another tool":   e.start(t, g, mine, "play", "one", ""),
				"without an id":     e.start(t, g, mine, "work", "", ""),
				"of an endless one": e.start(t, g, mine, "work", strings.Repeat("x", 2000), ""),
			} {
				if body = strings.TrimPrefix(body, "data: "); reasonOf(body) != "task_id" || !strings.Contains(body, "50200") || strings.Contains(body, "one") {
					t.Errorf("%s: %s", name, body)
				}
			}
			if body := e.start(t, g, mine, "work", "one", ""); reasonOf(body) != "" {
				t.Errorf("the same once more: %s", body)
			}
			if body := e.about(t, g, theirs, "tasks/get", "one"); reasonOf(body) != "not_found" {
				t.Errorf("taken over: %s", body)
			}
			if body := e.about(t, g, mine, "tasks/get", "one"); reasonOf(body) != "" {
				t.Errorf("lost: %s", body)
			}
		}
	}
}

// TestTaskConditions has row F3 for grants that depend on the arguments: what was asked
// is asked again, with the claims of now.
func TestTaskConditions(t *testing.T) {
	for _, e := range eras {
		server := &taskServer{}
		g := newTaskGate(t, server)
		blue := func(role, team string) string { return tokenOf(t, role, map[string]any{"team": team}) }
		if body := e.start(t, g, blue("blue", "blue"), "work", "big", `,"limit":11`); reasonOf(body) != "not_found" {
			t.Fatalf("beyond the limit: %s", body)
		}
		e.start(t, g, blue("blue", "blue"), "work", "small", `,"limit":9`)
		e.start(t, g, blue("worker", "blue"), "work", "free", `,"limit":9,"danger":1`)
		e.start(t, g, blue("careful", "blue"), "work", "safe", `,"limit":9`)
		for _, tc := range []struct{ role, team, id, want string }{
			{"blue", "blue", "small", ""},
			{"worker", "red", "small", ""},
			{"blue", "red", "small", "not_found"},
			{"blue", "", "small", "not_found"},
			{"worker", "blue", "free", ""},
			// Nobody looked at its arguments, so they are not known.
			{"blue", "blue", "free", "not_found"},
			{"careful", "", "free", "not_found"},
			{"careful", "", "safe", ""},
			{"careful", "", "small", ""},
			{"blue", "blue", "safe", ""},
		} {
			token := blue(tc.role, tc.team)
			if tc.team == "" {
				token = tokenOf(t, tc.role, nil)
			}
			if got := reasonOf(e.about(t, g, token, "tasks/get", tc.id)); got != tc.want {
				t.Errorf("%s: %+v: %q", e.version, tc, got)
			}
		}
	}
}

// TestTaskTTL: a task is remembered as long as the server says, counted from when it
// said so last.
func TestTaskTTL(t *testing.T) {
	for _, e := range eras {
		for ttl, want := range map[string]string{"60000": "", "0.000001": "not_found", "null": "", `"0.000001"`: "", "-5": ""} {
			server := &taskServer{ttl: ttl}
			g := newTaskGate(t, server)
			token := tokenOf(t, "worker", nil)
			e.start(t, g, token, "work", "one", "")
			if got := reasonOf(e.about(t, g, token, "tasks/get", "one")); got != want {
				t.Errorf("%s: ttl %s: %q, want %q", e.version, ttl, got, want)
			}
		}
		server := &taskServer{}
		g := newTaskGate(t, server)
		token := tokenOf(t, "worker", nil)
		e.start(t, g, token, "work", "one", "")
		server.ttl = "0.000001" // since then the server would forget it
		for _, want := range []string{"", "not_found"} {
			if got := reasonOf(e.about(t, g, token, "tasks/get", "one")); got != want {
				t.Errorf("%s: shortened: %q, want %q", e.version, got, want)
			}
		}
	}
}

// TestTaskList has row F2.
func TestTaskList(t *testing.T) {
	e := eras[0]
	for _, media := range []string{"application/json", "text/event-stream"} {
		server := &taskServer{media: media}
		g := newTaskGate(t, server)
		e.start(t, g, tokenOf(t, "worker", nil), "work", "one", "")
		e.start(t, g, tokenOf(t, "worker", map[string]any{"sub": "other"}), "work", "two", "")
		e.start(t, g, tokenOf(t, "worker", nil), "play", "three", "")
		for role, want := range map[string]string{
			"worker": `"tasks":[{"taskId":"one"},{"taskId":"three"}],"nextCursor":"`,
			"reader": `"tasks":[{"taskId":"one"}],"nextCursor":"`,
			"idle":   `"tasks":[{"taskId":"three"}],"nextCursor":"`,
			"plain":  `"reason":"forbidden"`,
		} {
			if body := e.send(t, g, tokenOf(t, role, nil), "tasks/list", "", ""); !strings.Contains(body, want) || strings.Contains(body, `"c"`) {
				t.Errorf("%s, %s: %s", media, role, body)
			}
		}
	}
}

// TestTaskPermission has row C9: who may not make tasks can't ask for one, and a server
// that makes them by itself is told that the client knows none.
func TestTaskPermission(t *testing.T) {
	server := &taskServer{}
	g := newTaskGate(t, server)
	plain, reader, worker := tokenOf(t, "plain", nil), tokenOf(t, "reader", nil), tokenOf(t, "worker", nil)
	for _, role := range []string{plain, reader} {
		if body := eras[0].start(t, g, role, "work", "one", ""); reasonOf(body) != "forbidden" {
			t.Errorf("a task without tasks.write: %s", body)
		}
	}
	for _, version := range []string{"2025-03-26", "2025-06-18"} {
		r := g.post(t, worker, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"work","task":{}}}`)
		r.Header.Set("Mcp-Protocol-Version", version)
		if _, body := g.do(t, r); reasonOf(body) != "task" {
			t.Errorf("a task in %s: %s", version, body)
		}
	}
	for _, method := range []string{"tools/list", "ping", "prompts/get"} {
		if body := eras[0].send(t, g, worker, method, "", `"name":"x","task":{}`); reasonOf(body) != "task" {
			t.Errorf("%s as a task: %s", method, body)
		}
	}
	if n := server.received(); n != 0 {
		t.Errorf("the server received %d requests", n)
	}
	for _, tc := range []struct {
		token    string
		declared bool
	}{{worker, true}, {reader, true}, {plain, false}} {
		eras[1].start(t, g, tc.token, "work", "one", "")
		if got := server.last(); strings.Contains(got, "io.modelcontextprotocol/tasks") != tc.declared || !strings.Contains(got, `"extensions":{`) {
			t.Errorf("the server received %s", got)
		}
	}
}

// TestTaskRequests has what else can be wrong with a request about a task.
func TestTaskRequests(t *testing.T) {
	server := &taskServer{}
	g := newTaskGate(t, server)
	token := tokenOf(t, "worker", nil)
	for _, e := range eras {
		e.start(t, g, token, "work", "one", "")
		server.received()
		other := map[string][]string{"2025-11-25": {"tasks/update"}, "2026-07-28": {"tasks/result", "tasks/list"}}
		for _, method := range other[e.version] {
			if body := e.about(t, g, token, method, "one"); reasonOf(body) != "unknown_method" {
				t.Errorf("%s in %s: %s", method, e.version, body)
			}
		}
		for _, method := range e.methods {
			for params, want := range map[string]string{
				``:                               "task_missing",
				`"taskID":"one"`:                 "json_case_variant",
				`"taskId":["one"]`:               "member_type",
				`"taskId":"one","taskId":"none"`: "json_duplicate_name",
				`"name":"one"`:                   "task_missing",
			} {
				body := e.send(t, g, token, method, "one", params)
				if got := reasonOf(body); got != want && (e.version != "2026-07-28" || got != "header_mismatch") {
					t.Errorf("%s with %s in %s: %s", method, params, e.version, body)
				}
			}
		}
	}
	// Row F5.
	for _, method := range eras[1].methods {
		for name, want := range map[string]string{"none": "header_mismatch", "": "header_mismatch", "=?base64?b25l?=": "", "One": "header_mismatch"} {
			if got := reasonOf(eras[1].send(t, g, token, method, name, `"taskId":"one"`)); got != want {
				t.Errorf("%s with Mcp-Name %q: %q, want %q", method, name, got, want)
			}
		}
		r := g.modern(t, token, method, "taskId", "one", tasksDeclared)
		r.Header.Del("Mcp-Name")
		if _, body := g.do(t, r); reasonOf(body) != "header_missing" {
			t.Errorf("%s without Mcp-Name: %s", method, body)
		}
		for _, id := range []string{"one", "none"} {
			_, body := g.do(t, g.modern(t, token, method, "taskId", id, `{"extensions":{}}`))
			if !strings.Contains(body, `"code":-32021`) || !strings.Contains(body, `"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`) {
				t.Errorf("%s by a client that declares nothing: %s", method, body)
			}
		}
	}
}

// TestServerWithoutTasks: a server that says that it hosts no tasks does not know their
// methods, and so the gateway does not either.
func TestServerWithoutTasks(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // where nobody has a task
	for _, e := range eras {
		method := map[string]string{"2025-11-25": "initialize", "2026-07-28": "server/discover"}[e.version]
		capabilities := "{}"
		g := newGate(t, nil, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			_, err := io.WriteString(w, `data: {"jsonrpc":"2.0","id":1,"result":{"capabilities":`+capabilities+"}}\n\n")
			return err
		})
		token := tokenOf(t, "admin", nil)
		for _, step := range []struct{ capabilities, want string }{
			{"", "not_found"},
			{"{}", "unknown_method"},
			{`{"tasks":{}}`, "not_found"},
			{`{"tasks":null,"extensions":{"x/y":{}}}`, "unknown_method"},
			{`{"extensions":{"io.modelcontextprotocol/tasks":{}}}`, "not_found"},
		} {
			if capabilities = step.capabilities; capabilities != "" {
				e.send(t, g, token, method, "", "")
			}
			for _, method := range e.methods {
				if got := reasonOf(e.about(t, g, token, method, "one")); got != step.want {
					t.Errorf("%s in %s with capabilities %s: %q", method, e.version, capabilities, got)
				}
			}
		}
	}
}
