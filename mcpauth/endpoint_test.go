package mcpauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func TestOrigins(t *testing.T) {
	const own = "https://mcp.example.com"
	for _, tc := range []struct {
		base    string
		host    string
		origins []string
		status  int // 0: allowed
	}{
		{own, "mcp.example.com", nil, 0},
		{own, "mcp.example.com:443", nil, 0},
		{own, "MCP.Example.COM", nil, 0},
		{own, "other.internal:8443", nil, 0},
		{own, "mcp.example.com.", nil, 421},
		{own, "mcp.example.com.evil.example", nil, 421},
		{own, "evil.example", nil, 421},
		{own, "localhost", nil, 421},
		{own, "127.0.0.1", nil, 421},
		{own, "", nil, 421},
		{own, "mcp.example.com", []string{own}, 0},
		{own, "mcp.example.com", []string{"HTTPS://MCP.example.com"}, 0},
		{own, "mcp.example.com", []string{"https://app.example.com"}, 0},
		{own, "mcp.example.com", []string{"https://app.example.com:444"}, 403},
		{own, "mcp.example.com", []string{"http://mcp.example.com"}, 403},
		{own, "mcp.example.com", []string{"https://mcp.example.com.evil.example"}, 403},
		{own, "mcp.example.com", []string{"https://mcp.example.com/"}, 403},
		{own, "mcp.example.com", []string{"http://localhost:3000"}, 403},
		{own, "mcp.example.com", []string{"null"}, 403},
		{own, "mcp.example.com", []string{""}, 403},
		{own, "mcp.example.com", []string{own, own}, 403},
		{own, "mcp.example.com", []string{own + ", https://evil.example"}, 403},
		{own, "evil.example", []string{own}, 421},
		{"https://mcp.example.com:8443/gateway", "mcp.example.com:8443", []string{"https://mcp.example.com:8443"}, 0},
		{"https://mcp.example.com:8443/gateway", "mcp.example.com:8443", []string{own}, 403},

		// On this machine every name of it will do, with any port.
		{"http://localhost:8080", "127.0.0.1:8080", nil, 0},
		{"http://127.0.0.1:8080", "localhost:9090", nil, 0},
		{"http://[::1]:8080", "[::1]:8080", nil, 0},
		{"http://127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", nil, 0},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://localhost:6274"}, 0},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://[::1]"}, 0},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://localhost.evil.example"}, 403},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://localhost:1@evil.example"}, 403},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://127.0.0.1.evil.example"}, 403},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", []string{"http://192.168.0.2"}, 403},
		{"http://127.0.0.1:8080", "rebound.evil.example:8080", nil, 421},
	} {
		base, err := resource.Parse(tc.base)
		if err != nil {
			t.Fatal(err)
		}
		o, err := newOrigins(base, []string{"https://App.example.com"}, []string{"other.internal"})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Host = tc.host
		if tc.origins != nil {
			r.Header["Origin"] = tc.origins
		}
		status := 0
		if refusal := o.check(r); refusal != nil {
			status = refusal.Status
		}
		if status != tc.status {
			t.Errorf("public URL %s, host %q, origin %q: %d, expected %d", tc.base, tc.host, tc.origins, status, tc.status)
		}
	}
}

func TestEndpoints(t *testing.T) {
	one := provisioned(t, gateConfig(nil))
	two := provisioned(t, gateConfig(map[string]any{"servers": []string{"notes", "tickets"}, "public_url": gateURL + "/gw"}))
	for _, tc := range []struct {
		handler *Handler
		path    string
		server  string
	}{
		{one, "/mcp", "notes"},
		{one, "/mcp?x=y", "notes"},
		{one, "/servers/notes/mcp", "notes"},
		{one, "/mcp/", ""},
		{one, "/MCP", ""},
		{one, "//mcp", ""},
		{one, "/./mcp", ""},
		{one, "/x/../mcp", ""},
		{one, "/%6dcp", ""},
		{one, "/servers%2Fnotes%2Fmcp", ""},
		{one, "/servers/notes%2fmcp", ""},
		{one, "/servers/Notes/mcp", ""},
		{one, "/servers/tickets/mcp", ""},
		{one, "/servers//mcp", ""},
		{one, "/servers/notes/mcp/x", ""},
		{one, "/servers/notes/mcp%00", ""},
		{one, "/servers/notes/mcp;x=y", ""},
		{one, "/", ""},
		{two, "/gw/servers/tickets/mcp", "tickets"},
		{two, "/gw/servers/notes/mcp", "notes"},
		{two, "/gw/mcp", ""},
		{two, "/servers/notes/mcp", ""},
	} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodPost, tc.path, nil), caddy.NewReplacer(), w, new(caddyhttp.Server))
		// What a rewrite makes of it does not matter.
		r.URL = &url.URL{Path: "/servers/tickets/mcp"}
		server := ""
		if e := tc.handler.endpoint(r); e != nil {
			server = e.server
		}
		if server != tc.server {
			t.Errorf("%s leads to %q, expected %q", tc.path, server, tc.server)
		}
	}
}

