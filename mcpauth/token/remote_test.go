package token_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// The whole way with an issuer on the network: down, up, rotated.
func TestVerifyWithPublishedKeys(t *testing.T) {
	var published atomic.Pointer[string] // nil: the issuer is down
	publish := func(keys ...object) {
		text := string(must(json.Marshal(object{"keys": keys})))
		published.Store(&text)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text := published.Load()
		if text == nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(*text))
	}))
	defer server.Close()
	named := func(kid string, key object) object {
		key["kid"] = kid
		return key
	}
	first, second := named("1", publicJWK(&rsaKey().PublicKey)), named("2", publicJWK(&otherRSA().PublicKey))

	verifier := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: must(json.Marshal(object{"source": "jwks", "url": server.URL}))})
	cache := token.NewCache[string](0)
	claims := goodClaims(object{"exp": now.Add(time.Hour).Unix()})
	old := signed("RS256", rsaKey(), claims, object{"kid": "1"})
	rotated := signed("RS256", otherRSA(), claims, object{"kid": "2"})
	want := func(raw string, after time.Duration, reason token.Reason) {
		t.Helper()
		claims, err := verifier.Verify(t.Context(), raw, now.Add(after), []string{resource})
		if got := token.ReasonOf(err); got != reason {
			t.Fatalf("got %v, want %q", err, reason)
		}
		if err == nil {
			cache.Add(raw, resource, claims, "alice")
		}
	}

	want(old, 0, token.KeysUnavailable)
	if verifier.Ready(now) == nil {
		t.Error("ready while the issuer is down")
	}
	publish(first)
	want(old, time.Minute, "")
	if err := verifier.Ready(now.Add(time.Minute)); err != nil {
		t.Errorf("not ready: %v", err)
	}
	want(rotated, time.Minute, token.UnknownKey)
	if _, ok := cache.Get(old, resource, now.Add(time.Minute)); !ok {
		t.Error("the token was forgotten")
	}

	publish(second)
	want(rotated, 2*time.Minute, "")
	want(old, 2*time.Minute, token.UnknownKey)
	if _, ok := cache.Get(old, resource, now.Add(2*time.Minute)); ok {
		t.Error("a token is still good whose key was withdrawn")
	}
	if _, ok := cache.Get(rotated, resource, now.Add(2*time.Minute)); !ok {
		t.Error("the new token was forgotten")
	}

	published.Store(nil)
	want(rotated, 20*time.Minute, "")
	want(signed("RS256", otherRSA(), claims, object{"kid": "1"}), 20*time.Minute, token.UnknownKey)
	want(signed("PS256", otherRSA(), claims, nil), 20*time.Minute, "") // no kid: every key is tried
	want(signed("RS256", rsaKey(), claims, nil), 20*time.Minute, token.BadSignature)
	want(signed("ES256", ecKey(), claims, object{"kid": "2"}), 20*time.Minute, token.WrongAlgorithm)
}
