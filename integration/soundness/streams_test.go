package soundness

import (
	"io"
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

// opened is the stream in which a server tells what changes: the answer to a GET, or in
// 2026-07-28 to subscriptions/listen. Everything it holds comes from the source.
func opened(t *testing.T, version string, w wire, up *upstream, s *source, who person, header ...string) *streamed {
	t.Helper()
	feeding(up, s, http.MethodGet)
	m := listening(t, version, who)
	up.forget()
	if len(header) > 0 {
		m = m.without("Authorization").with(header...)
	}
	open := stream(t, w, m)
	wait(t, s.began, "the request for a stream")
	return open
}

// listening is the request for it, in a session where there are sessions.
func listening(t *testing.T, version string, who person) message {
	t.Helper()
	if version == v26 {
		return ask(t, version, who, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///pub/a"]}`)
	}
	return get(t, who, inSession(session(t, who, version), version)...)
}

// Notifications that a server may send in any revision.
const (
	toolsChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	updated      = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///pub/a"}}`
)

func TestResumption(t *testing.T) {
	for v, w := range both(legacy) {
		run := func(name string, f func(t *testing.T, up *upstream, s *source)) {
			t.Run(name+"/"+v+"/"+w.name, func(t *testing.T) { f(t, watch(t), newSource()) })
		}
		run("D3 a list that is sent again", func(t *testing.T, up *upstream, s *source) {
			id := session(t, viewer, v)
			feeding(up, s, http.MethodPost)
			first := stream(t, w, post(t, viewer, call("7", "tools/call", `{"name":"ok"}`), inSession(id, v)...))
			s.send(t, "id: ev-1\ndata:\n\n")
			if line := first.line(t); line != "id: ev-1" {
				t.Fatalf("the client received %q", line)
			}
			first.cancel()
			wait(t, s.ended, "the end of the stream")
			again := newSource()
			feeding(up, again, http.MethodGet)
			resumed := stream(t, w, get(t, viewer, append(inSession(id, v), "Last-Event-ID: ev-1")...))
			if got := wait(t, again.began, "the GET"); got.header.Get("Last-Event-Id") != "ev-1" {
				t.Errorf("the server received %v", got.header)
			}
			again.send(t, "id: ev-2\n"+event(result("7", results["tools/list"])))
			close(again.feed)
			resumed.rest(t).only(t, "tools", lists[0].kept)
		})
		run("E13 another's event id", func(t *testing.T, up *upstream, s *source) {
			id := session(t, viewer, v)
			feeding(up, s, http.MethodGet)
			mine := stream(t, w, get(t, viewer, inSession(id, v)...))
			s.send(t, "id: ev-of-vera\ndata:\n\n")
			mine.line(t)
			theirs := session(t, bob, v)
			up.forget()
			unknown := want{400, 40400, "event_unknown"}
			unknown.check(t, w.send(t, get(t, bob, append(inSession(theirs, v), "Last-Event-ID: ev-of-vera")...)))
			unknown.check(t, w.send(t, get(t, bob, "Last-Event-ID: ev-of-vera")))
			unknown.check(t, w.send(t, get(t, viewer, append(inSession(session(t, viewer, v), v), "Last-Event-ID: ev-of-vera")...)))
			noSession.check(t, w.send(t, get(t, bob, append(inSession(id, v), "Last-Event-ID: ev-of-vera")...)))
			for _, got := range up.all() {
				if got.method == http.MethodGet {
					t.Errorf("the server received a GET with %v", got.header)
				}
			}
			mine.cancel()
			wait(t, s.ended, "the end of the stream")
		})
	}
}

func TestStreams(t *testing.T) {
	for v, w := range both(versions) {
		run := func(name string, f func(t *testing.T, up *upstream, s *source)) {
			t.Run(name+"/"+v+"/"+w.name, func(t *testing.T) { f(t, watch(t), newSource()) })
		}
		run("E8 the client of a call goes away", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodPost)
			open := stream(t, w, callOf(t, v, alice, "ok"))
			wait(t, s.began, "the call")
			open.cancel()
			wait(t, s.ended, "the end of the call")
			up.one(t) // nothing is cancelled in the client's name
		})
		run("E8 the client of a stream goes away", func(t *testing.T, up *upstream, s *source) {
			open := opened(t, v, w, up, s, alice)
			open.cancel()
			wait(t, s.ended, "the end of the stream")
			up.one(t)
		})
		run("E15 keep-alives pass at once", func(t *testing.T, up *upstream, s *source) {
			open := opened(t, v, w, up, s, alice)
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
			open := stream(t, w, callOf(t, v, alice, "ok"))
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
	}
}

// Whoever does not read is not read for without end, and time ends a stream only if it is
// the token's.
func TestStreamsInTime(t *testing.T) {
	everywhere(t, "E15 a client that does not read", versions, func(t *testing.T, version string, w wire) {
		up := watch(t)
		const flood, bound = 256 << 20, 64 << 20
		text := event(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"x":"` + strings.Repeat("x", 64<<10) + `"}}}`)
		written := make(chan int, 1)
		m := listening(t, version, alice)
		up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
			if got.method == http.MethodPost && !strings.Contains(string(got.body), `"subscriptions/listen"`) {
				speak(w, r, got)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			control, total := http.NewResponseController(w), 0
			for total < flood {
				_ = control.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				n, err := io.WriteString(w, text)
				total += n
				if err != nil {
					break // nobody takes it any more
				}
			}
			written <- total
		})
		open := stream(t, w, m)
		if total := wait(t, written, "the end of the flood"); total > bound {
			t.Errorf("the gateway took %d bytes that nobody reads", total)
		}
		w.send(t, callOf(t, version, viewer, "ok")).ok(t) // others are served
		if got := open.data(t); !strings.HasPrefix(got, `{"jsonrpc":"2.0"`) || !strings.HasSuffix(got, `x"}}}`) {
			t.Errorf("when the client reads, it receives %.80q", got)
		}
		open.cancel()
	})
	type pair struct {
		open *streamed
		s    *source
	}
	// all opens a stream in each revision over each version of HTTP.
	all := func(t *testing.T, header ...string) (open []pair) {
		t.Helper()
		up := watch(t)
		for version, w := range both(versions) {
			s := newSource()
			open = append(open, pair{opened(t, version, w, up, s, alice, header...), s})
		}
		return open
	}
	t.Run("E7 the token expires during the stream", func(t *testing.T) {
		// Long enough for all to begin.
		short := alice.token(t, claims{"exp": time.Now().Add(4 * time.Second).Unix()})
		open := all(t, "Authorization: Bearer "+short)
		for _, p := range open {
			p.s.send(t, event(toolsChanged))
			p.open.data(t)
		}
		for _, p := range open {
			wait(t, p.s.ended, "the end of the stream at the server")
			if r := p.open.rest(t); strings.Contains(string(r.body), "data:") || r.err != nil {
				t.Errorf("the client received %q, and the stream did not end as one does: %v", r.body, r.err)
			}
		}
	})
	t.Run("E15 nothing is said for longer than a body may take", func(t *testing.T) {
		idle := all(t)
		<-time.After(1500 * time.Millisecond) // body_timeout is 1s
		for _, p := range idle {
			p.s.send(t, event(toolsChanged))
			if got := p.open.data(t); got != toolsChanged {
				t.Errorf("the client received %q", got)
			}
			p.open.cancel()
			wait(t, p.s.ended, "the end of the stream")
		}
	})
}
