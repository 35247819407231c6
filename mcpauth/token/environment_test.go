package token_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// strict are environments that must not be taken for development.
var strict = []token.Environment{"", "production", "staging", "Development", "dev"}

func TestEnvironmentOf(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if got := token.EnvironmentOf(ctx); got != "" {
		t.Errorf("got %q without one", got)
	}
	if got := token.EnvironmentOf(token.WithEnvironment(ctx, "staging")); got != "staging" {
		t.Errorf("got %q", got)
	}
}

func TestObject(t *testing.T) {
	unsafe := errors.New("this is bad; do something else")
	for _, environment := range append(strict, token.Development) {
		core, logs := observer.New(zap.InfoLevel)
		err := environment.Object(zap.New(core), unsafe)
		if environment == token.Development {
			if err != nil || logs.Len() != 1 || logs.All()[0].Level != zap.WarnLevel || logs.All()[0].ContextMap()["error"] != unsafe.Error() {
				t.Errorf("in development: %v, %v", err, logs.All())
			}
			continue
		}
		if !errors.Is(err, unsafe) || !strings.Contains(err.Error(), "environment development") || logs.Len() != 0 {
			t.Errorf("in %q: %v, %v", environment, err, logs.All())
		}
	}
}

func TestCheckTransport(t *testing.T) {
	for text, want := range map[string]struct{ refused, refusedInDevelopment, warned bool }{
		"https://a.example":       {},
		"http://127.0.0.1:8080":   {warned: true},
		"http://[::1]":            {warned: true},
		"http://localhost:80":     {warned: true},
		"http://a.example":        {refused: true, warned: true},
		"http://10.0.0.1":         {refused: true, warned: true},
		"http://localhost.a.test": {refused: true, warned: true},
		"ftp://127.0.0.1":         {refused: true, refusedInDevelopment: true},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, environment := range append(strict, token.Development) {
			refused := want.refused
			if environment == token.Development {
				refused = want.refusedInDevelopment
			}
			core, logs := observer.New(zap.InfoLevel)
			if err := environment.CheckTransport(zap.New(core), u); (err != nil) != refused {
				t.Errorf("%s in %q: %v", text, environment, err)
			}
			if err := environment.Permits(u); (err != nil) != refused {
				t.Errorf("%s in %q is permitted: %v", text, environment, err)
			}
			if warned := logs.Len() > 0; warned != (want.warned && !refused) {
				t.Errorf("%s in %q: logged %v", text, environment, logs.All())
			}
		}
	}
}

// An issuer without TLS is refused by its name, wherever its keys are from.
func TestIssuerWithoutTLS(t *testing.T) {
	for name, ok := range map[string]bool{
		"https://login.example.com": true, "http://127.0.0.1:9000": true, "http://localhost": true, "batch-jobs": true, "httpd": true,
		"http://login.example.com": false, "HTTP://login.example.com": false, "http://keycloak:8080/realms/a": false,
	} {
		for _, environment := range append(strict, token.Development) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			iss := &token.Issuer{Issuer: name, KeysRaw: secretSource()}
			err := iss.Provision(token.WithEnvironment(ctx, environment))
			if want := ok || environment == token.Development; (err == nil) != want {
				t.Errorf("%s in %q: %v", name, environment, err)
			}
		}
	}
}

// What is never sound is refused in development as well.
func TestUnsoundAlgorithms(t *testing.T) {
	public := rsaKey().Public()
	for _, environment := range append(strict, token.Development) {
		for _, name := range []string{"none", "None", "NONE", "nOnE", "", " none", "HS256", "hs256", "RS1", "*", "dir", "RSA1_5"} {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			iss := &token.Issuer{Issuer: issuerA, Algorithms: []string{"RS256", name}, KeysRaw: pemSource(t, public)}
			if iss.Provision(token.WithEnvironment(ctx, environment)) == nil {
				t.Errorf("algorithm %q is accepted in %q", name, environment)
			}
		}
	}
}

// Neither issuer nor audience of a token can be done without, in no environment.
func TestTokensNeedIssuerAndAudience(t *testing.T) {
	for _, environment := range append(strict, token.Development) {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		iss := &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(t, rsaKey().Public())}
		if err := iss.Provision(token.WithEnvironment(ctx, environment)); err != nil {
			t.Fatal(err)
		}
		verifier, err := token.NewVerifier([]*token.Issuer{iss}, 0)
		if err != nil {
			t.Fatal(err)
		}
		verifier.Environment = string(environment)
		for want, change := range map[token.Reason]object{
			token.UnknownIssuer: {"iss": remove}, token.WrongAudience: {"aud": remove},
		} {
			_, err := verifier.Verify(t.Context(), signed("RS256", rsaKey(), goodClaims(change), nil), now, []string{resource})
			if token.ReasonOf(err) != want {
				t.Errorf("%v in %q: %v", change, environment, err)
			}
		}
	}
}
