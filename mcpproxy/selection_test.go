package mcpproxy_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestSessionsStay: each session goes to the upstream that made it, and to no
// other.
func TestSessionsStay(t *testing.T) {
	upstreams := []*mcpServer{newMCPServer(t, "one"), newMCPServer(t, "two"), newMCPServer(t, "three")}
	w := newWorld(t, upstreams...)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	made := map[string]string{}
	used := map[string]int{}
	for range 9 {
		session, upstream := w.begin(t, token)
		made[session] = upstream
		used[upstream]++
	}
	if len(used) != 3 {
		t.Errorf("sessions were made on %v only; the fallback policy is round_robin", used)
	}
	for range 10 {
		for session, upstream := range made {
			w.echo(t, token, session, upstream)
		}
	}
	for _, u := range upstreams {
		u.mu.Lock()
		for _, got := range u.got {
			if id := strings.Fields(got)[1:]; len(id) == 1 && !strings.HasPrefix(id[0], u.name) {
				t.Errorf("%s got a session of another: %s", u.name, got)
			}
		}
		if want := 11 * used[u.name]; len(u.got) != want {
			t.Errorf("%s got %d requests, expected %d", u.name, len(u.got), want)
		}
		u.mu.Unlock()
	}
}

// gone sends one request in a session whose upstream is no more, and expects the
// client to be told that the session is, too.
func gone(t *testing.T, w *world, token, session string) {
	t.Helper()
	before := table(t).Len()
	resp, body := w.send(t, http.MethodPost, token, session, callEcho)
	if resp.StatusCode != http.StatusNotFound || reasonOf(body) != "session_unknown" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if after := table(t).Len(); after != before-1 {
		t.Errorf("%d sessions, there were %d", after, before)
	}
	if resp, _ := w.send(t, http.MethodPost, token, session, callEcho); resp.StatusCode != http.StatusNotFound {
		t.Errorf("once more: %d", resp.StatusCode)
	}
}

// TestUpstreamTakenAway: its sessions are unknown from then on, those of the others
// are not.
func TestUpstreamTakenAway(t *testing.T) {
	one, two := newMCPServer(t, "one"), newMCPServer(t, "two")
	w := newWorld(t, one, two)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	sessions := map[string]string{}
	for len(sessions) < 2 {
		session, upstream := w.begin(t, token)
		sessions[upstream] = session
	}
	w.servers = []any{object{"name": "a", "proxy": proxyTo(nil, two)}}
	w.mustLoad(t)
	before := one.requests()
	gone(t, w, token, sessions["one"])
	w.echo(t, token, sessions["two"], "two")
	if one.requests() != before {
		t.Error("a request reached the upstream that was taken away")
	}
}

// TestUpstreamDown: the first request that fails is answered with 502; once the
// health check knows, the session is unknown and the client begins another.
func TestUpstreamDown(t *testing.T) {
	one, two := newMCPServer(t, "one"), newMCPServer(t, "two")
	w := newWorld(t)
	w.servers = []any{object{"name": "a", "proxy": proxyTo(object{
		"health_checks": object{"passive": object{"fail_duration": "1h", "max_fails": 1}},
	}, one, two)}}
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	sessions := map[string]string{}
	for len(sessions) < 2 {
		session, upstream := w.begin(t, token)
		sessions[upstream] = session
	}
	one.Close()
	resp, body := w.send(t, http.MethodPost, token, sessions["one"], callEcho)
	if resp.StatusCode != http.StatusBadGateway || reasonOf(body) != "upstream_unreachable" || !strings.Contains(body, `"id":1`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	gone(t, w, token, sessions["one"])
	w.echo(t, token, sessions["two"], "two")
	for range 4 {
		if _, upstream := w.begin(t, token); upstream != "two" {
			t.Errorf("a session begun on %s", upstream)
		}
	}
}

// TestUnixSocket: a server on a Unix socket is reached like any other.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &mcpServer{name: "unix", sessions: map[string]bool{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	_ = s.Listener.Close()
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)

	w := newWorld(t)
	// As the Caddyfile has it.
	w.servers = []any{object{"name": "a", "host": "localhost", "proxy": object{
		"handler": "reverse_proxy", "upstreams": []any{object{"dial": "unix/" + path}},
	}}}
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	session, upstream := w.begin(t, token)
	w.echo(t, token, session, upstream)
}

