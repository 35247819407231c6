package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// answerID is the id of the request that is answered: the one that the Go SDK's client gives
// to the first after it has connected. The others' clients are told it.
const answerID = 3

// answered is what a client gets of a server's answer.
type answered struct {
	// method and media are of the request and of the answer.
	method, media string
	// body is what the gateway has sent.
	body []byte
	// hides is whether the answer that was made has a key that the principal may not see.
	hides bool
}

// answerView is what a client makes of an answer: of each message the keys of the items of
// every list, as canonical text, and the method if it is a request or notification.
type answerView struct {
	Error    string          `json:"error"`
	Messages []answerMessage `json:"messages"`
}

type answerMessage struct {
	Lists map[string][]string `json:"lists"`
	Asks  []string            `json:"asks"`
}

// answerOpinion is what came of giving an answer to a reader.
type answerOpinion struct {
	Views []answerView `json:"views"`
}

// visible are the keys that the principal may see, as canonical text.
var visible = func() map[string]bool {
	keys := map[string]bool{}
	for _, key := range slices.Concat(visibleNames, visibleURIs) {
		keys[canonicalString(key)] = true
	}
	return keys
}()

// answer has the server answer a request with a body, and returns what the client gets, or
// the reason for which it gets nothing.
func (g *gate) answer(method, media string, body []byte) (a *answered, reason string) {
	params := `{}`
	switch method {
	case "tools/call":
		params = `{"name":"ok"}`
	case "resources/read":
		params = `{"uri":"file:///ok"}`
	}
	request := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, answerID, method, params)
	headers := map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2025-06-18",
	}
	w := httptest.NewRecorder()
	err := g.serve(w, []byte(request), headers, g.some, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", media)
		_, err := w.Write(body)
		return err
	})
	switch {
	case err != nil && w.Body.Len() == 0:
		return nil, "error: " + err.Error()
	case w.Code != http.StatusOK:
		var refusal struct {
			Error struct{ Data struct{ Reason string } }
		}
		_ = json.Unmarshal(w.Body.Bytes(), &refusal)
		return nil, refusal.Error.Data.Reason
	case w.Body.Len() == 0:
		return nil, "nothing sent"
	}
	return &answered{method: method, media: media, body: w.Body.Bytes()}, ""
}

// wrong tells what a client finds in an answer that it may not.
func wrong(o *answerOpinion, a *answered) string {
	for _, v := range o.Views {
		for i, m := range v.Messages {
			if len(m.Asks) > 0 && !allowedToClient(m.Asks) {
				return fmt.Sprintf("message %d is taken for one with the method %q", i, m.Asks)
			}
			if a.method == "tools/call" {
				continue // nobody lists tools with it
			}
			for list, keys := range m.Lists {
				for _, key := range keys {
					if !visible[key] {
						return fmt.Sprintf("message %d, %s: sees %s", i, list, key)
					}
				}
			}
		}
	}
	return ""
}

// allowedToClient reports whether all are what a server may send to everybody
// who may use it.
func allowedToClient(methods []string) bool {
	return !slices.ContainsFunc(methods, func(name string) bool {
		return !slices.ContainsFunc(mcp.Methods(), func(m mcp.Method) bool {
			return m.Name == name && m.From&mcp.Server != 0 && (m.Permission == mcp.PermissionNone || m.Permission == mcp.ServersUse)
		})
	})
}

const eventStream = "text/event-stream"

func answerReaders() []reader[*answered, answerOpinion] {
	ask := func(a *answered) question {
		return question{Answer: true, Method: a.method, ID: answerID, Type: a.media, body: a.body}
	}
	return []reader[*answered, answerOpinion]{
		ofProcess[*answered, answerOpinion](world.js, ask),
		ofProcess[*answered, answerOpinion](world.py, ask),
		inGo("Go encoding/json struct", func(a *answered) answerOpinion {
			if a.media == eventStream {
				return answerOpinion{[]answerView{goStream(a.body)}}
			}
			return answerOpinion{[]answerView{goAnswer(a.body)}}
		}),
		some(ofProcess[*answered, answerOpinion](world.ts1, ask)),
		some(ofProcess[*answered, answerOpinion](world.ts2, ask)),
		some(inGo("Go SDK", func(a *answered) answerOpinion {
			// A client waits for an answer with its id. However that is written,
			// it has this digit.
			if !bytes.Contains(a.body, []byte(strconv.Itoa(answerID))) {
				return answerOpinion{}
			}
			return goClient(a)
		})),
	}
}

