package soundness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestObjects(t *testing.T) {
	as := func(method, params string, header ...string) message {
		return post(t, alice, call("1", method, params), header...)
	}
	v2511 := "MCP-Protocol-Version: 2025-11-25"
	read := func(uri string) message { return as("resources/read", fmt.Sprintf(`{"uri":%q}`, uri)) }
	complete := func(ref string) message {
		return as("completion/complete", `{"ref":`+ref+`,"argument":{"name":"x","value":""}}`)
	}
	listen := func(notifications string) message {
		return post(t, alice, modern("subscriptions/listen", `"notifications":`+notifications), modernHeaders("subscriptions/listen", "")...)
	}
	badRef := want{400, -32602, "ref"}
	newer := func(method, member, object string) message {
		return post(t, alice, modern(method, fmt.Sprintf(`%q:%q`, member, object)), modernHeaders(method, object)...)
	}
	withScope := func(scope any) message {
		return post(t, alice, callTool("ok")).without("Authorization").with("Authorization: Bearer " +
			alice.token(t, claims{"groups": []string{"scoped"}, "scope": scope}))
	}
	insufficient := want{403, 40300, "insufficient_scope"}

	attacks := []attack{
		{"C1 a hidden prompt", as("prompts/get", `{"name":"hidden"}`), notFound},
		{"C1 a hidden prompt, modern", newer("prompts/get", "name", "hidden"), notFound},
		{"C1 a forbidden resource", read("file:///secret/b"), noResource},
		{"C1 a forbidden resource, modern", newer("resources/read", "uri", "file:///secret/b"), notFound},
		{"C1 no uri", as("resources/read", `{"name":"file:///pub/a"}`), want{400, -32602, "uri_missing"}},
		{"C1 a tool under the name of a prompt", as("tools/call", `{"name":"open"}`), notFound},
		{"C1 a tool that may only be seen", as("tools/call", `{"name":"admin"}`), notFound},
	}
	for _, uri := range []string{
		"file:///pub/../secret/b", "file:///pub/./a", "file:///pub/%2e%2e/secret/b", "file:///pub/%2E%2E/secret/b", "file:///pub/.%2e/secret/b",
		"file:///pub/%252e%252e/secret/b", "file:///pub/..%2fsecret/b", "file:///pub/..%5csecret", `file:///pub/..\secret`, "FILE:///pub/a",
		"file://localhost/pub/a", "file:/pub/a", "file:////pub/a", "file:///pub/a#/../../secret", "file:///pub/a?x=/../secret", "file:///pub/;/../secret",
		"file:///pub/%00", "file:///pub/a%0a", "file:///pub/\u2025/secret", "file:///pub/..;/secret/b", "file:///PUB/a", "file:///pub", " file:///pub/a", "file:///pub/%c0%ae%c0%ae/secret",
		"file:///pub/%ff%zz", "file:///public/a", "file://evil@/pub/a", "file:///pub/a?", "file:///pub/a#",
	} {
		attacks = append(attacks, attack{"C2 uri " + uri, read(uri), noResource})
	}
	attacks = append(attacks, []attack{
		{"C4 an expansion of a template that may be seen", read("db:secret"), noResource},
		{"C4 a template instead of a uri", read("file:///secret/{name}"), noResource},
		{"C5 a hidden prompt", complete(`{"type":"ref/prompt","name":"hidden"}`), notFound},
		{"C5 a forbidden uri", complete(`{"type":"ref/resource","uri":"file:///secret/b"}`), noResource},
		{"C5 a forbidden template", complete(`{"type":"ref/resource","uri":"file:///secret/{name}"}`), noResource},
		{"C5 a template that reaches beyond its prefix", complete(`{"type":"ref/resource","uri":"file:///pub/../secret/{name}"}`), noResource},
		{"C5 an unknown type", complete(`{"type":"ref/tool","name":"admin"}`), badRef},
		{"C5 a type in another case", complete(`{"type":"ref/Prompt","name":"open"}`), badRef},
		{"C5 name and uri", complete(`{"type":"ref/prompt","name":"open","uri":"file:///secret/b"}`), badRef},
		{"C5 uri and name", complete(`{"type":"ref/resource","uri":"file:///pub/a","name":"hidden"}`), badRef},
		{"C5 type twice", complete(`{"type":"ref/prompt","type":"ref/resource","name":"open"}`), duplicate},
		{"C5 Name beside name", complete(`{"type":"ref/prompt","name":"open","Name":"hidden"}`), caseVariant},
		{"C5 no ref", as("completion/complete", `{"argument":{"name":"x","value":""}}`), badRef},
		{"C5 a ref that is text", complete(`"hidden"`), wrongType},
		{"C6 subscribing to a forbidden uri", as("resources/subscribe", `{"uri":"file:///secret/b"}`), noResource},
		{"C6 subscribing to what may only be read", as("resources/subscribe", `{"uri":"db:1"}`), noResource},
		{"C6 unsubscribing from a forbidden uri", as("resources/unsubscribe", `{"uri":"file:///secret/b"}`), noResource},
		{"C8 listening to nothing", post(t, alice, modern("subscriptions/listen", ""), modernHeaders("subscriptions/listen", "")...), want{400, -32602, "notifications_missing"}},
		{"C8 a filter in another case", listen(`{"resourceSubscriptions":[],"ResourceSubscriptions":["file:///secret/b"]}`), caseVariant},
		{"C8 a filter twice", listen(`{"resourceSubscriptions":[],"resourceSubscriptions":["file:///secret/b"]}`), duplicate},
		{"C8 a filter that is no list", listen(`{"resourceSubscriptions":"file:///secret/b"}`), wrongType},
		{"C9 a call as a task", as("tools/call", `{"name":"ok","task":{}}`, v2511), notAllowed},
		{"C9 a call as a task that is null", as("tools/call", `{"name":"ok","task":null}`, v2511), notAllowed},
		{"C9 a call as a task, escaped", as("tools/call", `{"name":"ok","t\u0061sk":{}}`, v2511), notAllowed},
		{"C9 a call as a task in another case", as("tools/call", `{"name":"ok","Task":{}}`, v2511), caseVariant},
		{"C9 a call of a forbidden tool as a task", post(t, worker, call("1", "tools/call", `{"name":"admin","task":{}}`), v2511), notFound},
		{"C9 a call as a task, by who may only follow them", post(t, follower, call("1", "tools/call", `{"name":"ok","task":{}}`), v2511), notAllowed},
		{"C9 a call as a task, modern", post(t, alice, modern("tools/call", `"name":"ok","task":{}`), modernHeaders("tools/call", "ok")...), notAllowed},
		{"C9 a call as a task before there were any", post(t, worker, call("1", "tools/call", `{"name":"ok","task":{}}`), "MCP-Protocol-Version: 2025-06-18"), want{400, -32602, "task"}},
		{"C9 a call as a task without a version", post(t, worker, call("1", "tools/call", `{"name":"ok","task":{}}`)), want{400, -32602, "task"}},
		{"C9 a prompt as a task", post(t, root, call("1", "prompts/get", `{"name":"open","task":{}}`), v2511), want{400, -32602, "task"}},
		{"C9 tasks/list", as("tasks/list", `{}`, v2511), notAllowed},
		{"C9 tasks/get", as("tasks/get", `{"taskId":"x"}`, v2511), notAllowed},
		{"C9 tasks/result", as("tasks/result", `{"taskId":"x"}`, v2511), notAllowed},
		{"C9 tasks/cancel", as("tasks/cancel", `{"taskId":"x"}`, v2511), notAllowed},
		{"C9 tasks/cancel, by who may only follow them", post(t, follower, call("1", "tasks/cancel", `{"taskId":"x"}`), v2511), notAllowed},
		{"C9 tasks/get before there were any", post(t, worker, call("1", "tasks/get", `{"taskId":"x"}`), "MCP-Protocol-Version: 2025-06-18"), unknownMethod},
		{"C9 tasks/update, modern", post(t, alice, modern("tasks/update", `"taskId":"x","inputResponses":{}`), modernHeaders("tasks/update", "x")...), notAllowed},
		{"C9 tasks/list, modern", post(t, root, modern("tasks/list", ""), modernHeaders("tasks/list", "")...), unknownModern},
		{"C9 tasks/result, modern", post(t, root, modern("tasks/result", `"taskId":"x"`), modernHeaders("tasks/result", "x")...), unknownModern},
		{"C10 no token", post(t, alice, callTool("ok")).without("Authorization"), want{401, 40100, "token_missing"}},
		{"C11 a scope is missing", withScope("mcp:read"), insufficient},
		{"C11 no scope at all", withScope(nil), insufficient},
		{"C12 a tool that no scope gives", post(t, nobody, callTool("ok")), notAllowed},
		{"C12 the log level", as("logging/setLevel", `{"level":"debug"}`), notAllowed},
		{"C14 dots below a glob", as("tools/call", `{"name":"db_/../admin"}`), notFound},
		{"C14 a slash below a glob", as("tools/call", `{"name":"db_a/b"}`), notFound},
		{"C14 text before a glob", as("tools/call", `{"name":"xdb_a"}`), notFound},
		{"C14 the server's name before the tool", as("tools/call", `{"name":"main/ok"}`), notFound},
		{"C14 a line break below a glob", as("tools/call", `{"name":"db_a\nadmin"}`), control},
	}...)
	refuseAll(t, attacks)
}

