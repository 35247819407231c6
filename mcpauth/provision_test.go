package mcpauth

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
)

// load loads a module into a configuration of its own, and cleans it up.
func load(t *testing.T, id, config string) (any, error) {
	t.Helper()
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	t.Cleanup(cancel)
	return ctx.LoadModuleByID(id, json.RawMessage(config))
}

func issuers(issuer map[string]any) map[string]any {
	return map[string]any{"issuers": []any{issuer}}
}

// TestProvisionErrors: what cannot work is refused when it is loaded, with words
// that lead to it.
func TestProvisionErrors(t *testing.T) {
	secret := map[string]any{"source": "secret", "value": gateSecret}
	for _, tc := range []struct {
		name     string
		change   map[string]any
		expected string
	}{
		{"no public URL", map[string]any{"public_url": nil}, "such as https://mcp.example.com"},
		{"public URL without scheme", map[string]any{"public_url": "mcp.example.com"}, "must begin with https://"},
		{"public URL in clear", map[string]any{"public_url": "http://mcp.example.com"}, "must begin with https://"},
		{"public URL with query", map[string]any{"public_url": "https://mcp.example.com/?a"}, "query"},
		{"public URL with a quote", map[string]any{"public_url": `https://mcp.example.com/"`}, "plain segments"},
		{"unknown placeholder", map[string]any{"public_url": "{unknown.placeholder}"}, "public_url"},
		{"unset placeholder", map[string]any{"public_url": "https://{env.MCPAUTH_TEST_UNSET}"}, "public_url"},
		{"no server", map[string]any{"servers": nil}, "no server"},
		{"server twice", map[string]any{"servers": []string{"a", "a"}}, "twice"},
		{"bad server", map[string]any{"servers": []string{"a/b"}}, "server name"},
		{"no issuer", map[string]any{"issuers": nil}, "no issuer"},
		{"issuer without name", issuers(map[string]any{"keys": secret}), "needs its identifier"},
		{"issuer twice", map[string]any{"issuers": []any{
			map[string]any{"issuer": "a", "keys": secret}, map[string]any{"issuer": "a", "keys": secret},
		}}, "a"},
		{"issuer of an unset placeholder", issuers(map[string]any{"issuer": "{env.MCPAUTH_TEST_UNSET}", "keys": secret}), "issuer"},
		{"discovery of what is no URL", issuers(map[string]any{"issuer": "internal"}), "discovery"},
		{"short secret", issuers(map[string]any{"issuer": "a", "keys": map[string]any{"source": "secret", "value": "hunter2"}}), "32"},
		{"secret of an unset placeholder", issuers(map[string]any{"issuer": "a", "keys": map[string]any{"source": "secret", "value": "{env.MCPAUTH_TEST_UNSET}"}}), "unknown or empty"},
		{"algorithm that the keys do not have", issuers(map[string]any{"issuer": "a", "keys": secret, "algorithms": []string{"RS256"}}), "does not fit"},
		{"no algorithm at all", issuers(map[string]any{"issuer": "a", "keys": secret, "algorithms": []string{"none"}}), "does not fit"},
		{"too much leeway", issuers(map[string]any{"issuer": "a", "keys": secret, "leeway": time.Hour}), "leeway"},
		{"unknown key source", issuers(map[string]any{"issuer": "a", "keys": map[string]any{"source": "vault"}}), "vault"},
		{"bad permission", map[string]any{"roles": []any{map[string]any{"name": "a", "allow": []any{map[string]any{"permission": "tools.run"}}}}}, "unknown permission"},
		{"bad object", map[string]any{"roles": []any{map[string]any{"name": "a", "allow": []any{map[string]any{"permission": "tools.read", "objects": []string{"/x"}}}}}}, "server/object"},
		{"role twice", map[string]any{"roles": []any{map[string]any{"name": "a"}, map[string]any{"name": "a"}}}, "already taken"},
		{"visibility of no server", map[string]any{"visibility": map[string]any{"other": map[string]any{"level": "public"}}}, `visibility of other: there is no server "other": there are notes`},
		{"unknown visibility", map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "hidden"}}}, "must be public"},
		{"visibility of no team", map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team"}}}, "id of a team"},
		{"visibility of no owner", map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "private"}}}, "needs an owner"},
		{"instructions of no server", map[string]any{"instructions": map[string]any{"other": map[string]any{"mode": "pass"}}}, "no such server"},
		{"unknown instructions", map[string]any{"instructions": map[string]any{"notes": map[string]any{"mode": "hide"}}}, "pass, drop or text"},
		{"instructions without a mode", map[string]any{"instructions": map[string]any{"*": map[string]any{}}}, "pass, drop or text"},
		{"instructions that drop a text", map[string]any{"instructions": map[string]any{"notes": map[string]any{"mode": "drop", "text": "x"}}}, "takes no text"},
		{"instructions without text", map[string]any{"instructions": map[string]any{"notes": map[string]any{"mode": "text"}}}, "needs the text"},
		{"instructions of an unset placeholder", map[string]any{"instructions": map[string]any{"notes": map[string]any{"mode": "text", "text": "{env.MCPAUTH_TEST_UNSET}"}}}, "nothing is left"},
		{"visibility of every team", map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "*"}}}, "visibility of notes: a team's id cannot be *"},
		{"visibility of an object of no server", map[string]any{"visibility": map[string]any{"other/a": map[string]any{"level": "team", "team": "a"}}}, `visibility of other/a: there is no server "other"`},
		{"visibility of a glob of servers", map[string]any{"visibility": map[string]any{"n*/a": map[string]any{"level": "team", "team": "a"}}}, "visibility of n*/a: name one server"},
		{"visibility of a malformed object", map[string]any{"visibility": map[string]any{"notes/": map[string]any{"level": "team", "team": "a"}}}, "visibility of notes/: there is no object after the slash"},
		{"visibility of a whole server twice", map[string]any{"visibility": map[string]any{"notes/**": map[string]any{"level": "team", "team": "a"}}}, "visibility of notes/**: this is the whole server"},
		{"an exception from a server", map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "a"}, "notes/a": map[string]any{"level": "public"}}}, "visibility of notes/a: public makes no exception from notes, "},
		{"an exception from a pattern", map[string]any{"visibility": map[string]any{"notes/a*": map[string]any{"level": "team", "team": "a"}, "notes/ab": map[string]any{"level": "public"}}}, "visibility of notes/ab: public makes no exception from notes/a*, "},
		{"a team of no server", map[string]any{"teams": map[string]any{"a": []string{"notes", "other"}}}, `team a: other: there is no server "other"`},
		{"a team with nothing", map[string]any{"teams": map[string]any{"a": []string{}}}, "team a: nothing is named that belongs to it"},
		{"a role in an unknown team", map[string]any{"teams": map[string]any{"a": []string{"notes"}}, "roles": []any{map[string]any{"name": "r", "teams": []string{"b"}}}}, `role "r": team 1: nothing belongs to team "b"`},
		{"any origin", map[string]any{"allowed_origins": []string{"*"}}, "allowed origin"},
		{"origin null", map[string]any{"allowed_origins": []string{"null"}}, "allowed origin"},
		{"origin with a path", map[string]any{"allowed_origins": []string{"https://app.example.com/"}}, "allowed origin"},
		{"origin without scheme", map[string]any{"allowed_origins": []string{"app.example.com"}}, "allowed origin"},
		{"any host", map[string]any{"allowed_hosts": []string{"*.example.com"}}, "allowed host"},
		{"empty host", map[string]any{"allowed_hosts": []string{""}}, "allowed host"},
		{"scope with a quote", map[string]any{"scopes_supported": []string{`a"b`}}, "RFC 6749"},
		{"scope with a space", map[string]any{"scopes_supported": []string{"a b"}}, "RFC 6749"},
		{"negative size", map[string]any{"max_body": -1}, "must be positive"},
		{"negative cache", map[string]any{"token_cache": -1}, "must be positive"},
		{"unknown member", map[string]any{"issuer": "https://login.example.com"}, "unknown field"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, "http.handlers.mcp_auth", gateConfig(tc.change))
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), tc.expected) {
				t.Errorf("error %q, expected: %s", err, tc.expected)
			}
			for _, secret := range []string{gateSecret, "hunter2"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells a secret: %s", err)
				}
			}
		})
	}
}

