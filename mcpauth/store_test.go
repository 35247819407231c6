package mcpauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// storeApp is an app as one configuration has it.
type storeApp struct {
	*App
	t   *testing.T
	ctx caddy.Context
}

// generate provisions one.
func generate(t *testing.T, config string) *storeApp {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	g := &storeApp{t: t, ctx: ctx, App: new(App)}
	if err := json.Unmarshal([]byte(config), g.App); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Cleanup() })
	if err := errors.Join(g.Provision(ctx), g.Validate()); err != nil {
		t.Fatal(err)
	}
	return g
}

// begin starts it, and waits until it knows what was revoked.
func (g *storeApp) begin() *storeApp {
	g.t.Helper()
	if err := g.Start(); err != nil {
		g.t.Fatal(err)
	}
	events, err := g.ctx.App("events")
	if err != nil {
		g.t.Fatal(err)
	}
	events.(*caddyevents.App).Emit(g.ctx, "started", nil)
	statetest.Eventually(g.t, "that it is ready", func() bool { return g.Revocations().Ready(time.Now()) == nil })
	return g
}

func (g *storeApp) end() {
	g.t.Helper()
	if err := errors.Join(g.Stop(), g.Cleanup(), g.Cleanup()); err != nil {
		g.t.Error(err)
	}
}

func (g *storeApp) check(id string, want revocation.Verdict) {
	g.t.Helper()
	token := revocation.Token{Issuer: "https://login.example.com", ID: id, IssuedAt: time.Now()}
	if got := g.Revocations().Check(&token, time.Now()); got != want {
		g.t.Errorf("%s is %s, want %s", id, got, want)
	}
}

func (g *storeApp) revoke(id string) {
	g.t.Helper()
	if err := g.Revocations().Revoke(g.t.Context(), state.Revocation{Kind: state.RevokeID, Value: id, Expires: time.Now().Add(time.Hour)}); err != nil {
		g.t.Fatal(err)
	}
}

// nothing says that there is nothing at a path.
func nothing(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", path, err)
	}
}

// TestStoreByDefault: without a store in the configuration there is one all the same,
// but no file until something is revoked; that outlives reloads and restarts.
func TestStoreByDefault(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	first := generate(t, `{}`)
	first.check("any", revocation.Unknown)
	if first.Ready()["revocations"] == nil {
		t.Error("ready before it has started")
	}
	first.begin()
	first.check("a", revocation.Valid)
	if err := first.Ready()["revocations"]; err != nil {
		t.Error(err)
	}
	nothing(t, filepath.Join(dir, "caddy"))
	first.revoke("a")
	first.check("a", revocation.RevokedID)
	if _, err := os.Stat(filepath.Join(dir, "caddy", "mcp_gateway", "state.db")); err != nil {
		t.Error(err)
	}

	// A reload, during which both generations are alive.
	second := generate(t, `{"allow_stale": 60000000000}`)
	second.check("a", revocation.RevokedID)
	second.begin()
	second.revoke("b")
	first.check("b", revocation.RevokedID)
	first.end()
	second.check("a", revocation.RevokedID)
	second.check("c", revocation.Valid)
	second.end()

	// A restart.
	third := generate(t, `{}`)
	third.check("a", revocation.Unknown)
	third.begin()
	third.check("a", revocation.RevokedID)
	third.check("b", revocation.RevokedID)
	third.check("c", revocation.Valid)
}

