package mcpauth

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/seal"
)

// paging is a gate before a server that answers every request with the same, and keeps
// what it received.
type paging struct {
	*gate
	media, answer string
	received      []string
}

func newPaging(t *testing.T, change map[string]any) *paging {
	t.Helper()
	p := &paging{media: "application/json"}
	p.gate = newGate(t, change, func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		p.received = append(p.received, string(body))
		answer := p.answer
		if p.media == "text/event-stream" {
			answer = "data: " + answer + "\n\n"
		}
		return says(p.media, answer)(w, r)
	})
	return p
}

// ask sends a request and returns what the client received, and what the server did.
func (p *paging) ask(t *testing.T, token, body string) (received, sent string) {
	t.Helper()
	p.received = nil
	r := p.post(t, token, body)
	if strings.HasPrefix(body, "[") {
		r.Header.Set("Mcp-Protocol-Version", "2025-03-26")
	}
	_, received = p.do(t, r)
	received = strings.TrimSuffix(strings.TrimPrefix(received, "data: "), "\n\n")
	return received, strings.Join(p.received, "\n")
}

// cursorOf is the nextCursor of an answer.
func cursorOf(t *testing.T, answer string) string {
	t.Helper()
	var page struct {
		Result struct{ NextCursor string }
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		t.Fatal(err, answer)
	}
	return page.Result.NextCursor
}

func page(member, cursor string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{%q:[],"nextCursor":%s}}`, member, cursor)
}

func listing(method, cursor string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0", "id":1,"method":%q,"params":{"_meta":{} ,"cursor" : %q}}`, method, cursor)
}

var paged = []struct{ method, member string }{
	{"tools/list", "tools"},
	{"prompts/list", "prompts"},
	{"resources/list", "resources"},
	{"resources/templates/list", "resourceTemplates"},
}