func TestProvisionDefaults(t *testing.T) {
	h := provisioned(t, gateConfig(nil))
	if h.MaxBody != 4<<20 || h.MaxAnswer != 32<<20 || time.Duration(h.BodyTimeout) != 30*time.Second {
		t.Errorf("max_body %d, max_answer %d, body_timeout %s", h.MaxBody, h.MaxAnswer, time.Duration(h.BodyTimeout))
	}
}

// newApp provisions an app as one generation of the configuration. started tells it
// that the whole of that has started.
func newApp(t *testing.T, limits *SessionLimits) (a *App, started func()) {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	return nextApp(t, limits)
}

// nextApp is newApp with the store of the one before.
func nextApp(t *testing.T, limits *SessionLimits) (a *App, started func()) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	a = &App{Sessions: limits}
	if err := a.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	return a, func() {
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		events, err := ctx.App("events")
		if err != nil {
			t.Fatal(err)
		}
		events.(*caddyevents.App).Emit(ctx, "started", nil)
	}
}

func TestAppDefaults(t *testing.T) {
	a, _ := newApp(t, nil)
	defer func() { _ = a.Cleanup() }()
	if got, want := a.Sessions.limits(), (session.Limits{Idle: 30 * time.Minute, Life: 24 * time.Hour, Max: 100_000, PerOwner: 1000}); got != want {
		t.Errorf("limits %+v, expected %+v", got, want)
	}
	if got, want := a.Tasks.limits(), (tasks.Limits{Life: 24 * time.Hour, Max: 100_000, PerOwner: 1000}); got != want {
		t.Errorf("limits of tasks %+v, expected %+v", got, want)
	}
	b, _ := newApp(t, &SessionLimits{Max: 7})
	defer func() { _ = b.Cleanup() }()
	if got, want := b.Sessions.limits(), (session.Limits{Idle: 30 * time.Minute, Life: 24 * time.Hour, Max: 7, PerOwner: 1000}); got != want {
		t.Errorf("limits %+v, expected %+v", got, want)
	}
}

