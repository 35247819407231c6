package soundness

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// lists are the methods whose answers are filtered, with what must be left.
var lists = []struct{ method, member, kept string }{
	{"tools/list", "tools", `{"name":"ok","inputSchema":{"type":"object"}}`},
	{"prompts/list", "prompts", `{"name":"open"}`},
	{"resources/list", "resources", `{"name":"a","uri":"file:///pub/a"}`},
	{"resources/templates/list", "resourceTemplates", `{"name":"p","uriTemplate":"file:///pub/{name}"}`},
}

func result(id, result string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`
}

// unleaked fails the test if the reply holds anything that is hidden.
func (r *reply) unleaked(t *testing.T) *reply {
	t.Helper()
	if found := markers.Find(r.body); found != nil {
		t.Errorf("the client received %q in %q", found, clip(r.body))
	}
	for name, values := range r.header {
		if markers.MatchString(strings.Join(values, ",")) {
			t.Errorf("the client received %s: %q", name, values)
		}
	}
	return r
}

// only fails the test unless one result is within, whose member holds just that.
func (r *reply) only(t *testing.T, member, kept string) {
	t.Helper()
	r.unleaked(t)
	if !bytes.Contains(r.body, []byte(`"`+member+`":[`+kept+`]`)) {
		t.Errorf("the client received %q (status %d, %v), not just %s", clip(r.body), r.status, r.err, kept)
	}
}

func TestLists(t *testing.T) {
	for _, w := range wires {
		for _, list := range lists {
			ask := call("1", list.method, "")
			answer := result("1", results[list.method])
			for shape, reply := range map[string][2]string{
				"JSON":                          {"application/json", answer},
				"JSON with a charset":           {"Application/JSON; charset=UTF-8", answer},
				"JSON with a broken parameter":  {"application/json;;", answer},
				"an event":                      {"text/event-stream", event(answer)},
				"an event with a charset":       {"text/event-stream;charset=utf-8", event(answer)},
				"an event with its name and id": {"text/event-stream", "event: message\nid: 1\n" + event(answer)},
				"an event without a blank line": {"text/event-stream", "data: " + answer},
				"an event after a comment":      {"text/event-stream", ": x\n\n" + event(answer)},
				"a byte order mark":             {"text/event-stream", "\ufeff" + event(answer)},
				"a batch":                       {"application/json", "[" + answer + "]"},
				"a batch in an event":           {"text/event-stream", event("[" + answer + "]")},
				"two answers":                   {"text/event-stream", event(answer) + event(answer)},
			} {
				t.Run("D1 "+list.method+" as "+shape+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					up.replyWith(reply[0], reply[1])
					w.send(t, post(t, viewer, ask)).ok(t).only(t, list.member, list.kept)
				})
			}
			split := strings.Replace(answer, `":[`, "\":\n[\n", 1)
			for shape, text := range map[string]string{
				"split over lines": "data: " + strings.ReplaceAll(split, "\n", "\ndata: ") + "\n\n",
				"CR":               "data: " + strings.ReplaceAll(split, "\n", "\rdata: ") + "\r\r",
				"CRLF":             "data: " + strings.ReplaceAll(split, "\n", "\r\ndata: ") + "\r\n\r\n",
				"no space":         "data:" + strings.ReplaceAll(split, "\n", "\ndata:") + "\n\n",
				"other fields":     "id: 4\nretry: 5\nfoo: bar\ndata: " + strings.ReplaceAll(split, "\n", "\nevent: message\ndata: ") + "\n\n",
			} {
				t.Run("D2 "+list.method+" in lines "+shape+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
						w.Header().Set("Content-Type", "text/event-stream")
						for _, c := range []byte(text) {
							_, _ = w.Write([]byte{c})
							_ = http.NewResponseController(w).Flush()
						}
					})
					r := w.send(t, post(t, viewer, ask)).ok(t).unleaked(t)
					var data strings.Builder
					for line := range strings.SplitSeq(strings.ReplaceAll(string(r.body), "\r", "\n"), "\n") {
						if value, ok := strings.CutPrefix(line, "data:"); ok {
							data.WriteString(strings.TrimSpace(value))
						}
					}
					if !strings.Contains(data.String(), `"`+list.member+`":[`+list.kept+`]`) {
						t.Errorf("the client received %q", r.body)
					}
				})
			}
		}
		unfiltered := result("1", results["tools/list"])
		badAnswer := func(reason string) want { return want{502, 50200, reason} }
		for row, bad := range map[string]struct {
			contentType, body string
			header            []string
			want              want
		}{
			"D5 text/plain":                 {"text/plain", unfiltered, nil, badAnswer("answer_type")},
			"D5 no type":                    {"", unfiltered, nil, badAnswer("answer_type")},
			"D5 text/html":                  {"text/html", unfiltered, nil, badAnswer("answer_type")},
			"D5 another JSON type":          {"application/vnd.mcp+json", unfiltered, nil, badAnswer("answer_type")},
			"D5 invalid JSON":               {"application/json", unfiltered[:len(unfiltered)-1], nil, badAnswer("answer_malformed")},
			"D5 trailing bytes":             {"application/json", unfiltered + unfiltered, nil, badAnswer("answer_malformed")},
			"D5 a byte order mark":          {"application/json", "\ufeff" + unfiltered, nil, badAnswer("answer_malformed")},
			"D5 an event labelled as JSON":  {"application/json", event(unfiltered), nil, badAnswer("answer_malformed")},
			"D5 a list that is an object":   {"application/json", result("1", `{"tools":{"admin":{}}}`), nil, badAnswer("answer_malformed")},
			"D5 an item without a name":     {"application/json", result("1", `{"tools":[{"title":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D5 an item that is text":       {"application/json", result("1", `{"tools":["admin"]}`), nil, badAnswer("answer_malformed")},
			"D5 a name that is an array":    {"application/json", result("1", `{"tools":[{"name":["admin"]}]}`), nil, badAnswer("answer_malformed")},
			"D6 tools twice":                {"application/json", result("1", `{"tools":[],"tools":[{"name":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D6 tools and Tools":            {"application/json", result("1", `{"tools":[],"Tools":[{"name":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D6 only TOOLS":                 {"application/json", result("1", `{"TOOLS":[{"name":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D6 result twice":               {"application/json", `{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"result":{"tools":[{"name":"admin"}]}}`, nil, badAnswer("answer_malformed")},
			"D6 Result":                     {"application/json", `{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"Result":{"tools":[{"name":"admin"}]}}`, nil, badAnswer("answer_malformed")},
			"D6 a name twice":               {"application/json", result("1", `{"tools":[{"name":"ok","name":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D6 name and Name":              {"application/json", result("1", `{"tools":[{"name":"ok","Name":"admin"}]}`), nil, badAnswer("answer_malformed")},
			"D4 a gzip answer that is none": {"application/json", unfiltered, []string{"Content-Encoding: gzip"}, badAnswer("answer_encoding")},
			"D4 br in an event stream":      {"text/event-stream", event(unfiltered), []string{"Content-Encoding: br"}, badAnswer("answer_encoding")},
		} {
			t.Run(row+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replyWith(bad.contentType, bad.body, bad.header...)
				r := w.send(t, post(t, viewer, call("1", "tools/list", ""))).unleaked(t)
				bad.want.check(t, r)
				if r.header.Get("Content-Encoding") != "" {
					t.Error("the refusal has a Content-Encoding")
				}
			})
		}
		// What is wrong in a stream ends it: nothing of it comes through.
		for row, text := range map[string]string{
			"D5 JSON labelled as an event stream":          unfiltered,
			"D5 JSON in lines labelled as an event stream": strings.ReplaceAll(unfiltered, ",", ",\n") + "\n\n",
			"D5 JSON after an event":                       ": hello\n\n" + unfiltered + "\n\n",
			"D5 invalid JSON in an event":                  event(unfiltered[:len(unfiltered)-1]),
			"D6 tools twice in an event":                   event(result("1", `{"tools":[],"tools":[{"name":"admin"}]}`)),
			"D5 an event of another type":                  "event: list\n" + event(unfiltered),
			"D2 a field of another name":                   "datum: " + unfiltered + "\n\n",
			"D2 data in capitals":                          "DATA: " + unfiltered + "\n\n",
			"D2 a field beside an empty one":               "data:\nx: " + unfiltered + "\n\n",
			"D2 a space before data":                       " data: " + unfiltered + "\n\n",
		} {
			t.Run(row+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replyWith("text/event-stream", text)
				w.send(t, post(t, viewer, call("1", "tools/list", ""))).unleaked(t)
				up.one(t)
			})
		}
		t.Run("D4 gzip although identity was asked/"+w.name, func(t *testing.T) {
			up := watch(t)
			var zipped bytes.Buffer
			zip := gzip.NewWriter(&zipped)
			_, _ = io.WriteString(zip, unfiltered)
			_ = zip.Close()
			up.replyWith("application/json", zipped.String(), "Content-Encoding: gzip")
			r := w.send(t, post(t, viewer, call("1", "tools/list", ""), "Accept-Encoding: gzip")).unleaked(t)
			badAnswer("answer_encoding").check(t, r)
			if got := up.one(t).header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("the server was asked for %s", got)
			}
		})
		t.Run("D5 an answer that is cut short/"+w.name, func(t *testing.T) {
			for _, contentType := range []string{"application/json", "text/event-stream"} {
				up := watch(t)
				up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
					w.Header().Set("Content-Type", contentType)
					_, _ = io.WriteString(w, "data: "+unfiltered[:len(unfiltered)-30])
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				})
				r := w.send(t, post(t, viewer, call("1", "tools/list", ""))).unleaked(t)
				if r.err == nil && r.status == 200 {
					t.Errorf("%s: the client received a whole answer: %q", contentType, r.body)
				}
			}
		})
		t.Run("D1 an error answer with a list/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, unfiltered)
			})
			w.send(t, post(t, viewer, call("1", "tools/list", ""))).only(t, "tools", lists[0].kept)
		})
		t.Run("D7 a page of nothing else keeps its cursor/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", result("1", `{"tools":[{"name":"admin"}],"nextCursor":"opaque"}`))
			r := w.send(t, post(t, viewer, call("1", "tools/list", `{"cursor":""}`))).ok(t).unleaked(t)
			sealed := r.cursor(t)
			if want := result("1", `{"tools":[],"nextCursor":"`+sealed+`"}`); string(r.body) != want || len(sealed) < 100 {
				t.Errorf("the client received %s, not %s", r.body, want)
			}
			if got := up.one(t); !strings.Contains(string(got.body), `"cursor":""`) {
				t.Errorf("the server received %s", got.body)
			}
			up.forget()
			w.send(t, post(t, viewer, call("1", "tools/list", `{"cursor":"`+sealed+`"}`))).ok(t)
			if got := up.one(t); !strings.Contains(string(got.body), `"cursor":"opaque"`) {
				t.Errorf("going on, the server received %s", got.body)
			}
		})
		t.Run("D9 a cursor that is no text/"+w.name, func(t *testing.T) {
			up := watch(t)
			wrongType.check(t, w.send(t, post(t, viewer, call("1", "tools/list", `{"cursor":{"admin":1}}`))))
			up.nothing(t)
		})
		t.Run("D10 a filtered list is private/"+w.name, func(t *testing.T) {
			for _, contentType := range []string{"application/json", "text/event-stream"} {
				for page, scope := range map[string]string{"said": `,"cacheScope":"public"`, "unsaid": "", "with more": `,"cacheScope":"public","nextCursor":"x"`, "of another type": `,"cacheScope":["public"]`} {
					up := watch(t)
					body := result("1", `{"resultType":"complete","tools":[{"name":"ok"}],"ttlMs":1000`+scope+`}`)
					if contentType != "application/json" {
						body = event(body)
					}
					up.replyWith(contentType, body, "Cache-Control: public, max-age=60")
					r := w.send(t, post(t, viewer, modern("tools/list", ""), modernHeaders("tools/list", "")...)).ok(t)
					if !bytes.Contains(r.body, []byte(`"cacheScope":"private"`)) || bytes.Contains(r.body, []byte("public")) {
						t.Errorf("%s, %s: the client received %s", contentType, page, r.body)
					}
				}
			}
		})
		t.Run("D10 an unfiltered list stays as it is/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.permitMarkers()
			body := result("1", `{"tools":[{"name":"admin"}],"cacheScope":"public"}`)
			up.replyWith("application/json", body)
			if r := w.send(t, post(t, root, modern("tools/list", ""), modernHeaders("tools/list", "")...)).ok(t); string(r.body) != body {
				t.Errorf("the client received %s", r.body)
			}
		})
		t.Run("D13 refusals add no names/"+w.name, func(t *testing.T) {
			up := watch(t)
			for _, m := range []message{
				post(t, viewer, callTool("unheard")), post(t, viewer, call("1", "resources/read", `{"uri":"file:///x"}`)), post(t, nobody, callTool("ok")),
			} {
				r := w.send(t, m).unleaked(t)
				for _, told := range []string{"main", "viewer", "127.0.0.1", "ok"} {
					if strings.Contains(string(r.body), `"`+told) {
						t.Errorf("the refusal tells %s: %s", told, r.body)
					}
				}
			}
			up.nothing(t)
		})
		t.Run("D14 updates of forbidden resources are dropped/"+w.name, func(t *testing.T) {
			up := watch(t)
			updated := func(uri string) string {
				return event(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, uri))
			}
			text := updated("file:///secret/b") + updated("file:///pub/../secret") + updated("file:///pub/a") +
				event(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{}}`) +
				event(`[`+strings.TrimSpace(strings.TrimPrefix(updated("file:///secret/b"), "data: "))+`]`) + event(result("1", `{}`))
			up.replyWith("text/event-stream", text)
			r := w.send(t, post(t, viewer, callTool("ok"))).ok(t).unleaked(t)
			if want := updated("file:///pub/a") + event(result("1", `{}`)); string(r.body) != want {
				t.Errorf("the client received %q, not %q", r.body, want)
			}
		})
		t.Run("D15 what is kept keeps its bytes/"+w.name, func(t *testing.T) {
			up := watch(t)
			kept := `{ "zzz" : 1.0e2 , "name" : "o\u006b", "inputSchema":{"$schema":"x","$defs":{"a":{"$ref":"#/$defs/a"}},"properties":{"r":{"type":"string","x-mcp-header":"Region"}}},"\u0061":[ ] }`
			rest := `"resultType" : "complete", "_meta":{"x/y":{"z":null}}, "vendor":[1,  2],`
			up.replyWith("application/json", result("1", `{`+rest+`"tools":[{"name":"admin"},`+kept+`,{"name":"hidden"}],"cacheScope":"private"}`))
			r := w.send(t, post(t, viewer, modern("tools/list", ""), modernHeaders("tools/list", "")...)).ok(t).unleaked(t)
			if want := result("1", `{`+rest+`"tools":[`+kept+`],"cacheScope":"private"}`); string(r.body) != want {
				t.Errorf("D15 D16 the client received\n%s, not\n%s", r.body, want)
			}
			if r.header.Get("Content-Length") != fmt.Sprint(len(r.body)) {
				t.Errorf("Content-Length is %s", r.header.Get("Content-Length"))
			}
		})
		t.Run("D16 what a result has beside its list/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("text/event-stream", "id: 9\nretry: 7\nevent: message\nvendor: x\n"+event(result("1", `{"vendor":{"b":1,"a":2},"tools":[{"name":"admin"}],"_meta":{"k":1},"resultType":"complete"}`)))
			r := w.send(t, post(t, viewer, call("1", "tools/list", ""))).ok(t).unleaked(t)
			if want := result("1", `{"vendor":{"b":1,"a":2},"tools":[],"_meta":{"k":1},"resultType":"complete"}`); !strings.Contains(string(r.body), want) ||
				!strings.HasPrefix(string(r.body), "id: 9\nretry: 7\nevent: message\n") {
				t.Errorf("the client received %s", r.body)
			}
		})
		t.Run("D1 a list as the answer to something else, in a stream/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("text/event-stream", event(unfiltered))
			w.send(t, post(t, viewer, callTool("ok"))).unleaked(t)
		})
	}
}
