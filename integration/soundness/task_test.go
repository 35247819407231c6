package soundness

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestTasks has the rows about tasks, in each revision that has them. The table of
// tasks lives as long as the process, so every test makes ids of its own.
func TestTasks(t *testing.T) {
	reload(t, caddyfile("")) // what servers have said of themselves before is forgotten
	for _, k := range taskings {
		for _, w := range wires {
			run := func(name string, f func(t *testing.T, up *upstream)) {
				t.Run(name+"/"+k.version+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					up.replies(k.host)
					f(t, up)
				})
			}
			// start makes a task of somebody's.
			start := func(t *testing.T, up *upstream, who person, tool, arguments string) string {
				t.Helper()
				id := "task-" + rand.Text()
				if r := w.send(t, k.call(t, who, tool, id, arguments)).ok(t); !strings.Contains(string(r.body), id) {
					t.Fatalf("no task: %s", r.body)
				}
				up.forget()
				return id
			}
			// unknown fails the test unless every method looks as for an unknown task,
			// byte for byte, and nothing arrives.
			unknown := func(t *testing.T, up *upstream, who person, id string) {
				t.Helper()
				for _, method := range k.methods {
					see := func(id string) string {
						r := w.send(t, k.about(t, who, method, id))
						notFound.check(t, r)
						r.header.Del("Date")
						return fmt.Sprint(r.status, r.header, string(r.body))
					}
					if got, absent := see(id), see("task-"+rand.Text()); got != absent {
						t.Errorf("%s: %s, and for no task %s", method, got, absent)
					}
				}
				up.nothing(t)
			}
			own := func(t *testing.T, up *upstream, who person, id string) {
				t.Helper()
				for _, method := range k.methods {
					up.forget()
					w.send(t, k.about(t, who, method, id)).ok(t)
					if got := up.one(t); !strings.Contains(string(got.body), method) || !strings.Contains(string(got.body), id) {
						t.Errorf("the server received %s", got.body)
					}
				}
			}
			run("F1 another's task", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				unknown(t, up, colleague, id)
				own(t, up, worker, id)
			})
			run("F1 another issuer's or client's principal of that name", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				for _, other := range []person{{"https://ec.test", worker.subject, worker.client, worker.group}, {worker.issuer, worker.subject, "evil", worker.group}} {
					unknown(t, up, other, id)
				}
				own(t, up, worker, id)
			})
			run("F1 variants of a task's id", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				for _, guess := range []string{strings.ToLower(id), id + "x", id[1:], " " + id, id + " ", "*", "task-*"} {
					unknown(t, up, worker, guess)
				}
			})
			run("F1 the task of another server", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				for _, method := range k.methods {
					// Another gateway of the process, whose server main is the same.
					notFound.check(t, sendH1(t, k.about(t, worker, method, id).toPlain(t, worker, "other")))
				}
				up.nothing(t)
			})
			run("F1 a task whose time is up", func(t *testing.T, up *upstream) {
				up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
					w.Header().Set("Content-Type", "application/json")
					short := strings.NewReplacer(`"ttl":60000`, `"ttl":0.001`, `"ttlMs":60000`, `"ttlMs":0.001`)
					_, _ = io.WriteString(w, result("1", short.Replace(k.created("task-short-"+k.version))))
				})
				w.send(t, k.call(t, worker, "ok", "", "")).ok(t)
				up.forget()
				unknown(t, up, worker, "task-short-"+k.version)
			})
			run("F1 a task that the server gives twice", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				for _, m := range []message{k.call(t, colleague, "ok", id, ""), k.call(t, worker, "db_x", id, ""), k.call(t, worker, "ok", "", "")} {
					r := w.send(t, m)
					if f := r.refusal(t); f.Error.Code != 50200 || f.Error.Data.Reason != "task_id" || strings.Contains(string(r.body), id) {
						t.Errorf("the client received %s", r.body)
					}
				}
				up.forget()
				unknown(t, up, colleague, id)
				own(t, up, worker, id)
			})
			run("F1 a task that an event stream tells of", func(t *testing.T, up *upstream) {
				id := "task-" + rand.Text()
				up.replyWith("text/event-stream", event(result("1", k.created(id))))
				w.send(t, k.call(t, worker, "ok", id, "")).ok(t)
				up.replies(k.host)
				up.forget()
				unknown(t, up, colleague, id)
				own(t, up, worker, id)
			})
			run("F1 a request without a task", func(t *testing.T, up *upstream) {
				for _, method := range k.methods {
					for params, want := range map[string]want{
						``: {400, -32602, "task_missing"}, `"taskId":7`: wrongType, `"taskId":null`: wrongType,
						`"taskId":"a","taskId":"b"`: duplicate, `"taskId":"a","TaskId":"b"`: caseVariant, `"taskId":"a\u0000b"`: control,
					} {
						r := w.send(t, k.request(t, worker, "1", method, "a", params))
						if k.version == v26 && (params == `` || strings.Contains(params, "u0000")) {
							if got := r.refusal(t).Error.Data.Reason; got != "header_mismatch" && got != want.reason {
								t.Errorf("%s with %s: %s", method, params, got)
							}
							continue
						}
						want.check(t, r)
					}
				}
				up.nothing(t)
			})
			run("F1 a server that hosts no tasks", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				says := func(capabilities string) {
					t.Helper()
					ask := k.request(t, worker, "1", "server/discover", "", "")
					if k.version == v25 {
						ask = post(t, worker, initialize(v25), "MCP-Protocol-Version: "+v25)
					}
					up.replies(func(w http.ResponseWriter, _ *http.Request, got received) {
						w.Header().Set("Content-Type", "application/json")
						id := map[bool]string{true: "0", false: "1"}[k.version == v25]
						_, _ = io.WriteString(w, result(id, `{"protocolVersion":"2025-11-25","supportedVersions":["2026-07-28"],"capabilities":`+capabilities+`}`))
					})
					w.send(t, ask).ok(t)
					up.replies(k.host)
					up.forget()
				}
				defer says(canDo)
				says(`{"tools":{},"extensions":{}}`)
				none := map[bool]want{true: unknownMethod, false: unknownModern}[k.version == v25]
				for _, method := range k.methods {
					for _, m := range []message{k.about(t, colleague, method, id), k.about(t, colleague, method, "task-none"), k.about(t, lapsed, method, id)} {
						none.check(t, w.send(t, m))
					}
				}
				up.nothing(t)
				own(t, up, worker, id) // whatever it says
			})
			run("F3 the tool may not be called any more", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				unknown(t, up, lapsed, id)
				own(t, up, worker, id)
			})
			run("F3 tasks may not be followed any more", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				none := worker
				none.group = "viewer" // who may call the tool
				for _, method := range k.methods {
					notAllowed.check(t, w.send(t, k.about(t, none, method, id)))
				}
				for _, method := range []string{"tasks/cancel", "tasks/update"} {
					if method != "tasks/update" || k.version == v26 {
						notAllowed.check(t, w.send(t, k.about(t, follower, method, id)))
					}
				}
				up.nothing(t)
				w.send(t, k.about(t, follower, "tasks/get", id)).ok(t)
			})
			run("F3 a condition on the arguments is asked again", func(t *testing.T, up *upstream) {
				notFound.check(t, w.send(t, k.call(t, limited, "ok", "x", `,"limit":11`)))
				up.nothing(t)
				id := start(t, up, limited, "ok", `,"limit":7`)
				own(t, up, limited, id)
				up.forget()
				unknown(t, up, lapsed, id)
			})
			run("F4 what else names a task does not decide", func(t *testing.T, up *upstream) {
				mine, theirs := start(t, up, worker, "ok", ""), start(t, up, colleague, "ok", "")
				related := func(task, other string) message {
					m := k.about(t, worker, "tasks/get", task)
					meta := fmt.Sprintf(`"io.modelcontextprotocol/related-task":{"taskId":%q}`, other)
					if k.version == v26 {
						m.body = []byte(strings.Replace(string(m.body), `"_meta":{`, `"_meta":{`+meta+`,`, 1))
					} else {
						m.body = []byte(strings.Replace(string(m.body), `"params":{`, `"params":{"name":"ok","task_id":"x","_meta":{`+meta+`},`, 1))
					}
					return m
				}
				notFound.check(t, w.send(t, related(theirs, mine)))
				up.nothing(t)
				w.send(t, related(mine, theirs)).ok(t)
				if got := up.one(t); !strings.Contains(string(got.body), fmt.Sprintf(`"taskId":%q`, mine)) {
					t.Errorf("the server received %s", got.body)
				}
			})
			run("F4 a request of 2025-06-18 has no tasks", func(t *testing.T, up *upstream) {
				id := start(t, up, worker, "ok", "")
				for _, method := range k.methods {
					m := post(t, worker, call("1", method, fmt.Sprintf(`{"taskId":%q}`, id)), "MCP-Protocol-Version: 2025-06-18")
					unknownMethod.check(t, w.send(t, m))
				}
				up.nothing(t)
			})
			run("D14 news of another's task are dropped", func(t *testing.T, up *upstream) {
				mine, theirs := start(t, up, worker, "ok", ""), start(t, up, colleague, "ok", "")
				note := func(task, more string) string {
					return event(fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":{"taskId":%q,"status":"working"%s}}`, k.notification, task, more))
				}
				end := event(result("1", `{"resultType":"complete"}`))
				up.replyWith("text/event-stream", note(theirs, "")+note("task-none", "")+
					note(theirs, fmt.Sprintf(`,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":%q}}`, mine))+
					event(`{"jsonrpc":"2.0","method":"`+k.notification+`"}`)+note(mine, "")+end)
				for who, want := range map[person]string{worker: note(mine, "") + end, lapsed: end, colleague: note(theirs, "") + note(theirs, fmt.Sprintf(`,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":%q}}`, mine)) + end} {
					r := w.send(t, k.request(t, who, "1", "tools/call", "db_x", `"name":"db_x"`)).ok(t)
					if string(r.body) != want {
						t.Errorf("%s received %q", who.group, r.body)
					}
				}
			})
		}
	}
}
