package token_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/introspect"
)

// oracle is an issuer that is asked about tokens.
type oracle struct {
	*httptest.Server

	mu     sync.Mutex
	answer object
	asked  []string
}

func newOracle(tb testing.TB) *oracle {
	tb.Helper()
	o := new(oracle)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked = append(o.asked, r.FormValue("token"))
		w.Header().Set("Content-Type", "application/json")
		if o.answer == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(must(json.Marshal(o.answer)))
	}))
	tb.Cleanup(o.Close)
	return o
}

func (o *oracle) says(answer object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

func (o *oracle) questions() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// config is how the oracle is asked.
func (o *oracle) config() *introspect.Config {
	return &introspect.Config{URL: o.URL, ClientID: "gateway", ClientSecret: "{env.TOKEN_TEST_SECRET}"}
}

// said is what an issuer may say about a token: the claims of goodClaims, and that it is
// active.
func said(change object) object {
	answer := goodClaims(object{"active": true, "token_type": "Bearer"})
	maps.Copy(answer, change)
	maps.DeleteFunc(answer, func(_ string, value any) bool { return value == remove })
	return answer
}

// TestIntrospected: what an issuer says about a token is judged as the claims of a JWT
// are, and some things more.
func TestIntrospected(t *testing.T) {
	for name, tc := range map[string]struct {
		change object
		reason token.Reason
	}{
		"good":                   {nil, ""},
		"without iss":            {object{"iss": remove}, ""},
		"without token_type":     {object{"token_type": remove}, ""},
		"bearer":                 {object{"token_type": "bearer"}, ""},
		"audiences":              {object{"aud": []string{"https://other.example", resource}}, ""},
		"inactive":               {object{"active": false}, token.Inactive},
		"another issuer":         {object{"iss": issuerB}, token.UnknownIssuer},
		"issuer with a slash":    {object{"iss": issuerA + "/"}, token.UnknownIssuer},
		"issuer null":            {object{"iss": nil}, token.UnknownIssuer},
		"issuer an array":        {object{"iss": []string{issuerA}}, token.UnknownIssuer},
		"DPoP":                   {object{"token_type": "DPoP"}, token.SenderConstrained},
		"bound to a key":         {object{"cnf": object{"jkt": "x"}}, token.SenderConstrained},
		"bound to nothing":       {object{"cnf": nil}, token.SenderConstrained},
		"N_A":                    {object{"token_type": "N_A"}, token.WrongType},
		"token_type null":        {object{"token_type": nil}, token.WrongType},
		"token_type a list":      {object{"token_type": []string{"Bearer"}}, token.WrongType},
		"a refresh token":        {object{"token_type": "refresh_token"}, token.WrongType},
		"used for refreshing":    {object{"token_use": "refresh_token"}, token.NotAccessToken},
		"typ is Refresh":         {object{"typ": "Refresh"}, token.NotAccessToken},
		"an ID token":            {object{"nonce": "x"}, token.NotAccessToken},
		"without aud":            {object{"aud": remove}, token.WrongAudience},
		"another audience":       {object{"aud": "https://other.example"}, token.WrongAudience},
		"audience of a form":     {object{"aud": 7}, token.InvalidClaims},
		"without exp":            {object{"exp": remove}, token.MissingExpiry},
		"expired":                {object{"exp": now.Unix()}, token.Expired},
		"exp a text":             {object{"exp": "9999999999"}, token.InvalidClaims},
		"exp in milliseconds":    {object{"exp": now.UnixMilli()}, token.InvalidClaims},
		"not yet":                {object{"nbf": now.Unix() + 1}, token.NotYetValid},
		"issued tomorrow":        {object{"iat": now.Unix() + 86400}, token.NotYetValid},
		"without sub":            {object{"sub": remove}, token.MissingSubject},
		"username is no subject": {object{"sub": remove, "username": "alice"}, token.MissingSubject},
		"sub a number":           {object{"sub": 1}, token.InvalidClaims},
		"without jti":            {object{"jti": remove}, token.MissingTokenID},
		"the token as jti":       {object{"jti": "opaque"}, token.MissingTokenID},
		"two clients":            {object{"azp": "other"}, token.InvalidClaims},
		"scope of a form":        {object{"scope": 7}, token.InvalidClaims},
		"two scopes":             {object{"scp": []string{"other"}}, token.InvalidClaims},
		"teams of a form":        {object{"teams": 7}, token.InvalidScope},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(t)
			o.says(said(tc.change))
			v := newVerifier(t, &token.Issuer{Issuer: issuerA, Introspection: o.config()})
			claims, err := v.Verify(t.Context(), "opaque", now, []string{resource})
			if got := token.ReasonOf(err); got != tc.reason || (err == nil) != (tc.reason == "") {
				t.Fatalf("reason %q (%v), want %q", got, err, tc.reason)
			}
			if err != nil {
				if claims != nil {
					t.Error("there are claims")
				}
				return
			}
			if claims.Issuer != issuerA || claims.Subject != "alice" || claims.ClientID != "inspector" || claims.TokenID != "t-1" ||
				!slices.Equal(claims.Scopes, []string{"mcp:read", "mcp:write"}) || claims.Scope == nil {
				t.Errorf("the claims are %+v", claims)
			}
			if iss, _ := claims.Lookup("iss"); iss != issuerA {
				t.Errorf("the claim iss is %v", iss)
			}
			if fresh := claims.FreshUntil().Sub(now); !claims.Current() || fresh <= 0 || fresh > introspect.MaxCache+time.Second {
				t.Errorf("current %v, to be asked about again after %s", claims.Current(), fresh)
			}
		})
	}
}

