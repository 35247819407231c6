package token_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func TestVerifyAcceptsEveryAlgorithm(t *testing.T) {
	verifier := standardVerifier(t)
	secret := []byte(secret64)
	for _, tc := range []struct {
		alg, issuer string
		key         any
	}{
		{"RS256", issuerA, rsaKey()},
		{"RS384", issuerA, rsaKey()},
		{"RS512", issuerA, rsaKey()},
		{"PS256", issuerA, rsaKey()},
		{"PS384", issuerA, rsaKey()},
		{"PS512", issuerA, rsaKey()},
		{"ES256", issuerA, ecKey()},
		{"ES384", issuerA, ec384Key()},
		{"ES512", issuerA, ec521Key()},
		{"EdDSA", issuerA, ed25519Key()},
		{"HS256", issuerS, secret},
		{"HS384", issuerS, secret},
		{"HS512", issuerS, secret},
	} {
		t.Run(tc.alg, func(t *testing.T) {
			raw := signed(tc.alg, tc.key, goodClaims(object{"iss": tc.issuer}), nil)
			claims, err := verifier.Verify(t.Context(), raw, now, []string{resource})
			if err != nil {
				t.Fatal(err)
			}
			if claims.Issuer != tc.issuer || claims.Subject != "alice" || claims.ClientID != "inspector" ||
				claims.TokenID != "t-1" || strings.Join(claims.Scopes, "|") != "mcp:read|mcp:write" ||
				!claims.Expires.Equal(now.Add(5*time.Minute)) || !claims.IssuedAt.Equal(now.Add(-10*time.Second)) ||
				!claims.Deadline().Equal(claims.Expires) || !claims.Current() {
				t.Errorf("unexpected claims: %+v", claims)
			}
			// The last byte of the signature is the last that may be wrong.
			broken := signature(tc.alg, tc.key, raw[:strings.LastIndex(raw, ".")])
			broken[len(broken)-1] ^= 1
			raw = raw[:strings.LastIndex(raw, ".")+1] + base64.RawURLEncoding.EncodeToString(broken)
			if _, err := verifier.Verify(t.Context(), raw, now, []string{resource}); token.ReasonOf(err) != token.BadSignature {
				t.Errorf("broken signature: got %v", err)
			}
		})
	}
}

