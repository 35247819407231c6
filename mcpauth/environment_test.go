package mcpauth

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
)

// loadFor loads a handler beside an app with that environment, and returns what was
// logged.
func loadFor(t *testing.T, environment string, change map[string]any) (h *Handler, logged string, err error) {
	t.Helper()
	app, err := json.Marshal(App{Environment: environment})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	configured, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"mcp_gateway": app},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"test": {
			BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"file","filename":"` + file + `"}`)},
			Include: []string{"http.handlers.mcp_auth", "mcp_gateway"},
		}}},
	})
	if err != nil {
		return nil, "", err
	}
	// A context that was provisioned so cannot be cancelled from here.
	used, err := configured.App("mcp_gateway")
	if err != nil {
		return nil, "", err
	}
	t.Cleanup(func() { _ = used.(*App).Cleanup() })
	ctx, cancel := caddy.NewContext(configured)
	t.Cleanup(cancel)
	loaded, err := ctx.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(gateConfig(change)))
	text, _ := os.ReadFile(file) // there is none if nothing was logged
	if err != nil {
		return nil, string(text), err
	}
	start(t, ctx)
	return loaded.(*Handler), string(text), nil
}

// TestEnvironments: what is unsafe is refused when it is loaded, and only a gateway
// that says it is for development gets away with a warning (behaviour.md section 10).
func TestEnvironments(t *testing.T) {
	const weak = "my-test-key-but-now-longer-than-32-bytes"
	secret := func(value string) map[string]any {
		return issuers(map[string]any{"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": value}})
	}
	jwks := func(issuer, url string) map[string]any {
		return issuers(map[string]any{"issuer": issuer, "keys": map[string]any{"source": "jwks", "url": url}})
	}
	for _, tc := range []struct {
		name   string
		change map[string]any
		// warned is what is logged everywhere, objection what is an error outside
		// development and logged there, never an error everywhere.
		warned, objection, never string
	}{
		{name: "nothing unsafe"},
		{name: "a well-known secret", change: secret(weak), objection: "use a random one"},
		{name: "a placeholder for a secret", change: secret("__REPLACE_ME__with-a-value-of-at-least-32-characters"), objection: "use a random one"},
		{name: "a secret of few characters", change: secret(strings.Repeat("s", 32)), objection: "use a random one"},
		{name: "a short secret", change: secret("changeme"), never: "at least 32 bytes"},
		{name: "an issuer without TLS", change: jwks("http://login.example.com", "https://login.example.com/jwks"), objection: "must be https"},
		{name: "keys without TLS", change: jwks(gateIssuer, "http://login.example.com/jwks"), objection: "must be https"},
		{name: "discovery without TLS", change: issuers(map[string]any{"issuer": "http://login.example.com"}), objection: "must be https"},
		{name: "keys on this machine", change: jwks(gateIssuer, "http://127.0.0.1:1/jwks"), warned: "plain HTTP"},
		{name: "an issuer on this machine", change: issuers(map[string]any{"issuer": "http://localhost:1"}), warned: "plain HTTP"},
		{name: "no algorithm", change: issuers(map[string]any{"issuer": gateIssuer, "algorithms": []string{"none"}}), never: "does not fit"},
		{name: "HS256 with public keys", change: issuers(map[string]any{"issuer": gateIssuer, "algorithms": []string{"HS256"}}), never: "does not fit"},
		{name: "no issuer", change: map[string]any{"issuers": nil}, never: "no issuer"},
	} {
		for _, environment := range []string{"", "production", "Development", "development"} {
			t.Run(tc.name+"/"+environment, func(t *testing.T) {
				_, logged, err := loadFor(t, environment, tc.change)
				development := environment == "development"
				wanted, refusal := tc.warned, tc.never
				if tc.objection != "" && development {
					wanted = tc.objection
				} else if tc.objection != "" {
					refusal = tc.objection
				}
				switch {
				case refusal == "" && err != nil, refusal != "" && (err == nil || !strings.Contains(err.Error(), refusal)):
					t.Errorf("error %v, expected: %s", err, refusal)
				case tc.objection != "" && !development && !strings.Contains(err.Error(), "environment development"):
					t.Errorf("the error does not say what to do: %v", err)
				case !strings.Contains(logged, wanted):
					t.Errorf("logged %s, expected: %s", logged, wanted)
				}
				for _, told := range []string{logged, errorText(err)} {
					if strings.Contains(told, weak) || strings.Contains(told, "REPLACE_ME") || strings.Contains(told, "changeme") {
						t.Errorf("a secret is told: %s", told)
					}
				}
			})
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What the reference only warns of is only warned of.
func TestEnvironmentWarnings(t *testing.T) {
	for warning, change := range map[string]map[string]any{
		"name it after this one": issuers(map[string]any{"issuer": "mcpgateway", "keys": map[string]any{"source": "secret", "value": gateSecret}}),
		"derive_key":             nil,
	} {
		for environment, warned := range map[string]bool{"production": true, "development": false} {
			_, logged, err := loadFor(t, environment, change)
			if err != nil || strings.Contains(logged, warning) != warned {
				t.Errorf("%s in %s: %v, logged %s", warning, environment, err, logged)
			}
		}
	}
}

func TestEnvironmentPlaceholder(t *testing.T) {
	t.Setenv("MCPAUTH_TEST_ENVIRONMENT", "staging")
	h, _, err := loadFor(t, "{env.MCPAUTH_TEST_ENVIRONMENT}", nil)
	if err != nil || h.verifier.Environment != "staging" {
		t.Errorf("%v", err)
	}
	if _, _, err := loadFor(t, "{env.MCPAUTH_TEST_UNSET}", nil); err == nil || !strings.Contains(err.Error(), "environment") {
		t.Errorf("an unset placeholder: %v", err)
	}
}

// The keys were computed with openssl: printf mcpgw-env:production | openssl dgst
// -sha256 -hmac SECRET.
const (
	productionKey = "35e3f8162f2dd15f436477e976f89cd37f2629bec680431b8c877e343da98024"
	stagingKey    = "4de2a0722e3fecce66acbed3c08c2e97836c6068951e5559ade754ca00d6ecfa"
)

// ContextForge: tokens were valid across environments. With a key derived for each,
// those of one are refused in another that has the same secret, issuer and audience.
func TestTokensAcrossEnvironments(t *testing.T) {
	derived := issuers(map[string]any{
		"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret, "derive_key": true},
	})
	for environment, good := range map[string]string{"production": productionKey, "staging": stagingKey} {
		h, logged, err := loadFor(t, environment, derived)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(logged, "derive_key") || strings.Contains(logged, good) {
			t.Errorf("logged %s", logged)
		}
		received := 0
		g := gateOf(t, h, func(w http.ResponseWriter, _ *http.Request) error {
			received++
			w.Header().Set("Content-Type", "application/json")
			_, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			return err
		})
		claims := tokenClaims("reader", nil)
		for key, reason := range map[string]string{productionKey: "token_signature", stagingKey: "token_signature", gateSecret: "token_signature"} {
			if key == good {
				reason = ""
			}
			resp, body := g.do(t, g.post(t, signed(t, []byte(key), claims), callList))
			if reasonOf(body) != reason || (resp.StatusCode == http.StatusOK) != (reason == "") {
				t.Errorf("in %s: status %d, %s", environment, resp.StatusCode, body)
			}
		}
		if received != 1 {
			t.Errorf("in %s the server received %d requests", environment, received)
		}
		// Even a token with the right key says which environment it is for.
		claims["env"] = "elsewhere"
		if _, body := g.do(t, g.post(t, signed(t, []byte(good), claims), callList)); reasonOf(body) != "token_environment" {
			t.Errorf("in %s: %s", environment, body)
		}
	}
	if _, _, err := loadFor(t, "", derived); err == nil || !strings.Contains(err.Error(), "environment NAME") {
		t.Errorf("derived for no environment: %v", err)
	}
}
