package soundness

import (
	"fmt"
	"strings"
	"testing"
)

// retry is a call that goes on where a server stopped to ask for something.
func retry(t *testing.T, who person, tool, state string) message {
	t.Helper()
	params := fmt.Sprintf(`"name":%q,"arguments":{},"inputResponses":{"a":{"action":"accept"}},"requestState":%s`, tool, state)
	return post(t, who, modern("tools/call", params), modernHeaders("tools/call", tool)...)
}

// TestRequestState has rows F6 and F7: what a server wants back passes as it is, and
// says nothing about what is allowed.
func TestRequestState(t *testing.T) {
	for _, w := range wires {
		t.Run("F6 a retry is judged by its own name/"+w.name, func(t *testing.T) {
			up := watch(t)
			const state = `"state-of-ok"`
			up.replyWith("application/json", result("1", `{"resultType":"input_required","inputRequests":{},"requestState":`+state+`}`))
			if r := w.send(t, retry(t, alice, "ok", `"first"`)).ok(t); !strings.Contains(string(r.body), state) {
				t.Fatalf("the client received %s", r.body)
			}
			up.forget()
			notFound.check(t, w.send(t, retry(t, alice, "admin", state)))
			// The header and the body must agree here as anywhere.
			headerMismatch.check(t, w.send(t, retry(t, alice, "admin", state).without("Mcp-Name").with("Mcp-Name: ok")))
			lost := alice
			lost.group = "follower"
			lost.subject = "somebody"
			notFound.check(t, w.send(t, retry(t, lost, "db_x", state)))
			for _, m := range []message{
				post(t, alice, modern("prompts/get", `"name":"hidden","requestState":`+state), modernHeaders("prompts/get", "hidden")...),
				post(t, alice, modern("resources/read", `"uri":"file:///secret/b","requestState":`+state), modernHeaders("resources/read", "file:///secret/b")...),
			} {
				notFound.check(t, w.send(t, m))
			}
			up.nothing(t)
			w.send(t, retry(t, alice, "db_x", state))
			if got := up.one(t); !strings.Contains(string(got.body), `"name":"db_x"`) || !strings.Contains(string(got.body), `"requestState":`+state) {
				t.Errorf("the server received %s", got.body)
			}
		})
		t.Run("F7 a requestState passes verbatim/"+w.name, func(t *testing.T) {
			up := watch(t)
			for _, state := range []string{
				`"state-of-ok"`, `"STATE-of-ok"`, `"state-of-ok\u0000\u0041\/"`, `""`, `"{\"name\":\"other\"}"`, `"` + strings.Repeat("x", 10_000) + `"`,
				`"eyJhbGciOiJub25lIn0.e30."`, `7`, `null`, `{"name":"other","Name":"x"}`, ` [ 1.0 ] `,
			} {
				for _, who := range []person{alice, viewer} { // another's is the server's to refuse
					up.forget()
					w.send(t, retry(t, who, "ok", state)).ok(t)
					if got := up.one(t); !strings.Contains(string(got.body), `"inputResponses":{"a":{"action":"accept"}},"requestState":`+state+`}`) {
						t.Errorf("the server received %s", clip(got.body))
					}
				}
			}
			// Two of them are two states.
			up.forget()
			duplicate.check(t, w.send(t, retry(t, alice, "ok", `"a","requestState":"b"`)))
			caseVariant.check(t, w.send(t, retry(t, alice, "ok", `"a","RequestState":"b"`)))
			caseVariant.check(t, w.send(t, retry(t, alice, "ok", `"a","inputresponses":{}`)))
			up.nothing(t)
		})
	}
}

