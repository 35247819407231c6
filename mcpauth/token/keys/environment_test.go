package keys

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// strict are environments that must not be taken for development.
var strict = []token.Environment{"", "production", "staging", "Development", "development ", "dev"}

func TestWeakSecretsAreForDevelopmentOnly(t *testing.T) {
	provision := func(environment token.Environment, source *Secret) error {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		return source.Provision(token.WithEnvironment(ctx, environment))
	}
	for _, weak := range []string{
		"my-test-key-but-now-longer-than-32-bytes", "__REPLACE_ME__with-a-value-of-at-least-32-characters",
		"changeme-changeme-changeme-changeme", strings.Repeat("ab", 32), "a-string-secret-at-least-256-bits-long",
	} {
		for _, environment := range strict {
			if err := provision(environment, &Secret{Value: weak}); err == nil || strings.Contains(err.Error(), weak) || !strings.Contains(err.Error(), "use a random one") {
				t.Errorf("%q in %q: %v", weak, environment, err)
			}
			if err := provision(environment, &Secret{Value: weak, DeriveKey: true}); err == nil {
				t.Errorf("%q in %q: a key was derived from it", weak, environment)
			}
		}
		if err := provision(token.Development, &Secret{Value: weak}); err != nil {
			t.Errorf("%q in development: %v", weak, err)
		}
	}
	// What is never sound.
	for _, unsound := range []string{
		"", "changeme", "my-test-key", secret64[:31], "-----BEGIN PUBLIC KEY-----\n" + secret64,
		`{"kty":"RSA","e":"AQAB","n":"` + secret64 + `"}`,
	} {
		for _, environment := range append(strict, token.Development) {
			for _, derive := range []bool{false, true} {
				if provision(environment, &Secret{Value: strings.NewReplacer("{", `\{`, "}", `\}`).Replace(unsound), DeriveKey: derive}) == nil {
					t.Errorf("%q is accepted in %q", unsound, environment)
				}
			}
		}
	}
}

// The vectors were computed by other implementations: hmac of Python, and openssl
// dgst -sha256 -hmac.
func TestDerivedKeys(t *testing.T) {
	for environment, digits := range map[token.Environment]string{
		"production":      "a457ebcbfa830450d7783d81c479173d73a90337694b5cbdf87c312f583ea9f4",
		"staging":         "cce067d27b921fbc59d6cb67defe993132c510e6215da9cad3d1d4c4243b251f",
		token.Development: "d50bee1ca6d67d5e3d905557edb6c1349a18f4c464dea4ae4543bff622a83857",
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		source := &Secret{Value: secret64, DeriveKey: true}
		if err := source.Provision(token.WithEnvironment(ctx, environment)); err != nil {
			t.Fatal(err)
		}
		want, err := token.NewSecretKey("", []byte(digits))
		if err != nil {
			t.Fatal(err)
		}
		if len(source.keys) != 1 || !source.keys[0].Equal(want) {
			t.Errorf("%s has another key", environment)
		}
		if got := fmt.Sprint(source.Algorithms()); got != "[HS256 HS384 HS512]" {
			t.Errorf("%s: %s", environment, got)
		}
	}
	if err := provision(t, &Secret{Value: secret64, DeriveKey: true}); err == nil || !strings.Contains(err.Error(), "environment NAME") {
		t.Errorf("derived for no environment: %v", err)
	}
}

func TestPlainHTTPIsForDevelopmentOnly(t *testing.T) {
	iss := newIssuer(t, "a")
	for _, source := range []struct {
		name, bind string
		config     map[string]string
	}{
		{"jwks", "", map[string]string{"url": "http://keys.example.com/jwks"}},
		{"discovery", "http://login.example.com", map[string]string{}},
		{"discovery", "https://login.example.com", map[string]string{"metadata_url": "http://login.example.com/meta"}},
	} {
		for _, environment := range strict {
			if _, err := loadIn(t, environment, source.name, source.config, source.bind); !strings.Contains(errorText(err), "must be https") {
				t.Errorf("%s of %s in %q: %v", source.name, source.bind, environment, err)
			}
		}
		if _, err := loadIn(t, token.Development, source.name, source.config, source.bind); err != nil {
			t.Errorf("%s in development: %v", source.name, err)
		}
	}
	for _, environment := range append(strict, token.Development) {
		if _, err := loadIn(t, environment, "jwks", map[string]string{"url": "ftp://keys.example.com/jwks"}, ""); err == nil {
			t.Errorf("ftp in %q", environment)
		}
		if _, err := loadIn(t, environment, "jwks", map[string]string{"url": iss.URL + "/jwks"}, ""); err != nil {
			t.Errorf("loopback in %q: %v", environment, err)
		}
		// Not even in development does an issuer with TLS send us to one without.
		const name = "https://login.example.com"
		iss.metadata["/meta"] = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, name, "http://keys.example.com/jwks")
		gen, err := loadIn(t, environment, "discovery", map[string]string{"metadata_url": iss.URL + "/meta"}, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := gen.Keys(t.Context(), "a", start); !strings.Contains(errorText(err), "must be https") {
			t.Errorf("jwks_uri in %q: %v", environment, err)
		}
	}
}

// What was found by the rules of development is not taken over by a configuration
// with others.
func TestDevelopmentSharesNoKeys(t *testing.T) {
	iss := newIssuer(t, "a")
	const place = "/.well-known/oauth-authorization-server"
	iss.metadata[place] = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, iss.URL, iss.URL+"/jwks")
	states := map[*remoteState]bool{}
	for _, environment := range []token.Environment{token.Development, "production", "staging", ""} {
		gen, err := loadIn(t, environment, "discovery", map[string]string{}, iss.URL)
		if err != nil {
			t.Fatal(err)
		}
		states[gen.state] = true
	}
	if len(states) != 2 {
		t.Errorf("%d states, expected one for development and one for all others", len(states))
	}
}
