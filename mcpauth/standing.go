package mcpauth

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/live"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Of its own tokens the gateway knows more than they say: the account of the holder, and
// the session or the record of the token. These bound what the token says, at any time
// (design: the live record bounds the JWT). A principal made of them is good as long as
// nothing of them changes.

// standing is what the gateway knows of who holds one of its own tokens. It does not
// change. A nil one is that of who holds another.
type standing struct {
	cache *live.Cache
	// token is what the token says, before it was bounded.
	token   *token.Claims
	account *live.Fact[account.Standing]
	// session is that of a session token, record that of an API token.
	session *live.Fact[login.Standing]
	record  *live.Fact[live.Token]
	// It was worked out for the time from one moment until another, or for good if
	// that is zero: assignments of roles end, for example.
	from, until time.Time
}

// current reports whether the principal is still what the gateway knows. It neither waits
// nor allocates.
func (s *standing) current(now time.Time) bool {
	return s == nil || s.account.Current() &&
		(s.session == nil || s.session.Current()) && (s.record == nil || s.record.Current()) &&
		!now.Before(s.from) && (s.until.IsZero() || now.Before(s.until)) && !s.cache.IsStale(now)
}

// ends notes that something ends at a moment, if it is not zero.
func (s *standing) ends(at time.Time) {
	if !at.IsZero() && (s.until.IsZero() || at.Before(s.until)) {
		s.until = at
	}
}

// watch has told called once when something may have changed; nil if it has.
func (s *standing) watch(told func()) *live.Watch {
	if s.session != nil {
		return s.cache.Watch(told, s.account, s.session)
	}
	return s.cache.Watch(told, s.account, s.record)
}

// scopeless reports whether OAuth scopes could not give the principal more, since nobody
// issues tokens for it that have them.
func (p *Principal) scopeless() bool { return p.vouched || p.standing != nil }

// provisionOwn finds the issuer of the gateway's own tokens among the others. Whatever its
// keys come from, it is the one by its name.
func (h *Handler) provisionOwn(app *App) error {
	if app.issuer == nil {
		return nil
	}
	at := slices.IndexFunc(h.Issuers, func(iss *token.Issuer) bool { return iss.Issuer == app.issuer.Name() })
	if at < 0 {
		return nil
	}
	h.own = h.Issuers[at]
	h.register = &register{cache: app.store.live, issuer: h.own.Issuer, scopes: h.own.TokenScope, logger: h.logger}
	if h.own.TokenScopeOff {
		return fmt.Errorf("issuer %s: the gateway's own tokens are bound by the claims teams and scopes: take token_scope off away", h.own.Issuer)
	}
	return nil
}

func (h *Handler) isOwn(claims *token.Claims) bool {
	return h.own != nil && claims.Issuer == h.own.Issuer
}

// holderOfOwn finds out who holds one of the gateway's own tokens, which was verified, and
// remembers it.
func (h *Handler) holderOfOwn(ctx context.Context, raw string, claims *token.Claims, e *endpoint, now time.Time) (*Principal, *Refusal) {
	p, refusal := h.bounded(ctx, claims, e, now)
	if refusal != nil {
		h.logger.Info("token is not good any more", zap.String("reason", refusal.Reason),
			zap.String("issuer", claims.Issuer), zap.String("subject", claims.Subject), zap.String("token", claims.TokenID))
		if refusal.Status == http.StatusUnauthorized {
			refusal.challenge = e.challenge("invalid_token", refusal.Message, h.ScopesSupported)
		}
		return nil, refusal
	}
	h.tokens.Add(raw, e.server, claims, p)
	return p, nil
}

// bounded makes a principal of what one of the gateway's own tokens says, as far as the
// gateway agrees.
func (h *Handler) bounded(ctx context.Context, claims *token.Claims, e *endpoint, now time.Time) (*Principal, *Refusal) {
	s, reach, refusal := h.register.lookUp(ctx, claims, now)
	if refusal != nil {
		return nil, refusal
	}
	bounded, inTeams := s.claims(reach, now)
	p := h.newMember(bounded, inTeams, e.server)
	p.standing = s
	return p, nil
}

// claims are those of the token with what is not for it to say, and what is different in
// some of the teams.
func (s *standing) claims(reach *scope.Scope, now time.Time) (bounded *token.Claims, inTeams map[string]func(string) []string) {
	holder := &s.account.Value
	var everywhere []string
	there := map[string][]string{}
	for _, a := range holder.Assignments {
		switch {
		case !a.Effective(now):
			continue
		case a.Team == "":
			everywhere = append(everywhere, a.Role)
		default:
			there[a.Team] = append(there[a.Team], a.Role)
		}
		s.ends(a.Expires)
	}
	teams := reach.Teams()
	if reach.Unrestricted() {
		teams = holder.Teams
	}
	members := maps.Clone(s.token.All())
	members["roles"], members["teams"] = texts(everywhere), texts(teams)
	if _, ok := members["is_admin"]; ok {
		members["is_admin"] = reach.Admin()
	}
	if user, ok := members["user"].(map[string]any); ok {
		user = maps.Clone(user)
		user["is_admin"] = reach.Admin()
		members["user"] = user
	}
	bounded = s.token.Bounded(reach, members)
	for team, roles := range there {
		if inTeams == nil {
			inTeams = make(map[string]func(string) []string, len(there))
		}
		roles = append(roles, everywhere...)
		inTeams[team] = func(claim string) []string {
			if claim == "roles" {
				return roles
			}
			return values(bounded)(claim)
		}
	}
	return bounded, inTeams
}

// texts are a list as it is in claims.
func texts(list []string) []any {
	claim := make([]any, len(list))
	for i, text := range slices.Sorted(slices.Values(list)) {
		claim[i] = text
	}
	return claim
}
