package soundness

import (
	"fmt"
	"strings"
	"testing"
)

// The legacy revisions, which have sessions.
var legacies = []string{"2025-03-26", "2025-06-18", v25}

// member has every permission and is of these teams, with a token for the site where
// teams see more than others.
type member struct {
	group string
	teams []string
}

func (who member) token(t *testing.T, changes ...claims) string {
	t.Helper()
	p := person{"https://rsa.test", "vera", "app", who.group}
	return p.token(t, append([]claims{{"teams": who.teams, "aud": fmt.Sprintf("https://localhost:%d", world.teams)}}, changes...)...)
}

// post is a POST to one of that site's servers.
func (who member) post(t *testing.T, server, body string, header ...string) message {
	t.Helper()
	m := post(t, root, body, header...).without("Authorization").with("Authorization: Bearer " + who.token(t))
	m.port, m.host, m.path = world.teams, fmt.Sprintf("localhost:%d", world.teams), "/servers/"+server+"/mcp"
	return m
}

// in returns how a request of a revision is made: with a session in those that have
// them.
func (who member) in(t *testing.T, version, server string) func(method, object, member string) message {
	t.Helper()
	if version == v26 {
		return func(method, object, member string) message {
			return who.post(t, server, modern(method, member), modernHeaders(method, object)...)
		}
	}
	r := sendH1(t, who.post(t, server, initialize(version))).ok(t)
	id := r.header.Get("Mcp-Session-Id")
	return func(method, _, member string) message {
		return who.post(t, server, call("1", method, "{"+member+"}"), inSession(id, version)...)
	}
}

// What only a team sees does not exist for anybody else, whatever their roles: it is
// not listed and not completed, and nothing that names it reaches the server.
func TestHiddenByVisibility(t *testing.T) {
	outsider, insider := member{"full", []string{"blue"}}, member{"full", []string{"blue", "vault"}}
	uses := []struct{ row, method, object, member string }{
		{"A1 a tool", "tools/call", "admin", `"name":"admin","arguments":{}`},
		{"A1 a tool by a longer name", "tools/call", "superadmin", `"name":"superadmin"`},
		{"C1 a prompt", "prompts/get", "hidden", `"name":"hidden"`},
		{"C1 a resource", "resources/read", "file:///secret/b", `"uri":"file:///secret/b"`},
		{"C2 a resource in another spelling", "resources/read", "FILE:///Secret/b", `"uri":"FILE:///Secret/b"`},
		{"C2 a resource on a detour", "resources/read", "file:///pub/../secret/b", `"uri":"file:///pub/../secret/b"`},
		{"C5 completion for a prompt", "completion/complete", "", `"ref":{"type":"ref/prompt","name":"hidden"},"argument":{"name":"x","value":""}`},
		{"C5 completion for a resource", "completion/complete", "", `"ref":{"type":"ref/resource","uri":"file:///secret/b"},"argument":{"name":"x","value":""}`},
		{"C5 completion for a template", "completion/complete", "", `"ref":{"type":"ref/resource","uri":"file:///secret/{name}"},"argument":{"name":"x","value":""}`},
		{"C6 subscribing", "resources/subscribe", "", `"uri":"file:///secret/b"`},
	}
	for _, version := range append(legacies, v26) {
		watch(t)
		out, in := outsider.in(t, version, "main"), insider.in(t, version, "main")
		for _, use := range uses {
			if version == v26 && use.method == "resources/subscribe" {
				continue // see below
			}
			for _, w := range wires {
				t.Run(use.row+" hidden by visibility/"+version+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					r := w.send(t, out(use.method, use.object, use.member))
					up.nothing(t)
					refused := notFound
					if version != v26 && strings.Contains(use.member, "uri") {
						refused = noResource
					}
					refused.check(t, r)
					if strings.Contains(use.row, "another") || strings.Contains(use.row, "detour") {
						return
					}
					up.permitMarkers()
					w.send(t, in(use.method, use.object, use.member)).ok(t)
					up.one(t)
				})
			}
		}
		for _, list := range lists {
			for _, w := range wires {
				t.Run("D1 "+list.method+" hidden by visibility/"+version+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					w.send(t, out(list.method, "", "")).ok(t).only(t, list.member, list.kept)
					for _, contentType := range []string{"text/event-stream", "application/json"} {
						body := `{"jsonrpc":"2.0","id":1,"result":` + results[list.method] + `}`
						if contentType == "text/event-stream" {
							body = event(body)
						}
						up.replyWith(contentType, body)
						w.send(t, out(list.method, "", "")).ok(t).only(t, list.member, list.kept)
						if r := w.send(t, in(list.method, "", "")).ok(t); !markers.Match(r.body) {
							t.Errorf("who sees it received %s", r.body)
						}
					}
				})
			}
		}
	}
	for _, w := range wires {
		t.Run("A2 hidden by visibility, in a batch/"+w.name, func(t *testing.T) {
			up := watch(t)
			in := outsider.in(t, "2025-03-26", "main")
			up.forget()
			m := in("tools/call", "", "")
			m.body = []byte("[" + callTool("ok") + "," + strings.Replace(callTool("admin"), `"id":1`, `"id":2`, 1) + "]")
			want{403, -32602, "not_found"}.check(t, w.send(t, m))
			up.nothing(t)
		})
		t.Run("C7 hidden by visibility, among what is followed/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("text/event-stream", event(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///secret/b"}}`)+event(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///pub/a"}}`))
			body := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///pub/a","file:///secret/b"]}`)
			r := w.send(t, outsider.post(t, "main", body, modernHeaders("subscriptions/listen", "")...)).ok(t).unleaked(t)
			if got := up.one(t); !strings.Contains(string(got.body), `"resourceSubscriptions":["file:///pub/a"]`) || !strings.Contains(string(r.body), "file:///pub/a") {
				t.Errorf("the server received %s, the client %s", got.body, r.body)
			}
		})
		t.Run("C13 what is hidden and there, and what is not there, look the same/"+w.name, func(t *testing.T) {
			up := watch(t)
			for method, params := range map[string]string{
				"resources/read": `{"uri":%q}`, "resources/subscribe": `{"uri":%q}`, "completion/complete": `{"ref":{"type":"ref/resource","uri":%q}}`,
			} {
				see := func(uri string) string {
					r := w.send(t, outsider.post(t, "main", call("1", method, fmt.Sprintf(params, uri))))
					r.header.Del("Date")
					return fmt.Sprint(r.status, r.header, strings.ReplaceAll(string(r.body), uri, "URI"))
				}
				if there, absent := see("file:///secret/b"), see("file:///secret/x"); there != absent {
					t.Errorf("%s: %s for what is there, %s for what is not", method, there, absent)
				}
			}
			up.nothing(t)
		})
		t.Run("C1 private to its owner/"+w.name, func(t *testing.T) {
			up := watch(t)
			m := member{"full", []string{"blue"}}
			w.send(t, m.post(t, "main", callTool("mine_x"))).ok(t)
			up.forget()
			for _, c := range []claims{{"sub": "Vera"}, {"sub": "bob"}, {"teams": []string{}}, {"teams": nil}, {"sub": "bob", "teams": nil, "is_admin": true}} {
				r := w.send(t, m.post(t, "main", callTool("mine_x")).without("Authorization").with("Authorization: Bearer "+m.token(t, c)))
				notFound.check(t, r)
			}
			up.nothing(t)
		})
	}
}

