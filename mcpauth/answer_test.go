package mcpauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

const (
	askTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	askCall  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}`
	// allTools is what the server has, someTools what a reader sees of it.
	allTools  = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"list"},{"name":"drop_all"},{"name":"read"}],"nextCursor":""}}`
	someTools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"list"},{"name":"read"}],"nextCursor":""}}`
)

// says is a server that gives an answer in one piece.
func says(contentType, body string, header ...string) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		status := http.StatusOK
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "Status" {
				_, _ = fmt.Sscan(header[i+1], &status)
				continue
			}
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return nil
	}
}

func TestAnswer(t *testing.T) {
	const (
		js     = "application/json"
		events = "text/event-stream"
	)
	for _, tc := range []struct {
		name   string
		role   string
		asked  string
		server caddyhttp.HandlerFunc
		status int
		body   string // of an answer that is let through
		reason string // of one that is not
	}{
		{"JSON is filtered", "reader", askTools, says(js, allTools), 200, someTools, ""},
		{"JSON in pieces", "reader", askTools, pieces(js, allTools), 200, someTools, ""},
		{"JSON with a parameter", "reader", askTools, says("application/json; charset=utf-8", allTools), 200, someTools, ""},
		{"JSON keeps its form", "reader", askTools, says(js, " {\"id\" : 1,\n\"jsonrpc\":\"2.0\", \"result\":{ \"tools\": [] } } "), 200, " {\"id\" : 1,\n\"jsonrpc\":\"2.0\", \"result\":{ \"tools\": [] } } ", ""},
		{"who may see all gets all", "admin", askTools, says(js, allTools+" "), 200, allTools + " ", ""},
		{"what is no list passes", "admin", askCall, says(js, `{"not even":"an answer"`), 200, `{"not even":"an answer"`, ""},
		{"length of what is sent", "reader", askTools, says(js, allTools, "Content-Length", fmt.Sprint(len(allTools))), 200, someTools, ""},
		{"an error passes the filter", "reader", askTools, says(js, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`, "Status", "400"), 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`, ""},
		{"an error that cannot be judged", "reader", askTools, says("text/plain", "drop_all is broken", "Status", "500"), 500, "", ""},
		{"an error that need not be judged", "admin", askCall, says("text/plain", "broken", "Status", "500"), 500, "broken", ""},

		{"malformed", "reader", askTools, says(js, allTools[:len(allTools)-1]), 502, "", "answer_malformed"},
		{"two values", "reader", askTools, says(js, someTools+allTools), 502, "", "answer_malformed"},
		{"duplicate member", "reader", askTools, says(js, `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"drop_all"}]}}`), 502, "", "answer_malformed"},
		{"not UTF-8", "reader", askTools, says(js, strings.Replace(allTools, "drop_all", "drop\xff", 1)), 502, "", "answer_malformed"},
		{"a request that is refused", "reader", askTools, says(js, `{"jsonrpc":"2.0","id":9,"method":"roots/list"}`), 502, "", "answer_refused"},
		{"no type", "reader", askTools, says("", allTools), 502, "", "answer_type"},
		{"another type", "reader", askTools, says("text/html", allTools), 502, "", "answer_type"},
		{"another type of what is no list", "reader", askCall, says("application/octet-stream", allTools), 502, "", "answer_type"},
		{"JSON with a broken parameter", "reader", askTools, says("application/json; charset", allTools), 200, someTools, ""},
		{"broken type", "reader", askTools, says("application / json", allTools), 502, "", "answer_type"},
		{"compressed", "reader", askTools, says(js, allTools, "Content-Encoding", "gzip"), 502, "", "answer_encoding"},
		{"compressed events", "admin", askTools, says(events, "x", "Content-Encoding", "br"), 502, "", "answer_encoding"},
		{"identity is no compression", "reader", askTools, says(js, allTools, "Content-Encoding", "identity"), 200, someTools, ""},
		{"too large", "reader", askTools, says(js, strings.Repeat(" ", 5000)+allTools), 502, "", "answer_too_large"},
		{"too large in pieces", "reader", askTools, pieces(js, strings.Repeat(" ", 5000)+allTools), 502, "", "answer_too_large"},
		{"large, but not looked into", "admin", askTools, says(js, strings.Repeat(" ", 5000)+allTools), 200, strings.Repeat(" ", 5000) + allTools, ""},

		{"events are filtered", "reader", askTools, says(events, "event: message\nid: 7\nx: y\ndata: "+allTools+"\n\n"), 200, "event: message\nid: 7\nx: y\ndata: " + someTools + "\n\n", ""},
		{"events byte by byte", "reader", askTools, pieces(events, "id: 7\ndata: "+allTools+"\n\n: bye\n\n"), 200, "id: 7\ndata: " + someTools + "\n\n: bye\n\n", ""},
		{"data of several lines", "reader", askTools, says(events, "data: "+strings.Replace(allTools, `,"result"`, ",\ndata: \"result\"", 1)+"\n\n"), 200, "data: " + strings.Replace(someTools, `,"result"`, ",\ndata: \"result\"", 1) + "\n\n", ""},
		{"who may see all gets all events", "admin", askTools, says(events, ": hello\n\nretry: 10\nid: 1\ndata: "+allTools+"\n\n"), 200, ": hello\n\nretry: 10\nid: 1\ndata: " + allTools + "\n\n", ""},
		{"priming event", "reader", askTools, says(events, "id: 1\ndata:\n\nid: 2\ndata: \n\nretry: 5\n\n: alive\n\n"), 200, "id: 1\ndata:\n\nid: 2\ndata: \n\nretry: 5\n\n: alive\n\n", ""},
		{"CRLF", "reader", askTools, says(events, "id: 7\r\ndata: "+allTools+"\r\n\r\n"), 200, "id: 7\r\ndata: " + someTools + "\r\n\r\n", ""},
		{"CR becomes LF", "reader", askTools, says(events, "id: 7\rdata: "+allTools+"\r\r"), 200, "id: 7\ndata: " + someTools + "\n\n", ""},
		{"CR hides nothing", "reader", askTools, says(events, "data: "+someTools+"\r\rdata: "+allTools+"\n\n"), 200, "data: " + someTools + "\n\ndata: " + someTools + "\n\n", ""},
		{"byte order mark", "reader", askTools, says(events, "\ufeffdata: "+allTools+"\n\n"), 200, "\ufeffdata: " + someTools + "\n\n", ""},
		{"partial last event", "reader", askTools, says(events, ": a\n\ndata: "+allTools), 200, ": a\n\ndata: " + someTools + "\n", ""},
		{"another type of event", "reader", askTools, says(events, "event: endpoint\ndata: "+allTools+"\n\nevent: message\ndata: "+someTools+"\n\n"), 200, "event: message\ndata: " + someTools + "\n\n", ""},
		{
			"notifications are judged", "reader", askTools, says(events,
				`data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///secret"}}`+"\n\n"+
					`data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///public/a"}}`+"\n\n"+
					`data: {"jsonrpc":"2.0","method":"notifications/unheard_of"}`+"\n\n"+
					"data: "+allTools+"\n\n"), 200,
			`data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///public/a"}}` + "\n\n" +
				"data: " + someTools + "\n\n", "",
		},

		{"accepted", "reader", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, says("text/plain", "drop_all", "Status", "202"), 202, "", ""},
		{"no content", "reader", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, says("", "", "Status", "204"), 204, "", ""},
		{"early hints", "reader", askTools, early(says(js, allTools)), 200, someTools, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, map[string]any{"max_answer": 4096}, tc.server)
			resp, body := g.do(t, g.post(t, tokenOf(t, tc.role, nil), tc.asked))
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, expected %d", resp.StatusCode, tc.status)
			}
			if tc.reason != "" {
				if got := reasonOf(body); got != tc.reason {
					t.Errorf("reason %q, expected %q", got, tc.reason)
				}
				if !strings.Contains(body, `"id":1`) || strings.Contains(body, "drop") {
					t.Errorf("the refusal lacks the id or says too much: %s", body)
				}
				if encoding := resp.Header.Get("Content-Encoding"); encoding != "" {
					t.Errorf("the refusal is said to be encoded: %s", encoding)
				}
			} else if body != tc.body {
				t.Errorf("got:\n%q\nexpected:\n%q", body, tc.body)
			}
			if resp.ContentLength >= 0 && resp.ContentLength != int64(len(body)) {
				t.Errorf("Content-Length %d for %d bytes", resp.ContentLength, len(body))
			}
			if err := <-g.errs; err != nil {
				t.Error(err)
			}
		})
	}
}

