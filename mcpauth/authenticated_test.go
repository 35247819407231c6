package mcpauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
)

// testProvider lets everybody in as it is told to, as a provider with a cookie or a
// certificate might.
type testProvider struct {
	ID       string            `json:"id"`
	Metadata map[string]string `json:"metadata"`
}

func (testProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.mcpauth_test", New: func() caddy.Module { return new(testProvider) }}
}

func (p testProvider) Authenticate(http.ResponseWriter, *http.Request) (caddyauth.User, bool, error) {
	return caddyauth.User{ID: p.ID, Metadata: p.Metadata}, true, nil
}

func init() { caddy.RegisterModule(testProvider{}) }

// authenticator is Caddy's own authentication handler with a provider.
func authenticator(t *testing.T, provider string, config any) caddyhttp.MiddlewareHandler {
	t.Helper()
	text, err := json.Marshal(map[string]any{"providers": map[string]any{provider: config}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := load(t, "http.handlers.authentication", string(text))
	if err != nil {
		t.Fatal(err)
	}
	return h.(caddyhttp.MiddlewareHandler)
}

func TestAuthenticated(t *testing.T) {
	option := map[string]any{"authenticated": map[string]any{"claims": map[string]any{
		"roles": map[string]any{"from": "{http.auth.user.groups}"},
		"teams": map[string]any{"from": "{http.auth.user.units}", "separator": " "},
	}}}
	team := map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "support"}}}
	user := func(id string, metadata map[string]string) caddyhttp.MiddlewareHandler {
		return authenticator(t, "mcpauth_test", testProvider{id, metadata})
	}
	reader := map[string]string{"groups": "sales,reader", "email": "alice@example.com", "roles": "whatever", "is_admin": "true"}
	withTeam := maps.Clone(reader)
	withTeam["units"] = "sales support"
	for name, tc := range map[string]struct {
		before          caddyhttp.MiddlewareHandler
		change          map[string]any
		off, token      bool
		header          string
		status          int
		reason          string
		issuer, subject string
		shown           string
	}{
		"a user":                   {before: user("alice", reader), status: 200, issuer: "authenticated", subject: "alice", shown: "alice reader alice@example.com"},
		"a user and a token":       {before: user("alice", reader), token: true, status: 400, reason: "credentials_several"},
		"nobody":                   {status: 401, reason: "token_missing"},
		"nobody, and a token":      {token: true, status: 200, issuer: gateIssuer, subject: "somebody", shown: "somebody reader "},
		"nobody, but a header":     {header: "X-Groups: reader", status: 401, reason: "token_missing"},
		"a user without an id":     {before: user("", reader), status: 400, reason: "identity_malformed"},
		"a user that is no text":   {before: user("a\nb", reader), status: 400, reason: "identity_malformed"},
		"a user without groups":    {before: user("alice", nil), status: 403, reason: "forbidden"},
		"a team's server, no team": {before: user("alice", reader), change: team, status: 403, reason: "forbidden_scope"},
		"a team's server":          {before: user("alice", withTeam), change: team, status: 200, issuer: "authenticated", subject: "alice", shown: "alice reader alice@example.com"},
		"switched off":             {before: user("alice", reader), off: true, status: 401, reason: "token_missing"},
		// Who has a token is who the token says, and the placeholders say the same.
		"switched off, and a token": {before: user("alice", reader), off: true, token: true, status: 200, issuer: gateIssuer, subject: "somebody", shown: "somebody reader "},
	} {
		t.Run(name, func(t *testing.T) {
			change := maps.Clone(option)
			if tc.off {
				change = map[string]any{}
			}
			maps.Copy(change, tc.change)
			var before []caddyhttp.MiddlewareHandler
			if tc.before != nil {
				before = append(before, tc.before)
			}
			g, received := receiving(t, change, before...)
			token := ""
			if tc.token {
				token = tokenOf(t, "reader", nil)
			}
			r := g.post(t, token, callList)
			if name, value, ok := strings.Cut(tc.header, ": "); ok {
				r.Header.Set(name, value)
			}
			resp, body := g.do(t, r)
			if got := reasonOf(body); resp.StatusCode != tc.status || got != tc.reason {
				t.Fatalf("status %d, reason %q, want %d %q: %s", resp.StatusCode, got, tc.status, tc.reason, body)
			}
			if tc.issuer == "" {
				if len(*received) > 0 {
					t.Fatalf("the server received %v", (*received)[0].header)
				}
				return
			}
			got := (*received)[0]
			if got.principal.Issuer != tc.issuer || got.principal.Subject != tc.subject || !slices.Equal(got.principal.Roles, []string{"reader"}) || got.principal.Scope.Admin() {
				t.Errorf("the principal is %s of %s with the roles %v", got.principal.Subject, got.principal.Issuer, got.principal.Roles)
			}
			if got.shown != tc.shown {
				t.Errorf("the placeholders show %q, want %q", got.shown, tc.shown)
			}
		})
	}
}