// TestWhoIsAsked: a token is shown to the issuer that is asked about tokens, and only if
// it is nobody else's.
func TestWhoIsAsked(t *testing.T) {
	other := signed("RS256", otherRSA(), goodClaims(object{"iss": issuerB}), nil)
	mine := signed("RS256", rsaKey(), goodClaims(nil), nil)
	parts := strings.Split(other, ".")
	for name, tc := range map[string]struct {
		raw    string
		asked  bool
		reason token.Reason
	}{
		"opaque":                          {"opaque", true, ""},
		"opaque with dots":                {"v1.opaque.token", true, ""},
		"one dot":                         {"a.b", true, ""},
		"with all that may be in it":      {"aZ09-._~+/==", true, ""},
		"a JWT of its own":                {mine, true, ""},
		"of another issuer":               {other, false, ""},
		"of another, forged":              {parts[0] + "." + encode(string(must(json.Marshal(goodClaims(object{"iss": issuerB, "sub": "bob"}))))) + "." + parts[2], false, token.BadSignature},
		"of another, cut off":             {parts[0] + "." + parts[1], false, token.Malformed},
		"of another, its header":          {parts[0] + ".", false, token.Malformed},
		"of another, with an end":         {other + ".x", false, token.Malformed},
		"of another, padded":              {other + "==", false, token.Malformed},
		"of another, in other base64":     {strings.NewReplacer("-", "+", "_", "/").Replace(parts[0]) + "=." + parts[1] + "." + parts[2], false, token.Malformed},
		"of another, header after spaces": {encode(" \n{}") + "." + parts[1] + "." + parts[2] + "!", false, token.Malformed},
		"of nobody":                       {signed("RS256", rsaKey(), goodClaims(object{"iss": "https://c.example"}), nil), false, token.UnknownIssuer},
		"without iss":                     {signed("RS256", rsaKey(), goodClaims(object{"iss": remove}), nil), false, token.UnknownIssuer},
		"encrypted (JWE)":                 {encode(`{"alg":"dir"}`) + "..a.b.c", false, token.Malformed},
		"two tokens":                      {"opaque, opaque", false, token.Malformed},
		"a line end":                      {"opaque\n", false, token.Malformed},
		"a quote":                         {`"opaque"`, false, token.Malformed},
		"padding alone":                   {"==", false, token.Malformed},
		"padding inside":                  {"a=b", false, token.Malformed},
		"not ASCII":                       {"öpaque", false, token.Malformed},
		"nothing":                         {"", false, token.Malformed},
		"too large":                       {strings.Repeat("a", token.DefaultMaxSize+1), false, token.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(t)
			o.says(said(nil))
			v := newVerifier(t,
				&token.Issuer{Issuer: issuerA, Introspection: o.config()},
				&token.Issuer{Issuer: issuerB, KeysRaw: pemSource(t, otherRSA().Public())},
			)
			claims, err := v.Verify(t.Context(), tc.raw, now, []string{resource})
			if got := token.ReasonOf(err); got != tc.reason || (err == nil) != (claims != nil) {
				t.Errorf("reason %q (%v), want %q", got, err, tc.reason)
			}
			if asked := o.questions(); len(asked) > 1 || (len(asked) == 1) != tc.asked || tc.asked && asked[0] != tc.raw {
				t.Errorf("the issuer was asked about %q", asked)
			}
		})
	}
	t.Run("nobody is asked", func(t *testing.T) {
		if _, err := standardVerifier(t).Verify(t.Context(), "opaque", now, []string{resource}); token.ReasonOf(err) != token.Malformed {
			t.Error(err)
		}
	})
}