func TestPreflight(t *testing.T) {
	g := newGate(t, map[string]any{"allowed_origins": []string{"https://app.example.com"}}, func(http.ResponseWriter, *http.Request) error {
		t.Error("a preflight reached the server")
		return nil
	})
	ask := func(origin string, wanted string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, g.URL+"/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", wanted)
		resp, _ := g.do(t, r)
		return resp
	}
	resp := ask("https://app.example.com", "authorization, mcp-protocol-version,mcp-param-region, x-evil, mcp-param-a;b")
	allowed := strings.Split(resp.Header.Get("Access-Control-Allow-Headers"), ", ")
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
		resp.Header.Get("Vary") != "Origin" || resp.Header.Get("Access-Control-Allow-Credentials") != "" ||
		resp.Header.Get("Access-Control-Allow-Methods") != "GET, POST, DELETE" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, name := range []string{"Authorization", "Content-Type", "Mcp-Protocol-Version", "Mcp-Session-Id", "Last-Event-Id", "Mcp-Method", "Mcp-Name", "Mcp-Param-Region"} {
		if !slices.Contains(allowed, name) {
			t.Errorf("%s is not allowed: %q", name, allowed)
		}
	}
	for _, name := range allowed {
		if !isToken(name) || strings.EqualFold(name, "x-evil") || name == "*" {
			t.Errorf("%q is allowed", name)
		}
	}
	resp = ask("https://evil.example", "authorization")
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign origin: %d %v", resp.StatusCode, resp.Header)
	}
}