// A proxy and an authenticator that both name somebody are two as well.
func TestHeaderAndAuthenticator(t *testing.T) {
	change := trusting(believed)
	change["authenticated"] = map[string]any{}
	g, received := receiving(t, change, authenticator(t, "mcpauth_test", testProvider{ID: "alice"}))
	r := g.post(t, "", callList)
	r.Header.Set("X-Authenticated-User", "alice")
	r.Header.Set("X-Authenticated-Groups", "reader")
	resp, body := g.do(t, r)
	if resp.StatusCode != http.StatusBadRequest || reasonOf(body) != "credentials_several" || len(*received) > 0 {
		t.Errorf("status %d: %s, the server received %v", resp.StatusCode, body, *received)
	}
	if challenge := resp.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer error="invalid_request", `) {
		t.Errorf("challenge %s", challenge)
	}
}

// What an mcp_auth before this one made of a token is not an authenticator's word.
func TestAuthenticatedByOurselves(t *testing.T) {
	first := provisioned(t, gateConfig(nil))
	g, received := receiving(t, map[string]any{"issuers": nil, "authenticated": map[string]any{}}, first)
	resp, body := g.do(t, g.post(t, tokenOf(t, "reader", nil), callList))
	if resp.StatusCode != http.StatusUnauthorized || reasonOf(body) != "identity_missing" || len(*received) > 0 {
		t.Errorf("status %d: %s, the server received %v", resp.StatusCode, body, *received)
	}
}

// Caddy's own basic_auth in front, and no issuer at all.
func TestBasicAuth(t *testing.T) {
	const hash = "$2a$04$LuDdK1vXhMCn4qlx84cVMObzhpay84570X9kqgeTdt393XAL149tq"
	basic := authenticator(t, "http_basic", map[string]any{"accounts": []any{map[string]any{"username": "alice", "password": hash}}})
	g, received := receiving(t, map[string]any{
		"issuers": nil, "authenticated": map[string]any{},
		"roles": []any{map[string]any{
			"name":  "alice",
			"when":  []any{map[string]any{"claim": "sub", "values": []string{"alice"}}},
			"allow": []any{map[string]any{"permission": "tools.execute"}},
		}},
	}, basic)
	for _, tc := range []struct {
		user, password string
		status         int
	}{{"alice", "wonderland", 200}, {"alice", "wrong", 401}} {
		r := g.post(t, "", callList)
		r.SetBasicAuth(tc.user, tc.password)
		if resp, body := g.do(t, r); resp.StatusCode != tc.status {
			t.Errorf("%s %s: status %d: %s", tc.user, tc.password, resp.StatusCode, body)
		}
	}
	if len(*received) != 1 || (*received)[0].principal.Subject != "alice" || (*received)[0].header["Authorization"] != nil {
		t.Errorf("the server received %+v", *received)
	}
}
