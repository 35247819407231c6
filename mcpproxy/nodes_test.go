package mcpproxy_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy/transport"
)

// node is a gateway of several in this process, which share nothing but a Redis.
type node struct {
	*httptest.Server
	t   *testing.T
	app *mcpauth.App
}

// newNode starts one. Two that reach Redis by different names have different states.
func newNode(t *testing.T, redis string, more string, upstream *httptest.Server) *node {
	t.Helper()
	t.Setenv("MCPPROXY_TEST_SECRET", worldSecret)
	configured, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"mcp_gateway": []byte(`{"store":{"store":"redis","addresses":["` + redis + `"]}` + more + `}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	t.Cleanup(cancel)
	load := func(id, config string) caddyhttp.MiddlewareHandler {
		module, err := ctx.LoadModuleByID(id, json.RawMessage(config))
		if err != nil {
			t.Fatal(err)
		}
		return module.(caddyhttp.MiddlewareHandler)
	}
	auth := load("http.handlers.mcp_auth", `{
		"public_url": "`+worldURL+`", "servers": ["a"],
		"issuers": [{"issuer": "`+worldIssuer+`", "keys": {"source": "secret", "value": "{env.MCPPROXY_TEST_SECRET}"}}],
		"roles": [{"name": "some", "allow": [
			{"permission": "tools.read", "objects": ["a/echo"]}, {"permission": "tools.execute", "objects": ["a/echo", "a/work"]},
			{"permission": "servers.use"}, {"permission": "client.elicitation"}, {"permission": "client.sampling"}, {"permission": "client.roots"},
			{"permission": "resources.read", "objects": ["a/seen:**"]}, {"permission": "prompts.read", "objects": ["a/seen"]}, {"permission": "tasks.read"}, {"permission": "tasks.write"}
		]}]
	}`)
	proxy := load("http.handlers.mcp_proxy", `{"servers": [{"name": "a", "proxy": {"handler": "reverse_proxy",
		"upstreams": [{"dial": "`+upstream.Listener.Addr().String()+`"}], "transport": {"protocol": "mcp"},
		"load_balancing": {"selection_policy": {"policy": "mcp_session"}}, "flush_interval": -1}}]}`)
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, app: loaded.(*mcpauth.App)}
	if err := n.app.Start(); err != nil {
		t.Fatal(err)
	}
	events, err := ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	events.(*caddyevents.App).Emit(ctx, "started", nil)
	last := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	carry := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return proxy.ServeHTTP(w, r, last) })
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		var handled caddyhttp.HandlerError
		if err := auth.ServeHTTP(w, r, carry); errors.As(err, &handled) {
			w.WriteHeader(handled.StatusCode)
		}
	}))
	t.Cleanup(n.Close)
	return n
}

// nodes are two of them on one Redis.
func nodes(t *testing.T, more string, upstream *httptest.Server) (a, b *node, redis *redistest.Server) {
	t.Helper()
	redis = redistest.Start(t)
	_, port, _ := strings.Cut(redis.Addr, ":")
	return newNode(t, redis.Addr, more, upstream), newNode(t, "localhost:"+port, more, upstream), redis
}

// open sends a request and does not wait for the end of its answer.
func (n *node) open(method, token, session, body string, header ...string) *http.Response {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	n.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, n.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2025-06-18", "Authorization": "Bearer " + token, "Mcp-Session-Id": session,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// send sends a request and reads the answer.
func (n *node) send(method, token, session, body string, header ...string) (int, string) {
	n.t.Helper()
	resp := n.open(method, token, session, body, header...)
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func (n *node) begin(token string) string {
	n.t.Helper()
	resp := n.open(http.MethodPost, token, "", initialize)
	answer, _ := io.ReadAll(resp.Body)
	id := resp.Header.Get("Mcp-Session-Id")
	if resp.StatusCode != http.StatusOK || id == "" {
		n.t.Fatalf("initialize: %d %s", resp.StatusCode, answer)
	}
	return id
}

// want expects an answer's status and what is in it.
func (n *node) want(status int, part, method, token, session, body string, header ...string) {
	n.t.Helper()
	got, answer := n.send(method, token, session, body, header...)
	if got != status || !strings.Contains(answer, part) {
		n.t.Errorf("got %d %s, want %d with %s", got, answer, status, part)
	}
}

// scripted is a server with sessions, whose answers to all but initialize a test writes.
type scripted struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string // method, session id, message
	answer func(w http.ResponseWriter, r *http.Request, body string)
}

func newScripted(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body string)) *scripted {
	t.Helper()
	s := &scripted{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got = append(s.got, r.Method+" "+r.Header.Get("Mcp-Session-Id")+" "+string(body))
		s.mu.Unlock()
		if strings.Contains(string(body), `"initialize"`) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Mcp-Session-Id", "up-"+rand.Text())
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"i","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`)
			return
		}
		s.answer(w, r, string(body))
	}))
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	return s
}

