package token_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// TestSupposeAgreesWithVerify: of the same claims, the one says what the other does.
func TestSupposeAgreesWithVerify(t *testing.T) {
	verifier := standardVerifier(t)
	verifier.Environment = "production"
	accepted := 0
	for _, change := range []object{
		nil,
		{"jti": "other", "scope": "mcp:read", "aud": []string{"https://x.example", resource}},
		{"iss": issuerB},
		{"iss": "https://evil.example"},
		{"iss": 1},
		{"aud": "https://x.example"},
		{"exp": 1},
		{"exp": "soon"},
		{"nbf": now.Unix() + 60},
		{"sub": ""},
		{"sub": []string{"a"}},
		{"jti": ""},
		{"scope": "a  b"},
		{"client_id": "a", "azp": "b"},
		{"nonce": "n"},
		{"cnf": object{}},
		{"typ": "Refresh"},
		{"env": "production"},
		{"env": "staging"},
		{"teams": "a"},
		{"teams": []string{"a"}, "scopes": object{"server_id": "notes", "permissions": []string{"tools.*"}}},
		{"scopes": object{"unknown": 1}},
	} {
		written := goodClaims(change)
		key := rsaKey()
		if written["iss"] == issuerB {
			key = otherRSA()
		}
		verified, verifyErr := verifier.Verify(t.Context(), signed("RS256", key, written, nil), now, []string{resource})
		var members map[string]any
		if err := json.Unmarshal(must(json.Marshal(written)), &members); err != nil {
			t.Fatal(err)
		}
		before := maps.Clone(members)
		supposed, supposeErr := verifier.Suppose(members, now, []string{resource})
		if token.ReasonOf(verifyErr) != token.ReasonOf(supposeErr) || (verifyErr == nil) != (supposeErr == nil) {
			t.Errorf("%v: verified %v, supposed %v", change, verifyErr, supposeErr)
			continue
		}
		if len(before) != len(members) {
			t.Errorf("%v: the claims were changed to %v", change, members)
		}
		if verifyErr != nil {
			continue
		}
		accepted++
		if supposed.Issuer != verified.Issuer || supposed.Subject != verified.Subject || supposed.ClientID != verified.ClientID ||
			supposed.TokenID != verified.TokenID || strings.Join(supposed.Scopes, " ") != strings.Join(verified.Scopes, " ") ||
			!supposed.Expires.Equal(verified.Expires) || supposed.Scope.AllowsServer("notes") != verified.Scope.AllowsServer("notes") ||
			supposed.Scope.AllowsServer("crm") != verified.Scope.AllowsServer("crm") || len(supposed.All()) != len(verified.All()) {
			t.Errorf("%v: verified %+v, supposed %+v", change, verified, supposed)
		}
		if supposed.Current() {
			t.Errorf("%v: what nobody signed counts as verified", change)
		}
	}
	if accepted < 4 {
		t.Errorf("only %d were accepted", accepted)
	}
}

func TestSupposeMakesUpTheRest(t *testing.T) {
	one := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: secretSource()})
	claims, err := one.Suppose(map[string]any{"groups": []any{"a"}}, now, []string{resource})
	if err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != issuerA || claims.Subject != "hypothetical" || claims.TokenID == "" || !claims.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", claims)
	}
	if claims, err = one.Suppose(nil, now, []string{resource}); err != nil || claims.Scope == nil {
		t.Errorf("%+v, %v", claims, err)
	}
	if _, err = one.Suppose(nil, now, nil); token.ReasonOf(err) != token.WrongAudience {
		t.Errorf("without an audience: %v", err)
	}
	two := standardVerifier(t)
	if _, err := two.Suppose(nil, now, []string{resource}); err == nil || token.ReasonOf(err) != "" || !strings.Contains(err.Error(), issuerA+", "+issuerB) {
		t.Errorf("without an issuer: %v", err)
	}
	own := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: secretSource(), Audiences: []string{"api://x"}})
	if claims, err := own.Suppose(nil, now, []string{resource}); err != nil || claims.All()["aud"] != "api://x" {
		t.Errorf("an audience of the issuer: %v", err)
	}
}
