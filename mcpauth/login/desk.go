// Package login is where people come in: it makes interactive sessions for those who
// know a password, keeps them going, and ends them. A session is a short-lived token,
// which is checked like any other, and a refresh token, by which the next one is had.
// Both are good only as long as the session is in the gateway's store.
package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Config bounds interactive sessions. The zero value has the defaults.
type Config struct {
	// How long a session lasts at most, however often it is refreshed. Default: 8h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// After which time without a refresh a session ends. It must be longer than
	// session tokens are good. Default: 1h.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// How many sessions one user can have. One more ends the one that was not
	// refreshed for longest. Default: 50.
	MaxPerUser int `json:"max_per_user,omitempty"`
}

// Desk makes and ends interactive sessions, and changes accounts together with what
// depends on them. It is safe for concurrent use, also by several nodes with one store.
type Desk struct {
	accounts *account.Service
	issuer   *issue.Issuer
	store    state.Store
	// revocations are what an administrator has revoked, beside what the desk ends.
	revocations *revocation.Set
	config      Config
	verifier    *token.Verifier
	logger      *zap.Logger
	now         func() time.Time
}

// New returns the desk for accounts, whose sessions have tokens of the issuer.
func New(store state.Store, revocations *revocation.Set, accounts *account.Service, issuer *issue.Issuer, config Config, environment string, logger *zap.Logger) (*Desk, error) {
	if config.Lifetime == 0 {
		config.Lifetime = caddy.Duration(8 * time.Hour)
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = caddy.Duration(time.Hour)
	}
	if config.MaxPerUser == 0 {
		config.MaxPerUser = 50
	}
	if config.MaxPerUser < 0 || config.MaxPerUser > state.MaxScan || time.Duration(config.Lifetime) < issuer.SessionLife() {
		return nil, fmt.Errorf("sessions must last at least as long as their tokens are good, and a user can have 1 to %d of them", state.MaxScan)
	}
	if time.Duration(config.IdleTimeout) <= issuer.SessionLife() {
		return nil, errors.New("sessions must be able to idle for longer than their tokens are good")
	}
	own, err := token.NewIssuer(issuer.Name(), issuer.Audiences(), issuer)
	if err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier([]*token.Issuer{own}, 0)
	if err != nil {
		return nil, err
	}
	verifier.Environment = environment
	return &Desk{accounts, issuer, store, revocations, config, verifier, logger, steady.Now}, nil
}

// Accounts is the service of the accounts. What ends sessions or tokens is done by the
// desk.
func (d *Desk) Accounts() *account.Service { return d.accounts }

// The errors of sessions. The first three are for a client that has to log in.
var (
	// ErrRefresh is for a refresh token that is malformed, unknown, used or over.
	ErrRefresh = &account.Error{Kind: account.Credentials, Reason: "refresh_invalid", Message: "the refresh token is not good any more; log in again"}
	// ErrEnded is for the token of a session that has ended, or that was refreshed.
	ErrEnded = &account.Error{Kind: account.Credentials, Reason: "session_ended", Message: "the session has ended; log in again"}
	// ErrMustChange is for somebody who has to change the password first.
	ErrMustChange = &account.Error{Kind: account.Forbidden, Reason: "password_change_required", Message: "the password has to be changed before anything else"}
	// ErrNotSession is for a token that is no session's.
	ErrNotSession = &account.Error{Kind: account.Forbidden, Reason: "session_required", Message: "this needs an interactive session; API tokens cannot be used for it"}
	errNoSession  = &account.Error{Kind: account.Unknown, Reason: "session_unknown", Message: "there is no such session"}
)

// Visitor is who sends a request in an interactive session.
type Visitor struct {
	account.User
	// Session is the ID of the session.
	Session string
	// Claims are those of the session token.
	Claims *token.Claims
}

