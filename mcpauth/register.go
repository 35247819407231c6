package mcpauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/live"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// register is where it is looked up how those stand who hold the gateway's own tokens.
type register struct {
	cache  *live.Cache
	issuer string
	// scopes is how the issuer's claims scopes are read.
	scopes *scope.Config
	logger *zap.Logger
}

// lookUp finds out how the holder of a token stands, which was verified, and what the
// token reaches, as far as the gateway agrees.
func (g *register) lookUp(ctx context.Context, claims *token.Claims, now time.Time) (*standing, *scope.Scope, *Refusal) {
	if g.cache.IsStale(now) {
		return nil, nil, g.unknown(g.cache.Ready(now))
	}
	s := &standing{cache: g.cache, token: claims, from: now}
	reach, refusal := g.bound(ctx, s, now)
	if refusal != nil && s.record != nil && s.record.Value.Known && s.record.Value.Record.UserID == claims.Subject {
		refusal.issued = claims
	}
	return s, reach, refusal
}

func (g *register) bound(ctx context.Context, s *standing, now time.Time) (reach *scope.Scope, refusal *Refusal) {
	switch use, _ := s.token.Lookup("token_use"); use {
	case issue.UseSession:
		refusal = g.checkSession(ctx, s, now)
	case issue.UseAPI:
		refusal = g.checkRecord(ctx, s, now)
	default:
		refusal = notGood("token_unknown", "the access token is none that the gateway issues")
	}
	if refusal == nil {
		refusal = g.checkAccount(ctx, s)
	}
	if refusal != nil {
		return nil, refusal
	}
	holder := &s.account.Value
	reach, beyond := s.token.Scope.ForAccount(scope.Account{Admin: holder.User.Admin, Teams: holder.Teams})
	if beyond != nil {
		return nil, notMember()
	}
	if s.record != nil {
		return g.within(reach, &s.record.Value.Record, holder)
	}
	return reach, nil
}

// checkSession finds the session of a session token, which must be the last one of it.
// Its revocation when the session ended is not enough: that is over when the token
// expires, and an issuer's leeway can be longer.
func (g *register) checkSession(ctx context.Context, s *standing, now time.Time) *Refusal {
	sid, _ := s.token.Lookup("sid")
	id, _ := sid.(string)
	var err error
	if s.session, err = g.cache.Session(ctx, s.token.Subject, id); err != nil {
		return g.unknown(err)
	}
	session := &s.session.Value
	if session.Access == "" || session.Access != s.token.TokenID || !session.Expires.IsZero() && !now.Before(session.Expires) {
		return notGood("session_ended", "the session has ended; log in again")
	}
	s.ends(session.Expires)
	return nil
}

// checkRecord finds the record of an API token.
func (g *register) checkRecord(ctx context.Context, s *standing, now time.Time) *Refusal {
	var err error
	if s.record, err = g.cache.Token(ctx, s.token.TokenID); err != nil {
		return g.unknown(err)
	}
	switch record := &s.record.Value.Record; {
	case !s.record.Value.Known || record.ID != s.token.TokenID || record.UserID != s.token.Subject:
		return notGood("token_unknown", "the gateway does not know of this access token")
	case !record.Revoked.IsZero():
		return notGood("token_revoked", "the access token was revoked")
	case !record.Active:
		return notGood("token_inactive", "the access token is not active")
	case !record.Expires.IsZero() && !now.Before(record.Expires):
		return notGood(string(token.Expired), token.Expired.Description())
	default:
		s.ends(record.Expires)
		return nil
	}
}

// checkAccount finds the account of the holder.
func (g *register) checkAccount(ctx context.Context, s *standing) *Refusal {
	var err error
	if s.account, err = g.cache.Account(ctx, s.token.Subject); err != nil {
		return g.unknown(err)
	}
	switch holder := &s.account.Value; {
	case !holder.Known:
		return notGood("account_unknown", "there is no such account any more")
	case !holder.User.Active:
		return notGood("account_disabled", "the account is not active")
	case s.session != nil && holder.User.MustChange:
		return refuse(http.StatusForbidden, mcp.CodeForbidden, login.ErrMustChange.Reason, login.ErrMustChange.Message)
	}
	return nil
}

// within bounds what an API token reaches by its record.
func (g *register) within(reach *scope.Scope, record *catalogue.Record, holder *account.Standing) (*scope.Scope, *Refusal) {
	if record.Team != "" && !slices.Contains(holder.Teams, record.Team) {
		return nil, notMember()
	}
	bound := scope.Bound{Team: record.Team}
	if kind := record.Scopes.Kind(); len(record.Scopes) > 0 && kind != 'n' {
		var scopes any
		err := json.Unmarshal(record.Scopes, &scopes)
		if err == nil {
			bound.Scopes, err = scope.ParseBound(scopes, g.issuer, record.ID, *g.scopes)
		}
		if err != nil {
			// What the decoder says may repeat what is in the record.
			if damaged := (*scope.Error)(nil); !errors.As(err, &damaged) {
				err = errDamaged
			}
			g.logger.Error("the record of an API token bounds it in a way that can't be read; the token is refused", zap.String("token", record.ID), zap.Error(err))
			return nil, notGood(string(token.InvalidScope), token.InvalidScope.Description())
		}
	}
	return reach.Within(bound), nil
}

var errDamaged = errors.New("it is not JSON")

// notGood refuses a token that was good once.
func notGood(reason, message string) *Refusal {
	return refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, reason, message)
}

func notMember() *Refusal {
	return refuse(http.StatusForbidden, mcp.CodeForbidden, scope.ReasonMembership, "this is beyond the access token")
}

// unknownStanding refuses any token while the gateway does not know what it may do.
func (g *register) unknown(err error) *Refusal {
	g.logger.Warn("the store can't be asked who holds a token", zap.Error(err))
	return refuse(http.StatusServiceUnavailable, mcp.CodeUnauthorized, "account_unavailable", "it is not known whether the access token is good")
}
