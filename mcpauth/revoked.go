package mcpauth

import (
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

var (
	// errRevoked ends a stream whose token was revoked.
	errRevoked = fmt.Errorf("%w: the access token was revoked", ErrStreamOver)
	// errRevocationUnknown ends a stream when nobody knows any more what was revoked.
	errRevocationUnknown = fmt.Errorf("%w: the store of revocations is cut off", ErrStreamOver)
)

// Revocable is what a token can be revoked by.
func Revocable(c *token.Claims) revocation.Token {
	return revocation.Token{Issuer: c.Issuer, ID: c.TokenID, Subject: c.Subject, Client: c.ClientID, IssuedAt: c.IssuedAt, Hash: c.Digest}
}

// revocableAt is what the principal can be shut out by at a moment. Who has no token is
// as good as issued one just then.
func (p *Principal) revocableAt(now time.Time) *revocation.Token {
	if !p.vouched {
		return &p.revocable
	}
	t := p.revocable
	t.IssuedAt = now
	return &t
}

// checkRevoked refuses a token that was revoked, and any while it is not known what was.
func (h *Handler) checkRevoked(p *Principal, e *endpoint, now time.Time) *Refusal {
	verdict := h.revocations.Check(p.revocableAt(now), now)
	if verdict == revocation.Valid {
		return nil
	}
	if !verdict.Revoked() {
		return refuse(http.StatusServiceUnavailable, mcp.CodeUnauthorized, "revocation_unknown", "it is not known whether the access token was revoked")
	}
	h.logger.Info("token was revoked", zap.String("by", verdict.String()), zap.String("issuer", p.Issuer), zap.String("token", p.TokenID))
	f := refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, "token_revoked", "the access token was revoked")
	f.challenge = e.challenge("invalid_token", f.Message, h.ScopesSupported)
	return f
}

// watch has the stream end when its token is revoked.
func (a *answer) watch() {
	if a.call.handler == nil {
		return
	}
	a.watched = a.call.newWatch(func(v revocation.Verdict) { a.end(causeOf(v)) })
	a.watched.strict = true
	if verdict := a.watched.renew(); verdict != revocation.Valid {
		a.end(causeOf(verdict)) // before anything is sent
	}
}

func causeOf(v revocation.Verdict) error {
	if v.Revoked() {
		return errRevoked
	}
	return errRevocationUnknown
}

// Token is what the call's token can be revoked by, for what of the call lasts longer than
// it does, such as an MCP session. Whoever logs in at the gateway has one token after the
// other in an interactive session, and it is the end of that which counts.
func (c *Call) Token() revocation.Token {
	t := *c.Principal.revocableAt(steady.Now())
	if s := c.Principal.standing; s != nil && s.session != nil {
		sid, _ := s.token.Lookup("sid")
		id, _ := sid.(string)
		t.ID, t.Hash = login.RevocationID(id), revocation.Token{}.Hash
	}
	return t
}