// count is how many requests have begun so.
func (s *scripted) count(prefix, part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.Collect(func(yield func(string) bool) {
		for _, got := range s.got {
			if strings.HasPrefix(got, prefix) && strings.Contains(got, part) && !yield(got) {
				return
			}
		}
	}))
}

const answersOK = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`

func ok(w http.ResponseWriter, r *http.Request, _ string) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		_, _ = io.WriteString(w, answersOK)
	}
}

// TestTwoNodes: what begins on one node goes on on the other, and when it ends on one it
// ends on the other, together with the stream that is open there.
func TestTwoNodes(t *testing.T) {
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if r.Method != http.MethodGet {
			ok(w, r, body)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": open\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	a, b, _ := nodes(t, "", up.Server)
	alice, bob := tokenFor(t, "alice"), tokenFor(t, "bob")
	id := a.begin(alice)
	for _, n := range []*node{b, a, b} {
		n.want(200, `"content"`, http.MethodPost, alice, id, callEcho)
		n.want(404, "session_unknown", http.MethodPost, bob, id, callEcho)
	}
	if up.count("POST up-", "tools/call") != 3 {
		t.Errorf("the server received %v", up.got)
	}
	stream := b.open(http.MethodGet, alice, id, "")
	lines := bufio.NewScanner(stream.Body)
	if !lines.Scan() || lines.Text() != ": open" {
		t.Fatalf("%d %q %v", stream.StatusCode, lines.Text(), lines.Err())
	}
	// Somebody else cannot end it.
	b.want(404, "session_unknown", http.MethodDelete, bob, id, "")
	a.want(200, "", http.MethodDelete, alice, id, "")
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("after the end: %q", lines.Text())
		}
	}
	if lines.Err() != nil {
		t.Errorf("the stream did not end as one does: %v", lines.Err())
	}
	before := up.count("", "tools/call")
	for _, n := range []*node{a, b} {
		n.want(404, "session_unknown", http.MethodPost, alice, id, callEcho)
	}
	if up.count("", "tools/call") != before || up.count("DELETE up-", "") != 1 {
		t.Errorf("the server received %v", up.got)
	}
}

// TestAnswerOnOtherNode: what the server asks on one node's stream can be answered on the
// other, once.
func TestAnswerOnOtherNode(t *testing.T) {
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, "tools/call") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"message":"?"}}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	a, b, _ := nodes(t, "", up.Server)
	alice := tokenFor(t, "alice")
	id, other := a.begin(alice), a.begin(alice)
	answer := `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`
	b.want(400, "response_unasked", http.MethodPost, alice, id, answer)
	asked := bufio.NewScanner(a.open(http.MethodPost, alice, id, callEcho).Body)
	if !asked.Scan() || !strings.Contains(asked.Text(), "q1") {
		t.Fatalf("%q", asked.Text())
	}
	b.want(400, "response_unasked", http.MethodPost, alice, id, strings.Replace(answer, "q1", "q2", 1))
	b.want(400, "response_unasked", http.MethodPost, alice, other, answer)
	b.want(404, "session_unknown", http.MethodPost, tokenFor(t, "bob"), id, answer)
	b.want(202, "", http.MethodPost, alice, id, answer)
	for _, n := range []*node{a, b} {
		n.want(400, "response_unasked", http.MethodPost, alice, id, answer)
	}
	if n := up.count("POST", `"q1"`); n != 1 {
		t.Errorf("the server received %d answers", n)
	}
}

// TestSameIDOnOtherNode: a client that uses an id on both nodes at once does not get to see
// what it may not, even if the server takes the one request for the other, whatever the
// other was and however its answer is written.
func TestSameIDOnOtherNode(t *testing.T) {
	for _, mixedUp := range []struct{ name, method, answer, seen string }{
		{"tools", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","inputSchema":{}},{"name":"hidden-tool","inputSchema":{}}]}}`, `"echo"`},
		{"escaped", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"t\u006fols":[{"name":"echo","inputSchema":{}},{"name":"hidden-tool","inputSchema":{}}]}}`, ""},
		{"in capitals", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"TOOLS":[{"name":"hidden-tool","inputSchema":{}}]}}`, ""},
		{"in a batch", "tools/list", `[{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden-tool","inputSchema":{}}]}}]`, ""},
		{"prompts", "prompts/list", `{"jsonrpc":"2.0","id":1,"result":{"prompts":[{"name":"hidden-prompt"}]}}`, `"prompts":[]`},
		{"resources", "resources/list", `{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"hidden:1","name":"x"}]}}`, `"resources":[]`},
		{"templates", "resources/templates/list", `{"jsonrpc":"2.0","id":1,"result":{"resourceTemplates":[{"uriTemplate":"hidden:{x}","name":"x"}]}}`, `"resourceTemplates":[]`},
		{"an error in words", "tools/list", `hidden-tool`, ""},
	} {
		t.Run(mixedUp.name, func(t *testing.T) {
			list, called := make(chan struct{}), make(chan struct{})
			up := newScripted(t, func(w http.ResponseWriter, r *http.Request, body string) {
				w.Header().Set("Content-Type", "application/json")
				if strings.Contains(body, mixedUp.method) {
					close(list)
					<-called
					_, _ = io.WriteString(w, answersOK)
					return
				}
				if !strings.HasPrefix(mixedUp.answer, "{") && !strings.HasPrefix(mixedUp.answer, "[") {
					w.Header().Set("Content-Type", "text/plain")
					w.WriteHeader(http.StatusBadRequest)
				}
				_, _ = io.WriteString(w, mixedUp.answer)
			})
			a, b, _ := nodes(t, "", up.Server)
			alice := tokenFor(t, "alice")
			for _, nodes := range [][2]*node{{a, b}, {b, a}} {
				list, called = make(chan struct{}), make(chan struct{})
				id := a.begin(alice)
				var running sync.WaitGroup
				running.Go(func() {
					nodes[0].send(http.MethodPost, alice, id, `{"jsonrpc":"2.0","id":1,"method":"`+mixedUp.method+`"}`)
				})
				<-list
				status, answer := nodes[1].send(http.MethodPost, alice, id, callEcho)
				if strings.Contains(answer, "hidden") || mixedUp.seen != "" && status != 200 || !strings.Contains(answer, mixedUp.seen) {
					t.Errorf("%d %s", status, answer)
				}
				close(called)
				running.Wait()
			}
		})
	}
}