func TestChallenges(t *testing.T) {
	metadata := fmt.Sprintf(`resource_metadata="https://localhost:%d/.well-known/oauth-protected-resource/mcp"`, world.secure)
	challenge := func(t *testing.T, w wire, m message) string {
		t.Helper()
		up := watch(t)
		r := w.send(t, m)
		up.nothing(t)
		if all := r.header.Values("Www-Authenticate"); len(all) > 1 {
			t.Errorf("%d challenges", len(all))
		}
		return r.header.Get("Www-Authenticate")
	}
	everywhere(t, "C10 the challenge without a token", versions, func(t *testing.T, version string, w wire) {
		want := `Bearer scope="mcp:call", ` + metadata
		if got := challenge(t, w, callOf(t, version, alice, "ok").without("Authorization")); got != want {
			t.Errorf("challenge %s, want %s", got, want)
		}
	})
	everywhere(t, "C11 one challenge has all scopes", versions, func(t *testing.T, version string, w wire) {
		token := alice.token(t, claims{"groups": []string{"scoped"}, "scope": "mcp:read offline_access"})
		m := callOf(t, version, alice, "ok").without("Authorization").with("Authorization: Bearer " + token)
		// A client of 2026-07-28 keeps what it has without being told.
		scopes := "mcp:read mcp:all mcp:write"
		if version == v26 {
			scopes = "mcp:all mcp:write"
		}
		got := challenge(t, w, m)
		if !strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, `scope="`+scopes+`"`) || !strings.Contains(got, metadata) {
			t.Errorf("challenge %s", got)
		}
	})
	everywhere(t, "H3 nothing that a client sends is in a challenge", versions, func(t *testing.T, version string, w wire) {
		const hostile = `x", error="none", scope="*`
		want := `Bearer error="invalid_token", error_description="` + "@" + `", scope="mcp:call", ` + metadata
		m := callOf(t, version, alice, hostile, "User-Agent: "+hostile, "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: /"+hostile, "Mcp-Session-Id: a\"b")
		m.path = `/mcp?resource_metadata="https://evil.example/"&scope=*`
		for _, token := range []string{hostile, "a.b.c", alice.token(t, claims{"iss": hostile}), alice.token(t, claims{"sub": nil, "scope": "*"})} {
			got := challenge(t, w, m.without("Authorization").with("Authorization: Bearer "+token))
			_, rest, _ := strings.Cut(got, `error_description="`)
			description, _, _ := strings.Cut(rest, `"`)
			if got != strings.Replace(want, "@", description, 1) {
				t.Errorf("challenge %s", got)
			}
		}
		noToken := `Bearer scope="mcp:call", ` + metadata
		if got := challenge(t, w, m.without("Authorization")); got != noToken {
			t.Errorf("challenge %s, want %s", got, noToken)
		}
	})
	everywhere(t, "C12 no challenge where no scope would help", versions, func(t *testing.T, version string, w wire) {
		for _, m := range []message{
			callOf(t, version, nobody, "ok"), callOf(t, version, alice, "admin"), ask(t, version, alice, "prompts/get", `"name":"hidden"`),
			ask(t, version, alice, "logging/setLevel", `"level":"debug"`),
		} {
			if got := challenge(t, w, m); got != "" {
				t.Errorf("challenge %s", got)
			}
		}
	})
	everywhere(t, "C13 hidden and non-existent look the same", versions, func(t *testing.T, version string, w wire) {
		kinds := [][3]string{
			{"tools/call", `"name":%q`, "admin"},
			{"prompts/get", `"name":%q`, "hidden"},
			{"resources/read", `"uri":%q`, "file:///secret/b"},
			{"completion/complete", `"ref":{"type":"ref/prompt","name":%q}`, "hidden"},
			{"completion/complete", `"ref":{"type":"ref/resource","uri":%q}`, "file:///secret/b"},
		}
		if version != v26 {
			kinds = append(kinds, [3]string{"resources/subscribe", `"uri":%q`, "file:///secret/b"}, [3]string{"resources/unsubscribe", `"uri":%q`, "file:///secret/b"})
		}
		for _, kind := range kinds {
			up := watch(t)
			see := func(name string) string {
				r := w.send(t, ask(t, version, viewer, kind[0], fmt.Sprintf(kind[1], name)))
				r.header.Del("Date")
				// The same length, so that Content-Length may be compared too.
				return fmt.Sprint(r.status, r.header, strings.ReplaceAll(string(r.body), name, "NAME"))
			}
			other := strings.NewReplacer("admin", "nosuc", "hidden", "nosuch", "secret", "nosuch").Replace(kind[2])
			if hidden, absent := see(kind[2]), see(other); hidden != absent {
				t.Errorf("%s: %s for what is hidden, %s for what is not there", kind[0], hidden, absent)
			}
			up.nothing(t)
		}
	})
}

