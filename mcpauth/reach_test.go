package mcpauth

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const callList = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}`

// TestTokenScope sends tokens that bound themselves (behaviour.md section 2) through
// the whole handler. What is refused must not reach the server.
func TestTokenScope(t *testing.T) {
	scopes := func(members map[string]any) map[string]any { return map[string]any{"scopes": members} }
	issuer := func(config map[string]any) map[string]any {
		config["issuer"], config["keys"] = gateIssuer, map[string]any{"source": "secret", "value": gateSecret}
		return map[string]any{"issuers": []any{config}}
	}
	team := map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "support"}}}
	bounded := issuer(map[string]any{"token_scope": map[string]any{"scope_permissions": true}})
	for name, tc := range map[string]struct {
		config, claims map[string]any
		status         int
		reason         string
	}{
		"no restriction":                    {status: 200},
		"its own server":                    {claims: scopes(map[string]any{"server_id": "notes"}), status: 200},
		"another server":                    {claims: scopes(map[string]any{"server_id": "other"}), status: 403, reason: "forbidden_scope"},
		"another address":                   {claims: scopes(map[string]any{"ip_restrictions": []string{"192.0.2.0/24"}}), status: 403, reason: "forbidden_scope"},
		"its address":                       {claims: scopes(map[string]any{"ip_restrictions": []string{"127.0.0.0/8"}}), status: 200},
		"another time":                      {claims: scopes(map[string]any{"time_restrictions": map[string]any{"days": []string{"Someday"}}}), status: 401, reason: "token_scope"},
		"the permission":                    {claims: scopes(map[string]any{"permissions": []string{"tools.execute"}}), status: 200},
		"no permission":                     {claims: scopes(map[string]any{"permissions": []string{}}), status: 403, reason: "forbidden"},
		"another permission hides the tool": {claims: scopes(map[string]any{"permissions": []string{"tools.read"}}), status: 200, reason: "not_found"},
		"an unknown field":                  {claims: scopes(map[string]any{"permision": []string{}}), status: 401, reason: "token_scope"},
		"permissions as text":               {claims: scopes(map[string]any{"permissions": "tools.execute,*"}), status: 401, reason: "token_scope"},
		"scopes that is no object":          {claims: map[string]any{"scopes": []string{"a"}}, status: 401, reason: "token_scope"},
		"switched off for the issuer":       {config: issuer(map[string]any{"token_scope_off": true}), claims: map[string]any{"scopes": []string{"a"}}, status: 200},
		"a team's server, no team":          {config: team, status: 403, reason: "forbidden_scope"},
		"a team's server, the team":         {config: team, claims: map[string]any{"teams": []string{"support"}}, status: 200},
		"a team's server, another team":     {config: team, claims: map[string]any{"teams": []string{"sales"}}, status: 403, reason: "forbidden_scope"},
		"a team's server, unrestricted":     {config: team, claims: map[string]any{"teams": nil, "is_admin": true}, status: 200},
		"a team's server, public only":      {config: team, claims: map[string]any{"teams": []string{}, "is_admin": true}, status: 403, reason: "forbidden_scope"},
		"OAuth scopes that do not suffice":  {config: bounded, claims: map[string]any{"scope": "mcp:tools.read"}, status: 403, reason: "insufficient_scope"},
		"OAuth scopes that suffice":         {config: bounded, claims: map[string]any{"scope": "mcp:tools.execute"}, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			received := make(chan string, 1)
			g := newGate(t, tc.config, func(w http.ResponseWriter, r *http.Request) error {
				body, err := io.ReadAll(r.Body)
				received <- string(body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
				return err
			})
			r, err := http.NewRequest(http.MethodPost, g.URL+"/mcp", strings.NewReader(callList))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", tc.claims))
			r.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if got := reasonOf(string(body)); resp.StatusCode != tc.status || got != tc.reason {
				t.Errorf("status %d, reason %q, want %d %q: %s", resp.StatusCode, got, tc.status, tc.reason, body)
			}
			select {
			case got := <-received:
				if tc.reason != "" {
					t.Errorf("the server received %s", got)
				}
			default:
				if tc.reason == "" {
					t.Error("the server received nothing")
				}
			}
			if tc.reason == "insufficient_scope" && !strings.Contains(resp.Header.Get("WWW-Authenticate"), `scope="mcp:tools.read mcp:tools.execute"`) {
				t.Errorf("challenge %q", resp.Header.Get("WWW-Authenticate"))
			}
		})
	}
}

// TestUsageLimits: what a token may do per hour is counted by its id, and what was
// refused does not count.
func TestUsageLimits(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // what is counted is kept
	g := newGate(t, nil, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		return err
	})
	token := tokenOf(t, "reader", map[string]any{
		"jti":    t.Name(),
		"scopes": map[string]any{"usage_limits": map[string]any{"requests_per_hour": 2}},
	})
	for i, want := range []struct {
		body   string
		status int
		reason string
	}{
		{callList, 200, ""},
		{strings.Replace(callList, "list", "admin", 1), 200, "not_found"},
		{callList, 200, ""},
		{callList, 429, "usage_exceeded"},
	} {
		r, err := http.NewRequest(http.MethodPost, g.URL+"/mcp", strings.NewReader(want.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := reasonOf(string(body)); resp.StatusCode != want.status || got != want.reason {
			t.Errorf("request %d: status %d, reason %q, want %d %q", i, resp.StatusCode, got, want.status, want.reason)
		}
		if (resp.Header.Get("Retry-After") != "") != (want.status == 429) {
			t.Errorf("request %d: Retry-After %q", i, resp.Header.Get("Retry-After"))
		}
	}
}
