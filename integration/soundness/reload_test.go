package soundness

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// lasting is a configuration after which streams of the one before go on for as long as
// they like, as Caddy has it unless it is told otherwise.
func lasting(text string) string { return strings.Replace(text, "\tgrace_period 1s\n", "", 1) }

// reload makes another configuration the running one, until the test is over.
func reload(t *testing.T, text string) {
	t.Helper()
	if err := load(text); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsOverReloads(t *testing.T) {
	// without is the configuration without some of its lines.
	without := func(t *testing.T, lines ...string) string {
		t.Helper()
		text := lasting(caddyfile(""))
		for _, line := range lines {
			less := strings.Replace(text, line, "", 1)
			if less == text {
				t.Fatalf("there is no %q", line)
			}
			text = less
		}
		return text
	}
	reload(t, lasting(caddyfile("")))
	defer reload(t, caddyfile(""))
	for v, w := range both(versions) {
		run := func(name string, f func(t *testing.T, up *upstream, s *source)) {
			t.Run(name+"/"+v+"/"+w.name, func(t *testing.T) {
				defer reload(t, lasting(caddyfile("")))
				f(t, watch(t), newSource())
			})
		}
		run("E16 a stream outlives a reload, and so does its session", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodGet)
			m := listening(t, v, alice)
			open := stream(t, w, m)
			wait(t, s.began, "the request for a stream")
			reload(t, lasting(caddyfile("allow tools.read other\n")))
			s.send(t, event(toolsChanged)+event(updated))
			for _, want := range []string{toolsChanged, updated} {
				if got := open.data(t); got != want {
					t.Errorf("the client received %q", got)
				}
			}
			up.forget()
			var header []string
			for _, line := range m.header {
				if strings.HasPrefix(line, "Mcp-Session-Id: ") {
					header = append(header, line)
				}
			}
			if (len(header) == 0) != (v == v26) {
				t.Fatalf("sessions %q", header)
			}
			w.send(t, callOf(t, v, alice, "ok", header...)).ok(t)
			up.one(t)
			open.cancel()
			wait(t, s.ended, "the end of the stream")
		})
		if w.name == "h2" && v != v26 {
			continue // a stream is judged anew in the same way, whatever carries it
		}
		run("E7 a permission is taken away during the stream", func(t *testing.T, up *upstream, s *source) {
			open := opened(t, v, w, up, s, alice)
			s.send(t, event(updated))
			if got := open.data(t); got != updated {
				t.Errorf("the client received %q", got)
			}
			reload(t, without(t, "\t\tallow resources.read main/file:///pub/** main/db:{id}\n"))
			s.send(t, event(updated)+event(toolsChanged))
			if got := open.data(t); got != toolsChanged {
				t.Errorf("the client received %q", got)
			}
			open.cancel()
			wait(t, s.ended, "the end of the stream")
		})
		for what, line := range map[string]string{
			"a role is":    "\t\twhen groups a\n\t\tallow tools.read main\n",
			"an issuer is": "\tissuer https://rsa.test {\n\t\tkey_file " + world.dir + "/rsa.pem\n\t\talgorithms RS256 PS256\n\t}\n",
		} {
			run("E7 "+what+" taken away during the stream", func(t *testing.T, up *upstream, s *source) {
				open := opened(t, v, w, up, s, alice)
				text := without(t, line)
				if strings.Contains(line, "when") {
					text = strings.Replace(text, "role a {\n", "role a {\n\t\twhen groups nobody-has\n", 1)
				}
				reload(t, text)
				s.send(t, event(toolsChanged))
				if r := open.rest(t); len(r.body) > 0 || r.err != nil {
					t.Errorf("the client received %q, and the stream did not end as one does: %v", r.body, r.err)
				}
				wait(t, s.ended, "the end of the stream")
			})
		}
		run("E7 a tool is taken away during the call", func(t *testing.T, up *upstream, s *source) {
			feeding(up, s, http.MethodPost)
			open := stream(t, w, callOf(t, v, alice, "ok"))
			wait(t, s.began, "the call")
			reload(t, without(t, "\t\tallow tools.execute main/ok main/db_*\n"))
			s.send(t, event(result("1", results["tools/call"])))
			if r := open.rest(t); len(r.body) > 0 || r.err != nil {
				t.Errorf("the client received %q, and the stream did not end as one does: %v", r.body, r.err)
			}
			wait(t, s.ended, "the end of the call")
		})
	}
}