func TestNarrowing(t *testing.T) {
	everywhere(t, "C3 contents with forbidden uris", versions, func(t *testing.T, version string, w wire) {
		for _, contentType := range []string{"application/json", "text/event-stream"} {
			up := watch(t)
			body := `{"jsonrpc":"2.0","id":1,"result":` + results["resources/read"] + `}`
			if contentType != "application/json" {
				body = event(body)
			}
			up.replyWith(contentType, body)
			r := w.send(t, ask(t, version, alice, "resources/read", `"uri":"file:///pub/dir"`)).ok(t)
			if markers.Match(r.body) || !strings.Contains(string(r.body), `file:///pub/a`) {
				t.Errorf("%s: %s", contentType, r.body)
			}
			if got := up.one(t); !strings.Contains(string(got.body), "file:///pub/dir") {
				t.Errorf("the server received %s", got.body)
			}
		}
	})
	for _, w := range wires {
		for row, asked := range map[string]string{
			"C7 one allowed and one forbidden uri": `{"toolsListChanged":true,"resourceSubscriptions":["file:///pub/a","file:///secret/b","file:///pub/../secret"]}`,
			"C8 an unknown key":                    `{"toolsListChanged":true,"everything":true,"hidden":["admin"],"resourceSubscriptions":["file:///pub/a"]}`,
			"C7 tasks":                             `{"toolsListChanged":true,"taskIds":["hidden"],"resourceSubscriptions":["file:///pub/a"]}`,
		} {
			t.Run(row+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replies(func(w http.ResponseWriter, _ *http.Request, got received) {
					var m struct {
						Params struct {
							Notifications json.RawMessage `json:"notifications"`
						} `json:"params"`
					}
					_ = json.Unmarshal(got.body, &m)
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, event(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":`+string(m.Params.Notifications)+`}}`))
				})
				body := withTasks(modern("subscriptions/listen", `"notifications":`+asked))
				r := w.send(t, post(t, alice, body, modernHeaders("subscriptions/listen", "")...)).ok(t)
				const narrowed = `{"toolsListChanged":true,"resourceSubscriptions":["file:///pub/a"]}`
				got := up.one(t)
				if !strings.Contains(string(got.body), `"notifications":`+narrowed) || got.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
					t.Errorf("the server received %s", got.body)
				}
				if !strings.Contains(string(r.body), narrowed) {
					t.Errorf("acknowledged %s", r.body)
				}
			})
		}
	}
}
