package soundness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// encoded is what could be base64.
var encoded = regexp.MustCompile(`[A-Za-z0-9+/_-]{8,}={0,2}`)

// undecodable fails the test if anything that is hidden comes to light in what could be
// base64.
func (r *reply) undecodable(t *testing.T) *reply {
	t.Helper()
	r.unleaked(t)
	for _, run := range encoded.FindAll(r.body, -1) {
		run = bytes.TrimRight(run, "=")
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for cut := range 4 {
				decoded, _ := encoding.DecodeString(string(run[min(cut, len(run)):]))
				if found := markers.Find(decoded); found != nil {
					t.Errorf("the client received %q in the decoded %q", found, run)
				}
			}
		}
	}
	return r
}

// cursor is the nextCursor of the only result in the reply.
func (r *reply) cursor(t *testing.T) string {
	t.Helper()
	text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(r.body)), "data:"))
	if strings.HasPrefix(text, "[") {
		text = strings.TrimSuffix(text[1:], "]")
	}
	var page struct {
		Result struct {
			NextCursor *string `json:"nextCursor"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil || page.Result.NextCursor == nil {
		t.Fatalf("no cursor: %v in %q", err, clip(r.body))
	}
	return *page.Result.NextCursor
}

// revision is a version of the protocol and how a request of it goes on with a list.
type revision struct {
	name string
	// form puts a message into what is sent, such as a batch.
	batch bool
}

var revisions = []revision{{"2024-11-05", false}, {"2025-03-26", false}, {"2025-03-26", true}, {"2025-06-18", false}, {v25, false}, {v26, false}}

// goOn is a request for a page; an empty cursor is left out.
func (v revision) goOn(t *testing.T, who person, method, cursor string) message {
	t.Helper()
	params := ""
	if cursor != "" {
		params = fmt.Sprintf(`"cursor" : %q`, cursor)
	}
	if v.name == v26 {
		return post(t, who, modern(method, params), modernHeaders(method, "")...)
	}
	body := call("1", method, "{"+params+"}")
	if v.batch {
		body = "[ " + body + " ]"
	}
	return post(t, who, body, "MCP-Protocol-Version: "+v.name)
}

var invalidCursor = want{200, -32602, "cursor"}

// refused checks that a request for a page was, in the way its revision has it.
func (v revision) refused(t *testing.T, r *reply) {
	t.Helper()
	w := invalidCursor
	if v.batch {
		w.status = 400
	}
	w.check(t, r)
}

func TestCursors(t *testing.T) {
	// As the Go SDK's, it has the name of the last item.
	own := base64.URLEncoding.EncodeToString([]byte("LastUID admin_tool"))
	paged := func(list string, cursor string) string {
		body := results[list]
		return result("1", strings.TrimSuffix(body, "}")+`,"nextCursor":"`+cursor+`"}`)
	}
	for _, w := range wires {
		for _, v := range revisions {
			for i, list := range lists {
				name := list.method + " " + v.name + map[bool]string{true: " in a batch"}[v.batch] + "/" + w.name
				for _, media := range []string{"application/json", "text/event-stream"} {
					t.Run("D8 "+media+" "+name, func(t *testing.T) {
						up := watch(t)
						answer := paged(list.method, own)
						if v.batch {
							answer = "[" + answer + "]"
						}
						if media != "application/json" {
							answer = event(answer)
						}
						up.replyWith(media, answer)
						r := w.send(t, v.goOn(t, viewer, list.method, "")).ok(t).undecodable(t)
						r.only(t, list.member, list.kept)
						sealed := r.cursor(t)
						up.forget()

						m := v.goOn(t, viewer, list.method, sealed)
						w.send(t, m).ok(t).undecodable(t)
						if got, want := up.one(t).body, bytes.Replace(m.body, []byte(sealed), []byte(own), 1); !bytes.Equal(got, want) {
							t.Errorf("the server received %s, not %s", got, want)
						}
						up.forget()

						m = v.goOn(t, root, list.method, own)
						if r := w.send(t, m).ok(t); string(r.body) != answer {
							t.Errorf("who sees everything received %s", r.body)
						}
						if got := up.one(t).body; !bytes.Equal(got, m.body) {
							t.Errorf("for who sees everything the server received %s", got)
						}
					})
				}
				t.Run("D9 "+name, func(t *testing.T) {
					up := watch(t)
					up.replyWith("application/json", paged(list.method, own))
					from := func(who person, method string) string {
						return w.send(t, revision{name: v.name}.goOn(t, who, method, "")).ok(t).cursor(t)
					}
					other := lists[(i+1)%len(lists)]
					up.replyWith("application/json", paged(other.method, own))
					ofOther := from(viewer, other.method)
					up.replyWith("application/json", paged(list.method, own))
					mine := from(viewer, list.method)
					for what, cursor := range map[string]string{
						"garbage": "garbage", "the server's": own, "another principal's": from(bob, list.method), "another method's": ofOther,
						"changed": mine[:len(mine)-10] + "AAAAAAAAAA", "cut": mine[:len(mine)/2], "twice": mine + mine, "its marker": mine[:8],
						"another client's":      from(person{viewer.issuer, viewer.subject, "other", viewer.group}, list.method),
						"without a client":      from(person{viewer.issuer, viewer.subject, "", viewer.group}, list.method),
						"another issuer's":      from(person{"https://ec.test", viewer.subject, viewer.client, viewer.group}, list.method),
						"a space before it":     " " + mine,
						"its first letter gone": mine[1:],
					} {
						up.forget()
						t.Run(what, func(t *testing.T) {
							v.refused(t, w.send(t, v.goOn(t, viewer, list.method, cursor)).undecodable(t))
							up.nothing(t)
						})
					}
				})
			}
			t.Run("D9 the empty cursor is a real one, "+v.name+map[bool]string{true: " in a batch"}[v.batch]+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replyWith("application/json", paged("tools/list", ""))
				if got := w.send(t, revision{name: v.name}.goOn(t, viewer, "tools/list", "")).ok(t).cursor(t); got != "" {
					t.Errorf("the client received the cursor %q", got)
				}
				up.forget()
				m := v.goOn(t, viewer, "tools/list", "EMPTY")
				m.body = bytes.Replace(m.body, []byte("EMPTY"), nil, 1)
				w.send(t, m).ok(t)
				if got := up.one(t).body; !bytes.Equal(got, m.body) || !bytes.Contains(got, []byte(`"cursor" : ""`)) {
					t.Errorf("the server received %s", got)
				}
			})
		}
		run := func(name string, f func(t *testing.T, up *upstream, v revision)) {
			t.Run(name+"/"+w.name, func(t *testing.T) {
				for _, v := range []revision{{v25, false}, {v26, false}} {
					f(t, watch(t), v)
				}
			})
		}
		promoted := person{viewer.issuer, viewer.subject, viewer.client, root.group}
		run("D9 the roles change between two pages", func(t *testing.T, up *upstream, v revision) {
			up.replyWith("application/json", paged("tools/list", own))
			sealed := w.send(t, v.goOn(t, viewer, "tools/list", "")).ok(t).cursor(t)
			up.forget()
			if got := w.send(t, v.goOn(t, promoted, "tools/list", sealed)).ok(t).cursor(t); got != own {
				t.Errorf("who sees everything now received %q", got)
			}
			if got := string(up.one(t).body); !strings.Contains(got, own) || strings.Contains(got, sealed) {
				t.Errorf("the server received %s", got)
			}
			up.forget()
			v.refused(t, w.send(t, v.goOn(t, viewer, "tools/list", own)).undecodable(t))
			v.refused(t, w.send(t, v.goOn(t, root, "tools/list", sealed)))
			up.nothing(t)
		})
		run("D9 an answer whose cursor cannot be sealed", func(t *testing.T, up *upstream, v revision) {
			for what, cursor := range map[string]string{
				"an object": `{"after":"admin"}`, "an array": `["admin"]`, "a number": `7`, "too long": `"` + strings.Repeat("admin", 2000) + `"`, "a line break": `"admin\n"`,
			} {
				up.replyWith("application/json", result("1", `{"tools":[],"nextCursor":`+cursor+`}`))
				r := w.send(t, v.goOn(t, viewer, "tools/list", "")).undecodable(t)
				want{502, 50200, "answer_malformed"}.check(t, r)
				up.replyWith("text/event-stream", event(result("1", `{"tools":[],"nextCursor":`+cursor+`}`)))
				if r := w.send(t, v.goOn(t, viewer, "tools/list", "")).undecodable(t); strings.Contains(string(r.body), "tools") {
					t.Errorf("%s: the client received %s", what, r.body)
				}
			}
		})
		run("D8 a server that repeats its cursor in an error", func(t *testing.T, up *upstream, v revision) {
			up.permitMarkers()
			up.replyWith("application/json", paged("tools/list", "admin"))
			sealed := w.send(t, v.goOn(t, viewer, "tools/list", "")).ok(t).cursor(t)
			for _, status := range []int{200, 400} {
				for _, media := range []string{"application/json", "text/event-stream", "text/plain"} {
					up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
						w.Header().Set("Content-Type", media)
						w.WriteHeader(status)
						body := `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"unknown cursor: admin","data":"admin"}}`
						if media == "text/event-stream" {
							body = event(body)
						}
						_, _ = w.Write([]byte(body))
					})
					w.send(t, v.goOn(t, viewer, "tools/list", sealed)).undecodable(t)
				}
			}
		})
		t.Run("D9 another server's cursor/"+w.name, func(t *testing.T) {
			if w.name == "h2" {
				return // plain sites have HTTP/1.1
			}
			up := watch(t)
			up.replyWith("application/json", paged("tools/list", own))
			v, who := revision{name: v25}, person{viewer.issuer, viewer.subject, viewer.client, "both"}
			at := func(server, cursor string) *reply {
				return w.send(t, v.goOn(t, who, "tools/list", cursor).toPlain(t, who, server))
			}
			sealed := at("main", "").ok(t).cursor(t)
			atSecure := w.send(t, v.goOn(t, who, "tools/list", "")).ok(t).cursor(t)
			up.forget()
			for _, r := range []*reply{at("other", sealed), at("main", atSecure), w.send(t, v.goOn(t, who, "tools/list", sealed))} {
				invalidCursor.check(t, r)
			}
			up.nothing(t)
			at("main", sealed).ok(t)
			at("other", at("other", "").ok(t).cursor(t)).ok(t)
		})
		t.Run("D8 a list that is sent again/"+w.name, func(t *testing.T) {
			up, s := watch(t), newSource()
			id := session(t, viewer, v25)
			feeding(up, s, http.MethodGet)
			resumed := stream(t, w, get(t, viewer, inSession(id, v25)...))
			wait(t, s.began, "the GET")
			s.send(t, event(paged("tools/list", own)))
			close(s.feed)
			r := resumed.rest(t).undecodable(t)
			up.forget()
			up.replies(speak)
			m := post(t, viewer, call("8", "tools/list", fmt.Sprintf(`{"cursor":%q}`, r.cursor(t))), inSession(id, v25)...)
			w.send(t, m).ok(t)
			if got := up.one(t).body; !bytes.Contains(got, []byte(own)) {
				t.Errorf("the server received %s", got)
			}
		})
		t.Run("D8 cursors outlive a reload and a restart/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", paged("tools/list", own))
			v := revision{name: v25}
			sealed := w.send(t, v.goOn(t, viewer, "tools/list", "")).ok(t).cursor(t)
			if err := load(caddyfile("deny tools.execute main/nothing")); err != nil {
				t.Fatal(err)
			}
			w.send(t, v.goOn(t, viewer, "tools/list", sealed)).ok(t)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := load(caddyfile("")); err != nil {
				t.Fatal(err)
			}
			w.send(t, v.goOn(t, viewer, "tools/list", sealed)).ok(t)
			if _, err := os.Stat(filepath.Join(world.dir, "storage", "mcp_gateway", "secret")); err != nil {
				t.Error(err)
			}
		})
	}
}
