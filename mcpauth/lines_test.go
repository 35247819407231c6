package mcpauth

import (
	"strings"
	"testing"
)

// Some clients end lines of an event stream where the standard does not (Python's
// str.splitlines does, and with it httpx-sse up to 0.4.0), and would find events that
// nobody has judged.
func TestLinesOfOthers(t *testing.T) {
	const hidden = "data: " + `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop_all"}]}}`
	for _, end := range []string{"\v", "\f", "\x1c", "\x1d", "\x1e", "\u0085", "\u2028", "\u2029"} {
		for name, tc := range map[string]struct {
			stream, body string
			ended        bool
		}{
			"a comment":            {": x" + end + end + hidden + end + end + "\n\n", "", true},
			"an id alone":          {"id: x" + end + hidden + end + "\n\n", "", true},
			"beside data":          {": x" + end + hidden + end + "\nid: 1\ndata: " + someTools + "\n\n", "id: 1\ndata: " + someTools + "\n\n", false},
			"an unknown field":     {"x: y" + end + hidden + "\ndata: " + someTools + "\n\n", "data: " + someTools + "\n\n", false},
			"an id beside data":    {"id: x" + end + hidden + "\ndata: " + someTools + "\n\n", "", true},
			"another type of it":   {"event: message" + end + hidden + "\ndata: " + someTools + "\n\n", "", false},
			"behind what is right": {"data: " + someTools + "\n\n:" + end + "\n\n", "data: " + someTools + "\n\n", true},
		} {
			t.Run(name, func(t *testing.T) {
				g := newGate(t, nil, says("text/event-stream", tc.stream))
				_, body := g.do(t, g.post(t, tokenOf(t, "reader", nil), askTools))
				if body != tc.body {
					t.Errorf("%q: got %q, expected %q", end, body, tc.body)
				}
				if err := <-g.errs; (err != nil) != tc.ended {
					t.Errorf("%q: %v", end, err)
				}
			})
		}
	}
}

// In a text of JSON they may stand, and arrive there as escapes.
func TestLinesInData(t *testing.T) {
	const name = "read\u0085\u2028\u2029\\u2028\u2027"
	answer := strings.Replace(someTools, `"name":"read"`, `"name":"read","title":"`+name+`"`, 1)
	expected := strings.Replace(someTools, `"name":"read"`, `"name":"read","title":"read\u0085\u2028\u2029\u2028`+"\u2027\"", 1)
	for _, role := range []string{"reader", "admin"} {
		g := newGate(t, nil, says("text/event-stream", "id: 1\ndata: "+answer+"\n\n"))
		_, body := g.do(t, g.post(t, tokenOf(t, role, nil), askTools))
		if want := "id: 1\ndata: " + expected + "\n\n"; body != want {
			t.Errorf("%s: got %q, expected %q", role, body, want)
		}
		if err := <-g.errs; err != nil {
			t.Error(err)
		}
	}
}
