package token_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func verified(tb testing.TB, verifier *token.Verifier, change object) *token.Claims {
	tb.Helper()
	claims, err := verifier.Verify(tb.Context(), signed("HS256", []byte(secret64), goodClaims(change), nil), now, []string{resource})
	if err != nil {
		tb.Fatal(err)
	}
	return claims
}

func secretVerifier(tb testing.TB) *token.Verifier {
	return newVerifier(tb, &token.Issuer{Issuer: issuerA, KeysRaw: secretSource()})
}

// G12 of the soundness checklist.
func TestValues(t *testing.T) {
	claims := verified(t, secretVerifier(t), object{
		"groups":               []string{"data", "ops"},
		"department":           "sales",
		"none":                 []string{},
		"mixed":                []any{"admin", 1},
		"nested_array":         []any{[]string{"admin"}},
		"number":               7,
		"admin":                true,
		"null":                 nil,
		"realm_access":         object{"roles": []string{"analyst"}, "deep": object{"er": "x"}},
		"https://x/roles":      []string{"dotless"},
		"https://x.test/roles": []string{"dotted"},
		"a.b":                  "exact",
		"a":                    object{"b": "inside"},
		"c.d":                  1,
		"c":                    object{"d": "inside"},
		"_claim_names":         object{"overage": "src1"},
		"hasgroups":            true,
	})
	for _, tc := range []struct {
		path string
		want []string
		ok   bool
	}{
		{"groups", []string{"data", "ops"}, true},
		{"department", []string{"sales"}, true},
		{"none", []string{}, true},
		{"mixed", nil, false},
		{"nested_array", nil, false},
		{"number", nil, false},
		{"admin", nil, false},
		{"null", nil, false},
		{"absent", nil, false},
		{"Groups", nil, false},
		{"", nil, false},
		{".", nil, false},
		{"realm_access", nil, false},
		{"realm_access.roles", []string{"analyst"}, true},
		{"realm_access.deep.er", []string{"x"}, true},
		{"realm_access.roles.0", nil, false},
		{"realm_access.", nil, false},
		{"https://x/roles", []string{"dotless"}, true},
		{"https://x.test/roles", []string{"dotted"}, true},
		{"a.b", []string{"exact"}, true},
		{"c.d", nil, false}, // the exact name wins even where its value is of no use
		{"overage", nil, false},
	} {
		got, ok := claims.Values(tc.path)
		if ok != tc.ok || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, %v; want %q, %v", tc.path, got, ok, tc.want, tc.ok)
		}
	}
	if value, ok := claims.Lookup("admin"); !ok || value != true {
		t.Errorf("Lookup: got %v, %v", value, ok)
	}
}

func TestScopes(t *testing.T) {
	verifier := secretVerifier(t)
	for i, tc := range []struct {
		claims object
		want   string
	}{
		{object{"scope": remove}, ""},
		{object{"scope": ""}, ""},
		{object{"scope": "a"}, "a"},
		{object{"scope": "a B b"}, "a|B|b"},
		{object{"scope": []string{"a", "b"}}, "a|b"},
		{object{"scope": remove, "scp": "a b"}, "a|b"},
		{object{"scope": remove, "scp": []string{"a", "b"}}, "a|b"},
		{object{"scope": remove, "scp": []string{}}, ""},
		{object{"scope": "a b", "scp": []string{"b", "a"}}, "a|b"},
	} {
		if got := strings.Join(verified(t, verifier, tc.claims).Scopes, "|"); got != tc.want {
			t.Errorf("Test %d: got %q, want %q", i, got, tc.want)
		}
	}
}

func TestClientID(t *testing.T) {
	verifier := secretVerifier(t)
	for i, tc := range []struct {
		claims object
		want   string
	}{
		{object{"client_id": remove}, ""},
		{object{"client_id": "a"}, "a"},
		{object{"client_id": remove, "azp": "b"}, "b"},
		{object{"client_id": "a", "azp": "a"}, "a"},
	} {
		if got := verified(t, verifier, tc.claims).ClientID; got != tc.want {
			t.Errorf("Test %d: got %q, want %q", i, got, tc.want)
		}
	}
}

// The holder of a token signed with ECDSA can replace s by n-s: another text,
// as valid as the first, that must not look like another token.
func TestDigestIgnoresTheSignature(t *testing.T) {
	verifier := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(t, ecKey().Public())})
	digests := map[[32]byte]bool{}
	texts := map[string]bool{}
	for range 2 {
		raw := signed("ES256", ecKey(), goodClaims(nil), nil)
		claims, err := verifier.Verify(t.Context(), raw, now, []string{resource})
		if err != nil {
			t.Fatal(err)
		}
		digests[claims.Digest], texts[raw] = true, true
	}
	if len(digests) != 1 || len(texts) != 2 {
		t.Errorf("%d digests of %d texts", len(digests), len(texts))
	}
}

func TestSecretKeysAreNeverPrinted(t *testing.T) {
	key, err := token.NewSecretKey("kid", []byte(secret64))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %q %x", key, key, struct{ K token.Key }{key}, []token.Key{key}, key, key)
	if strings.Contains(text, secret64[:8]) || strings.Contains(text, fmt.Sprintf("%x", secret64[:8])) || !strings.Contains(text, "HS256") {
		t.Errorf("printed: %s", text)
	}
}

func TestNewSecretKey(t *testing.T) {
	for i, tc := range []struct {
		secret     string
		algorithms string
		err        string
	}{
		{"", "", "empty"},
		{secret64[:31], "", "too short"},
		{secret64[:32], "HS256", ""},
		{secret64[:47], "HS256", ""},
		{secret64[:48], "HS256 HS384", ""},
		{secret64, "HS256 HS384 HS512", ""},
		{string(publicPEM(rsaKey().Public())), "", "PEM"},
	} {
		key, err := token.NewSecretKey("", []byte(tc.secret))
		if got := strings.Join(key.Algorithms(), " "); got != tc.algorithms {
			t.Errorf("Test %d: got %q, want %q", i, got, tc.algorithms)
		}
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("Test %d: got error %v, want %q", i, err, tc.err)
		}
		if err != nil && len(tc.secret) > 8 && strings.Contains(err.Error(), tc.secret[:8]) {
			t.Errorf("Test %d: the error shows the secret: %v", i, err)
		}
	}
}
