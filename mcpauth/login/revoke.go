package login

import (
	"context"
	"errors"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Revoke ends the session of a refresh or session token that somebody has (RFC 7009
// section 2.1). To have it is enough: who has it could use it. An API token is left to
// the caller, who gets its claims; a text that is no good token of the gateway's is
// nobody's, and no error.
//
// A refresh token that was used before ends its session as well, as it does when it is
// used again: there may be two who have it.
func (d *Desk) Revoke(ctx context.Context, text, address string) (*token.Claims, error) {
	by := account.Actor{Name: "holder of the token", Address: address}
	if refresh, ok := parseRefresh(text); ok {
		return nil, d.endHeld(ctx, by, refresh.user, refresh.session(), nil)
	}
	claims, err := d.verifier.Verify(ctx, text, d.now(), nil)
	var refused *token.Error
	if errors.As(err, &refused) && refused.Reason != token.KeysUnavailable {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch use, _ := claims.Lookup("token_use"); use {
	case issue.UseAPI:
		return claims, nil
	case issue.UseSession:
		sid, _ := claims.Lookup("sid")
		id, _ := sid.(string)
		return nil, d.endHeld(ctx, by, claims.Subject, id, claims)
	}
	return nil, nil
}

// endHeld ends a session, if there is one. With the claims of a token it has to be the
// one that the session has now: any before were revoked when it was refreshed.
func (d *Desk) endHeld(ctx context.Context, by account.Actor, user, session string, claims *token.Claims) error {
	entry, err := d.session(ctx, user, session)
	if err == nil && claims != nil && entry.Data.Access != claims.TokenID {
		return nil
	}
	if err == nil {
		err = d.endOne(ctx, by, user, session)
	}
	if errors.Is(err, errNoSession) {
		return nil
	}
	return err
}

// Verify returns the claims of a good token of the gateway's, of whatever use. Whether it
// was revoked is not asked, nor how its holder stands.
func (d *Desk) Verify(ctx context.Context, raw string) (*token.Claims, error) {
	return d.verifier.Verify(ctx, raw, d.now(), nil)
}

// Use is the claim token_use of a good token of the gateway's.
func (d *Desk) Use(ctx context.Context, raw string) (string, error) {
	claims, err := d.Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	use, _ := claims.Lookup("token_use")
	text, _ := use.(string)
	return text, nil
}
