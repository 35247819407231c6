package soundness

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestTasks has the rows about tasks, in each revision that has them. The table of
// tasks lives as long as the process, so every test makes ids of its own.
func TestTasks(t *testing.T) {
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

// TestTaskReload has row F3 for a policy that changes while a task runs.
func TestTaskReload(t *testing.T) {
	for _, k := range taskings {
		t.Run("F3 the tool is taken away by a reload/"+k.version, func(t *testing.T) {
			up := watch(t)
			up.replies(k.host)
			tasks := map[string]person{"task-" + rand.Text(): worker, "task-" + rand.Text(): limited}
			for id, who := range tasks {
				sendH1(t, k.call(t, who, "ok", id, `,"limit":7`)).ok(t)
			}
			poll := func(id string) *reply {
				r := sendH1(t, k.about(t, tasks[id], "tasks/get", id))
				for r.status == 0 { // the connection met the old listener as it closed
					r = sendH1(t, k.about(t, tasks[id], "tasks/get", id))
				}
				return r
			}
			change := strings.NewReplacer("allow tools.execute main/ok\n\t\tallow tools.execute main/db_*", "allow tools.execute main/db_*", "args.limit <= 10", "args.limit <= 5")
			if err := load(change.Replace(caddyfile(""))); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := load(caddyfile("")); err != nil {
					t.Fatal(err)
				}
			}()
			for id, who := range tasks {
				// The old listener may take a last connection after the reload.
				deadline := time.Now().Add(patience)
				for r := poll(id); r.refusalOrNil() == nil; r = poll(id) {
					if time.Now().After(deadline) {
						t.Fatalf("%s may still follow the task: %s", who.group, r.body)
					}
				}
				up.forget()
				notFound.check(t, poll(id))
				up.nothing(t)
			}
			if err := load(caddyfile("")); err != nil {
				t.Fatal(err)
			}
			for id := range tasks {
				deadline := time.Now().Add(patience)
				for r := poll(id); r.refusalOrNil() != nil; r = poll(id) {
					if time.Now().After(deadline) {
						t.Fatalf("the task is lost: %s", r.body)
					}
				}
			}
		})
	}
}

// refusalOrNil is the JSON-RPC error of a reply, if it is one.
func (r *reply) refusalOrNil() *refusal {
	var f refusal
	if err := json.Unmarshal(r.body, &f); err != nil || f.Error == nil {
		return nil
	}
	return &f
}

// TestTaskLists has row F2: one server, one credential, and everybody's tasks in one
// list.
func TestTaskLists(t *testing.T) {
	k := taskings[0]
	for _, w := range wires {
		for _, contentType := range []string{"application/json", "text/event-stream"} {
			t.Run("F2 only own tasks in "+contentType+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replies(k.host)
				ids := map[string]string{}
				for name, who := range map[string]person{"mine": worker, "theirs": colleague} {
					ids[name] = "task-" + rand.Text()
					w.send(t, k.call(t, who, "ok", ids[name], "")).ok(t)
				}
				ids["other tool"] = "task-" + rand.Text()
				w.send(t, k.call(t, worker, "db_x", ids["other tool"], "")).ok(t)
				task := func(name string) string { return fmt.Sprintf(`{"taskId":%q,"status":"working"}`, ids[name]) }
				ids["nobody's"] = "task-hidden"
				place := rand.Text() // where the server's list goes on, with somebody's task
				page := func(tasks ...string) string {
					return `{"tasks":[` + strings.Join(tasks, ",") + `],"nextCursor":`
				}
				answer := result("1", page(task("theirs"), task("mine"), task("nobody's"), task("other tool"))+strconv.Quote(place)+"}")
				if contentType != "application/json" {
					answer = event(answer)
				}
				up.replyWith(contentType, answer)
				for who, want := range map[person]string{
					worker:    page(task("mine"), task("other tool")),
					follower:  page(task("mine")),
					lapsed:    page(task("other tool")),
					colleague: page(task("theirs")),
				} {
					cursor := ""
					for range 2 { // the second page is asked for with the first one's cursor
						up.forget()
						r := w.send(t, k.request(t, who, "1", "tasks/list", "", cursor)).ok(t).unleaked(t)
						_, next, found := strings.Cut(string(r.body), want)
						if !found || strings.Contains(string(r.body), place) {
							t.Errorf("%s received %s, not %s", who.group, r.body, want)
						}
						if body := string(up.one(t).body); cursor != "" && !strings.Contains(body, `"cursor":`+strconv.Quote(place)) {
							t.Errorf("the server received %s", body)
						}
						next, _, _ = strings.Cut(next, "}")
						cursor = `"cursor":` + next
					}
				}
				// A list that nobody asked for tells no more.
				r := w.send(t, k.request(t, worker, "1", "tools/call", "", `"name":"ok","task":{}`)).ok(t).unleaked(t)
				if strings.Contains(string(r.body), ids["theirs"]) {
					t.Errorf("received %s", r.body)
				}
				up.forget()
				notAllowed.check(t, w.send(t, k.request(t, viewer, "1", "tasks/list", "", "")))
				up.nothing(t)
			})
		}
	}
}