// TestCursors: whom a list hides something from gets the server's cursor sealed, and
// with it the server gets its own.
func TestCursors(t *testing.T) {
	p := newPaging(t, nil)
	reader, admin := tokenOf(t, "reader", nil), tokenOf(t, "admin", nil)
	const own = `after drop_all "\`
	quoted, _ := json.Marshal(own)
	for _, p.media = range []string{"application/json", "text/event-stream"} {
		for _, list := range paged {
			t.Run(list.method+" in "+p.media, func(t *testing.T) {
				p.answer = page(list.member, string(quoted))
				answer, _ := p.ask(t, reader, listing(list.method, ""))
				sealed := cursorOf(t, answer)
				if sealed == own || strings.Contains(answer, "drop") || strings.Contains(sealed, "=") {
					t.Fatalf("received %s", answer)
				}
				if want := strings.Replace(p.answer, string(quoted), `"`+sealed+`"`, 1); answer != want {
					t.Errorf("received %s, not %s", answer, want)
				}
				_, sent := p.ask(t, reader, listing(list.method, sealed))
				if want := listing(list.method, own); sent != want {
					t.Errorf("the server received %s, not %s", sent, want)
				}
				// Who sees everything sees the server's own, and may go on with a sealed one.
				if answer, sent := p.ask(t, admin, listing(list.method, own)); answer != p.answer || sent != listing(list.method, own) {
					t.Errorf("admin received %s, the server %s", answer, sent)
				}
				if _, sent := p.ask(t, admin, listing(list.method, sealed)); sent != listing(list.method, own) {
					t.Errorf("after a promotion the server received %s", sent)
				}
			})
		}
	}
}

func TestCursorsInBatches(t *testing.T) {
	p := newPaging(t, nil)
	reader := tokenOf(t, "reader", nil)
	batch := func(tools, prompts string) string {
		return fmt.Sprintf(`[%s, %s,{"jsonrpc":"2.0","id":3,"method":"ping"}]`, listing("tools/list", tools),
			strings.Replace(listing("prompts/list", prompts), `"id":1`, `"id":"p"`, 1))
	}
	// In another order than they were asked for.
	p.answer = "[" + strings.Replace(page("prompts", `"drop p"`), `"id":1`, `"id":"p"`, 1) + "," + page("tools", `"drop t"`) + `,{"jsonrpc":"2.0","id":3,"result":{}}]`
	answer, _ := p.ask(t, reader, batch("", ""))
	var answers []json.RawMessage
	if err := json.Unmarshal([]byte(answer), &answers); err != nil || len(answers) != 3 || strings.Contains(answer, "drop") {
		t.Fatal(err, answer)
	}
	prompts, tools := cursorOf(t, string(answers[0])), cursorOf(t, string(answers[1]))
	if _, sent := p.ask(t, reader, batch(tools, prompts)); sent != batch("drop t", "drop p") {
		t.Errorf("the server received %s", sent)
	}
	p.answer = `[{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"drop t"}}]`
	if answer, _ := p.ask(t, reader, batch(tools, prompts)); strings.Contains(answer, "drop") {
		t.Errorf("without the list, received %s", answer)
	}
	answer, sent := p.ask(t, reader, batch(prompts, tools))
	if reasonOf(answer) != "cursor" || strings.Contains(answer, `"id"`) || sent != "" {
		t.Errorf("exchanged: received %s, the server %s", answer, sent)
	}
}

// TestCursorsAreBound to who received them, and to the list.
func TestCursorsAreBound(t *testing.T) {
	const elsewhere = "https://elsewhere.example"
	p := newPaging(t, map[string]any{"issuers": []any{
		map[string]any{"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret}},
		map[string]any{"issuer": elsewhere, "keys": map[string]any{"source": "secret", "value": gateSecret}},
	}})
	p.answer = page("tools", `"drop_all"`)
	reader := tokenOf(t, "reader", nil)
	answer, _ := p.ask(t, reader, listing("tools/list", ""))
	sealed := cursorOf(t, answer)

	other := newPaging(t, map[string]any{"public_url": "http://127.0.0.1/other"})
	for name, tc := range map[string]struct {
		at          *paging
		token, body string
	}{
		"garbage":                  {p, reader, listing("tools/list", "garbage")},
		"the server's own":         {p, reader, listing("tools/list", "drop_all")},
		"changed":                  {p, reader, listing("tools/list", sealed[:50]+"A"+sealed[51:])},
		"cut":                      {p, reader, listing("tools/list", sealed[:50])},
		"the marker alone":         {p, reader, listing("tools/list", sealed[:8])},
		"too long":                 {p, reader, listing("tools/list", sealed+strings.Repeat("A", seal.MaxSealed))},
		"another subject":          {p, tokenOf(t, "reader", map[string]any{"sub": "else"}), listing("tools/list", sealed)},
		"another client":           {p, tokenOf(t, "reader", map[string]any{"client_id": "app"}), listing("tools/list", sealed)},
		"another issuer":           {p, tokenOf(t, "reader", map[string]any{"iss": elsewhere}), listing("tools/list", sealed)},
		"another, who sees it all": {p, tokenOf(t, "admin", map[string]any{"sub": "else"}), listing("tools/list", sealed)},
		"another list":             {p, reader, listing("prompts/list", sealed)},
		"another method":           {p, reader, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","cursor":"` + sealed + `"}}`},
		"resources/read":           {p, reader, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a","cursor":"x"}}`},
		"another gateway's server": {other, tokenOf(t, "reader", map[string]any{"aud": "http://127.0.0.1/other"}), listing("tools/list", sealed)},
	} {
		t.Run(name, func(t *testing.T) {
			tc.at.received = nil
			r := tc.at.post(t, tc.token, tc.body)
			if tc.at == other {
				r.URL.Path = "/other/mcp"
			}
			resp, answer := tc.at.do(t, r)
			if resp.StatusCode != http.StatusOK || !strings.Contains(answer, `"code":-32602`) || !strings.Contains(answer, `"id":1`) || reasonOf(answer) != "cursor" {
				t.Errorf("received %d %s", resp.StatusCode, answer)
			}
			if strings.Contains(answer, "drop") || len(tc.at.received) > 0 {
				t.Errorf("received %s, the server %s", answer, tc.at.received)
			}
		})
	}
	again := tokenOf(t, "reader", map[string]any{"jti": "t-2"})
	if _, sent := p.ask(t, again, listing("tools/list", sealed)); sent != listing("tools/list", "drop_all") {
		t.Errorf("with the principal's next token the server received %q", sent)
	}
	plain := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","cursor":"x"}}`
	if _, sent := p.ask(t, reader, plain); sent != plain {
		t.Errorf("a cursor that means nothing: the server received %q", sent)
	}
}

