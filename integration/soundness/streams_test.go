package soundness

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// feeding has GETs, or calls, answered by the source and everything else by speak.
func feeding(up *upstream, s *source, method string) {
	up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
		if method == http.MethodGet && got.method == method ||
			method == http.MethodPost && strings.Contains(string(got.body), `"tools/call"`) ||
			strings.Contains(string(got.body), `"subscriptions/listen"`) {
			s.serve(w, r, got)
			return
		}
		speak(w, r, got)
	})
}

func TestStreams(t *testing.T) {
	for v, w := range both(versions) {
		run := func(name string, f func(t *testing.T, up *upstream, s *source)) {
			t.Run(name+"/"+v+"/"+w.name, func(t *testing.T) { f(t, watch(t), newSource()) })
		}
		run("D3 a list that is sent again", func(t *testing.T, up *upstream, s *source) {
			id := session(t, viewer, v25)
			feeding(up, s, http.MethodPost)
			first := stream(t, w, post(t, viewer, call("7", "tools/call", `{"name":"ok"}`), inSession(id, v25)...))
			s.send(t, "id: ev-1\ndata:\n\n")
			if line := first.line(t); line != "id: ev-1" {
				t.Fatalf("the client received %q", line)
			}
			first.cancel()
			wait(t, s.ended, "the end of the stream")
			again := newSource()
			feeding(up, again, http.MethodGet)
			resumed := stream(t, w, get(t, viewer, append(inSession(id, v25), "Last-Event-ID: ev-1")...))
			if got := wait(t, again.began, "the GET"); got.header.Get("Last-Event-Id") != "ev-1" {
				t.Errorf("the server received %v", got.header)
			}
			again.send(t, "id: ev-2\n"+event(result("7", results["tools/list"])))
			close(again.feed)
			resumed.rest(t).only(t, "tools", lists[0].kept)
		})
		run("E13 another's event id", func(t *testing.T, up *upstream, s *source) {
			id := session(t, viewer, v25)
			feeding(up, s, http.MethodGet)
			mine := stream(t, w, get(t, viewer, inSession(id, v25)...))
			s.send(t, "id: ev-of-vera\ndata:\n\n")
			mine.line(t)
			theirs := session(t, bob, v25)
			up.forget()
			unknown := want{400, 40400, "event_unknown"}
			unknown.check(t, w.send(t, get(t, bob, append(inSession(theirs, v25), "Last-Event-ID: ev-of-vera")...)))
			unknown.check(t, w.send(t, get(t, bob, "Last-Event-ID: ev-of-vera")))
			unknown.check(t, w.send(t, get(t, viewer, append(inSession(session(t, viewer, v25), v25), "Last-Event-ID: ev-of-vera")...)))
			noSession.check(t, w.send(t, get(t, bob, append(inSession(id, v25), "Last-Event-ID: ev-of-vera")...)))
			for _, got := range up.all() {
				if got.method == http.MethodGet {
					t.Errorf("the server received a GET with %v", got.header)
				}
			}
			mine.cancel()
			wait(t, s.ended, "the end of the stream")
		})
		run("E7 the token expires during the stream", func(t *testing.T, up *upstream, s *source) {
			id := session(t, alice, v25)
			feeding(up, s, http.MethodGet)
			short := alice.token(t, claims{"exp": float64(time.Now().UnixMilli())/1000 + 1.2})
			m := get(t, alice, inSession(id, v25)...).without("Authorization").with("Authorization: Bearer " + short)
			open := stream(t, w, m)
			s.send(t, event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"one"}}`))
			open.data(t)
			wait(t, s.ended, "the end of the stream at the server")
			if r := open.rest(t); strings.Contains(string(r.body), "data:") || r.err != nil {
				t.Errorf("the client received %q, and the stream did not end as one does: %v", r.body, r.err)
			}
		})
		run("E8 the client of a modern request goes away", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodPost)
			m := post(t, alice, modern("tools/call", `"name":"ok"`), modernHeaders("tools/call", "ok")...)
			open := stream(t, w, m)
			wait(t, s.began, "the call")
			open.cancel()
			wait(t, s.ended, "the end of the call")
			up.one(t)
		})
		run("E8 the client of a legacy stream goes away", func(t *testing.T, up *upstream, s *source) {
			id := session(t, alice, v25)
			up.forget()
			feeding(up, s, http.MethodGet)
			open := stream(t, w, get(t, alice, inSession(id, v25)...))
			wait(t, s.began, "the GET")
			open.cancel()
			wait(t, s.ended, "the end of the stream")
			up.one(t) // nothing is cancelled in the client's name
		})
		run("E15 keep-alives pass at once", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodPost)
			m := post(t, alice, modern("subscriptions/listen", `"notifications":{"toolsListChanged":true}`), modernHeaders("subscriptions/listen", "")...)
			open := stream(t, w, m)
			for _, alive := range []string{": keep-alive\n\n", ":\r\n\r\n", "retry: 10\n\n"} {
				s.send(t, alive)
				if line := open.line(t); line != strings.TrimRight(alive, "\r\n") {
					t.Errorf("the client received %q", line)
				}
				open.line(t)
			}
			open.cancel()
			wait(t, s.ended, "the end of the stream")
		})
		run("E15 an event without an end", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodPost)
			open := stream(t, w, post(t, alice, callTool("ok")))
			wait(t, s.began, "the call")
			s.send(t, "data: ")
			chunk := strings.Repeat("x", 64<<10)
			for ended := false; !ended; { // the limit is 256 KiB
				select {
				case s.feed <- chunk:
				case <-s.ended:
					ended = true
				case <-time.After(patience):
					t.Fatal("the gateway goes on reading")
				}
			}
			if r := open.rest(t); len(r.body) > 0 {
				t.Errorf("the client received %d bytes", len(r.body))
			}
		})
		run("E16 a reload while a stream is open", func(t *testing.T, up *upstream, s *source) {
			id := session(t, alice, v25)
			feeding(up, s, http.MethodGet)
			open := stream(t, w, get(t, alice, inSession(id, v25)...))
			wait(t, s.began, "the GET")
			if err := load(caddyfile("allow tools.read other\n")); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := load(caddyfile("")); err != nil {
					t.Fatal(err)
				}
			}()
			const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"still here"}}`
			select {
			case s.feed <- event(note):
				if got := open.data(t); got != note {
					t.Errorf("the client received %q", got)
				}
			case <-s.ended: // closed cleanly
			}
			w.send(t, post(t, alice, callTool("ok"), inSession(id, v25)...)).ok(t)
			open.cancel()
			wait(t, s.ended, "the end of the stream")
		})
	}
}

