package mcpauth

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// appWith loads the configuration of an app, with a handler if there is one. What is
// returned ends it.
func appWith(t *testing.T, app, handler string) (*App, func(), error) {
	t.Helper()
	config := &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"mcp_gateway": json.RawMessage(app)},
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		return nil, nil, err
	}
	// What the context was made from ends with it.
	child, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	loaded, err := child.App("mcp_gateway")
	if err != nil {
		return nil, nil, err
	}
	a := loaded.(*App)
	end := func() {
		if err := a.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	if handler != "" {
		if _, err := child.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(handler)); err != nil {
			end()
			return nil, nil, err
		}
	}
	return a, end, nil
}

const ownName = "https://mcp.example.com"

func TestAccountsErrors(t *testing.T) {
	t.Setenv("MCPAUTH_TEST_WEAK", "Hunter2-hunter2")
	tokens := `"tokens":{"name":"` + ownName + `"}`
	for _, tc := range []struct{ name, app, handler, says string }{
		{"accounts without tokens", `{"accounts":{}}`, "", "name the issuer"},
		{"tokens without a name", `{"tokens":{}}`, "", "needs a name"},
		{"tokens of an unset placeholder", `{"tokens":{"name":"{env.MCPAUTH_TEST_UNSET}"}}`, "", "tokens"},
		{"session life", `{"tokens":{"name":"a","session_life":"1m"}}`, "", "5m to 24h"},
		{"unknown store", `{"store":{"store":"mysql"}}`, "", "mysql"},
		{"unset password", `{` + tokens + `,"accounts":{"users":[{"email":"a@example.com","password":"{env.MCPAUTH_TEST_UNSET}"}]}}`, "", "unknown or empty"},
		{"weak password", `{` + tokens + `,"accounts":{"users":[{"email":"a@example.com","password":"{env.MCPAUTH_TEST_WEAK}"}]}}`, "", "guess"},
		{"administrator without password", `{` + tokens + `,"accounts":{"users":[{"email":"a@example.com","administrator":true}]}}`, "", "no default"},
		{"short passwords", `{` + tokens + `,"accounts":{"passwords":{"min_length":8}}}`, "", "12"},
		{"idle sessions", `{` + tokens + `,"accounts":{"sessions":{"idle_timeout":"10m"}}}`, "", "idle"},
		{"unknown option", `{` + tokens + `,"accounts":{"cost":{}}}`, "", "cost"},
		{"own keys without tokens", `{}`, gateConfig(map[string]any{"issuers": []any{map[string]any{"issuer": ownName, "keys": map[string]any{"source": "gateway"}}}}), "makes no tokens"},
		{"own keys of another", `{` + tokens + `}`, gateConfig(map[string]any{"issuers": []any{map[string]any{"issuer": ownName + "/", "keys": map[string]any{"source": "gateway"}}}}), "name that issuer"},
		{"own keys with another algorithm", `{` + tokens + `}`, gateConfig(map[string]any{"issuers": []any{map[string]any{"issuer": ownName, "algorithms": []string{"HS256"}, "keys": map[string]any{"source": "gateway"}}}}), "does not fit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", t.TempDir())
			_, end, err := appWith(t, tc.app, tc.handler)
			if err == nil {
				end()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "unter2") {
				t.Errorf("got %v, expected: %s", err, tc.says)
			}
		})
	}
}

// TestStoreOverReloads: a configuration that is only loaded makes nothing; the store
// stays open from one that has started to the next, and is closed after the last.
func TestStoreOverReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	app := `{"store":{"store": "embedded","path":"` + path + `"},"tokens":{"name":"` + ownName + `"}}`
	first, endFirst, err := appWith(t, app, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is there before the start: %v", err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Store().Apply(t.Context(), state.Create("x", nil)); err != nil {
		t.Fatal(err)
	}
	second, endSecond, err := appWith(t, app, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	store := second.Store()
	endFirst()
	if r, err := state.Get(t.Context(), store, "x"); err != nil || !r.Exists() {
		t.Errorf("after the first configuration: %v", err)
	}
	endSecond()
	if _, err := state.Get(t.Context(), store, "x"); err == nil {
		t.Error("the store is still open")
	}
	if a, end, err := appWith(t, `{}`, ""); err != nil || a.Issuer() != nil || a.Desk() != nil || a.Issues() {
		t.Errorf("an app without accounts has an issuer: %v", err)
	} else {
		end()
	}
}

// TestDeclaredAtTheStart: the accounts are made by the background, and the keys are
// known, once the configuration has started and not before.
func TestDeclaredAtTheStart(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	app := `{"tokens":{"name":"` + ownName + `"},"accounts":{"users":[{"email":"a@example.com","administrator":true,` +
		`"password_hash":"$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"}]}}`
	a, end, err := appWith(t, app, gateConfig(map[string]any{"issuers": []any{map[string]any{"issuer": ownName, "keys": map[string]any{"source": "gateway"}}}}))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Desk().Accounts().User(t.Context(), "a@example.com"); err == nil {
		t.Error("the account is there before the configuration has started")
	}
	if a.Ready()["signing_keys"] == nil {
		t.Error("it is ready without keys")
	}
	if err := a.Handle(t.Context(), caddy.Event{}); err != nil {
		t.Fatal(err)
	}
	statetest.Eventually(t, "the account and the keys are there", func() bool {
		u, err := a.Desk().Accounts().User(t.Context(), "a@example.com")
		return err == nil && u.Admin && a.Ready()["signing_keys"] == nil
	})
	keys := &OwnKeys{issuer: a.Issuer()}
	found, _, err := keys.Keys(t.Context(), "", time.Now())
	if err != nil || len(found) != 1 || keys.Ready(time.Now()) != nil {
		t.Errorf("keys %v, %v", found, err)
	}
	_, err = a.Desk().Accounts().Authenticate(t.Context(), "a@example.com", "x", "")
	var refused *account.Error
	if !errors.As(err, &refused) || refused.Kind != account.Credentials {
		t.Errorf("got %v", err)
	}
}