// TestCursorsOfAnswers: what becomes of a result's nextCursor.
func TestCursorsOfAnswers(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	long := strings.Repeat("x", seal.MaxText)
	p := newPaging(t, nil)
	for name, tc := range map[string]struct {
		asked, result string
		// becomes is empty for what is sealed.
		becomes string
	}{
		"null":                          {list, `{"tools":[],"nextCursor":null}`, "null"},
		"empty":                         {list, `{"tools":[],"nextCursor":""}`, `""`},
		"long":                          {list, `{"tools":[],"nextCursor":"` + long + `"}`, ""},
		"too long":                      {list, `{"tools":[],"nextCursor":"` + long + `x"}`, "502"},
		"an object":                     {list, `{"tools":[],"nextCursor":{"after":"drop_all"}}`, "502"},
		"with a control character":      {list, `{"tools":[],"nextCursor":"drop\n"}`, "502"},
		"its name in another case":      {list, `{"tools":[],"NextCursor":"drop"}`, "502"},
		"its name twice":                {list, `{"tools":[],"nextCursor":"","nextCursor":"drop"}`, "502"},
		"its name escaped":              {list, `{"tools":[],"next\u0043ursor":"drop"}`, ""},
		"without the list":              {list, `{"nextCursor":"drop"}`, ""},
		"with another list":             {list, `{"prompts":[],"nextCursor":"drop"}`, ""},
		"of a tool's result":            {askCall, `{"content":[],"nextCursor":"x"}`, `"x"`},
		"of a tool's result, an object": {askCall, `{"content":[],"nextCursor":{}}`, `{}`},
		"of a directory": {
			`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a"}}`,
			`{"contents":[],"nextCursor":"file:///drop"}`, "",
		},
	} {
		for _, p.media = range []string{"application/json", "text/event-stream"} {
			t.Run(name+" in "+p.media, func(t *testing.T) {
				p.answer = `{"jsonrpc":"2.0","id":1,"result":` + tc.result + `}`
				if tc.becomes == "502" && p.media == "text/event-stream" {
					resp, body := p.do(t, p.post(t, tokenOf(t, "reader", nil), tc.asked))
					if resp.StatusCode != http.StatusOK || body != "" {
						t.Errorf("received %d %s", resp.StatusCode, body)
					}
					return
				}
				answer, _ := p.ask(t, tokenOf(t, "reader", nil), tc.asked)
				var got struct {
					Result struct{ NextCursor json.RawMessage }
				}
				if err := json.Unmarshal([]byte(answer), &got); err != nil {
					t.Fatal(err)
				}
				switch cursor := string(got.Result.NextCursor); {
				case strings.Contains(answer, "drop"):
					t.Errorf("received %s", answer)
				case tc.becomes == "502":
					if reasonOf(answer) != "answer_malformed" {
						t.Errorf("received %s", answer)
					}
				case tc.becomes != "" && cursor != tc.becomes:
					t.Errorf("the cursor is %s, not %s", cursor, tc.becomes)
				case tc.becomes == "" && (len(cursor) < 100 || cursor[0] != '"'):
					t.Errorf("the cursor is not sealed: %.100s", cursor)
				}
				// Who sees everything gets what the server says.
				if tc.becomes == "502" && strings.Contains(name, "name") {
					return // a stream is read for them too
				}
				if answer, _ := p.ask(t, tokenOf(t, "admin", nil), tc.asked); answer != p.answer {
					t.Errorf("admin received %.300s", answer)
				}
			})
		}
	}
}

// TestCursorsOfResumedStreams: an answer that is sent again on a GET answers nothing of
// that request, and yet goes on with its list.
func TestCursorsOfResumedStreams(t *testing.T) {
	p := newPaging(t, nil)
	reader := tokenOf(t, "reader", nil)
	again := func(token, result string) string {
		p.answer, p.media = `{"jsonrpc":"2.0","id":1,"result":`+result+`}`, "text/event-stream"
		r := p.post(t, token, "")
		r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
		_, body := p.do(t, r)
		return strings.TrimSuffix(strings.TrimPrefix(body, "data: "), "\n\n")
	}
	sealed := cursorOf(t, again(reader, `{"tools":[],"nextCursor":"drop"}`))
	if _, sent := p.ask(t, reader, listing("tools/list", sealed)); sent != listing("tools/list", "drop") {
		t.Errorf("the server received %s for %s", sent, sealed)
	}
	sealed = cursorOf(t, again(reader, `{"vendor":[],"nextCursor":"drop"}`))
	if sealed == "drop" || sealed == "" {
		t.Errorf("the cursor of an unknown list is %q", sealed)
	}
	if answer, sent := p.ask(t, reader, listing("tools/list", sealed)); reasonOf(answer) != "cursor" || sent != "" {
		t.Errorf("for the cursor of an unknown list, the server received %s", sent)
	}
	for _, result := range []string{`{"tools":[],"nextCursor":"drop"}`, `{"vendor":[],"nextCursor":"drop"}`} {
		if got := cursorOf(t, again(tokenOf(t, "admin", nil), result)); got != "drop" {
			t.Errorf("admin received %s", got)
		}
	}
}

