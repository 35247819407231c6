package soundness

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
