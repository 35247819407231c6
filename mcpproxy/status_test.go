package mcpproxy_test

import (
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy/transport"
)

// reported are the servers as administrators are told of them.
func reported(t *testing.T) []report.Server {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*mcpauth.App).Book().Servers()
}

// TestStatus: what Caddy's reverse proxy knows of its upstreams is told.
func TestStatus(t *testing.T) {
	up, down := newMCPServer(t, "up"), newMCPServer(t, "down")
	w := newWorld(t, up)
	passive := object{"health_checks": object{"passive": object{"fail_duration": "1h"}}}
	w.servers = []any{object{"name": "a", "proxy": proxyTo(passive, down)}}
	w.mustLoad(t)
	got := reported(t)
	if len(got) != 1 || len(got[0].Upstreams) != 1 {
		t.Fatalf("got %+v", got)
	}
	if a := got[0]; a.Name != "a" || a.Path != "/mcp" || !a.Available || a.TLS || a.ActiveChecks || !a.PassiveChecks || a.Dynamic ||
		!a.Upstreams[0].Healthy || a.Upstreams[0].Address != down.Listener.Addr().String() {
		t.Errorf("got %+v", a)
	}
	down.Close()
	if resp, text := w.send(t, http.MethodPost, tokenFor(t, "ana"), "", initialize); resp.StatusCode < 500 {
		t.Fatalf("got %d %s", resp.StatusCode, text)
	}
	if a := reported(t)[0]; a.Available || a.Upstreams[0].Healthy || a.Upstreams[0].Fails != 1 {
		t.Errorf("once it is down: %+v", a)
	}
	// A reload makes a new book. Failures are forgotten by Caddy, a little later.
	w.servers = append(w.servers, object{"name": "b", "path": "/b", "proxy": proxyTo(object{"transport": object{"protocol": "mcp", "tls": object{}}}, up, down)})
	w.mustLoad(t)
	got = reported(t)
	if len(got) != 2 {
		t.Fatalf("after a reload: %+v", got)
	}
	if b := got[1]; b.Name != "b" || b.Path != "/b" || !b.Available || !b.TLS || b.PassiveChecks || len(b.Upstreams) != 2 {
		t.Errorf("got %+v", b)
	}
}

// names are those of the servers.
func (w *world) names() (names []string) {
	for _, s := range w.servers {
		names = append(names, s.(object)["name"].(string))
	}
	return names
}