func TestReload(t *testing.T) {
	t.Run("C15 each request is judged by one policy", func(t *testing.T) {
		up := watch(t)
		up.permitMarkers()
		may := func() bool {
			r := sendH1(t, post(t, alice, callTool("admin")))
			for r.status == 0 { // the connection met the old listener as it closed
				r = sendH1(t, post(t, alice, callTool("admin")))
			}
			switch {
			case r.status == 200 && strings.Contains(string(r.body), "not_found"):
				return false
			case r.status == 200 && strings.Contains(string(r.body), "done"):
				return true
			}
			t.Errorf("status %d, %q, %v", r.status, r.body, r.err)
			return false
		}
		// The old listener may accept a last connection after the reload.
		becomes := func(allowed bool, what string) {
			t.Helper()
			for deadline := time.Now().Add(patience); may() != allowed; {
				if time.Now().After(deadline) {
					t.Fatalf("not %s", what)
				}
			}
		}
		defer func() {
			if err := load(caddyfile("")); err != nil {
				t.Error(err)
			}
		}()
		if may() {
			t.Error("allowed before the reload")
		}
		done := make(chan error)
		go func() { done <- load(caddyfile("allow tools.execute main/admin\n")) }()
		for reloading := true; reloading; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				reloading = false
			default:
				may() // either, and nothing else
			}
		}
		becomes(true, "allowed after the reload")
		if err := load(caddyfile("")); err != nil {
			t.Fatal(err)
		}
		becomes(false, "refused after the permission was taken away")
	})
	t.Run("C15 a failed reload changes nothing", func(t *testing.T) {
		up := watch(t)
		id := session(t, alice, v25)
		bad := strings.Replace(caddyfile("allow tools.execute main/admin\n"), world.dir+"/ed.pem", world.dir+"/none.pem", 1)
		if err := load(bad); err == nil {
			t.Fatal("a configuration without its key file was accepted")
		}
		up.forget()
		notFound.check(t, sendH1(t, post(t, alice, callTool("admin"))))
		up.nothing(t)
		sendH1(t, post(t, alice, callTool("ok"), inSession(id, v25)...)).ok(t)
	})
}
