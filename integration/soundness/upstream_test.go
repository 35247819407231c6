package soundness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// markers are in the name of everything that alice, vera and bob may not use.
var markers = regexp.MustCompile(`(?i)admin|secret|hidden`)

// received is a request as it came out of the gateway.
type received struct {
	method, target, host string
	header, trailer      http.Header
	body                 []byte
}

// upstream is the MCP server behind the gateway. It records everything, and fails
// the running test when it receives what must not pass.
type upstream struct {
	address string
	server  *http.Server

	mu     sync.Mutex
	test   *testing.T
	seen   []received
	answer func(w http.ResponseWriter, r *http.Request, got received)
	// allowed are markers that the running test may send.
	allowed bool
	made    int
}

func newUpstream() (*upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{address: listener.Addr().String(), answer: speak}
	u.server = &http.Server{Handler: u, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	u.server.Protocols.SetHTTP1(true)
	u.server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = u.server.Serve(listener) }()
	return u, nil
}

func (u *upstream) close() { _ = u.server.Close() }

// watch begins a test: nothing is recorded, and answers are those of speak.
func watch(t *testing.T) *upstream {
	t.Helper()
	u := world.up
	u.mu.Lock()
	defer u.mu.Unlock()
	u.test, u.seen, u.answer, u.allowed = t, nil, speak, false
	t.Cleanup(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.test = nil
	})
	return u
}

// replies has every request answered by f from now on.
func (u *upstream) replies(f func(w http.ResponseWriter, r *http.Request, got received)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = f
}

// replyWith answers each POST with the same bytes.
func (u *upstream) replyWith(contentType, body string, header ...string) {
	u.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
		if contentType == "" {
			w.Header()["Content-Type"] = nil
		} else {
			w.Header().Set("Content-Type", contentType)
		}
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		_, _ = io.WriteString(w, body)
	})
}

// permitMarkers is for a principal that may use everything.
func (u *upstream) permitMarkers() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.allowed = true
}

func (u *upstream) all() []received {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]received(nil), u.seen...)
}

// forget drops what was recorded.
func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = nil
}

// nothing fails the test if anything at all has arrived.
func (u *upstream) nothing(t *testing.T) {
	t.Helper()
	for _, got := range u.all() {
		t.Errorf("the server received %s %s %q", got.method, got.target, clip(got.body))
	}
}

// one returns the only request that arrived.
func (u *upstream) one(t *testing.T) received {
	t.Helper()
	all := u.all()
	if len(all) != 1 {
		t.Fatalf("the server received %d requests, not one", len(all))
	}
	return all[0]
}

// ServeHTTP implements http.Handler.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	got := received{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.Trailer.Clone(), body}
	u.mu.Lock()
	u.seen = append(u.seen, got)
	test, answer, allowed := u.test, u.answer, u.allowed
	u.mu.Unlock()
	if test == nil {
		panic(fmt.Sprintf("the server received %s %q after the test had ended", got.method, clip(got.body)))
	}
	if found := forbidden(got); found != "" && !allowed {
		test.Errorf("the server received what must not pass, %q: %s %s %v %q", found, got.method, got.target, got.header, clip(got.body))
	}
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if got.header.Get(name) != "" {
			test.Errorf("the server received the header %s", name)
		}
	}
	answer(w, r, got)
}

// forbidden looks for a marker in all that a server could take a name from: the
// body as it is and with its escapes decoded, and the headers.
func forbidden(got received) string {
	readings := []string{string(got.body), strings.ReplaceAll(string(got.body), "\x00", "")}
	for decoder := json.NewDecoder(bytes.NewReader(got.body)); ; {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		if text, ok := token.(string); ok {
			readings = append(readings, text)
		}
	}
	for name, values := range got.header {
		readings = append(readings, name+": "+strings.Join(values, ", "))
	}
	readings = append(readings, got.target)
	return markers.FindString(strings.Join(readings, "\n"))
}

func clip(body []byte) []byte { return body[:min(len(body), 300)] }

// results are what speak answers with.
var results = map[string]string{
	"tools/list":               `{"tools":[{"name":"ok","inputSchema":{"type":"object"}},{"name":"admin","inputSchema":{"type":"object"}}]}`,
	"tools/call":               `{"content":[{"type":"text","text":"done"}]}`,
	"prompts/list":             `{"prompts":[{"name":"hidden"},{"name":"open"}]}`,
	"prompts/get":              `{"messages":[]}`,
	"resources/list":           `{"resources":[{"name":"a","uri":"file:///pub/a"},{"name":"b","uri":"file:///secret/b"}]}`,
	"resources/templates/list": `{"resourceTemplates":[{"name":"p","uriTemplate":"file:///pub/{name}"},{"name":"s","uriTemplate":"file:///secret/{name}"}]}`,
	"resources/read":           `{"contents":[{"uri":"file:///pub/a","text":"A"},{"uri":"file:///secret/b","text":"B"}]}`,
	"completion/complete":      `{"completion":{"values":["x"]}}`,
	"server/discover":          `{"supportedVersions":["2026-07-28"],"capabilities":` + canDo + `}`,
}

// canDo are the capabilities of speak.
const canDo = `{"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`

// envelope is what speak reads of a message.
type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ProtocolVersion string `json:"protocolVersion"`
	} `json:"params"`
}

// speak answers as an MCP server does that knows both eras and all of the above.
func speak(w http.ResponseWriter, r *http.Request, got received) {
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		return
	case http.MethodDelete:
		return
	}
	var batch []envelope
	isBatch := json.Unmarshal(got.body, &batch) == nil
	if !isBatch {
		batch = make([]envelope, 1)
		if err := json.Unmarshal(got.body, &batch[0]); err != nil {
			http.Error(w, "malformed", http.StatusBadRequest)
			return
		}
	}
	var answers []string
	for _, m := range batch {
		if m.ID == nil || m.Method == "" {
			continue
		}
		result, ok := results[m.Method]
		if m.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", world.up.newSession())
			result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"recorder","version":"1"}}`, m.Params.ProtocolVersion, canDo)
		} else if !ok {
			result = `{}`
		}
		answers = append(answers, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result))
	}
	if len(answers) == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if isBatch {
		fmt.Fprintf(w, "[%s]", strings.Join(answers, ","))
		return
	}
	_, _ = io.WriteString(w, answers[0])
}

func (u *upstream) newSession() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.made++
	return fmt.Sprintf("upstream-session-%d", u.made)
}

// wait fails the test when nothing comes.
func wait[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}
