package mcpadmin

import (
	"errors"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// TestUnbounded: only the token of a session that nothing bounds gets to the
// administration, also where the gateway itself would not make such a token.
func TestUnbounded(t *testing.T) {
	for _, tc := range []struct {
		name   string
		claims map[string]any
		want   error
	}{
		{"an administrator's", map[string]any{"is_admin": true}, nil},
		{"all teams", map[string]any{"is_admin": true, "teams": nil}, nil},
		{"no teams", map[string]any{"is_admin": true, "teams": []any{}}, errPublicOnly},
		{"a team", map[string]any{"is_admin": true, "teams": []any{"support"}}, errNarrowed},
		{"of a server", map[string]any{"is_admin": true, "scopes": map[string]any{"server_id": "tickets"}}, errServerScoped},
		{"of a server and no teams", map[string]any{"teams": []any{}, "scopes": map[string]any{"server_id": "tickets"}}, errServerScoped},
		{"no server", map[string]any{"scopes": map[string]any{"server_id": nil}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.claims["token_use"] = "session"
			reach, err := scope.Parse(func(name string) (any, bool) { value, ok := tc.claims[name]; return value, ok }, nil, scope.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := unbounded(token.NewClaims("i", "s", tc.claims, reach)); !errors.Is(err, tc.want) {
				t.Errorf("got %v, expected %v", err, tc.want)
			}
		})
	}
	if err := unbounded(token.NewClaims("i", "s", nil, nil)); err == nil {
		t.Error("a token without a scope gets in")
	}
	for _, tc := range []struct {
		user account.User
		want error
	}{
		{account.User{Admin: true, Active: true}, nil},
		{account.User{Admin: true}, errDisabled},
		{account.User{Active: true}, errNotAdmin},
		{account.User{}, errDisabled},
	} {
		if err := administers(tc.user); !errors.Is(err, tc.want) {
			t.Errorf("%+v: got %v, expected %v", tc.user, err, tc.want)
		}
	}
}
