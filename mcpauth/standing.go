package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	h.own, h.live = h.Issuers[at], app.store.live
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
	if h.live.IsStale(now) {
		return nil, h.unknownStanding(h.live.Ready(now))
	}
	s := &standing{cache: h.live, token: claims, from: now}
	var refusal *Refusal
	switch use, _ := claims.Lookup("token_use"); use {
	case issue.UseSession:
		refusal = h.checkSession(ctx, s, now)
	case issue.UseAPI:
		refusal = h.checkRecord(ctx, s, now)
	default:
		refusal = notGood("token_unknown", "the access token is none that the gateway issues")
	}
	if refusal == nil {
		refusal = h.checkAccount(ctx, s)
	}
	if refusal != nil {
		return nil, s.refused(refusal)
	}
	holder := &s.account.Value
	reach, beyond := claims.Scope.ForAccount(scope.Account{Admin: holder.User.Admin, Teams: holder.Teams})
	if beyond != nil {
		return nil, s.refused(notMember())
	}
	if s.record != nil {
		if reach, refusal = h.within(reach, &s.record.Value.Record, holder); refusal != nil {
			return nil, s.refused(refusal)
		}
	}
	bounded, inTeams := s.claims(reach, now)
	p := h.newMember(bounded, inTeams, e.server)
	p.standing = s
	return p, nil
}

// refused adds the record to a refusal, so that it can be told how the token was used.
func (s *standing) refused(why *Refusal) *Refusal {
	if s.record != nil && s.record.Value.Known && s.record.Value.Record.UserID == s.token.Subject {
		why.spent = &s.record.Value.Record
	}
	return why
}

// checkSession finds the session of a session token, which must be the last one of it.
// Its revocation when the session ended is not enough: that is over when the token
// expires, and an issuer's leeway can be longer.
func (h *Handler) checkSession(ctx context.Context, s *standing, now time.Time) *Refusal {
	sid, _ := s.token.Lookup("sid")
	id, _ := sid.(string)
	var err error
	if s.session, err = h.live.Session(ctx, s.token.Subject, id); err != nil {
		return h.unknownStanding(err)
	}
	session := &s.session.Value
	if session.Access == "" || session.Access != s.token.TokenID || !session.Expires.IsZero() && !now.Before(session.Expires) {
		return notGood("session_ended", "the session has ended; log in again")
	}
	s.ends(session.Expires)
	return nil
}

// checkRecord finds the record of an API token.
func (h *Handler) checkRecord(ctx context.Context, s *standing, now time.Time) *Refusal {
	var err error
	if s.record, err = h.live.Token(ctx, s.token.TokenID); err != nil {
		return h.unknownStanding(err)
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
func (h *Handler) checkAccount(ctx context.Context, s *standing) *Refusal {
	var err error
	if s.account, err = h.live.Account(ctx, s.token.Subject); err != nil {
		return h.unknownStanding(err)
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
func (h *Handler) within(reach *scope.Scope, record *catalogue.Record, holder *account.Standing) (*scope.Scope, *Refusal) {
	if record.Team != "" && !slices.Contains(holder.Teams, record.Team) {
		return nil, notMember()
	}
	bound := scope.Bound{Team: record.Team}
	if kind := record.Scopes.Kind(); len(record.Scopes) > 0 && kind != 'n' {
		var scopes any
		err := json.Unmarshal(record.Scopes, &scopes)
		if err == nil {
			bound.Scopes, err = scope.ParseBound(scopes, h.own.Issuer, record.ID, *h.own.TokenScope)
		}
		if err != nil {
			// What the decoder says may repeat what is in the record.
			if damaged := (*scope.Error)(nil); !errors.As(err, &damaged) {
				err = errDamaged
			}
			h.logger.Error("the record of an API token bounds it in a way that can't be read; the token is refused", zap.String("token", record.ID), zap.Error(err))
			return nil, notGood(string(token.InvalidScope), token.InvalidScope.Description())
		}
	}
	return reach.Within(bound), nil
}

var errDamaged = errors.New("it is not JSON")

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

// notGood refuses a token that was good once.
func notGood(reason, message string) *Refusal {
	return refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, reason, message)
}

func notMember() *Refusal {
	return refuse(http.StatusForbidden, mcp.CodeForbidden, scope.ReasonMembership, "this is beyond the access token")
}

// unknownStanding refuses any token while the gateway does not know what it may do.
func (h *Handler) unknownStanding(err error) *Refusal {
	h.logger.Warn("the store can't be asked who holds a token", zap.Error(err))
	return refuse(http.StatusServiceUnavailable, mcp.CodeUnauthorized, "account_unavailable", "it is not known whether the access token is good")
}