// A role in one team grants nothing on what belongs to another (behaviour.md section
// 3.3), and a token that is of no team has none.
func TestTeamRoles(t *testing.T) {
	for _, version := range append(legacies, v26) {
		for _, w := range wires {
			t.Run("C12 a role of another team/"+version+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				lead := member{"lead", []string{"blue"}}
				w.send(t, lead.in(t, version, "main")("tools/call", "ok", `"name":"ok"`)).ok(t)
				if roles := up.all()[0].header.Get("X-Mcp-Roles"); roles != "lead" {
					t.Errorf("the server was told the roles %q", roles)
				}
				up.forget()
				for _, who := range []member{lead, {"lead", []string{}}, {"lead", []string{"green", "Red", "red ", "*"}}, {"full,lead", []string{"red"}}} {
					for _, m := range []message{
						who.post(t, "other", callTool("ok"), "MCP-Protocol-Version: "+legacies[1]),
						who.post(t, "other", modern("tools/call", `"name":"ok"`), modernHeaders("tools/call", "ok")...),
						who.post(t, "other", modern("tools/list", ""), modernHeaders("tools/list", "")...),
						who.post(t, "other", initialize(v25)),
					} {
						notAllowed.check(t, w.send(t, m))
					}
				}
				up.nothing(t)
				w.send(t, member{"lead", []string{"red"}}.post(t, "other", callTool("ok"))).ok(t)
				if got := up.one(t); got.target != "/other" {
					t.Errorf("the request went to %s", got.target)
				}
			})
		}
	}
}

// Bugs that comparable gateways have shipped, with what visibility hides.
func TestPeersWithVisibility(t *testing.T) {
	outsider := member{"full", nil}
	t.Run("Kuadrant: a virtual server hid tools but did not block them", func(t *testing.T) {
		up := watch(t)
		sendH1(t, outsider.post(t, "main", call("1", "tools/list", ""))).only(t, "tools", lists[0].kept)
		up.forget()
		notFound.check(t, sendH1(t, outsider.post(t, "main", callTool("admin"), "x-mcp-virtualserver: main", "x-mcp-toolname: ok")))
		up.nothing(t)
	})
	t.Run("Kong: tools/list told of denied tools", func(t *testing.T) {
		for _, l := range lists {
			up := watch(t)
			sendH1(t, outsider.post(t, "main", call("1", l.method, ""))).only(t, l.member, l.kept)
			if got := string(up.one(t).body); got != call("1", l.method, "") {
				t.Errorf("the server received %s", got)
			}
		}
	})
}
