package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
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
	if method == "tools/call" {
		params = `{"name":"ok"}`
	} else if method == "resources/read" {
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
		ofProcess[*answered, answerOpinion](world.ts1, ask),
		ofProcess[*answered, answerOpinion](world.ts2, ask),
		inGo("Go SDK", func(a *answered) answerOpinion {
			// A client waits for an answer with its id. However that is written,
			// it has this digit.
			if !bytes.Contains(a.body, []byte(strconv.Itoa(answerID))) {
				return answerOpinion{}
			}
			return goClient(a)
		}),
	}
}

// goAnswer reads as clients in Go do that decode into structs with encoding/json.
func goAnswer(body []byte) answerView {
	raws := []json.RawMessage{body}
	if isArray(body) {
		raws = nil
		if err := json.Unmarshal(body, &raws); err != nil {
			return answerView{Error: err.Error()}
		}
	}
	var v answerView
	for _, raw := range raws {
		var m struct {
			Method string
			Result json.RawMessage
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return answerView{Error: err.Error()}
		}
		var result struct {
			Tools, Prompts      []struct{ Name string }
			Resources, Contents []struct{ URI string }
			ResourceTemplates   []struct{ URITemplate string }
		}
		if len(m.Result) > 0 {
			// As by those who only want a part of it: what fits is filled in even
			// if something else does not.
			_ = json.Unmarshal(m.Result, &result)
		}
		lists := map[string][]string{}
		add := func(list, key string) { lists[list] = append(lists[list], canonicalString(key)) }
		for _, item := range result.Tools {
			add("tools", item.Name)
		}
		for _, item := range result.Prompts {
			add("prompts", item.Name)
		}
		for _, item := range result.Resources {
			add("resources", item.URI)
		}
		for _, item := range result.Contents {
			add("contents", item.URI)
		}
		for _, item := range result.ResourceTemplates {
			add("resourceTemplates", item.URITemplate)
		}
		var asks []string
		if m.Method != "" {
			asks = []string{m.Method}
		}
		v.Messages = append(v.Messages, answerMessage{lists, asks})
	}
	return v
}

// goStream reads an event stream by lines that end at LF alone.
func goStream(body []byte) answerView {
	var v answerView
	var data []string
	for line := range strings.Lines(string(body) + "\n\n") {
		line = strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, value)
		} else if line == "" {
			v.Messages = append(v.Messages, goAnswer([]byte(strings.Join(data, "\n"))).Messages...)
			data = nil
		}
	}
	return v
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

// smuggled is an answer that nobody may see.
const smuggled = `{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"admin","inputSchema":{"type":"object"}}],"prompts":[{"name":"admin"}]}}`

// frame writes a body as an event stream, in one of the many ways there are.
func (g *generator) frame(body []byte) []byte {
	var b strings.Builder
	end := pick(g, "\n", "\n", "\n", "\r\n", "\r")
	eol := func() {
		if g.one(20) {
			b.WriteString(pick(g, "\n", "\r\n", "\r"))
			return
		}
		b.WriteString(end)
	}
	if g.one(20) {
		b.WriteString("\ufeff")
	}
	around := func() {
		for g.one(4) {
			if g.one(4) {
				// What only some take for the end of a line, and an event of its own.
				end := pick(g, "\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x00", "\u2029\n")
				b.WriteString(pick(g, ": ", "id: ", "foo: ", "event: message", "") + end + end + "data: " + smuggled + end + end)
				eol()
			}
			b.WriteString(pick(g, ":", ": a comment", "id: 1", "id", "retry: 1", "event: message", "event:message", "event", "event: other", "foo: bar", "data", "data:", " data: {}", "data : {}", "Data: {}"))
			eol()
		}
	}
	for range pick(g, 1, 1, 1, 2) {
		around()
		for line := range bytes.FieldsFuncSeq(body, func(c rune) bool { return c == '\n' || c == '\r' }) {
			b.WriteString(pick(g, "data: ", "data: ", "data: ", "data:", "data:  "))
			b.Write(line)
			eol()
			if g.one(4) {
				around()
			}
		}
		around()
		if !g.one(20) {
			eol()
		}
	}
	text := []byte(b.String())
	if g.one(10) {
		text = g.mutateBytes(text)
	}
	return text
}

// answer makes one, to a request with the method, as JSON or as an event stream.
func (g *generator) answer() (body []byte, method, media string) {
	method = pick(g, "tools/list", "tools/list", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "tools/call")
	body = g.body(func() *object { return g.response(method) })
	media = "application/json"
	if g.one(4) {
		media, body = eventStream, g.frame(body)
	}
	return body, method, media
}

// response makes an answer that the server means well, or seldom something else that it may
// send.
func (g *generator) response(method string) *object {
	m := obj("jsonrpc", version)
	switch g.IntN(20) {
	case 0:
		m.members = append(m.members, entry{text("method"), text(pick(g, "notifications/tools/list_changed", "notifications/message", "notifications/x"))})
		return m
	case 1:
		m.members = append(m.members, entry{text("id"), raw("9")}, entry{text("method"), text(pick(g, "sampling/createMessage", "elicitation/create", "roots/list", "ping"))})
		return m
	case 2:
		m.members = append(m.members, entry{text("id"), raw("3")}, entry{text("error"), obj("code", raw("1"), "message", text(g.text()))})
		return m
	}
	m.members = append(m.members, entry{text("id"), pick(g, raw("3"), raw("3"), raw("3"), raw("3"), raw("3"), raw("3"), raw("3.0"), raw("4"))})
	result := new(object)
	m.members = append(m.members, entry{text("result"), result})
	if g.one(20) {
		// What only some take for a request that the principal's client must not get.
		m.members = append(m.members, entry{g.near("method"), text("sampling/createMessage")})
	}
	list := listMethods[method]
	items := new(array)
	for range g.IntN(5) {
		items.items = append(items.items, g.item(list))
	}
	result.members = append(result.members, entry{text(list), items})
	if g.one(8) {
		other := pick(g, "tools", "prompts", "resources", "resourceTemplates", "contents")
		if other != list {
			result.members = append(result.members, entry{text(other), &array{[]any{g.item(other)}}})
		}
	}
	if g.one(4) {
		result.members = append(result.members, entry{text("nextCursor"), text(g.text())})
	}
	if g.one(4) {
		result.members = append(result.members, entry{text("_meta"), obj(g.name(), g.value(2))})
	}
	return m
}

// item makes one of a list.
func (g *generator) item(list string) *object {
	var o *object
	switch list {
	case "tools":
		o = obj("name", text(pick(g, objectNames...)), "inputSchema", obj("type", text("object"), "properties", obj("schema", obj("type", text("string")))))
	case "prompts":
		o = obj("name", text(pick(g, objectNames...)))
	case "resources":
		o = obj("name", text(g.text()), "uri", text(pick(g, objectURIs...)))
	case "resourceTemplates":
		o = obj("name", text(g.text()), "uriTemplate", text(pick(g, objectURIs...)))
	case "contents":
		o = obj("uri", text(pick(g, objectURIs...)), "text", text(g.text()))
	default:
		o = obj("type", text("text"), "text", text(g.text()))
	}
	if g.one(3) {
		o.members = append(o.members, entry{text("description"), text(g.text())})
	}
	if g.one(6) {
		o.members = append(o.members, entry{text(g.name()), g.value(2)})
	}
	return o
}