// Check finds out whose session a token is of. The store is asked each time: the session
// must still be there, with this very token, and the user must be active. The error is
// an [*account.Error], a [*token.Error] or one of the store.
func (d *Desk) Check(ctx context.Context, raw string) (*Visitor, error) {
	claims, err := d.verifier.Verify(ctx, raw, d.now(), nil)
	if err != nil {
		return nil, err
	}
	if use, _ := claims.Lookup("token_use"); use != issue.UseSession {
		return nil, ErrNotSession
	}
	sid, _ := claims.Lookup("sid")
	id, _ := sid.(string)
	entry, err := d.session(ctx, claims.Subject, id)
	if errors.Is(err, errNoSession) || err == nil && entry.Data.Access != claims.TokenID {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, err
	}
	user, err := d.accounts.UserByID(ctx, claims.Subject)
	var gone *account.Error
	if errors.As(err, &gone) && gone.Kind == account.Unknown || err == nil && !user.Active {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, err
	}
	if user.MustChange {
		return nil, ErrMustChange
	}
	return &Visitor{User: user, Session: id, Claims: claims}, nil
}

// Update changes a user. One that is not active from now on has no sessions and tokens
// any more.
func (d *Desk) Update(ctx context.Context, by account.Actor, email string, update account.Update) (account.User, error) {
	user, err := d.accounts.Update(ctx, by, email, update)
	if err != nil || user.Active {
		return user, err
	}
	return user, d.bar(ctx, by, user, d.now())
}

// SetPassword gives a user another password, which has to be changed at the next login,
// and ends the sessions.
func (d *Desk) SetPassword(ctx context.Context, by account.Actor, email, password string) error {
	if err := d.accounts.SetPassword(ctx, by, email, password); err != nil {
		return err
	}
	user, err := d.accounts.User(ctx, email)
	if err != nil {
		return err
	}
	return d.EndAll(ctx, by, user)
}

// Delete ends a user, with all sessions and tokens.
func (d *Desk) Delete(ctx context.Context, by account.Actor, email string) error {
	// From then on there are no new sessions. Whatever fails after that can be tried
	// again.
	inactive := false
	user, err := d.accounts.Update(ctx, by, email, account.Update{Active: &inactive})
	if err != nil {
		return err
	}
	if err := d.bar(ctx, by, user, time.Time{}); err != nil {
		return err
	}
	return d.accounts.Delete(ctx, by, email)
}

// ChangePassword gives the user another password, who knows the present one, and ends
// the sessions.
func (d *Desk) ChangePassword(ctx context.Context, email, password, next, address string) error {
	proof, err := d.accounts.Authenticate(ctx, email, password, address)
	if err != nil {
		return err
	}
	if err := d.accounts.ChangePassword(ctx, proof, next, address); err != nil {
		return err
	}
	return d.EndAll(ctx, account.By(proof.User(), address), proof.User())
}

// bar ends all tokens of a user that were issued before a moment; all, if it is zero.
func (d *Desk) bar(ctx context.Context, by account.Actor, user account.User, before time.Time) error {
	if err := d.EndAll(ctx, by, user); err != nil {
		return err
	}
	return d.EndTokens(ctx, by, user, before)
}

// EndTokens revokes all tokens of a user that were issued before a moment, API tokens
// included; all that there ever will be, if that is zero. It takes up to a second: it
// ends when tokens are good again that are issued from then on.
func (d *Desk) EndTokens(ctx context.Context, by account.Actor, user account.User, before time.Time) error {
	r := state.Revocation{Kind: state.RevokeSubject, Issuer: d.issuer.Name(), Value: user.ID, Before: before}
	r.Expires = d.now().Add(d.issuer.MaxLife())
	if err := d.store.Revoke(ctx, r); err != nil {
		return err
	}
	d.audit(by, "tokens_revoke", user.Email)
	outlast(ctx, before)
	return nil
}

// outlast waits until the second is over in which a revocation was made. Tokens tell in
// whole seconds when they were issued, so that it holds for those, too, that are issued
// later in the same second. Whoever logs in when this is done gets a token that is good.
func outlast(ctx context.Context, before time.Time) {
	if before.IsZero() || before.Nanosecond() == 0 {
		return
	}
	rest := time.NewTimer(time.Second - time.Duration(before.Nanosecond()))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done(): // it is revoked all the same
	}
}

func (d *Desk) audit(by account.Actor, action, target string, fields ...zap.Field) {
	d.logger.Info("audit", append([]zap.Field{
		zap.String("action", action), zap.String("target", target), zap.String("actor", by.Name),
		zap.String("actor_id", by.ID), zap.String("client_ip", by.Address),
	}, fields...)...)
}