// The names are those of the soundness checklist; good means accepted.
func TestVerifyChecklist(t *testing.T) {
	const good token.Reason = ""
	verifier := standardVerifier(t)
	rs := func(claims, header object) string { return signed("RS256", rsaKey(), goodClaims(claims), header) }
	payload := func(text string) string {
		return signedText("RS256", rsaKey(), `{"alg":"RS256","typ":"at+jwt"}`, text)
	}
	header := func(text string) string {
		return signedText("RS256", rsaKey(), text,
			`{"iss":"https://a.example","sub":"a","aud":"`+resource+`","jti":"1","exp":1800000300}`)
	}
	valid := rs(nil, nil)
	parts := strings.Split(valid, ".")
	exp := now.Unix()

	for _, tc := range []struct {
		name string
		raw  string
		want token.Reason
	}{
		{"G1 alg none", signed("none", nil, goodClaims(nil), nil), token.WrongAlgorithm},
		{"G1 alg none without signature", strings.Join([]string{encode(`{"alg":"none"}`), parts[1], ""}, "."), token.Malformed},
		{"G1 alg None", header(`{"alg":"None"}`), token.WrongAlgorithm},
		{"G1 alg absent", header(`{"typ":"at+jwt"}`), token.WrongAlgorithm},
		{"G1 alg null", header(`{"alg":null}`), token.WrongAlgorithm},
		{"G1 alg of another type", header(`{"alg":256}`), token.Malformed},
		{"G1 alg in lower case", header(`{"alg":"rs256"}`), token.WrongAlgorithm},
		{"G1 name of alg in upper case", header(`{"ALG":"RS256"}`), token.WrongAlgorithm},
		{"G1 HS256 with the public key as secret", signed("HS256", publicPEM(rsaKey().Public()), goodClaims(nil), nil), token.WrongAlgorithm},
		{"G1 RS256 at an issuer with a secret", rs(object{"iss": issuerS}, nil), token.WrongAlgorithm},
		{"G1 unlisted alg", header(`{"alg":"ES256K"}`), token.WrongAlgorithm},
		{"G1 alg of another key of the issuer", signedText("RS256", rsaKey(), `{"alg":"ES256"}`, `{"iss":"https://a.example"}`), token.BadSignature},

		{"G2 aud string", valid, good},
		{"G2 aud array", rs(object{"aud": []string{"https://x.example", resource}}, nil), good},
		{"G2 aud with a final slash", rs(object{"aud": resource + "/"}, nil), good},
		{"G2 aud with two final slashes", rs(object{"aud": resource + "//"}, nil), token.WrongAudience},
		{"G2 aud of another tenant", rs(object{"aud": "https://mcp.example.com/servers/tickets/mcp"}, nil), token.WrongAudience},
		{"G2 aud prefix", rs(object{"aud": "https://mcp.example.com"}, nil), token.WrongAudience},
		{"G2 aud longer", rs(object{"aud": resource + "/more"}, nil), token.WrongAudience},
		{"G2 aud in another case", rs(object{"aud": strings.ToUpper(resource)}, nil), token.WrongAudience},
		{"G2 aud missing", rs(object{"aud": remove}, nil), token.WrongAudience},
		{"G2 aud empty", rs(object{"aud": ""}, nil), token.WrongAudience},
		{"G2 aud slash", rs(object{"aud": "/"}, nil), token.WrongAudience},
		{"G2 aud empty array", rs(object{"aud": []string{}}, nil), token.WrongAudience},
		{"G2 aud null", rs(object{"aud": nil}, nil), token.InvalidClaims},
		{"G2 aud array with a number", rs(object{"aud": []any{resource, 1}}, nil), token.InvalidClaims},
		{"G2 aud object", rs(object{"aud": object{resource: true}}, nil), token.InvalidClaims},

		{"G3 foreign issuer, right key", rs(object{"iss": "https://evil.example"}, nil), token.UnknownIssuer},
		{"G3 issuer with a final slash", rs(object{"iss": issuerA + "/"}, nil), token.UnknownIssuer},
		{"G3 issuer absent", rs(object{"iss": remove}, nil), token.UnknownIssuer},
		{"G3 issuer array", rs(object{"iss": []string{issuerA}}, nil), token.UnknownIssuer},
		{"G3 other issuer, foreign key", rs(object{"iss": issuerB}, nil), token.BadSignature},
		{"G3 other issuer, own key", signed("RS256", otherRSA(), goodClaims(object{"iss": issuerB}), nil), good},
		{"G3 this issuer, other issuer's key", signed("RS256", otherRSA(), goodClaims(nil), nil), token.BadSignature},

		{"G4 expired now", rs(object{"exp": exp}, nil), token.Expired},
		{"G4 a second left", rs(object{"exp": exp + 1}, nil), good},
		{"G4 fraction of a second left", payload(goodText(`"exp":1800000000.5`)), good},
		{"G4 expired long ago", rs(object{"exp": 1}, nil), token.Expired},
		{"G4 bad signature wins over expiry", parts[0] + "." + strings.Split(rs(object{"exp": 1}, nil), ".")[1] + "." + parts[2], token.BadSignature},
		{"G4 no exp", rs(object{"exp": remove}, nil), token.MissingExpiry},
		{"G4 exp null", rs(object{"exp": nil}, nil), token.InvalidClaims},
		{"G4 exp string", rs(object{"exp": "1800000300"}, nil), token.InvalidClaims},
		{"G4 exp huge float", payload(goodText(`"exp":1e300`)), token.InvalidClaims},
		{"G4 exp beyond any float", payload(goodText(`"exp":1e400`)), token.Malformed},
		{"G4 exp in milliseconds", rs(object{"exp": (exp + 300) * 1000}, nil), token.InvalidClaims},
		{"G4 exp negative", rs(object{"exp": -1}, nil), token.InvalidClaims},
		{"G4 exp bool", rs(object{"exp": true}, nil), token.InvalidClaims},
		{"G4 nbf in the future", rs(object{"nbf": exp + 1}, nil), token.NotYetValid},
		{"G4 nbf now", rs(object{"nbf": exp}, nil), good},
		{"G4 nbf string", rs(object{"nbf": "0"}, nil), token.InvalidClaims},
		{"G4 iat in the future", rs(object{"iat": exp + 1}, nil), token.NotYetValid},
		{"G4 iat string", rs(object{"iat": "0"}, nil), token.InvalidClaims},
		{"G4 no iat", rs(object{"iat": remove}, nil), good},

		{"G5 ID token with nonce", rs(object{"nonce": "n"}, nil), token.NotAccessToken},
		{"G5 ID token with at_hash", rs(object{"at_hash": "h"}, nil), token.NotAccessToken},
		{"G5 ID token with c_hash", rs(object{"c_hash": "h"}, nil), token.NotAccessToken},
		{"G5 claim typ ID", rs(object{"typ": "ID"}, nil), token.NotAccessToken},
		{"G5 claim typ Refresh", rs(object{"typ": "Refresh"}, nil), token.NotAccessToken},
		{"G5 claim typ Offline", rs(object{"typ": "Offline"}, nil), token.NotAccessToken},
		{"G5 claim typ Bearer", rs(object{"typ": "Bearer"}, nil), good},
		{"G5 claim typ of another type", rs(object{"typ": 1}, nil), token.InvalidClaims},
		{"G5 token_use id", rs(object{"token_use": "id"}, nil), token.NotAccessToken},
		{"G5 token_use refresh", rs(object{"token_use": "refresh"}, nil), token.NotAccessToken},
		{"G5 token_use access", rs(object{"token_use": "access"}, nil), good},
		{"G5 header typ JWT", rs(nil, object{"typ": "JWT"}), good},
		{"G5 header typ long and in another case", rs(nil, object{"typ": "Application/AT+JWT"}), good},
		{"G5 header typ absent", rs(nil, object{"typ": remove}), good},
		{"G5 header typ of a logout token", rs(nil, object{"typ": "logout+jwt"}), token.WrongType},
		{"G5 header typ of DPoP", rs(nil, object{"typ": "dpop+jwt"}), token.WrongType},
		{"G5 header typ number", header(`{"alg":"RS256","typ":1}`), token.Malformed},

		{"G7 jku ignored", rs(nil, object{"jku": "https://evil.example/jwks"}), good},
		{"G7 x5u ignored", rs(nil, object{"x5u": "https://evil.example/cert"}), good},
		{"G7 jwk does not bring a key", signed("RS256", otherRSA(), goodClaims(nil), object{"jwk": publicJWK(&otherRSA().PublicKey)}), token.BadSignature},
		{"G7 unknown crit", rs(nil, object{"crit": []string{"exp"}, "exp": 1}), token.CriticalHeader},
		{"G7 crit b64", rs(nil, object{"crit": []string{"b64"}, "b64": true}), token.CriticalHeader},
		{"G7 b64 false", rs(nil, object{"b64": false}), token.CriticalHeader},
		{"G7 crit null", header(`{"alg":"RS256","crit":null}`), token.CriticalHeader},

		{"G9 duplicate claim", payload(goodText(`"exp":1800000300,"scope":"a","scope":"admin"`)), token.Malformed},
		{"G9 duplicate claim by an escape", payload(goodText(`"exp":1800000300,"scope":"a","s\u0063ope":"admin"`)), token.Malformed},
		{"G9 duplicate nested claim", payload(goodText(`"exp":1800000300,"r":{"a":1,"a":2}`)), token.Malformed},
		{"G9 duplicate header", header(`{"alg":"RS256","alg":"RS256"}`), token.Malformed},
		{"G9 duplicate unused header", header(`{"alg":"RS256","x":1,"x":2}`), token.Malformed},
		{"G9 invalid UTF-8", payload(goodText("\"exp\":1800000300,\"x\":\"\xff\"")), token.Malformed},
		{"G9 claim name in another case", payload(goodText(`"Exp":1800000300`)), token.MissingExpiry},
		{"G9 1 MB token", valid + strings.Repeat("A", 1<<20), token.TooLarge},

		{"G10 cnf", rs(object{"cnf": object{"jkt": "x"}}, nil), token.SenderConstrained},
		{"G10 cnf null", rs(object{"cnf": nil}, nil), token.SenderConstrained},

		{"G11 scope with a tab", rs(object{"scope": "a\tb"}, nil), token.InvalidClaims},
		{"G11 scope with two spaces", rs(object{"scope": "a  b"}, nil), token.InvalidClaims},
		{"G11 scope with a quote", rs(object{"scope": `a"b`}, nil), token.InvalidClaims},
		{"G11 scope not ASCII", rs(object{"scope": "ä"}, nil), token.InvalidClaims},
		{"G11 scope number", rs(object{"scope": 1}, nil), token.InvalidClaims},
		{"G11 scope null", rs(object{"scope": nil}, nil), token.InvalidClaims},
		{"G11 scope and scp differ", rs(object{"scp": []string{"admin"}}, nil), token.InvalidClaims},

		{"no sub", rs(object{"sub": remove}, nil), token.MissingSubject},
		{"empty sub", rs(object{"sub": ""}, nil), token.MissingSubject},
		{"sub number", rs(object{"sub": 7}, nil), token.InvalidClaims},
		{"sub with a line break", rs(object{"sub": "a\r\nX-Admin: 1"}, nil), token.InvalidClaims},
		{"no jti", rs(object{"jti": remove}, nil), token.MissingTokenID},
		{"empty jti", rs(object{"jti": ""}, nil), token.MissingTokenID},
		{"null jti", rs(object{"jti": nil}, nil), token.MissingTokenID},
		{"jti number", rs(object{"jti": 7}, nil), token.InvalidClaims},
		{"azp and client_id differ", rs(object{"azp": "other"}, nil), token.InvalidClaims},

		{"empty text", "", token.Malformed},
		{"two parts", parts[0] + "." + parts[1], token.Malformed},
		{"four parts", valid + ".AA", token.Malformed},
		{"five parts, a JWE", "e30.e30.e30.e30.e30", token.Malformed},
		{"JSON form", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, token.Malformed},
		{"padding", valid + "=", token.Malformed},
		{"line break inside", parts[0] + ".\n" + parts[1] + "." + parts[2], token.Malformed},
		{"line break at the end", valid + "\n", token.Malformed},
		{"stray bits at the end", strayBits(valid), token.Malformed},
		{"header null", header(`null`), token.WrongAlgorithm},
		{"header array", header(`[]`), token.Malformed},
		{"claims null", payload(`null`), token.Malformed},
		{"claims array", payload(`[]`), token.Malformed},
		{"claims with more behind", payload(goodText(`"exp":1800000300`) + `{}`), token.Malformed},
		{"claims not JSON", payload(`iss=a`), token.Malformed},
		{"signature of another token", parts[0] + "." + parts[1] + "." + strings.Split(rs(object{"jti": "2"}, nil), ".")[2], token.BadSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims, err := verifier.Verify(t.Context(), tc.raw, now, []string{"https://other.example", resource})
			if got := token.ReasonOf(err); got != tc.want || (err == nil) != (claims != nil) {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

// goodText is the text of claims that are acceptable but for what is added.
func goodText(more string) string {
	return `{"iss":"https://a.example","sub":"a","aud":"` + resource + `","jti":"1",` + more + `}`
}

// strayBits changes bits of the last character that a loose decoder ignores.
// An RSA signature of 256 bytes leaves four of them.
func strayBits(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + string(alphabet[last|1])
}

func TestIssuerOptions(t *testing.T) {
	key := rsaKey().Public()
	for _, tc := range []struct {
		name      string
		issuer    token.Issuer
		claims    object
		header    object
		audiences []string
		want      token.Reason
	}{
		{"jti optional", token.Issuer{JTIOptional: true}, object{"jti": remove}, nil, []string{resource}, ""},
		{"jti optional and empty", token.Issuer{JTIOptional: true}, object{"jti": ""}, nil, []string{resource}, ""},
		{"jti optional and of another type", token.Issuer{JTIOptional: true}, object{"jti": []int{1}}, nil, []string{resource}, token.InvalidClaims},
		{"leeway covers expiry", token.Issuer{Leeway: caddy.Duration(5 * time.Second)}, object{"exp": now.Unix() - 4}, nil, []string{resource}, ""},
		{"leeway ends", token.Issuer{Leeway: caddy.Duration(5 * time.Second)}, object{"exp": now.Unix() - 5}, nil, []string{resource}, token.Expired},
		{"leeway covers nbf", token.Issuer{Leeway: caddy.Duration(5 * time.Second)}, object{"nbf": now.Unix() + 5}, nil, []string{resource}, ""},
		{"leeway does not cover nbf", token.Issuer{Leeway: caddy.Duration(5 * time.Second)}, object{"nbf": now.Unix() + 6}, nil, []string{resource}, token.NotYetValid},
		{"algorithms narrowed", token.Issuer{Algorithms: []string{"PS256"}}, nil, nil, []string{resource}, token.WrongAlgorithm},
		{"algorithms named", token.Issuer{Algorithms: []string{"RS256"}}, nil, nil, []string{resource}, ""},
		{"type narrowed", token.Issuer{TokenTypes: []string{"at+jwt"}}, nil, object{"typ": "JWT"}, []string{resource}, token.WrongType},
		{"type narrowed, absent", token.Issuer{TokenTypes: []string{"at+jwt"}}, nil, object{"typ": remove}, []string{resource}, token.WrongType},
		{"type narrowed, long form", token.Issuer{TokenTypes: []string{"at+jwt"}}, nil, object{"typ": "application/at+jwt"}, []string{resource}, ""},
		{"own audiences replace those of the request", token.Issuer{Audiences: []string{"api"}}, nil, nil, []string{resource}, token.WrongAudience},
		{"own audience", token.Issuer{Audiences: []string{"api"}}, object{"aud": "api"}, nil, []string{resource}, ""},
		{"no audience at all", token.Issuer{}, nil, nil, nil, token.WrongAudience},
		{"empty audience asked for", token.Issuer{}, object{"aud": ""}, nil, []string{""}, token.WrongAudience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.issuer.Issuer, tc.issuer.KeysRaw = issuerA, pemSource(t, key)
			verifier := newVerifier(t, &tc.issuer)
			raw := signed("RS256", rsaKey(), goodClaims(tc.claims), tc.header)
			if _, err := verifier.Verify(t.Context(), raw, now, tc.audiences); token.ReasonOf(err) != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestIssuerProvisionErrors(t *testing.T) {
	t.Setenv("TOKEN_TEST_EMPTY", "")
	key := rsaKey().Public()
	for _, tc := range []struct {
		name   string
		issuer token.Issuer
		want   string
	}{
		{"no issuer", token.Issuer{}, "needs its identifier"},
		{"empty placeholder", token.Issuer{Issuer: "{env.TOKEN_TEST_EMPTY}"}, "is empty"},
		{"unknown placeholder", token.Issuer{Issuer: "https://a.example/{tenant}"}, "unrecognized placeholder"},
		{"empty audience", token.Issuer{Issuer: issuerA, Audiences: []string{""}}, "audience is empty"},
		{"leeway too long", token.Issuer{Issuer: issuerA, Leeway: caddy.Duration(6 * time.Minute)}, "leeway"},
		{"leeway negative", token.Issuer{Issuer: issuerA, Leeway: -1}, "leeway"},
		{"HS256 with a public key", token.Issuer{Issuer: issuerA, Algorithms: []string{"HS256"}, KeysRaw: pemSource(t, key)}, `"HS256" does not fit`},
		{"RS256 with a secret", token.Issuer{Issuer: issuerA, Algorithms: []string{"RS256"}, KeysRaw: secretSource()}, `"RS256" does not fit`},
		{"HS256 with discovery", token.Issuer{Issuer: issuerA, Algorithms: []string{"HS256"}}, `"HS256" does not fit`},
		{"none", token.Issuer{Issuer: issuerA, Algorithms: []string{"none"}}, `"none" does not fit`},
		{"unknown source", token.Issuer{Issuer: issuerA, KeysRaw: []byte(`{"source":"oracle"}`)}, "loading key source"},
		{"discovery without a URL", token.Issuer{Issuer: issuerS}, "name a jwks, pem or secret key source"},
		{"discovery without TLS", token.Issuer{Issuer: "http://a.example"}, "must be https"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			if err := tc.issuer.Provision(ctx); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestNewVerifierErrors(t *testing.T) {
	if _, err := token.NewVerifier([]*token.Issuer{{Issuer: issuerA}}, 0); err == nil {
		t.Error("an issuer that was not provisioned was accepted")
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	twice := []*token.Issuer{{Issuer: issuerS, KeysRaw: secretSource()}, {Issuer: issuerS, KeysRaw: secretSource()}}
	for _, iss := range twice {
		if err := iss.Provision(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := token.NewVerifier(twice, 0); err == nil {
		t.Error("one issuer was accepted twice")
	}
}

func TestTokenWithoutKidDoesNotCostManySignatures(t *testing.T) {
	keys := make([]any, 9)
	for i := range keys {
		keys[i] = rsaKey().Public()
	}
	verifier := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(t, toPublic(keys)...)})
	_, err := verifier.Verify(t.Context(), signed("RS256", rsaKey(), goodClaims(nil), nil), now, []string{resource})
	if token.ReasonOf(err) != token.UnknownKey {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAreSafeToShow(t *testing.T) {
	cause := errors.New("dial tcp: refused")
	err := token.NewError(token.KeysUnavailable, cause)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the cause is missing from %v", err)
	}
	seen := map[string]token.Reason{}
	for _, reason := range []token.Reason{
		token.Malformed, token.TooLarge, token.WrongAlgorithm, token.WrongType, token.CriticalHeader,
		token.UnknownIssuer, token.UnknownKey, token.BadSignature, token.WrongAudience, token.Expired,
		token.NotYetValid, token.MissingExpiry, token.MissingTokenID, token.MissingSubject, token.InvalidClaims,
		token.NotAccessToken, token.SenderConstrained, token.KeysUnavailable, "",
	} {
		text := reason.Description()
		if other, ok := seen[text]; ok {
			t.Errorf("%q and %q share a description", reason, other)
		}
		seen[text] = reason
		if text == "" || strings.ContainsAny(text, "\"\\\r\n") {
			t.Errorf("%q: %q does not fit into a challenge", reason, text)
		}
	}
	if token.ReasonOf(context.Canceled) != "" || token.ReasonOf(nil) != "" {
		t.Error("a foreign error was given a reason")
	}
}