// listMethods are the requests whose answers hold lists, and the list. The rest of the
// answers hold none that anybody would look for.
var listMethods = map[string]string{
	"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources",
	"resources/templates/list": "resourceTemplates", "resources/read": "contents", "tools/call": "content",
}

// methodFor is the request that a body, of which nothing is known, is taken for an answer to.
func methodFor(body []byte) string {
	for _, method := range []string{"resources/templates/list", "resources/read", "resources/list", "prompts/list", "tools/list"} {
		if bytes.Contains(body, []byte(`"`+listMethods[method]+`"`)) {
			return method
		}
	}
	if bytes.Contains(body, []byte(`"content"`)) {
		return "tools/call"
	}
	return "tools/list"
}

// look notes what there was in an answer before it was filtered.
func (a *answered) look(body []byte) {
	messages, _, err := jsonrpc.ReadAnswer(body)
	if err != nil {
		return
	}
	for i := range messages {
		for _, list := range messages[i].Result.Lists {
			a.hides = a.hides || slices.ContainsFunc(list.Items, func(item jsonrpc.Item) bool { return !visible[canonicalString(item.Key)] })
		}
	}
}

// anyWrong asks all readers about one answer.
func anyWrong(t testing.TB, readers []reader[*answered, answerOpinion], method, media string, body []byte) string {
	t.Helper()
	a, _ := world.gate.answer(method, media, body)
	if a == nil {
		return ""
	}
	given, err := opinions(readers, []*answered{a})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		if what := wrong(&given[i][0], a); what != "" {
			return fmt.Sprintf("%s: %s, in an answer to %s", r.name, what, method)
		}
	}
	return ""
}

// TestAnswers makes answers near valid ones, and gives what the gateway leaves of them to
// the readers as clients.
func TestAnswers(t *testing.T) {
	t.Parallel()
	readers := answerReaders()
	r := newRun(*duration / 2)
	hidden := 0
	makeBody := func(g *generator) (body []byte, a *answered, reason string) {
		body, method, media := g.answer()
		if a, reason = world.gate.answer(method, media, body); a != nil && media != eventStream {
			a.look(body)
		}
		return body, a, reason
	}
	for c := range chunks(t, r, makeBody) {
		given, err := opinions(readers, c.passed)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range c.passed {
			if a.hides {
				hidden++
			}
			for n := range readers {
				o := &given[n][i]
				r.count(readers[n].name, slices.ContainsFunc(o.Views, func(v answerView) bool { return v.Error == "" }))
				if what := wrong(o, a); what != "" {
					shrunk := shrink(c.bodies[i], func(b []byte) bool { return anyWrong(t, readers[n:n+1], a.method, a.media, b) != "" })
					r.report(t, "FuzzAnswer", c.bodies[i], shrunk, anyWrong(t, readers[n:n+1], a.method, a.media, shrunk))
				}
			}
		}
	}
	r.log(t)
	t.Logf("%d had an item that the principal may not see", hidden)
	if hidden*20 < r.compared {
		t.Errorf("only %d of %d answers had something to hide", hidden, r.compared)
	}
}

// FuzzAnswer holds what the gateway leaves of one answer against all readers.
func FuzzAnswer(f *testing.F) {
	for n := range uint64(200) {
		g := newGenerator(1, n)
		body, _, media := g.answer()
		f.Add(body, media == eventStream)
	}
	readers := answerReaders()
	f.Fuzz(func(t *testing.T, body []byte, stream bool) {
		media := "application/json"
		if stream {
			media = eventStream
		}
		if what := anyWrong(t, readers, methodFor(body), media, body); what != "" {
			t.Error(what)
		}
	})
}