// TestNeedsAuth: without mcp_auth before it, mcp_proxy carries nothing.
func TestNeedsAuth(t *testing.T) {
	upstream := newMCPServer(t, "one")
	w := newWorld(t, upstream)
	w.handlers = func(_, proxy object) []any { return []any{proxy} }
	w.mustLoad(t)
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		resp, body := w.send(t, method, tokenFor(t, "alice"), "", initialize)
		if resp.StatusCode != http.StatusInternalServerError || body != "" {
			t.Errorf("%s: %d %s", method, resp.StatusCode, body)
		}
	}
	w.handlers = func(auth, proxy object) []any { return []any{proxy, auth} }
	w.mustLoad(t)
	if resp, _ := w.send(t, http.MethodPost, tokenFor(t, "alice"), "", initialize); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("after mcp_proxy: %d", resp.StatusCode)
	}
	if n := upstream.requests(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestProvisionErrors(t *testing.T) {
	good := object{"handler": "reverse_proxy", "upstreams": []any{object{"dial": "127.0.0.1:1"}}}
	for _, tc := range []struct {
		name, id string
		config   object
		expected string
	}{
		{"no server", "http.handlers.mcp_proxy", object{}, "at least one MCP server"},
		{"server twice", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a", "proxy": good}, object{"name": "a", "proxy": good}}}, "twice"},
		{"no name", "http.handlers.mcp_proxy", object{"servers": []any{object{"proxy": good}}}, "no name"},
		{"bad name", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a/b", "proxy": good}}}, "server name"},
		{"no proxy", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a"}}}, "proxy is missing"},
		{"relative path", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a", "path": "mcp", "proxy": good}}}, "absolute path"},
		{"URL as path", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a", "path": "http://b/mcp", "proxy": good}}}, "absolute path"},
		{"unknown handler", "http.handlers.mcp_proxy", object{"servers": []any{object{"name": "a", "proxy": object{"handler": "nope"}}}}, "nope"},
		{"unknown member", "http.handlers.mcp_proxy", object{"server": "a"}, "unknown field"},
		{"credentials forwarded", "http.handlers.mcp_proxy", object{"forward_headers": []string{"authorization"}, "servers": []any{object{"name": "a", "proxy": good}}}, "must not be forwarded"},
		{"cookies forwarded", "http.handlers.mcp_proxy", object{"forward_headers": []string{"cookie"}, "servers": []any{object{"name": "a", "proxy": good}}}, "must not be forwarded"},
		{"identity forwarded", "http.handlers.mcp_proxy", object{"forward_headers": []string{"x-mcp-subject"}, "servers": []any{object{"name": "a", "proxy": good}}}, "must not be forwarded"},
		{"unknown fallback", "http.reverse_proxy.selection_policies.mcp_session", object{"fallback": object{"policy": "nope"}}, "nope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := caddy.NewContext(configured)
			defer cancel()
			if _, err := ctx.LoadModuleByID(tc.id, json.RawMessage(encode(t, tc.config))); err == nil || !strings.Contains(err.Error(), tc.expected) {
				t.Errorf("error %v, expected: %s", err, tc.expected)
			}
		})
	}
}

// TestSelectionOutside: outside mcp_proxy the policy leaves the choice to the other.
func TestSelectionOutside(t *testing.T) {
	one, two := newMCPServer(t, "one"), newMCPServer(t, "two")
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	defer cancel()
	module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(encode(t, func() object {
		p := proxyTo(nil, one, two)
		delete(p, "handler")
		return p
	}())))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for range 4 {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(initialize))
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := module.(caddyhttp.MiddlewareHandler).ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.SplitN(w.Header().Get("Mcp-Session-Id"), "-", 2)[0])
	}
	slices.Sort(names)
	if got := fmt.Sprint(names); got != "[one one two two]" {
		t.Errorf("round_robin chose %s", got)
	}
}
