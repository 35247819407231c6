package mcpadmin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestStoreDown: while the store cannot be asked, nobody gets in, and nothing is said to
// be done.
func TestStoreDown(t *testing.T) {
	server := redistest.Start(t)
	w := newAdminWorld(t)
	w.settled = false
	w.store = "redis " + server.Addr + " {\n\t\t\ttimeout 500ms\n\t\t}"
	w.start()
	p, c := w.below(w.administrator()), w.caddyAdmin()
	p.ask(get, "/users", nil).want(ok, "")
	server.Stop()
	<-server.Done()
	down := func(r *reply) {
		t.Helper()
		if reason := r.body["reason"]; r.status != http.StatusServiceUnavailable || reason != "store_unavailable" && reason != "revocation_unknown" {
			t.Errorf("got %d %s", r.status, r.text)
		}
	}
	for _, s := range []step{
		{method: get, path: "/users"},
		{method: get, path: "/keys"},
		{method: get, path: "/security"},
		{method: post, path: "/users", body: object{"email": "eve@example.com", "is_admin": true}},
		{method: post, path: "/revocations", body: object{"by": "id", "value": "t-1"}},
	} {
		down(p.ask(s.method, s.path, s.body))
	}
	down(c.ask(get, "/users", nil))
	down(c.ask(post, "/users", object{"email": "eve@example.com"}))
	down(c.ask(del, "/users/bob@example.com", nil))
	down(c.ask(post, "/revocations", object{"by": "id", "value": "t-1"}))
	// What is at hand is told yet.
	c.ask(get, "/servers", nil).want(ok, "")
	statetest.Eventually(t, "it is known that nothing is known", func() bool {
		return c.ask(get, "/revocations", nil).want(ok, "").body["stale"] == true
	})
	server.Start()
	statetest.Eventually(t, "the store is back", func() bool { return c.ask(get, "/users/bob@example.com", nil).status != http.StatusServiceUnavailable })
}

// TestReady: a gateway is not ready before the accounts of its configuration are made, and
// then whoever has one can log in.
func TestReady(t *testing.T) {
	server := redistest.New(t)
	w := newAdminWorld(t)
	w.settled = false
	w.store = "redis " + server.Addr + " {\n\t\t\ttimeout 500ms\n\t\t}"
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	if r := w.get("/ready", ""); r.status != http.StatusServiceUnavailable || !strings.Contains(r.text, "declared_accounts") {
		t.Errorf("got %d %s", r.status, r.text)
	}
	server.Start()
	statetest.Eventually(t, "it is ready", func() bool { return w.get("/ready", "").status == http.StatusOK })
	w.login("bob@example.com", bobFirst).want(http.StatusForbidden, "password_change_required")
}