// TestConfirmed: an issuer whose JWTs are verified with keys, too, can take away what it
// has signed, and adds nothing to it. It is asked about nothing that it has not signed.
func TestConfirmed(t *testing.T) {
	for name, tc := range map[string]struct {
		raw    string
		answer object
		asked  bool
		reason token.Reason
	}{
		"active":             {"", object{"active": true}, true, ""},
		"the same":           {"", said(nil), true, ""},
		"more":               {"", said(object{"roles": []string{"admin"}, "username": "root"}), true, ""},
		"scopes in order":    {"", said(object{"scope": "mcp:write mcp:read"}), true, ""},
		"revoked":            {"", object{"active": false}, true, token.Inactive},
		"down":               {"", nil, true, token.IntrospectionUnavailable},
		"another subject":    {"", said(object{"sub": "bob"}), true, token.Disagreement},
		"another client":     {"", said(object{"client_id": "other"}), true, token.Disagreement},
		"another jti":        {"", said(object{"jti": "t-2"}), true, token.Disagreement},
		"another scope":      {"", said(object{"scope": "mcp:read"}), true, token.Disagreement},
		"a wider scope":      {"", said(object{"scope": "mcp:read mcp:write mcp:admin"}), true, token.Disagreement},
		"another issuer":     {"", said(object{"iss": issuerB}), true, token.UnknownIssuer},
		"bound to a key":     {"", said(object{"cnf": object{}}), true, token.SenderConstrained},
		"a sub of no form":   {"", said(object{"sub": 1}), true, token.InvalidClaims},
		"over by then":       {"", said(object{"exp": now.Unix() - 1}), true, token.Expired},
		"forged":             {signed("RS256", otherRSA(), goodClaims(nil), nil), said(nil), false, token.BadSignature},
		"expired":            {signed("RS256", rsaKey(), goodClaims(object{"exp": now.Unix() - 1}), nil), said(nil), false, token.Expired},
		"for somebody else":  {signed("RS256", rsaKey(), goodClaims(object{"aud": "https://x.example"}), nil), said(nil), false, token.WrongAudience},
		"opaque":             {"opaque", said(nil), true, ""},
		"opaque and revoked": {"opaque", object{"active": false}, true, token.Inactive},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(t)
			o.says(tc.answer)
			v := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(t, rsaKey().Public()), Introspection: o.config()})
			raw := tc.raw
			if raw == "" {
				raw = signed("RS256", rsaKey(), goodClaims(nil), nil)
			}
			claims, err := v.Verify(t.Context(), raw, now, []string{resource})
			if got := token.ReasonOf(err); got != tc.reason || (err == nil) != (tc.reason == "") || (err == nil) != (claims != nil) {
				t.Fatalf("reason %q (%v), want %q", got, err, tc.reason)
			}
			if asked := o.questions(); (len(asked) == 1) != tc.asked {
				t.Errorf("the issuer was asked about %q", asked)
			}
			if err != nil {
				return
			}
			if roles, ok := claims.Lookup("roles"); ok {
				t.Errorf("the answer gave roles %v", roles)
			}
			if !claims.Current() || claims.FreshUntil().IsZero() || !claims.Stale(now.Add(introspect.MaxCache+time.Second)) {
				t.Errorf("to be asked about again after %s", claims.FreshUntil())
			}
		})
	}
	t.Run("a shorter life", func(t *testing.T) {
		o := newOracle(t)
		o.says(object{"active": true, "exp": now.Unix() + 7})
		v := newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(t, rsaKey().Public()), Introspection: o.config()})
		claims := must(v.Verify(t.Context(), signed("RS256", rsaKey(), goodClaims(nil), nil), now, []string{resource}))
		if left := claims.Deadline().Sub(now); left != 7*time.Second {
			t.Errorf("good for %s", left)
		}
	})
}

// TestIntrospectedDigest: a token is known by its text where it has no jti, and a JWT by
// what is signed, whoever verifies it.
func TestIntrospectedDigest(t *testing.T) {
	o := newOracle(t)
	o.says(said(object{"jti": remove}))
	v := newVerifier(t, &token.Issuer{Issuer: issuerA, JTIOptional: true, Introspection: o.config()})
	digest := func(raw string) [32]byte {
		return must(v.Verify(t.Context(), raw, now, []string{resource})).Digest
	}
	one, two, again := digest("one"), digest("two"), digest("one")
	if one == two || one != again {
		t.Error("texts are not told apart")
	}
	jwt := signed("RS256", rsaKey(), goodClaims(nil), nil)
	signedText, _, _ := strings.Cut(jwt, "."+strings.Split(jwt, ".")[2])
	if digest(jwt) != digest(signedText+"."+encode("another signature")) {
		t.Error("a JWT with another signature is another token")
	}
}