// TestKindsOfResults has rows F8 and F9: what a client does not know, or may not be
// asked, does not reach it.
func TestKindsOfResults(t *testing.T) {
	declaring := func(t *testing.T, who person, capabilities string) message {
		t.Helper()
		body := strings.Replace(modern("tools/call", `"name":"ok"`), `"io.modelcontextprotocol/clientCapabilities":{}`, `"io.modelcontextprotocol/clientCapabilities":`+capabilities, 1)
		return post(t, who, body, modernHeaders("tools/call", "ok")...)
	}
	const (
		all       = `{"elicitation":{},"sampling":{},"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
		elicits   = `"inputRequests":{"a":{"method":"elicitation/create","params":{"message":"recognisable"}}}`
		recognise = `"content":[{"type":"text","text":"recognisable"}]`
	)
	for _, w := range wires {
		for _, contentType := range []string{"application/json", "text/event-stream"} {
			answer := func(up *upstream, members string) {
				body := result("1", `{`+members+`}`)
				if contentType != "application/json" {
					body = event(body)
				}
				up.replyWith(contentType, body)
			}
			refused := func(t *testing.T, r *reply, code int, reason string) {
				t.Helper()
				text := strings.TrimPrefix(string(r.body), "data: ")
				if !strings.Contains(text, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"error":{"code":%d,`, code)) || !strings.Contains(text, `"reason":"`+reason+`"`) || strings.Contains(text, "recognisable") {
					t.Errorf("the client received %d %q", r.status, text)
				}
			}
			t.Run("F8 input requests in "+contentType+"/"+w.name, func(t *testing.T) {
				for name, c := range map[string]struct {
					who          person
					capabilities string
					members      string
					allowed      bool
				}{
					"allowed and declared":      {asked, `{"elicitation":{}}`, elicits, true},
					"not declared":              {asked, `{}`, elicits, false},
					"another is declared":       {asked, `{"sampling":{},"roots":{}}`, elicits, false},
					"declared as null":          {asked, `{"elicitation":null}`, elicits, false},
					"declared elsewhere":        {asked, `{"extensions":{"elicitation":{}},"experimental":{"elicitation":{}}}`, elicits, false},
					"declared, and not allowed": {alice, all, elicits, false},
					"one of two not allowed":    {asked, all, strings.Replace(elicits, `{"a":`, `{"b":{"method":"sampling/createMessage"},"a":`, 1), false},
					"one of two not declared":   {root, `{"elicitation":{}}`, strings.Replace(elicits, `{"a":`, `{"b":{"method":"roots/list"},"a":`, 1), false},
					"escaped":                   {alice, all, strings.Replace(elicits, `"method"`, `"\u006dethod"`, 1), false},
					"of no known kind":          {root, all, strings.Replace(elicits, "elicitation/create", "vendor/ask", 1), false},
					"of a client's kind":        {root, all, strings.Replace(elicits, "elicitation/create", "tools/call", 1), false},
					"in the result of a task":   {alice, all, `"result":{` + elicits + `}`, false},
				} {
					up := watch(t)
					answer(up, `"resultType":"input_required","requestState":"recognisable",`+c.members)
					r := w.send(t, declaring(t, c.who, c.capabilities))
					if c.allowed != strings.Contains(string(r.body), c.members) {
						t.Errorf("%s: the client received %s", name, r.body)
					}
					if !c.allowed {
						refused(t, r, 40300, "input_forbidden")
					}
				}
			})
			t.Run("F8 input requests of a task in "+contentType+"/"+w.name, func(t *testing.T) {
				k, up := taskings[1], watch(t)
				up.replies(k.host)
				task := fmt.Sprint("task-", strings.ReplaceAll(t.Name(), "/", "-"))
				w.send(t, k.call(t, worker, "ok", task, "")).ok(t)
				answer(up, fmt.Sprintf(`"resultType":"complete","taskId":%q,"status":"input_required",`, task)+elicits)
				if r := w.send(t, k.about(t, worker, "tasks/get", task)); !strings.Contains(string(r.body), elicits) { // declared and allowed
					t.Errorf("the client received %s", r.body)
				}
				refused(t, w.send(t, k.about(t, follower, "tasks/get", task)), 40300, "input_forbidden")
				undeclared := k.about(t, worker, "tasks/get", task)
				undeclared.body = []byte(strings.Replace(string(undeclared.body), `"elicitation":{},`, "", 1))
				refused(t, w.send(t, undeclared), 40300, "input_forbidden")

				note := event(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":%q,%s}}`, task, elicits))
				up.replyWith("text/event-stream", note)
				for who, want := range map[person]string{worker: note, follower: ""} {
					r := w.send(t, k.request(t, who, "1", "subscriptions/listen", "", fmt.Sprintf(`"notifications":{"taskIds":[%q]}`, task)))
					if string(r.body) != want {
						t.Errorf("%s received %s", who.group, r.body)
					}
				}
			})
			t.Run("F9 kinds of results in "+contentType+"/"+w.name, func(t *testing.T) {
				task := `"resultType":"task","taskId":"task-f9","status":"working",` + recognise
				for name, c := range map[string]struct {
					who                   person
					capabilities, members string
				}{
					"a task that nobody can follow":    {worker, `{}`, task},
					"a task, declared as null":         {worker, `{"extensions":{"io.modelcontextprotocol/tasks":null}}`, task},
					"a task, declared elsewhere":       {worker, `{"tasks":{},"experimental":{"io.modelcontextprotocol/tasks":{}}}`, task},
					"a task for who may not follow it": {alice, all, task},
					"a task without an id":             {worker, all, `"resultType":"task",` + recognise},
					"a task, escaped":                  {worker, `{}`, strings.Replace(task, `"resultType":"task"`, `"result\u0054ype":"t\u0061sk"`, 1)},
					"an unknown kind":                  {worker, all, `"resultType":"vendor/exec",` + recognise},
					"a kind in another case":           {worker, all, `"resultType":"Complete",` + recognise},
					"a kind that is a number":          {worker, all, `"resultType":1,` + recognise},
					"a kind that is null":              {worker, all, `"resultType":null,` + recognise},
					"a kind that is a list":            {worker, all, `"resultType":["complete"],` + recognise},
					"a kind that is an object":         {worker, all, `"resultType":{"complete":true},` + recognise},
				} {
					up := watch(t)
					answer(up, c.members)
					t.Log(name)
					refused(t, w.send(t, declaring(t, c.who, c.capabilities)), 50200, "result_type")
				}
				for _, members := range []string{`"resultType":"complete","resultType":"task",` + recognise, `"RESULTTYPE":"task",` + recognise} {
					up := watch(t)
					answer(up, members)
					if r := w.send(t, declaring(t, worker, all)); strings.Contains(string(r.body), "recognisable") {
						t.Errorf("%s: the client received %s", members, r.body)
					}
				}
				for _, members := range []string{recognise, `"resultType":"complete",` + recognise, `"resultType":"input_required","requestState":"s",` + recognise} {
					up := watch(t)
					answer(up, members)
					if r := w.send(t, declaring(t, worker, `{}`)).ok(t); !strings.Contains(string(r.body), members) {
						t.Errorf("the client received %s", r.body)
					}
				}
				// Of what is no call, a task is not an answer.
				up := watch(t)
				answer(up, task)
				refused(t, w.send(t, post(t, root, withTasks(modern("prompts/get", `"name":"open"`)), modernHeaders("prompts/get", "open")...)), 50200, "result_type")
			})
			t.Run("F9 who may not follow tasks is given none in "+contentType+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				answer(up, `"resultType":"complete",`+recognise)
				w.send(t, declaring(t, alice, `{"roots":{},"extensions":{"x/y":{},"io.modelcontextprotocol/tasks":{}}}`)).ok(t)
				if got := up.one(t); !strings.Contains(string(got.body), `{"roots":{},"extensions":{"x/y":{}}}`) || got.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
					t.Errorf("the server received %s", got.body)
				}
			})
		}
	}
}