func TestAppRefusesNegativeLimits(t *testing.T) {
	for _, app := range []*App{
		{Sessions: &SessionLimits{IdleTimeout: -1}},
		{Sessions: &SessionLimits{Lifetime: -1}},
		{Sessions: &SessionLimits{Max: -1}},
		{Sessions: &SessionLimits{MaxPerPrincipal: -1}},
		{Tasks: &TaskLimits{Lifetime: -1}},
		{Tasks: &TaskLimits{Max: -1}},
		{Tasks: &TaskLimits{MaxPerPrincipal: -1}},
	} {
		text, err := json.Marshal(app)
		if err != nil {
			t.Fatal(err)
		}
		before := references()
		if _, err := load(t, "mcp_gateway", string(text)); err == nil || !strings.Contains(err.Error(), "must be positive") {
			t.Errorf("%s: %v", text, err)
		}
		if after := references(); after != before {
			t.Errorf("%s: the refused app left %d references", text, after-before)
		}
	}
}

// references is how many apps hold the table of sessions.
func references() int {
	n, _ := pool.References(sharedKey)
	return n
}

// TestGenerations goes through the lives of apps as reloads overlap them.
func TestGenerations(t *testing.T) {
	before := references()
	fill := func(a *App, n int) {
		for range n {
			s := &session.Session{Owner: state.Owner{Subject: "generations"}, Server: "a"}
			if err := a.SessionTable().Begin(t.Context(), s, revocation.Token{}); err != nil {
				t.Fatal(err)
			}
			a.SessionTable().Release(s)
		}
	}
	first, started := newApp(t, &SessionLimits{Max: 3})
	started()
	fill(first, 5)
	table := first.SessionTable()
	if n := table.Len(); n != 3 {
		t.Fatalf("%d sessions, and the limit is 3", n)
	}

	// A configuration that is rejected after its app was provisioned.
	rejected, _ := nextApp(t, &SessionLimits{Max: 1})
	if rejected.SessionTable() != table {
		t.Error("two generations have two tables")
	}
	if err := rejected.Start(); err != nil { // another app fails to
		t.Fatal(err)
	}
	if err := rejected.Cleanup(); err != nil {
		t.Fatal(err)
	}
	fill(first, 1)
	if n := table.Len(); n != 3 {
		t.Errorf("%d sessions: a rejected configuration changed the limit of 3", n)
	}

	// One that replaces the first.
	second, started := nextApp(t, &SessionLimits{Max: 2})
	if n := table.Len(); n != 3 {
		t.Errorf("%d sessions before the second generation has started", n)
	}
	started()
	if n := table.Len(); n != 2 {
		t.Errorf("%d sessions, and the limit is 2 now", n)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := first.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if second.SessionTable().Len() != 2 || references() != before+1 {
		t.Errorf("%d sessions, %d references after the first generation has gone", second.SessionTable().Len(), references()-before)
	}
	if err := second.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if references() != before {
		t.Errorf("%d references are left", references()-before)
	}
}

// TestCleanupGivesBackWhatWasTaken, once, and nothing else.
func TestCleanupGivesBackWhatWasTaken(t *testing.T) {
	holder, _ := newApp(t, nil)
	before := references()
	if err := new(App).Cleanup(); err != nil { // as after a Provision that failed at once
		t.Error(err)
	}
	other, _ := newApp(t, nil)
	for range 2 {
		if err := other.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	if references() != before {
		t.Errorf("%d references, there were %d", references(), before)
	}
	if err := holder.Cleanup(); err != nil {
		t.Error(err)
	}
}