// TestResumeOnOtherNode: a stream that broke goes on on the other node, from an event that
// was sent in the session and from no other.
func TestResumeOnOtherNode(t *testing.T) {
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		if event := r.Header.Get("Last-Event-ID"); event != "" {
			_, _ = fmt.Fprintf(w, "id: %s-next\ndata: %s\n\n", event, answersOK)
			return
		}
		_, _ = io.WriteString(w, "id: e1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	a, b, _ := nodes(t, "", up.Server)
	alice := tokenFor(t, "alice")
	id, other := a.begin(alice), a.begin(alice)
	broken := a.open(http.MethodPost, alice, id, callEcho)
	lines := bufio.NewScanner(broken.Body)
	if !lines.Scan() || lines.Text() != "id: e1" {
		t.Fatalf("%q", lines.Text())
	}
	broken.Body.Close()
	statetest.Eventually(t, "the stream goes on", func() bool {
		status, answer := b.send(http.MethodGet, alice, id, "", "Last-Event-ID", "e1")
		return status == 200 && strings.Contains(answer, "e1-next")
	})
	for _, n := range []*node{a, b} {
		n.want(400, "event_unknown", http.MethodGet, alice, id, "", "Last-Event-ID", "e2")
		n.want(400, "event_unknown", http.MethodGet, alice, other, "", "Last-Event-ID", "e1")
		n.want(404, "session_unknown", http.MethodGet, tokenFor(t, "bob"), id, "", "Last-Event-ID", "e1")
	}
}

// TestBeginWithoutStore: a session that cannot be kept does not begin, and its server is
// told. What is known goes on as long as that is allowed, and what is not known is not
// said to be gone.
func TestBeginWithoutStore(t *testing.T) {
	up := newScripted(t, ok)
	a, b, redis := nodes(t, `,"allow_stale":3600000000000`, up.Server)
	alice := tokenFor(t, "alice")
	id := a.begin(alice)
	a.want(200, `"content"`, http.MethodPost, alice, id, callEcho)
	redis.Stop()
	status, answer := a.send(http.MethodPost, alice, "", initialize)
	if status != http.StatusServiceUnavailable || reasonOf(answer) != "store_unavailable" || strings.Contains(answer, "serverInfo") {
		t.Errorf("%d %s", status, answer)
	}
	statetest.Eventually(t, "the server is told", func() bool { return up.count("DELETE up-", "") == 1 })
	a.want(200, `"content"`, http.MethodPost, alice, id, callEcho)
	b.want(503, "store_unavailable", http.MethodPost, alice, id, callEcho)
	redis.Start() // empty
	statetest.Eventually(t, "the session is known to be gone", func() bool {
		status, _ := a.send(http.MethodPost, alice, id, callEcho)
		return status == http.StatusNotFound
	})
	a.begin(alice)
}

// TestTaskOnOtherNode: a task is followed through either node, by nobody but its owner.
func TestTaskOnOtherNode(t *testing.T) {
	up := newTaskServer(t, "one")
	a, b, redis := nodes(t, "", up.Server)
	alice, bob := tokenFor(t, "alice"), tokenFor(t, "bob")
	modern := func(n *node, token, method, member, object string) string {
		t.Helper()
		_, answer := n.send(http.MethodPost, token, "", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%q:%q,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
			`"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}`, method, member, object),
			"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", object)
		return answer
	}
	var made struct{ Result struct{ TaskID string } }
	if err := json.Unmarshal([]byte(modern(a, alice, "tools/call", "name", "work")), &made); err != nil || made.Result.TaskID == "" {
		t.Fatal(err)
	}
	id := made.Result.TaskID
	for _, n := range []*node{b, a} {
		if answer := modern(n, alice, "tasks/get", "taskId", id); !strings.Contains(answer, `"at":"one"`) {
			t.Error(answer)
		}
		before := up.requests()
		if answer := modern(n, bob, "tasks/get", "taskId", id); reasonOf(answer) != "not_found" || up.requests() != before {
			t.Error(answer)
		}
	}
	redis.Stop()
	statetest.Eventually(t, "nobody is let in who may be revoked", func() bool {
		return reasonOf(modern(b, alice, "tasks/get", "taskId", id)) == "revocation_unknown"
	})
}

// TestRestartKeepsSessions: with a file, a session outlives the process.
func TestRestartKeepsSessions(t *testing.T) {
	upstreams := []*mcpServer{newMCPServer(t, "one"), newMCPServer(t, "two")}
	w := newWorld(t, upstreams...)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	sessions := map[string]string{}
	for range 4 {
		session, upstream := w.begin(t, token)
		sessions[session] = upstream
	}
	for range 2 {
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		w.mustLoad(t)
		if table(t).Len() != 0 {
			t.Fatal("this is no restart")
		}
		for session, upstream := range sessions {
			w.echo(t, token, session, upstream)
			if resp, _ := w.send(t, http.MethodPost, tokenFor(t, "bob"), session, callEcho); resp.StatusCode != http.StatusNotFound {
				t.Errorf("another's session after a restart: %d", resp.StatusCode)
			}
		}
	}
}
