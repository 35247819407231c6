package mcpauth

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// CheckServerless decides on a request for something of the gateway's own that is not on
// any MCP server, such as the description of its API: nil, if it may be made with one of
// the gateway's API tokens, of which the verified claims are given; otherwise why not, and
// after which time it may be tried again, if that is known. All that bounds the token
// bounds it, as where it is used for MCP servers; but neither its server nor its
// permissions have a meaning here. The app must have accounts.
func (a *App) CheckServerless(r *http.Request, claims *token.Claims) (refused *Refusal, again time.Duration) {
	now := steady.Now()
	if use, _ := claims.Lookup("token_use"); claims.Issuer != a.issuer.Name() || use != issue.UseAPI {
		return notGood("token_unknown", "the access token is no API token of the gateway's"), 0
	}
	revocable := Revocable(claims)
	switch verdict := a.store.revocations.Check(&revocable, now); {
	case verdict.Revoked():
		return notGood("token_revoked", "the access token was revoked"), 0
	case verdict != revocation.Valid:
		return refuse(http.StatusServiceUnavailable, mcp.CodeUnauthorized, "revocation_unknown", "it is not known whether the access token was revoked"), 0
	}
	known := &register{cache: a.store.live, issuer: a.issuer.Name(), scopes: new(scope.Config), logger: a.logger}
	_, reach, refusal := known.lookUp(r.Context(), claims, now)
	if refusal != nil {
		return refusal, 0
	}
	beyond := reach.Admits(clientAddress(r), now)
	if beyond == nil { // what was refused does not count
		beyond = count(r.Context(), a.store.store, a.logger, reach, claims)
	}
	if beyond == nil {
		return nil, 0
	}
	a.logger.Info("beyond the token", zap.String("cause", string(beyond.Cause)), zap.String("issuer", claims.Issuer), zap.String("token", claims.TokenID))
	return refuse(beyond.Status, mcp.CodeForbidden, beyond.Reason, "this is beyond the access token"), beyond.RetryAfter
}

// clientAddress is the client's, as Caddy's trusted_proxies tell it; the zero one if it is
// not known.
func clientAddress(r *http.Request) (ip netip.Addr) {
	if text, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		ip, _ = netip.ParseAddr(text)
	}
	return ip
}