// TestCursorsInErrors: a server that does not know its cursor any more, and repeats it,
// is not quoted.
func TestCursorsInErrors(t *testing.T) {
	p := newPaging(t, nil)
	reader := tokenOf(t, "reader", nil)
	for _, p.media = range []string{"application/json", "text/event-stream"} {
		p.answer = page("tools", `"drop_all"`)
		answer, _ := p.ask(t, reader, listing("tools/list", ""))
		sealed := cursorOf(t, answer)
		p.answer = `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no such cursor: drop_all"}}`
		answer, sent := p.ask(t, reader, listing("tools/list", sealed))
		if sent == "" || strings.Contains(answer, "drop") || !strings.Contains(answer, `"id":1,"error":{"code":-32602`) || reasonOf(answer) != "cursor" {
			t.Errorf("%s: received %s", p.media, answer)
		}
		p.answer = strings.Replace(p.answer, `"id":1,`, "", 1)
		if answer, _ := p.ask(t, reader, listing("tools/list", sealed)); strings.Contains(answer, "drop") {
			t.Errorf("%s, without an id: received %s", p.media, answer)
		}
		// The first page has no cursor that could be told.
		if answer, _ := p.ask(t, reader, listing("tools/list", "")); !strings.Contains(answer, "drop") {
			t.Errorf("%s: another error became %s", p.media, answer)
		}
	}
}

// TestCursorsInNarrowedLists: a list whose items are all seen, but not as they are,
// counts as one of which not everything is seen.
func TestCursorsInNarrowedLists(t *testing.T) {
	p := newPaging(t, map[string]any{"roles": []any{map[string]any{
		"name": "narrow", "when": []any{map[string]any{"claim": "roles", "values": []string{"narrow"}}},
		"allow": []any{
			map[string]any{"permission": "tools.read"},
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/list"}, "if": `args.a == "b"`},
		},
	}}})
	p.answer = page("tools", `"list"`)
	if answer, _ := p.ask(t, tokenOf(t, "narrow", nil), listing("tools/list", "")); cursorOf(t, answer) == "list" {
		t.Errorf("received %s", answer)
	}
}

// TestPagesLeaveNothing: however many pages are asked for, nothing of them is kept.
func TestPagesLeaveNothing(t *testing.T) {
	h := provisioned(t, gateConfig(nil))
	token := tokenOf(t, "reader", nil)
	var tools []string
	for i := range 100 {
		tools = append(tools, fmt.Sprintf(`{"name":"drop_%d","description":%q}`, i, strings.Repeat("d", 100)))
	}
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"tools":[%s],"nextCursor":"%%d"}}`, strings.Join(tools, ","))
	server := new(caddyhttp.Server)
	cursor, number := "", 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		number++
		return says("application/json", fmt.Sprintf(answer, number))(w, r)
	})
	walk := func(pages int) uint64 {
		for range pages {
			r := httptest.NewRequest(http.MethodPost, gateURL+"/mcp", strings.NewReader(listing("tools/list", cursor)))
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server), next); err != nil {
				t.Fatal(err)
			}
			if cursor = cursorOf(t, w.Body.String()); cursor == "" || w.Code != http.StatusOK {
				t.Fatal(w.Code, w.Body)
			}
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := walk(100)
	if after := walk(2000); after > before+1<<20 { // they are 28 MB
		t.Errorf("%d bytes are held after 100 pages, %d after 2000 more", before, after)
	}
}

// BenchmarkFilteredList is a tools/list of 1,000 tools of about 1 KB, of which the
// principal sees one, with a cursor.
func BenchmarkFilteredList(b *testing.B) {
	h := provisioned(b, gateConfig(nil))
	token := tokenOf(b, "reader", nil)
	tools := []string{`{"name":"list"}`}
	for i := range 1000 {
		tools = append(tools, fmt.Sprintf(`{"name":"drop_%d","description":%q,"inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, i, strings.Repeat("d", 900)))
	}
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[` + strings.Join(tools, ",") + `],"nextCursor":"after drop_999"}}`)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		_, err := w.Write(answer)
		return err
	})
	server := new(caddyhttp.Server)
	b.ReportAllocs()
	b.SetBytes(int64(len(answer)))
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, gateURL+"/mcp", strings.NewReader(listing("tools/list", "")))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server), next); err != nil || w.Body.Len() > 1000 {
			b.Fatal(err, w.Body.Len())
		}
	}
}
