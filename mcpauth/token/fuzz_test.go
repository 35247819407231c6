package token_test

import (
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// FuzzVerify feeds whole token texts. Only the one token that was signed may be
// accepted; every other text is refused with a reason.
func FuzzVerify(f *testing.F) {
	verifier := standardVerifier(f)
	valid := signed("RS256", rsaKey(), goodClaims(nil), nil)
	f.Add(valid)
	f.Add(valid + "A")
	f.Add(strings.Replace(valid, ".", "..", 1))
	f.Add(signed("none", nil, goodClaims(nil), nil))
	f.Add(signed("HS256", publicPEM(rsaKey().Public()), goodClaims(nil), nil))
	f.Add(signed("RS256", otherRSA(), goodClaims(nil), object{"jwk": publicJWK(&otherRSA().PublicKey)}))
	f.Fuzz(func(t *testing.T, raw string) {
		claims, err := verifier.Verify(t.Context(), raw, now, []string{resource})
		if err == nil && raw != valid {
			t.Fatalf("accepted %q", raw)
		}
		if (claims == nil) == (err == nil) || err != nil && token.ReasonOf(err) == "" {
			t.Fatalf("claims %v with error %v", claims, err)
		}
	})
}

// FuzzParts signs whatever header and claims the fuzzer writes, so that it gets
// behind the signature. What is accepted must hold what acceptance promises.
func FuzzParts(f *testing.F) {
	verifier := secretVerifier(f)
	f.Add(`{"alg":"HS256"}`, goodText(`"exp":1800000300`))
	f.Add(`{"alg":"HS256","typ":"JWT","kid":"x","jwk":{"kty":"oct","k":"AA"}}`, goodText(`"exp":1.8000003e9,"scope":"a b","x":{"y":["z"]}`))
	f.Add(`{"alg":"HS256","x5c":["AA"],"x5u":":"}`, goodText(`"exp":1800000300,"aud":["a"]`))
	f.Add(`{"alg":"HS256","crit":[]}`, goodText(`"exp":99999999999999999999`))
	f.Fuzz(func(t *testing.T, header, payload string) {
		claims, err := verifier.Verify(t.Context(), signedText("HS256", []byte(secret64), header, payload), now, []string{resource})
		if err != nil {
			if token.ReasonOf(err) == "" {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		if claims.Issuer != issuerA || claims.Subject == "" || claims.TokenID == "" || !claims.Expires.After(now) {
			t.Fatalf("accepted %s: %+v", payload, claims)
		}
		for _, scope := range claims.Scopes {
			if !token.ValidScope(scope) {
				t.Fatalf("accepted the scope %q", scope)
			}
		}
		for _, marker := range []string{"cnf", "nonce", "at_hash", "c_hash"} {
			if _, ok := claims.Lookup(marker); ok {
				t.Fatalf("accepted a token with %s", marker)
			}
		}
		claims.Values("x.y")
	})
}