// TestExposedToPages: a page of an allowed origin can read answers and refusals.
func TestExposedToPages(t *testing.T) {
	g := newGate(t, map[string]any{"allowed_origins": []string{"https://app.example.com"}},
		says("application/json", allTools, "Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true"))
	for token, status := range map[string]int{"": 401, tokenOf(t, "reader", nil): 200} {
		r := g.post(t, token, askTools)
		r.Header.Set("Origin", "https://app.example.com")
		resp, _ := g.do(t, r)
		if resp.StatusCode != status || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
			len(resp.Header.Values("Access-Control-Allow-Origin")) != 1 || resp.Header.Get("Access-Control-Allow-Credentials") != "" ||
			!strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") ||
			!strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
}

// challengeForm is RFC 6750 section 3: the scheme, and parameters whose values are
// quoted and hold neither quotes nor backslashes.
var (
	challengeForm  = regexp.MustCompile(`^Bearer ([a-z_]+="[\x20\x21\x23-\x5b\x5d-\x7e]*")(, [a-z_]+="[\x20\x21\x23-\x5b\x5d-\x7e]*")*$`)
	challengeParam = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// challengeOf checks a challenge's form and returns its parameters.
func challengeOf(t *testing.T, resp *http.Response) map[string]string {
	t.Helper()
	given := resp.Header.Values("WWW-Authenticate")
	if len(given) != 1 || !challengeForm.MatchString(given[0]) {
		t.Fatalf("challenge %q", given)
	}
	params := map[string]string{}
	for _, match := range challengeParam.FindAllStringSubmatch(given[0], -1) {
		if _, twice := params[match[1]]; twice {
			t.Errorf("%s twice: %s", match[1], given[0])
		}
		params[match[1]] = match[2]
	}
	return params
}

func TestChallenges(t *testing.T) {
	g := newGate(t, map[string]any{"scopes_supported": []string{"notes:read", "notes:list"}}, func(http.ResponseWriter, *http.Request) error {
		t.Error("a refused request reached the server")
		return nil
	})
	good := tokenOf(t, "reader", nil)
	hostile := `x", error="no_error", scope="*`
	for _, tc := range []struct {
		name   string
		change func(r *http.Request)
		status int
		reason string
		code   string // the challenge's error
		scope  string
	}{
		{"no token", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "token_missing", "", "notes:read notes:list"},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Basic eDp5") }, 401, "token_missing", "", "notes:read notes:list"},
		{"empty token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401, "token_missing", "", "notes:read notes:list"},
		{"no JWT", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+hostile) }, 401, "token_malformed", "invalid_token", "notes:read notes:list"},
		{"two tokens", func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+good) }, 400, "token_several", "invalid_request", ""},
		{"token in the query", func(r *http.Request) { r.URL.RawQuery = "access_token=" + good }, 400, "token_in_query", "invalid_request", ""},
		{"expired", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", map[string]any{"exp": 1000000000}))
		}, 401, "token_expired", "invalid_token", "notes:read notes:list"},
		{"another issuer", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", map[string]any{"iss": hostile}))
		}, 401, "token_issuer", "invalid_token", "notes:read notes:list"},
		{"another audience", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", map[string]any{"aud": hostile}))
		}, 401, "token_audience", "invalid_token", "notes:read notes:list"},
		{"forged", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+good[:len(good)-8]+"AAAAAAAA") }, 401, "token_signature", "invalid_token", "notes:read notes:list"},
		{"a wider scope would help", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", map[string]any{"scope": "notes:read offline_access"}))
		}, 403, "insufficient_scope", "insufficient_scope", "notes:read notes:write"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := g.post(t, good, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"save"}}`)
			r.Header.Set("User-Agent", hostile)
			tc.change(r)
			resp, body := g.do(t, r)
			if resp.StatusCode != tc.status || reasonOf(body) != tc.reason {
				t.Errorf("%d %s, expected %d %s", resp.StatusCode, body, tc.status, tc.reason)
			}
			params := challengeOf(t, resp)
			if params["error"] != tc.code || params["scope"] != tc.scope ||
				params["resource_metadata"] != gateURL+"/.well-known/oauth-protected-resource/mcp" {
				t.Errorf("challenge: %v", params)
			}
			if tc.code == "" && params["error_description"] != "" {
				t.Errorf("a description without an error: %v", params)
			}
			if strings.Contains(body+resp.Header.Get("WWW-Authenticate"), "no_error") || strings.Contains(body, good) {
				t.Errorf("something of the request is in the answer: %s", body)
			}
			if resp.Header.Get("Cache-Control") != "no-store" {
				t.Error("the refusal may be cached")
			}
		})
	}
}

// TestChallengeScopes: the scopes a token has are repeated in a challenge, so a
// token with one that could break it out of its quotes must not get that far.
func TestChallengeScopes(t *testing.T) {
	g := newGate(t, nil, says("application/json", allTools))
	for _, scope := range []string{`a"b`, `a\b`, "a\x01b", "a\u00e9"} {
		token := tokenOf(t, "reader", map[string]any{"scope": scope})
		resp, body := g.do(t, g.post(t, token, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"save"}}`))
		if resp.StatusCode == http.StatusOK {
			t.Errorf("scope %q: %s", scope, body)
			continue
		}
		challengeOf(t, resp)
	}
}

// TestDescriptions: every reason's sentence can stand between quotes.
func TestDescriptions(t *testing.T) {
	e := &endpoint{metadata: gateURL}
	for _, reason := range []token.Reason{
		token.Malformed, token.TooLarge, token.WrongAlgorithm, token.WrongType, token.CriticalHeader,
		token.UnknownIssuer, token.UnknownKey, token.BadSignature, token.WrongAudience, token.Expired,
		token.NotYetValid, token.MissingExpiry, token.MissingTokenID, token.MissingSubject, token.InvalidClaims,
		token.NotAccessToken, token.SenderConstrained, token.KeysUnavailable, "unheard_of",
	} {
		if text := e.challenge("invalid_token", reason.Description(), []string{"a"}); !challengeForm.MatchString(text) {
			t.Errorf("%s: %s", reason, text)
		}
	}
}

// TestKeysUnavailable: a token that cannot be judged is no bad token.
func TestKeysUnavailable(t *testing.T) {
	g := newGate(t, map[string]any{"issuers": []any{map[string]any{
		"issuer": gateIssuer, "algorithms": []string{"ES256"},
		"keys": map[string]any{"source": "jwks", "url": "http://127.0.0.1:1/jwks"},
	}}}, says("application/json", allTools))
	const unsigned = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	resp, body := g.do(t, g.post(t, unsigned, askTools))
	if resp.StatusCode != http.StatusServiceUnavailable || reasonOf(body) != "keys_unavailable" || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
}
