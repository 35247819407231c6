package mcpproxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

const (
	worldSecret = "recognisable-secret-0123456789abcdef"
	worldIssuer = "https://issuer.example"
	worldURL    = "http://127.0.0.1"

	initialize = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	callEcho   = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
)

type object = map[string]any

// tokenFor makes a token of the subject, who may do everything.
func tokenFor(t testing.TB, subject string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(worldSecret)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(encode(t, object{
		"iss": worldIssuer, "aud": worldURL, "sub": subject, "jti": rand.Text(), "exp": time.Now().Add(time.Hour).Unix(),
	}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// mcpServer is a server with sessions, which answers 404 for one it did not make.
type mcpServer struct {
	*httptest.Server
	name string

	mu       sync.Mutex
	sessions map[string]bool
	got      []string // method and session id of each request
}

func newMCPServer(t *testing.T, name string) *mcpServer {
	t.Helper()
	s := &mcpServer{name: name, sessions: map[string]bool{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *mcpServer) serve(w http.ResponseWriter, r *http.Request) {
	var message struct {
		ID     any
		Method string
	}
	_ = json.NewDecoder(r.Body).Decode(&message)
	id := r.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	s.got = append(s.got, message.Method+" "+id)
	known := s.sessions[id]
	result := object{"content": []any{object{"type": "text", "text": s.name}}}
	switch {
	case message.Method == "initialize":
		id = s.name + "-" + rand.Text()
		s.sessions[id] = true
		w.Header().Set("Mcp-Session-Id", id)
		result = object{"protocolVersion": "2025-06-18", "capabilities": object{}, "serverInfo": object{"name": s.name, "version": "1"}}
	case !known:
		s.mu.Unlock()
		http.Error(w, "no such session", http.StatusNotFound)
		return
	case r.Method == http.MethodDelete:
		delete(s.sessions, id)
	}
	s.mu.Unlock()
	if message.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object{"jsonrpc": "2.0", "id": message.ID, "result": result})
}

// requests are how many requests came.
func (s *mcpServer) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *mcpServer) dial() object { return object{"dial": s.Listener.Addr().String()} }

// world is a Caddy in this process, whose log is a file.
type world struct {
	address, log string
	client       *http.Client
	servers      []any // of mcp_proxy
	app          object
	handlers     func(auth, proxy object) []any
}

// newWorld prepares Caddy with one server on those upstreams.
func newWorld(t *testing.T, upstreams ...*mcpServer) *world {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(name, dir)
	}
	t.Setenv("MCPPROXY_TEST_SECRET", worldSecret)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	// A connection for each request: a reload closes those that are idle, which
	// may be just when a request is sent.
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	w := &world{
		address: address, log: filepath.Join(dir, "log"),
		client:   &http.Client{Transport: transport},
		servers:  []any{object{"name": "a", "proxy": proxyTo(nil, upstreams...)}},
		handlers: func(auth, proxy object) []any { return []any{auth, proxy} },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// proxyTo is a reverse_proxy for those upstreams that keeps sessions.
func proxyTo(more object, upstreams ...*mcpServer) object {
	dials := []any{}
	for _, u := range upstreams {
		dials = append(dials, u.dial())
	}
	proxy := object{
		"handler": "reverse_proxy", "upstreams": dials,
		"load_balancing": object{"selection_policy": object{"policy": "mcp_session", "fallback": object{"policy": "round_robin"}}},
	}
	maps.Copy(proxy, more)
	return proxy
}

// load loads the configuration as it is now.
func (w *world) load(t *testing.T) error {
	t.Helper()
	auth := object{
		"handler": "mcp_auth", "public_url": worldURL, "servers": w.names(),
		"issuers": []any{object{"issuer": worldIssuer, "keys": object{"source": "secret", "value": "{env.MCPPROXY_TEST_SECRET}"}}},
		"roles":   []any{object{"name": "everyone", "allow": []any{object{"permission": "*"}}}},
	}
	proxy := object{"handler": "mcp_proxy", "servers": w.servers}
	apps := object{"http": object{
		"grace_period": "1s",
		"servers": object{"s": object{
			"listen": []string{w.address}, "automatic_https": object{"disable": true}, "logs": object{},
			"routes": []any{object{"handle": w.handlers(auth, proxy)}},
		}},
	}}
	if w.app != nil {
		apps["mcp_gateway"] = w.app
	}
	return caddy.Load(encode(t, object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"storage": object{"module": "file_system", "root": filepath.Dir(w.log)},
		"logging": object{"logs": object{"default": object{
			"level": "DEBUG", "writer": object{"output": "file", "filename": w.log},
		}}},
		"apps": apps,
	}), true)
}

func (w *world) mustLoad(t *testing.T) {
	t.Helper()
	if err := w.load(t); err != nil {
		t.Fatal(err)
	}
}

// send sends a request in a session, if there is one, and reads the answer. Just
// after a reload, Caddy's old listener may take a connection that it then drops
// unserved: such a request is sent again.
func (w *world) send(t *testing.T, method, token, session, body string) (*http.Response, string) {
	t.Helper()
	for range 5 {
		resp, answer, err := w.try(t, method, token, session, body)
		if err == nil {
			return resp, answer
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	t.Fatal("connections are dropped without an answer")
	return nil, ""
}

func (w *world) try(t *testing.T, method, token, session, body string) (*http.Response, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+w.address+"/mcp", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Authorization", "Bearer "+token)
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer), nil
}

// begin begins a session and returns its id and the name of the upstream.
func (w *world) begin(t *testing.T, token string) (session, upstream string) {
	t.Helper()
	resp, body := w.send(t, http.MethodPost, token, "", initialize)
	var answer struct {
		Result struct {
			ServerInfo struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("initialize: %d %s", resp.StatusCode, body)
	}
	session = resp.Header.Get("Mcp-Session-Id")
	if session == "" || strings.HasPrefix(session, answer.Result.ServerInfo.Name) {
		t.Fatalf("session id %q", session)
	}
	return session, answer.Result.ServerInfo.Name
}

// echo calls a tool in a session and fails the test if that does not reach the
// upstream.
func (w *world) echo(t *testing.T, token, session, upstream string) {
	t.Helper()
	resp, body := w.send(t, http.MethodPost, token, session, callEcho)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"text":%q`, upstream)) {
		t.Errorf("session of %s: %d %s", upstream, resp.StatusCode, body)
	}
}

// table is the running configuration's table of sessions.
func table(t *testing.T) *session.Sessions {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*mcpauth.App).SessionTable()
}

// reasonOf is error.data.reason of a refusal.
func reasonOf(body string) string {
	var refusal struct {
		Error struct{ Data struct{ Reason string } }
	}
	if err := json.Unmarshal([]byte(body), &refusal); err != nil {
		return ""
	}
	return refusal.Error.Data.Reason
}
