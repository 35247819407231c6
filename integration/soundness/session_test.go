package soundness

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// del ends a session.
func del(t *testing.T, who person, header ...string) message {
	t.Helper()
	m := get(t, who, header...)
	m.method = http.MethodDelete
	return m
}

func TestSessions(t *testing.T) {
	for v, w := range both(legacy) {
		run := func(name string, f func(t *testing.T, up *upstream)) {
			t.Run(name+"/"+v+"/"+w.name, func(t *testing.T) { f(t, watch(t)) })
		}
		// unknown tries every way to use a session that must look unknown.
		unknown := func(t *testing.T, up *upstream, who person, id string) {
			t.Helper()
			up.forget()
			for _, m := range []message{
				post(t, who, callTool("ok"), inSession(id, v)...),
				post(t, who, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, inSession(id, v)...),
				get(t, who, inSession(id, v)...),
				del(t, who, inSession(id, v)...),
			} {
				noSession.check(t, w.send(t, m))
			}
			up.nothing(t)
		}
		run("E1 another's session", func(t *testing.T, up *upstream) {
			id := session(t, viewer, v)
			unknown(t, up, bob, id)
			unknown(t, up, root, id)
			w.send(t, post(t, viewer, callTool("ok"), inSession(id, v)...)).ok(t)
			if got := up.one(t).header.Get("Mcp-Session-Id"); !strings.HasPrefix(got, "upstream-session-") {
				t.Errorf("the server received the session id %q", got)
			}
		})
		run("E1 the server's own id, guesses, and variants", func(t *testing.T, up *upstream) {
			id := session(t, viewer, v)
			for _, guess := range []string{
				fmt.Sprintf("upstream-session-%d", up.made), strings.ToLower(id), id + "x", id[1:], "1", "null", "undefined", "../" + id, id + "," + id,
			} {
				unknown(t, up, viewer, guess)
			}
		})
		run("E2 a session is no authentication", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			up.forget()
			for _, m := range []message{post(t, alice, callTool("ok"), inSession(id, v)...), get(t, alice, inSession(id, v)...), del(t, alice, inSession(id, v)...)} {
				want{401, 40100, "token_missing"}.check(t, w.send(t, m.without("Authorization")))
			}
			up.nothing(t)
		})
		run("E3 another token of the same principal", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			m := post(t, alice, callTool("ok"), inSession(id, v)...).without("Authorization")
			w.send(t, m.with("Authorization: Bearer "+alice.token(t, claims{"jti": "fresh", "exp": time.Now().Add(2 * time.Hour).Unix()}))).ok(t)
		})
		run("E3 a token that allows less", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			up.forget()
			less := alice
			less.group = "empty"
			notAllowed.check(t, w.send(t, post(t, less, callTool("ok"), inSession(id, v)...)))
			up.nothing(t)
		})
		run("E3b another issuer's or client's principal of that name", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			for _, other := range []person{
				{"https://ec.test", alice.subject, alice.client, alice.group},
				{alice.issuer, alice.subject, "another", alice.group},
				{alice.issuer, "Alice", alice.client, alice.group},
			} {
				unknown(t, up, other, id)
			}
		})
		run("E5 a session that was ended", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			if r := w.send(t, del(t, alice, inSession(id, v)...)); r.status != 200 {
				t.Fatalf("status %d", r.status)
			}
			unknown(t, up, alice, id)
			if again := session(t, alice, v); again == id {
				t.Error("the id was used again")
			}
		})
		run("E6 the server has forgotten the session", func(t *testing.T, up *upstream) {
			id := session(t, alice, v)
			up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) { w.WriteHeader(http.StatusNotFound) })
			if r := w.send(t, post(t, alice, callTool("ok"), inSession(id, v)...)); r.status != 404 {
				t.Fatalf("status %d", r.status)
			}
			unknown(t, up, alice, id)
		})
		run("E1 initialize with a session id", func(t *testing.T, up *upstream) {
			for _, id := range []string{"chosen-by-the-client", session(t, viewer, v)} {
				up.forget()
				want{400, 40400, "session_given"}.check(t, w.send(t, post(t, alice, initialize(v), "Mcp-Session-Id: "+id)))
				up.nothing(t)
			}
		})
		run("E9 cancelling what another has asked", func(t *testing.T, up *upstream) {
			mine, theirs := session(t, bob, v), session(t, viewer, v)
			up.forget()
			cancelled := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
			noSession.check(t, w.send(t, post(t, bob, cancelled, inSession(theirs, v)...)))
			// Without a session there is nothing of the client's to cancel.
			if r := w.send(t, post(t, bob, cancelled)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}`
			if r := w.send(t, post(t, bob, progress)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			up.nothing(t)
			if r := w.send(t, post(t, bob, cancelled, inSession(mine, v)...)); r.status != 202 {
				t.Errorf("status %d", r.status)
			}
			up.one(t)
		})
		run("E10 a response that was not asked for", func(t *testing.T, up *upstream) {
			id := session(t, asked, v)
			up.forget()
			for _, body := range []string{`{"jsonrpc":"2.0","id":"q1","result":{}}`, `{"jsonrpc":"2.0","id":"q1","error":{"code":1,"message":"x"}}`} {
				unasked := want{400, -32600, "response_unasked"}
				unasked.check(t, w.send(t, post(t, asked, body, inSession(id, v)...)))
				unasked.check(t, w.send(t, post(t, asked, body)))
			}
			noSession.check(t, w.send(t, post(t, bob, `{"jsonrpc":"2.0","id":"q1","result":{}}`, inSession(id, v)...)))
			up.nothing(t)
		})
		run("E1 a session of another server", func(t *testing.T, up *upstream) {
			id := session(t, root, v)
			up.forget()
			for _, server := range []string{"main", "other"} {
				// The same principal, the same name, another gateway of the process.
				m := post(t, root, callTool("ok"), inSession(id, v)...).toPlain(t, root, server)
				if server == "other" {
					noSession.check(t, sendH1(t, m))
				}
			}
			up.nothing(t)
		})
	}
}

const elicit = `{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"message":"?"}}`

// during answers a call with what the server asks first.
func during(t *testing.T, up *upstream, contentType, asks string) (told chan received) {
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

func TestServerRequests(t *testing.T) {
	for v, w := range both(legacy) {
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
			t.Run(row+"/"+v+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				told := during(t, up, c.contentType, c.asks)
				id := session(t, c.who, v)
				r := stream(t, w, post(t, c.who, callTool("ok"), inSession(id, v)...)).rest(t)
				if strings.Contains(string(r.body), "q1") {
					t.Fatalf("the client was asked: %q", r.body)
				}
				got := wait(t, told, "the gateway's refusal")
				if !strings.Contains(string(got.body), `"error"`) || got.header.Get("Mcp-Session-Id") == "" || got.header.Get("Mcp-Session-Id") == id {
					t.Errorf("the server was told %s with %v", got.body, got.header)
				}
			})
		}
		t.Run("E10 what was asked is answered once/"+v+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			who, asks := asked, elicit
			if v == v03 { // has no elicitation
				who, asks = root, strings.Replace(elicit, "elicitation/create", "sampling/createMessage", 1)
			}
			told := during(t, up, "text/event-stream", event(asks)+event(result("1", "{}")))
			id := session(t, who, v)
			r := w.send(t, post(t, who, callTool("ok"), inSession(id, v)...)).ok(t)
			if !strings.Contains(string(r.body), `"q1"`) {
				t.Fatalf("the client was not asked: %q", r.body)
			}
			answer := `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`
			unasked := want{400, -32600, "response_unasked"}
			unasked.check(t, w.send(t, post(t, who, strings.Replace(answer, `"q1"`, `"q2"`, 1), inSession(id, v)...)))
			other := session(t, who, v)
			unasked.check(t, w.send(t, post(t, who, answer, inSession(other, v)...)))
			if r := w.send(t, post(t, who, answer, inSession(id, v)...)); r.status != 202 {
				t.Fatalf("status %d, %s", r.status, r.body)
			}
			if got := wait(t, told, "the answer"); string(got.body) != answer {
				t.Errorf("the server received %s", got.body)
			}
			unasked.check(t, w.send(t, post(t, who, answer, inSession(id, v)...)))
			if len(told) != 0 {
				t.Errorf("the server was told %d times more", len(told))
			}
		})
		t.Run("E11 without a session nobody is asked/"+v+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			during(t, up, "text/event-stream", event(elicit)+event(result("1", "{}")))
			if r := w.send(t, post(t, asked, callTool("ok"))); strings.Contains(string(r.body), "q1") {
				t.Errorf("the client was asked: %q", r.body)
			}
		})
	}
}

// A server of 2026-07-28 asks in results, and the client answers with another request.
func TestModernServerRequests(t *testing.T) {
	everywhere(t, "E12 a modern server asks on the stream", []string{v26}, func(t *testing.T, v string, w wire) {
		for _, asks := range []string{event(elicit) + event(result("1", "{}")), event("[" + elicit + "," + result("1", "{}") + "]")} {
			up := watch(t)
			told := during(t, up, "text/event-stream", asks)
			r := w.send(t, callOf(t, v, asked, "ok")).ok(t)
			if strings.Contains(string(r.body), "q1") {
				t.Errorf("the client was asked: %q", r.body)
			}
			if !strings.Contains(string(r.body), `"result":{}`) {
				t.Errorf("the client received %q", r.body)
			}
			up.one(t)
			if len(told) != 0 {
				t.Error("the server was told, though this revision has no such messages")
			}
		}
	})
	everywhere(t, "E12 a modern server asks instead of an answer", []string{v26}, func(t *testing.T, v string, w wire) {
		up := watch(t)
		during(t, up, "application/json", elicit)
		want{502, 50200, "answer_refused"}.check(t, w.send(t, callOf(t, v, asked, "ok")))
	})
}