// TestIntrospectionUnavailable is neither for nor against the token.
func TestIntrospectionUnavailable(t *testing.T) {
	o := newOracle(t)
	v := newVerifier(t, &token.Issuer{Issuer: issuerA, Introspection: o.config()})
	_, err := v.Verify(t.Context(), "opaque", now, []string{resource})
	refusal, ok := err.(*token.Error) //nolint:errorlint // as Verify promises
	if !ok || refusal.Reason != token.IntrospectionUnavailable || !refusal.Unavailable() || refusal.RetryAfter < time.Second {
		t.Fatalf("%#v", err)
	}
	if text := err.Error(); strings.Contains(text, "opaque") || strings.Contains(text, secret64) || !strings.Contains(text, "status 503") {
		t.Error(text)
	}
	if err := v.Ready(now); err == nil || !strings.Contains(err.Error(), issuerA) {
		t.Errorf("ready: %v", err)
	}
}

// TestStaleEntries: what is remembered of a token is forgotten when its issuer has to be
// asked again.
func TestStaleEntries(t *testing.T) {
	o := newOracle(t)
	o.says(said(nil))
	config := o.config()
	config.Cache = caddy.Duration(10 * time.Second)
	v := newVerifier(t, &token.Issuer{Issuer: issuerA, Introspection: config})
	cache := token.NewCache[string](10)
	claims := must(v.Verify(t.Context(), "opaque", now, []string{resource}))
	cache.Add("opaque", "a", claims, "alice")
	for _, after := range []time.Duration{0, 9 * time.Second} {
		if _, ok := cache.Get("opaque", "a", now.Add(after)); !ok {
			t.Errorf("not found after %s", after)
		}
	}
	if _, ok := cache.Get("opaque", "a", claims.FreshUntil()); ok {
		t.Error("found when the issuer has to be asked again")
	}
	if cache.Len() != 0 {
		t.Error("it is still there")
	}
}

// TestIntrospectionConfig refuses what cannot work.
func TestIntrospectionConfig(t *testing.T) {
	ask := func() *introspect.Config {
		return &introspect.Config{ClientID: "gateway", ClientSecret: "{env.TOKEN_TEST_SECRET}"}
	}
	written := ask()
	written.ClientSecret = "hunter2 itself"
	plain := ask()
	plain.URL = "http://login.example.com/introspect"
	for name, tc := range map[string]struct {
		environment token.Environment
		issuers     []*token.Issuer
		err         string
	}{
		"one":                      {"", []*token.Issuer{{Issuer: issuerA, Introspection: ask()}, {Issuer: issuerB, KeysRaw: secretSource()}}, ""},
		"two":                      {"", []*token.Issuer{{Issuer: issuerA, Introspection: ask()}, {Issuer: issuerB, Introspection: ask()}}, "leave introspection to one of them"},
		"algorithms without keys":  {"", []*token.Issuer{{Issuer: issuerA, Introspection: ask(), Algorithms: []string{"RS256"}}}, "name where the keys come from"},
		"types without keys":       {"", []*token.Issuer{{Issuer: issuerA, Introspection: ask(), TokenTypes: []string{"JWT"}}}, "name where the keys come from"},
		"algorithms with keys":     {"", []*token.Issuer{{Issuer: issuerA, Introspection: ask(), Algorithms: []string{"HS256"}, KeysRaw: secretSource()}}, ""},
		"a secret":                 {"", []*token.Issuer{{Issuer: issuerA, Introspection: written}}, "written into the configuration"},
		"a secret, in development": {token.Development, []*token.Issuer{{Issuer: issuerA, Introspection: written}}, ""},
		"http":                     {"", []*token.Issuer{{Issuer: issuerA, Introspection: plain}}, "https"},
		"http, in development":     {token.Development, []*token.Issuer{{Issuer: issuerA, Introspection: plain}}, ""},
		"no URL":                   {"", []*token.Issuer{{Issuer: "name", Introspection: ask()}}, "introspection endpoint"},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		ctx = token.WithEnvironment(ctx, tc.environment)
		var err error
		for _, iss := range tc.issuers {
			if err == nil {
				err = iss.Provision(ctx)
			}
		}
		if err == nil {
			_, err = token.NewVerifier(tc.issuers, 0)
		}
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", name, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
		cancel()
	}
}

// TestIntrospectedEnvironment: a token for another environment is refused, whoever reads
// it.
func TestIntrospectedEnvironment(t *testing.T) {
	o := newOracle(t)
	o.says(said(object{"env": "staging"}))
	v := newVerifier(t, &token.Issuer{Issuer: issuerA, Introspection: o.config()})
	v.Environment = "production"
	if _, err := v.Verify(t.Context(), "opaque", now, []string{resource}); token.ReasonOf(err) != token.WrongEnvironment {
		t.Error(err)
	}
}