func TestReload(t *testing.T) {
	const more = "allow tools.execute main/admin\nallow prompts.execute main/hidden\n"
	// may sends a request that the running policy allows or refuses as a whole.
	may := func(t *testing.T, version string, w wire) bool {
		t.Helper()
		m := callOf(t, version, alice, "admin")
		if version == v03 {
			m.body = []byte("[" + callTool("admin") + "," + call("2", "prompts/get", `{"name":"hidden"}`) + "]")
		}
		r := w.send(t, m)
		switch text := string(r.body); {
		case (r.status == 200 || version == v03 && r.status == 403) && strings.Contains(text, "not_found"):
			return false
		case r.status == 200 && strings.Contains(text, "done") && !strings.Contains(text, "error") && (version != v03 || strings.Contains(text, "messages")):
			return true
		}
		t.Errorf("status %d, %q, %v", r.status, r.body, r.err)
		return false
	}
	everywhere(t, "C15 each request is judged by one policy", versions, func(t *testing.T, version string, w wire) {
		up := watch(t)
		up.permitMarkers()
		allowed := 0
		ask := func(w wire) bool {
			yes := may(t, version, w)
			if yes {
				allowed++
			}
			return yes
		}
		// The old listener may accept a last connection after the reload.
		becomes := func(expected bool, what string) {
			t.Helper()
			for deadline := time.Now().Add(patience); ask(w) != expected; {
				if time.Now().After(deadline) {
					t.Fatalf("not %s", what)
				}
			}
		}
		defer reload(t, caddyfile(""))
		if ask(w) {
			t.Error("allowed before the reload")
		}
		for expected, text := range map[bool]string{true: caddyfile(more), false: caddyfile("")} {
			// The old listener ends connections of HTTP/2 on which nothing was sent yet
			// when it does, and with them what has just been.
			left := h1.prepare(t)
			done := make(chan error, 1)
			go func() { done <- load(text) }()
			// Until it is over: then the old listener ends the connections it has.
			for begun := false; left() > 0 && len(done) == 0 && (reloading() || !begun); {
				begun = begun || reloading()
				ask(h1) // either, and nothing else
			}
			h1.discard()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			becomes(expected, map[bool]string{true: "allowed after the reload", false: "refused after the reload"}[expected])
		}
		// What was allowed arrived, and nothing else.
		if got := len(up.all()); got != allowed {
			t.Errorf("%d requests were allowed, and the server received %d", allowed, got)
		}
	})
	everywhere(t, "C15 a call that runs ends as it began", versions, func(t *testing.T, version string, w wire) {
		up := watch(t)
		up.permitMarkers()
		m := callOf(t, version, alice, "admin")
		held, release := make(chan struct{}), make(chan struct{})
		up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
			close(held)
			<-release
			speak(w, r, got)
		})
		reload(t, lasting(caddyfile(more)))
		defer reload(t, caddyfile(""))
		answer := make(chan *reply, 1)
		go func() {
			r := w.send(t, m)
			// The old listener may accept a last connection after the reload.
			for strings.Contains(string(r.body), "not_found") {
				r = w.send(t, m)
			}
			answer <- r
		}()
		wait(t, held, "the call")
		reload(t, lasting(caddyfile("")))
		close(release)
		wait(t, answer, "the answer").ok(t)
		up.one(t)
	})
	everywhere(t, "C15 a failed reload changes nothing", versions, func(t *testing.T, version string, w wire) {
		up := watch(t)
		var header []string
		if version != v26 {
			header = []string{"Mcp-Session-Id: " + session(t, alice, version)}
		}
		bad := strings.Replace(caddyfile("allow tools.execute main/admin\n"), world.dir+"/ed.pem", world.dir+"/none.pem", 1)
		if err := load(bad); err == nil {
			t.Fatal("a configuration without its key file was accepted")
		}
		up.forget()
		notFound.check(t, w.send(t, callOf(t, version, alice, "admin", header...)))
		up.nothing(t)
		w.send(t, callOf(t, version, alice, "ok", header...)).ok(t)
	})
}