// pieces is a server that writes and flushes its answer byte by byte.
func pieces(contentType, body string) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", contentType)
		for i := range len(body) {
			if _, err := io.WriteString(w, body[i:i+1]); err != nil {
				return err
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		return nil
	}
}

// early is a server that has something to say before the answer.
func early(then caddyhttp.HandlerFunc) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.WriteHeader(http.StatusContinue)
		w.WriteHeader(http.StatusEarlyHints)
		return then(w, r)
	}
}

func TestAnswerBatch(t *testing.T) {
	second := strings.Replace(allTools, `"id":1`, `"id":"b"`, 1)
	g := newGate(t, nil, says("application/json", "["+allTools+", "+second+"]"))
	r := g.post(t, tokenOf(t, "reader", nil), "["+askTools+","+strings.Replace(askTools, `"id":1`, `"id":"b"`, 1)+"]")
	r.Header.Set("Mcp-Protocol-Version", "2025-03-26")
	_, body := g.do(t, r)
	if expected := "[" + someTools + "," + strings.Replace(someTools, `"id":1`, `"id":"b"`, 1) + "]"; body != expected {
		t.Errorf("got %s, expected %s", body, expected)
	}
}

// TestAnswerPrivate: what was made for one principal is not for shared caches
// (MCP 2026-07-28, caching).
func TestAnswerPrivate(t *testing.T) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	for role, scope := range map[string]string{"reader": "private", "admin": "public"} {
		g := newGate(t, nil, says("application/json", `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public","tools":[]}}`))
		r := g.post(t, tokenOf(t, role, nil), `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`)
		r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", "tools/list")
		if _, body := g.do(t, r); !strings.Contains(body, `"cacheScope":"`+scope+`"`) {
			t.Errorf("%s: %s", role, body)
		}
	}
}