// TestTaskHeaders has row F5.
func TestTaskHeaders(t *testing.T) {
	for _, w := range wires {
		t.Run("F5 Mcp-Name is not the task/"+w.name, func(t *testing.T) {
			k, up := taskings[1], watch(t)
			up.replies(k.host)
			mine, theirs := "task-"+rand.Text(), "task-"+rand.Text()
			w.send(t, k.call(t, worker, "ok", mine, "")).ok(t)
			w.send(t, k.call(t, colleague, "ok", theirs, "")).ok(t)
			up.forget()
			for _, method := range k.methods {
				m := k.about(t, worker, method, mine).without("Mcp-Name")
				headerMissing.check(t, w.send(t, m))
				for _, value := range []string{theirs, "", strings.ToLower(mine), "=?base64?" + mine + "?=", "ok"} {
					headerMismatch.check(t, w.send(t, m.with("Mcp-Name: "+value)))
				}
				headerSeveral.check(t, w.send(t, m.with("Mcp-Name: "+mine, "Mcp-Name: "+mine)))
				// The header has the task, the body another's.
				headerMismatch.check(t, w.send(t, k.about(t, worker, method, theirs).without("Mcp-Name").with("Mcp-Name: "+mine)))
			}
			up.nothing(t)
			w.send(t, k.about(t, worker, "tasks/get", mine)).ok(t)
			if got := up.one(t).header.Get("Mcp-Name"); got != mine {
				t.Errorf("the server received Mcp-Name %q", got)
			}
		})
		t.Run("F5 before, Mcp-Name means nothing/"+w.name, func(t *testing.T) {
			k, up := taskings[0], watch(t)
			up.replies(k.host)
			mine, theirs := "task-"+rand.Text(), "task-"+rand.Text()
			w.send(t, k.call(t, worker, "ok", mine, "")).ok(t)
			w.send(t, k.call(t, colleague, "ok", theirs, "")).ok(t)
			up.forget()
			notFound.check(t, w.send(t, k.about(t, worker, "tasks/get", theirs).with("Mcp-Name: "+mine, "Mcp-Method: tasks/get")))
			up.nothing(t)
			w.send(t, k.about(t, worker, "tasks/get", mine).with("Mcp-Name: "+theirs)).ok(t)
			if got := up.one(t).header.Get("Mcp-Name"); got != "" {
				t.Errorf("the server received Mcp-Name %q", got)
			}
		})
	}
}

// TestTaskStreams has tasks on streams that outlive a request.
func TestTaskStreams(t *testing.T) {
	for _, w := range wires {
		t.Run("F1 a task that a resumed stream tells of/"+w.name, func(t *testing.T) {
			k, up, s := taskings[0], watch(t), newSource()
			id, theirs := session(t, worker, v25), session(t, colleague, v25)
			feeding(up, s, http.MethodPost)
			task := "task-" + rand.Text()
			called := k.call(t, worker, "ok", task, "").with("Mcp-Session-Id: " + id)
			called.body = []byte(strings.Replace(string(called.body), `"id":1`, `"id":"x7"`, 1))
			first := stream(t, w, called)
			s.send(t, "id: ev-"+task+"\ndata:\n\n")
			first.line(t)
			first.cancel()
			wait(t, s.ended, "the end of the stream")

			again := newSource()
			feeding(up, again, http.MethodGet)
			resumed := stream(t, w, get(t, worker, append(inSession(id, v25), "Last-Event-ID: ev-"+task)...))
			wait(t, again.began, "the GET")
			// Nobody asked for the second.
			again.send(t, event(result(`"x7"`, k.created(task)))+event(result(`"x8"`, k.created("un"+task))))
			close(again.feed)
			if r := resumed.rest(t); !strings.Contains(string(r.body), task) {
				t.Fatalf("the client received %q", r.body)
			}
			up.replies(k.host)
			up.forget()
			for _, m := range []message{
				k.about(t, colleague, "tasks/get", task).with("Mcp-Session-Id: " + theirs),
				k.about(t, worker, "tasks/get", "un"+task).with("Mcp-Session-Id: " + id),
				k.about(t, lapsed, "tasks/get", task),
			} {
				notFound.check(t, w.send(t, m))
			}
			up.nothing(t)
			w.send(t, k.about(t, worker, "tasks/get", task).with("Mcp-Session-Id: "+id)).ok(t)
			up.one(t)
		})
		t.Run("C7 listening to tasks/"+w.name, func(t *testing.T) {
			k, up := taskings[1], watch(t)
			up.replies(k.host)
			mine, theirs := "task-"+rand.Text(), "task-"+rand.Text()
			w.send(t, k.call(t, worker, "ok", mine, "")).ok(t)
			w.send(t, k.call(t, colleague, "ok", theirs, "")).ok(t)
			up.forget()
			listen := func(who person) message {
				return k.request(t, who, "1", "subscriptions/listen", "", fmt.Sprintf(`"notifications":{"toolsListChanged":true,"taskIds":[%q,%q,"task-none"]}`, theirs, mine))
			}
			for who, want := range map[person]string{
				worker:    fmt.Sprintf(`"notifications":{"toolsListChanged":true,"taskIds":[%q]}`, mine),
				colleague: fmt.Sprintf(`"notifications":{"toolsListChanged":true,"taskIds":[%q]}`, theirs),
				lapsed:    `"notifications":{"toolsListChanged":true}`,
				viewer:    `"notifications":{"toolsListChanged":true}`,
			} {
				up.forget()
				w.send(t, listen(who))
				if got := up.one(t); !strings.Contains(string(got.body), want) {
					t.Errorf("%s: the server received %s", who.group, got.body)
				}
			}
			up.forget()
			undeclared := listen(worker)
			undeclared.body = []byte(strings.Replace(string(undeclared.body), "io.modelcontextprotocol/tasks", "x/y", 1))
			want{400, -32021, "capability_missing"}.check(t, w.send(t, undeclared))
			up.nothing(t)
		})
	}
}
