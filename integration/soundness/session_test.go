package soundness

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const v25 = "2025-11-25"

// del ends a session.
func del(t *testing.T, who person, header ...string) message {
	t.Helper()
	m := get(t, who, header...)
	m.method = http.MethodDelete
	return m
}

func TestSessions(t *testing.T) {
	for _, w := range wires {
		run := func(name string, f func(t *testing.T, up *upstream)) {
			t.Run(name+"/"+w.name, func(t *testing.T) { f(t, watch(t)) })
		}
		// unknown tries every way to use a session that must look unknown.
		unknown := func(t *testing.T, up *upstream, who person, id string) {
			t.Helper()
			up.forget()
			for _, m := range []message{
				post(t, who, callTool("ok"), inSession(id, v25)...),
				post(t, who, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, inSession(id, v25)...),
				get(t, who, inSession(id, v25)...),
				del(t, who, inSession(id, v25)...),
			} {
				noSession.check(t, w.send(t, m))
			}
			up.nothing(t)
		}
		run("E1 another's session", func(t *testing.T, up *upstream) {
			id := session(t, viewer, v25)
			unknown(t, up, bob, id)
			unknown(t, up, root, id)
			w.send(t, post(t, viewer, callTool("ok"), inSession(id, v25)...)).ok(t)
			if got := up.one(t).header.Get("Mcp-Session-Id"); !strings.HasPrefix(got, "upstream-session-") {
				t.Errorf("the server received the session id %q", got)
			}
		})
		run("E1 the server's own id, guesses, and variants", func(t *testing.T, up *upstream) {
			id := session(t, viewer, v25)
			for _, guess := range []string{
				fmt.Sprintf("upstream-session-%d", up.made), strings.ToLower(id), id + "x", id[1:], "1", "null", "undefined", "../" + id, id + "," + id,
			} {
				unknown(t, up, viewer, guess)
			}
		})
		run("E2 a session is no authentication", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			up.forget()
			for _, m := range []message{post(t, alice, callTool("ok"), inSession(id, v25)...), get(t, alice, inSession(id, v25)...), del(t, alice, inSession(id, v25)...)} {
				want{401, 40100, "token_missing"}.check(t, w.send(t, m.without("Authorization")))
			}
			up.nothing(t)
		})
		run("E3 another token of the same principal", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			m := post(t, alice, callTool("ok"), inSession(id, v25)...).without("Authorization")
			w.send(t, m.with("Authorization: Bearer "+alice.token(t, claims{"jti": "fresh", "exp": time.Now().Add(2 * time.Hour).Unix()}))).ok(t)
		})
		run("E3 a token that allows less", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			up.forget()
			less := alice
			less.group = "empty"
			notAllowed.check(t, w.send(t, post(t, less, callTool("ok"), inSession(id, v25)...)))
			up.nothing(t)
		})
		run("E3b another issuer's or client's principal of that name", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			for _, other := range []person{
				{"https://ec.test", alice.subject, alice.client, alice.group},
				{alice.issuer, alice.subject, "another", alice.group},
				{alice.issuer, "Alice", alice.client, alice.group},
			} {
				unknown(t, up, other, id)
			}
		})
		run("E5 a session that was ended", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			if r := w.send(t, del(t, alice, inSession(id, v25)...)); r.status != 200 {
				t.Fatalf("status %d", r.status)
			}
			unknown(t, up, alice, id)
			if again := session(t, alice, v25); again == id {
				t.Error("the id was used again")
			}
		})
		run("E6 the server has forgotten the session", func(t *testing.T, up *upstream) {
			id := session(t, alice, v25)
			up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) { w.WriteHeader(http.StatusNotFound) })
			if r := w.send(t, post(t, alice, callTool("ok"), inSession(id, v25)...)); r.status != 404 {
				t.Fatalf("status %d", r.status)
			}
			unknown(t, up, alice, id)
		})
		run("E1 initialize with a session id", func(t *testing.T, up *upstream) {
			for _, id := range []string{"chosen-by-the-client", session(t, viewer, v25)} {
				up.forget()
				want{400, 40400, "session_given"}.check(t, w.send(t, post(t, alice, initialize(v25), "Mcp-Session-Id: "+id)))
				up.nothing(t)
			}
		})
		run("E9 cancelling what another has asked", func(t *testing.T, up *upstream) {
			mine, theirs := session(t, bob, v25), session(t, viewer, v25)
			up.forget()
			cancelled := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
			noSession.check(t, w.send(t, post(t, bob, cancelled, inSession(theirs, v25)...)))
			// Without a session there is nothing of the client's to cancel.
			if r := w.send(t, post(t, bob, cancelled)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}`
			if r := w.send(t, post(t, bob, progress)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			up.nothing(t)
			if r := w.send(t, post(t, bob, cancelled, inSession(mine, v25)...)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			up.one(t)
		})
		run("E10 a response that was not asked for", func(t *testing.T, up *upstream) {
			id := session(t, asked, v25)
			up.forget()
			for _, body := range []string{`{"jsonrpc":"2.0","id":"q1","result":{}}`, `{"jsonrpc":"2.0","id":"q1","error":{"code":1,"message":"x"}}`} {
				unasked := want{400, -32600, "response_unasked"}
				unasked.check(t, w.send(t, post(t, asked, body, inSession(id, v25)...)))
				unasked.check(t, w.send(t, post(t, asked, body)))
			}
			noSession.check(t, w.send(t, post(t, bob, `{"jsonrpc":"2.0","id":"q1","result":{}}`, inSession(id, v25)...)))
			up.nothing(t)
		})
		run("E1 a session of another server", func(t *testing.T, up *upstream) {
			id := session(t, root, v25)
			up.forget()
			for _, server := range []string{"main", "other"} {
				// The same principal, the same name, another gateway of the process.
				m := post(t, root, callTool("ok"), inSession(id, v25)...).toPlain(t, root, server)
				if server == "other" {
					noSession.check(t, sendH1(t, m))
				}
			}
			up.nothing(t)
		})
	}
}

const elicit = `{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"message":"?"}}`

func TestServerRequests(t *testing.T) {
	for _, w := range wires {
		// during answers a call with what the server asks first.
		during := func(t *testing.T, up *upstream, contentType, asks string) (told chan received) {
			t.Helper()
			told = make(chan received, 8)
			up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
				if strings.Contains(string(got.body), `"id":"q1"`) {
					told <- got
					w.WriteHeader(http.StatusAccepted)
					return
				}
				if strings.Contains(string(got.body), `"initialize"`) {
					speak(w, r, got)
					return
				}
				w.Header().Set("Content-Type", contentType)
				_, _ = io.WriteString(w, asks)
			})
			return told
		}
		for row, c := range map[string]struct {
			who         person
			asks        string
			contentType string
		}{
			"E11 elicitation that is not allowed":            {alice, event(elicit) + event(result("1", "{}")), "text/event-stream"},
			"E11 sampling that is not allowed":               {asked, event(strings.Replace(elicit, "elicitation/create", "sampling/createMessage", 1)) + event(result("1", "{}")), "text/event-stream"},
			"E11 roots that are not allowed":                 {asked, event(strings.Replace(elicit, "elicitation/create", "roots/list", 1)) + event(result("1", "{}")), "text/event-stream"},
			"E11 a request nobody knows":                     {asked, event(strings.Replace(elicit, "elicitation/create", "vendor/exec", 1)) + event(result("1", "{}")), "text/event-stream"},
			"E11 a request of clients":                       {asked, event(strings.Replace(elicit, "elicitation/create", "tools/call", 1)) + event(result("1", "{}")), "text/event-stream"},
			"E11 a request in an answer that is JSON":        {alice, elicit, "application/json"},
			"E11 a request in a batch with the answer":       {alice, "[" + elicit + "," + result("1", "{}") + "]", "application/json"},
			"E11 a request in an event with the answer":      {alice, event("[" + elicit + "," + result("1", "{}") + "]"), "text/event-stream"},
			"E11 a request in an event that is not complete": {alice, event(result("1", "{}")) + "data: " + elicit, "text/event-stream"},
		} {
			t.Run(row+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				told := during(t, up, c.contentType, c.asks)
				id := session(t, c.who, v25)
				r := stream(t, w, post(t, c.who, callTool("ok"), inSession(id, v25)...)).rest(t)
				if strings.Contains(string(r.body), "q1") {
					t.Fatalf("the client was asked: %q", r.body)
				}
				got := wait(t, told, "the gateway's refusal")
				if !strings.Contains(string(got.body), `"error"`) || got.header.Get("Mcp-Session-Id") == "" || got.header.Get("Mcp-Session-Id") == id {
					t.Errorf("the server was told %s with %v", got.body, got.header)
				}
			})
		}
		t.Run("E10 what was asked is answered once/"+w.name, func(t *testing.T) {
			up := watch(t)
			told := during(t, up, "text/event-stream", event(elicit)+event(result("1", "{}")))
			id := session(t, asked, v25)
			r := w.send(t, post(t, asked, callTool("ok"), inSession(id, v25)...)).ok(t)
			if !strings.Contains(string(r.body), `"q1"`) {
				t.Fatalf("the client was not asked: %q", r.body)
			}
			answer := `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`
			unasked := want{400, -32600, "response_unasked"}
			unasked.check(t, w.send(t, post(t, asked, strings.Replace(answer, `"q1"`, `"q2"`, 1), inSession(id, v25)...)))
			other := session(t, asked, v25)
			unasked.check(t, w.send(t, post(t, asked, answer, inSession(other, v25)...)))
			if r := w.send(t, post(t, asked, answer, inSession(id, v25)...)); r.status != 202 {
				t.Fatalf("status %d, %s", r.status, r.body)
			}
			if got := wait(t, told, "the answer"); string(got.body) != answer {
				t.Errorf("the server received %s", got.body)
			}
			unasked.check(t, w.send(t, post(t, asked, answer, inSession(id, v25)...)))
			if len(told) != 0 {
				t.Errorf("the server was told %d times more", len(told))
			}
		})
		t.Run("E12 a modern server asks on the stream/"+w.name, func(t *testing.T) {
			up := watch(t)
			told := during(t, up, "text/event-stream", event(elicit)+event(result("1", "{}")))
			m := post(t, asked, modern("tools/call", `"name":"ok"`), modernHeaders("tools/call", "ok")...)
			if r := w.send(t, m); strings.Contains(string(r.body), "q1") {
				t.Errorf("the client was asked: %q", r.body)
			}
			if len(told) != 0 {
				t.Error("the server was told, though this revision has no such messages")
			}
		})
		t.Run("E11 without a session nobody is asked/"+w.name, func(t *testing.T) {
			up := watch(t)
			during(t, up, "text/event-stream", event(elicit)+event(result("1", "{}")))
			if r := w.send(t, post(t, asked, callTool("ok"))); strings.Contains(string(r.body), "q1") {
				t.Errorf("the client was asked: %q", r.body)
			}
		})
	}
}