// TestAnswerCutShort: nothing is sent of a JSON answer that broke off, although
// what came of it can be read.
func TestAnswerCutShort(t *testing.T) {
	broken := errors.New("broken off")
	g := newGate(t, nil, func(w http.ResponseWriter, r *http.Request) error {
		_ = says("application/json", allTools)(w, r)
		return caddyhttp.Error(http.StatusBadGateway, broken)
	})
	resp, body := g.do(t, g.post(t, tokenOf(t, "reader", nil), askTools))
	if resp.StatusCode != http.StatusBadGateway || body != "" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if err := <-g.errs; !errors.Is(err, broken) {
		t.Errorf("the server's error became %v", err)
	}
}

// TestEventTooLarge: an event beyond the limit ends the stream, and nothing of it
// is sent.
func TestEventTooLarge(t *testing.T) {
	written := make(chan error, 1)
	g := newGate(t, map[string]any{"max_answer": 1000}, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": first\n\n")
		_, err := io.WriteString(w, "data: "+strings.Repeat("x", 1000)+"\n\n")
		written <- err
		return err
	})
	_, body := g.do(t, g.post(t, tokenOf(t, "admin", nil), askTools))
	if body != ": first\n\n" {
		t.Errorf("sent: %q", body)
	}
	if err := <-written; err == nil {
		t.Error("the server was not told that its event is too large")
	}
}

// TestFirstEventAtOnce: an event reaches the client while the server holds the
// stream open.
func TestFirstEventAtOnce(t *testing.T) {
	seen := make(chan struct{})
	g := newGate(t, nil, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+allTools+"\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		select {
		case <-seen:
			return nil
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	})
	resp, err := http.DefaultTransport.RoundTrip(g.post(t, tokenOf(t, "reader", nil), askTools))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len("data: "+someTools+"\n\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	close(seen)
	if string(first) != "data: "+someTools+"\n\n" {
		t.Errorf("the first event: %s", first)
	}
	if err := <-g.errs; err != nil {
		t.Error(err)
	}
}

// TestTokenEndsStream: a stream ends when the token that opened it does.
func TestTokenEndsStream(t *testing.T) {
	cause := make(chan error, 1)
	g := newGate(t, nil, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		cause <- context.Cause(r.Context())
		return nil
	})
	expires := time.Now().Add(1200 * time.Millisecond)
	token := tokenOf(t, "admin", map[string]any{"exp": float64(expires.UnixMilli()) / 1000})
	resp, body := g.do(t, g.post(t, token, askTools))
	if resp.StatusCode != http.StatusOK || body != "" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if err := <-cause; !errors.Is(err, errTokenOver) {
		t.Errorf("the stream ended because of: %v", err)
	}
	if early := time.Until(expires); early > 2*time.Millisecond {
		t.Errorf("the stream ended %s before the token", early)
	}
	resp, body = g.do(t, g.post(t, token, askTools))
	if resp.StatusCode != http.StatusUnauthorized || reasonOf(body) != "token_expired" {
		t.Errorf("the token can still be used: %d %s", resp.StatusCode, body)
	}
}

// fast is a ResponseWriter that tells whether it was asked to read by itself.
type fast struct {
	*httptest.ResponseRecorder
	asked bool
}

func (f *fast) ReadFrom(r io.Reader) (int64, error) {
	f.asked = true
	return f.Body.ReadFrom(r)
}

// TestReadFrom: an answer that is not looked into is copied the fast way, and one
// that is is still filtered.
func TestReadFrom(t *testing.T) {
	h := provisioned(t, gateConfig(nil))
	for role, expected := range map[string]string{"admin": allTools, "reader": someTools} {
		w := &fast{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest(http.MethodPost, gateURL+"/mcp", strings.NewReader(askTools))
		r.Header.Set("Authorization", "Bearer "+tokenOf(t, role, nil))
		r.Header.Set("Content-Type", "application/json")
		call := &Call{logger: zap.NewNop()}
		if _, refusal := h.admit(call, w, r); refusal != nil {
			t.Fatal(refusal.Reason)
		}
		a := newAnswer(w, call, h.MaxAnswer, func(error) {})
		a.Header().Set("Content-Type", "application/json")
		// Without the reader's own WriteTo, as the body of an answer is.
		n, err := io.Copy(a, struct{ io.Reader }{bytes.NewReader([]byte(allTools))})
		if err != nil || n != int64(len(allTools)) {
			t.Errorf("%s: %d %v", role, n, err)
		}
		if err := a.finish(); err != nil {
			t.Error(err)
		}
		if got := w.Body.String(); got != expected {
			t.Errorf("%s: %s", role, got)
		}
		if w.asked != (role == "admin") {
			t.Errorf("%s: copied the fast way: %t", role, w.asked)
		}
	}
}