// TestStoreOfRejected: a configuration that is rejected, before or in Start, has touched
// nothing, and the one before goes on.
func TestStoreOfRejected(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "default"))
	store := func(name string) string {
		path, err := json.Marshal(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"store": {"store": "embedded", "path": %s}}`, path)
	}
	first := generate(t, store("one.db")).begin()
	first.revoke("a")

	generate(t, store("two.db")).end()
	nothing(t, filepath.Join(dir, "two.db"))
	generate(t, `{"allow_stale": 3600000000000}`).end()
	nothing(t, filepath.Join(dir, "default"))

	// Another app fails to start.
	failing := generate(t, store("three.db"))
	if err := failing.Start(); err != nil {
		t.Fatal(err)
	}
	failing.end()
	again := generate(t, store("three.db")).begin() // its lock was given back
	again.check("a", revocation.Valid)
	again.end()

	// The file is not readable.
	if err := os.WriteFile(filepath.Join(dir, "bad.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		bad := generate(t, store("bad.db"))
		if err := bad.Start(); err == nil || !strings.Contains(err.Error(), "bad.db") {
			t.Errorf("a file that cannot be read: %v", err)
		}
		bad.check("a", revocation.Unknown)
		bad.end()
	}

	first.check("a", revocation.RevokedID)
	first.check("b", revocation.Valid)
	first.revoke("b")
	for key, path := range map[string]string{"one": "one.db", "two": "two.db", "three": "three.db", "bad": "bad.db"} {
		want := 0
		if key == "one" {
			want = 1
		}
		if n, _ := stores.References("embedded " + filepath.Join(dir, path)); n != want {
			t.Errorf("%s has %d references, want %d", key, n, want)
		}
	}
}

// TestStoreChanges: a configuration with another store serves by that, while requests of
// the one before are still judged by theirs.
func TestStoreChanges(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	server := redistest.Start(t)
	first := generate(t, `{}`).begin()
	first.revoke("a")
	second := generate(t, fmt.Sprintf(`{"store": {"store": "redis", "addresses": [%q]}}`, server.Addr)).begin()
	second.revoke("b")
	second.check("a", revocation.Valid)
	second.check("b", revocation.RevokedID)
	first.check("a", revocation.RevokedID)
	first.check("b", revocation.Valid)
	first.end()

	// Another node of it.
	third := generate(t, fmt.Sprintf(`{"store": {"store": "redis", "addresses": [%q], "timeout": 2000000000}}`, server.Addr)).begin()
	third.check("b", revocation.RevokedID)
	ended := make(chan revocation.Verdict, 1)
	token := revocation.Token{Issuer: "https://login.example.com", ID: "c", IssuedAt: time.Now()}
	if _, verdict := third.Revocations().Watch(&token, time.Now(), func(v revocation.Verdict) { ended <- v }); verdict != revocation.Valid {
		t.Fatal(verdict)
	}
	second.revoke("c")
	select {
	case v := <-ended:
		if v != revocation.RevokedID {
			t.Error(v)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a stream goes on though its token was revoked on another node")
	}
	third.check("c", revocation.RevokedID)

	// Redis is gone: what is revoked stays so, and nothing else is known any more.
	server.Stop()
	statetest.Eventually(t, "that it is cut off", func() bool { return second.Revocations().Ready(time.Now()) != nil })
	second.check("b", revocation.RevokedID)
	second.check("d", revocation.Unknown)
	if err := second.Revocations().Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "d"}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("revoked without Redis: %v", err)
	}
	second.check("d", revocation.RevokedID)

	// It comes back without its data: who was here still knows.
	server.Start()
	statetest.Eventually(t, "that it is back", func() bool { return second.Revocations().Ready(time.Now()) == nil })
	second.check("b", revocation.RevokedID)
	second.check("e", revocation.Valid)
}

// TestAllowStale: with allow_stale tokens are accepted by what is known while the store
// is cut off.
func TestAllowStale(t *testing.T) {
	server := redistest.Start(t)
	a := generate(t, fmt.Sprintf(`{"allow_stale": 3600000000000, "store": {"store": "redis", "addresses": [%q]}}`, server.Addr)).begin()
	a.revoke("a")
	server.Stop()
	statetest.Eventually(t, "that it is cut off", func() bool {
		status := a.Revocations().Status(time.Now())
		return status.Err != nil && status.Age > revocation.Grace
	})
	a.check("a", revocation.RevokedID)
	a.check("b", revocation.Valid)
	if err := a.Ready()["revocations"]; err != nil {
		t.Error(err)
	}
}

func TestStoreErrors(t *testing.T) {
	t.Setenv("STORE_TEST_SECRET", "hunter2")
	for name, tc := range map[string]struct{ config, want string }{
		"unknown":               {`{"store": {"store": "postgres"}}`, "postgres"},
		"no name":               {`{"store": {}}`, "store"},
		"unknown member":        {`{"store": {"store": "embedded", "file": "x"}}`, "unknown field"},
		"path of a placeholder": {`{"store": {"store": "embedded", "path": "{env.STORE_TEST_UNSET}"}}`, "path"},
		"negative":              {`{"allow_stale": -1}`, "allow_stale"},
		"password unset":        {`{"store": {"store": "redis", "password": "{env.STORE_TEST_UNSET}"}}`, "password names a placeholder"},
		"password in braces":    {`{"store": {"store": "redis", "password": "{hunter2}"}}`, "password names a placeholder"},
		"username unset":        {`{"store": {"store": "redis", "username": "{env.STORE_TEST_UNSET}"}}`, "username"},
		"sentinel's unset":      {`{"store": {"store": "redis", "sentinel": {"master": "a", "password": "{env.STORE_TEST_UNSET}"}}}`, "Sentinels"},
		"no master":             {`{"store": {"store": "redis", "sentinel": {}}}`, "sentinel"},
		"both":                  {`{"store": {"store": "redis", "cluster": true, "sentinel": {"master": "a"}}}`, "either cluster or sentinel"},
		"database of a cluster": {`{"store": {"store": "redis", "cluster": true, "database": 1}}`, "database"},
		"several":               {`{"store": {"store": "redis", "addresses": ["a:1", "b:2"]}}`, "several addresses"},
		"address unset":         {`{"store": {"store": "redis", "addresses": ["{env.STORE_TEST_UNSET}:1"]}}`, "addresses"},
		"prefix":                {`{"store": {"store": "redis", "prefix": "a*", "password": "{env.STORE_TEST_SECRET}"}}`, "prefix"},
		"prefix in braces":      {`{"store": {"store": "redis", "prefix": "{a}"}}`, "prefix"},
		"prefix token":          {`{"store": {"store": "redis", "prefix": "token"}}`, "prefix"},
		"negative timeout":      {`{"store": {"store": "redis", "timeout": -1}}`, "negative"},
		"negative replicas":     {`{"store": {"store": "redis", "min_replicas": -1}}`, "negative"},
		"no such CA":            {`{"store": {"store": "redis", "tls": {"ca": "/nowhere/ca.pem"}}}`, "/nowhere/ca.pem"},
		"no certificate":        {`{"store": {"store": "redis", "tls": {"ca": "store_test.go"}}}`, "no certificate in PEM"},
		"no key":                {`{"store": {"store": "redis", "tls": {"certificate": "store_test.go"}}}`, "needs its key"},
		"no certificate at all": {`{"store": {"store": "redis", "tls": {"certificate": "store_test.go", "key": "store_test.go"}}}`, "store_test.go"},
	} {
		t.Run(name, func(t *testing.T) {
			before := references()
			_, err := load(t, "mcp_gateway", tc.config)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, expected: %s", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells a secret: %v", err)
			}
			if after := references(); after != before {
				t.Errorf("it left %d references", after-before)
			}
		})
	}
}
