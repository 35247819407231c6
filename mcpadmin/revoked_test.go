package mcpadmin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// TestRevoked: a session token that an administrator has revoked is good for nothing, and
// neither is what it could be refreshed to when everyone's are.
func TestRevoked(t *testing.T) {
	w := newSettled(t)
	w.start()
	session := w.login("bob@example.com", bobNext).want(http.StatusOK, "")
	token := session.str("access_token")
	w.get("/auth/me", token).want(http.StatusOK, "")

	configured, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	r := state.Revocation{Kind: state.RevokeEveryone, Before: time.Now().Add(time.Minute), Expires: time.Now().Add(time.Hour)}
	if err := configured.(*mcpauth.App).Revocations().Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w.get("/auth/me", token).want(http.StatusUnauthorized, "token_revoked")
	w.post("/auth/logout", token, nil).want(http.StatusUnauthorized, "token_revoked")
	w.list(token).want(http.StatusUnauthorized, "")
	w.post("/auth/refresh", "", object{"refresh_token": session.str("refresh_token")}).want(http.StatusUnauthorized, "refresh_invalid")
	if w.forwarded() != 0 {
		t.Error("the server has received something")
	}
}
