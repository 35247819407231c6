package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// record is what is kept of a session.
type record struct {
	// Secret is the SHA-256 of the last part of the refresh token that is good.
	Secret []byte `json:"secret"`
	// Access is the claim jti of the token that is good, AccessExpires its end.
	Access        string    `json:"access"`
	AccessExpires time.Time `json:"access_expires"`
	Started       time.Time `json:"started"`
	Refreshed     time.Time `json:"refreshed"`
	// Address is where the user logged in from.
	Address string `json:"address,omitzero"`
}

var sessions = state.Table[record]{Name: state.TableLogin, Version: 1}

// Session is an interactive session.
type Session struct {
	ID      string    `json:"session_id"`
	UserID  string    `json:"user_id"`
	Started time.Time `json:"started_at"`
	// Refreshed is when its present token was made.
	Refreshed time.Time `json:"refreshed_at"`
	// Expires is when it ends unless it is refreshed.
	Expires time.Time `json:"expires_at"`
	// Address is where the user logged in from.
	Address string `json:"client_ip,omitzero"`
}

// Grant is what a client gets at a login and at a refresh.
type Grant struct {
	User   account.User
	Access issue.Token
	// Refresh is the refresh token. It is good once.
	Refresh        string
	RefreshExpires time.Time
}

// refreshToken is a refresh token taken apart. Its text is
//
//	mcpr_<user>.<family>.<secret>
//
// The family stays the same through a session; nobody knows it but the store, which has
// a hash of it, and who has been given a token of the family. So a token of a family
// whose secret is wrong is one that was used before: it was stolen, or its thief has
// been faster.
type refreshToken struct {
	user, family, secret string
}

const refreshPrefix = "mcpr_"

func (r refreshToken) String() string {
	return refreshPrefix + r.user + "." + r.family + "." + r.secret
}

func parseRefresh(text string) (r refreshToken, ok bool) {
	parts := strings.Split(strings.TrimPrefix(text, refreshPrefix), ".")
	if !strings.HasPrefix(text, refreshPrefix) || len(parts) != 3 {
		return r, false
	}
	for _, part := range parts {
		if len(part) < 26 || len(part) > 64 || strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			return r, false
		}
	}
	return refreshToken{parts[0], parts[1], parts[2]}, true
}

// session is the ID of the session, which tokens and lists tell.
func (r refreshToken) session() string {
	sum := sha256.Sum256([]byte(r.family))
	return hex.EncodeToString(sum[:16])
}

func (r refreshToken) hash() []byte {
	sum := sha256.Sum256([]byte(r.secret))
	return sum[:]
}

// Login makes a session for somebody who knows the password.
func (d *Desk) Login(ctx context.Context, email, password, address string) (Grant, error) {
	proof, err := d.accounts.Authenticate(ctx, email, password, address)
	if err != nil {
		return Grant{}, err
	}
	if proof.MustChange {
		return Grant{}, ErrMustChange
	}
	user := proof.User()
	by := account.By(user, address)
	if err := d.makeRoom(ctx, by, user.ID); err != nil {
		return Grant{}, err
	}
	now := d.now().UTC()
	refresh := refreshToken{user.ID, rand.Text(), rand.Text()}
	grant, data, err := d.grant(ctx, user, refresh, record{Started: now, Address: address})
	if err != nil {
		return Grant{}, err
	}
	create, err := sessions.Create(data, grant.RefreshExpires, user.ID, refresh.session())
	if err != nil {
		return Grant{}, err
	}
	if grant.User, err = d.accounts.Enter(ctx, proof, create); err != nil {
		return Grant{}, err
	}
	d.audit(by, "login", user.Email, zap.String("session", refresh.session()))
	return grant, nil
}

// grant makes the tokens of a session, and what is kept of them.
func (d *Desk) grant(ctx context.Context, user account.User, refresh refreshToken, data record) (Grant, record, error) {
	memberships, err := d.accounts.TeamsOf(ctx, user.ID)
	if err != nil {
		return Grant{}, data, err
	}
	teams := make([]string, len(memberships))
	for i, m := range memberships {
		teams[i] = m.Team
	}
	assigned, err := d.accounts.Assignments(ctx, user.ID)
	if err != nil {
		return Grant{}, data, err
	}
	var roles []string
	for _, a := range assigned {
		if a.Team == "" && a.Effective(d.now()) {
			roles = append(roles, a.Role)
		}
	}
	access, err := d.issuer.Session(ctx, issue.Session{
		ID: refresh.session(), Subject: user.ID, Email: user.Email, FullName: user.FullName, Admin: user.Admin, Teams: teams, Roles: roles,
		End: d.end(data),
	})
	if err != nil {
		return Grant{}, data, err
	}
	data.Secret, data.Access, data.AccessExpires = refresh.hash(), access.ID, access.Expires.UTC()
	data.Refreshed = d.now().UTC()
	return Grant{User: user, Access: access, Refresh: refresh.String(), RefreshExpires: d.expires(data)}, data, nil
}

// expires is when a session ends unless it is refreshed.
func (d *Desk) expires(data record) time.Time {
	idle, end := data.Refreshed.Add(time.Duration(d.config.IdleTimeout)), d.end(data)
	if end.Before(idle) {
		return end
	}
	return idle
}

// end is when a session ends in any case.
func (d *Desk) end(data record) time.Time { return data.Started.Add(time.Duration(d.config.Lifetime)) }

// barred refuses to go on with a session if tokens of the user, issued when its last one
// was, are revoked: that would be a way around it.
func (d *Desk) barred(user string, data record) error {
	issued := revocation.Token{Issuer: d.issuer.Name(), Subject: user, IssuedAt: data.Refreshed}
	switch verdict := d.revocations.Check(&issued, steady.Now()); {
	case verdict == revocation.Valid:
		return nil
	case verdict.Revoked():
		return ErrRefresh
	}
	return state.Unavailable(errors.New("it is not known what was revoked"))
}

// errReused is for a refresh token that was used before.
var errReused = errors.New("the refresh token was used before")

// Refresh makes the next tokens of a session. Those before are not good any more. A
// refresh token that was used before ends the session, since there are two who have it
// (RFC 9700 section 4.14.2).
func (d *Desk) Refresh(ctx context.Context, text, address string) (Grant, error) {
	refresh, ok := parseRefresh(text)
	if !ok {
		return Grant{}, ErrRefresh
	}
	next := refreshToken{refresh.user, refresh.family, rand.Text()}
	var grant Grant
	err := d.accounts.Require(ctx, refresh.user, func(user account.User) ([]state.Change, error) {
		entry, err := d.session(ctx, refresh.user, refresh.session())
		if errors.Is(err, errNoSession) {
			return nil, ErrRefresh
		}
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(entry.Data.Secret, refresh.hash()) != 1 {
			return nil, errReused
		}
		if now := d.now(); !now.Add(time.Second).Before(d.expires(entry.Data)) {
			return nil, ErrRefresh
		}
		if err := d.barred(refresh.user, entry.Data); err != nil {
			return nil, err
		}
		// First the old token, so that there never are two that are good. If the rest
		// fails, there still is the refresh token.
		if err := d.revoke(ctx, entry.Data, ""); err != nil {
			return nil, err
		}
		var data record
		if grant, data, err = d.grant(ctx, user, next, entry.Data); err != nil {
			return nil, err
		}
		replace, err := sessions.Replace(entry, data)
		return []state.Change{replace.Until(grant.RefreshExpires)}, err
	})
	by := account.Actor{ID: refresh.user, Name: grant.User.Email, Address: address}
	var refused *account.Error
	switch {
	case errors.Is(err, errReused):
		d.logger.Warn("a refresh token was used twice; the session is ended",
			zap.String("user_id", refresh.user), zap.String("session", refresh.session()), zap.String("client_ip", address))
		if err := d.endOne(ctx, by, refresh.user, refresh.session()); err != nil && !errors.Is(err, errNoSession) {
			return Grant{}, err
		}
		return Grant{}, ErrRefresh
	case errors.As(err, &refused) && refused.Kind == account.Unknown:
		return Grant{}, ErrRefresh // the user is not there or not active any more
	case err != nil:
		return Grant{}, err
	}
	d.audit(by, "refresh", grant.User.Email, zap.String("session", refresh.session()))
	return grant, nil
}

// session reads a session. The time after which it is over is the store's to know.
func (d *Desk) session(ctx context.Context, userID, id string) (state.Entry[record], error) {
	if id == "" || len(userID) > 64 || len(id) > 64 {
		return state.Entry[record]{}, errNoSession
	}
	entry, err := sessions.Get(ctx, d.store, userID, id)
	if errors.Is(err, state.ErrNotFound) {
		err = errNoSession
	}
	return entry, err
}

// revoke ends the token of a session and, if its ID is given, all that was begun in it.
func (d *Desk) revoke(ctx context.Context, data record, id string) error {
	ended := []state.Revocation{{Kind: state.RevokeID, Issuer: d.issuer.Name(), Value: data.Access, Expires: data.AccessExpires}}
	if id != "" {
		ended = append(ended, state.Revocation{Kind: state.RevokeID, Issuer: d.issuer.Name(), Value: RevocationID(id), Expires: d.now().Add(endedFor)})
	}
	return d.store.Revoke(ctx, ended...)
}

// endedFor is for how long it is known that a session has ended. What was begun in it
// ends at once on every node that knows it; others hear of it in that time.
const endedFor = 48 * time.Hour

// RevocationID is what is revoked by when a session ends: an id as that of a token, but
// the same for all tokens that the session had one after the other. What was begun with
// one of them, such as an MCP session, goes on when the next one is had.
func RevocationID(session string) string { return "session:" + session }

// Logout ends the session of a visitor.
func (d *Desk) Logout(ctx context.Context, v *Visitor, address string) error {
	by := account.By(v.User, address)
	err := d.endOne(ctx, by, v.ID, v.Session)
	if errors.Is(err, errNoSession) {
		return nil // somebody else was faster
	}
	return err
}

// Sessions returns the sessions of a user, the one that began first in front.
func (d *Desk) Sessions(ctx context.Context, userID string) ([]Session, error) {
	var list []Session
	for entry, err := range sessions.All(ctx, d.store, userID) {
		if err != nil {
			return nil, err
		}
		_, parts, err := state.Parts(entry.Key)
		if err != nil || len(parts) != 2 {
			return nil, state.ErrDamaged
		}
		list = append(list, Session{parts[1], userID, entry.Data.Started, entry.Data.Refreshed, d.expires(entry.Data), entry.Data.Address})
	}
	slices.SortFunc(list, func(a, b Session) int { return a.Started.Compare(b.Started) })
	return list, nil
}

// End ends one session of a user.
func (d *Desk) End(ctx context.Context, by account.Actor, userID, id string) error {
	return d.endOne(ctx, by, userID, id)
}

// EndAll ends all sessions of a user. API tokens go on; see EndTokens.
func (d *Desk) EndAll(ctx context.Context, by account.Actor, user account.User) error {
	list, err := d.Sessions(ctx, user.ID)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := d.endOne(ctx, by, user.ID, s.ID); err != nil && !errors.Is(err, errNoSession) {
			return err
		}
	}
	return nil
}

func (d *Desk) endOne(ctx context.Context, by account.Actor, userID, id string) error {
	for range 10 {
		entry, err := d.session(ctx, userID, id)
		if err != nil {
			return err
		}
		if err := d.revoke(ctx, entry.Data, id); err != nil {
			return err
		}
		// Exactly this one: a refresh in between has another token, to be revoked.
		_, err = d.store.Apply(ctx, state.Delete(entry.Record))
		if err == nil {
			d.audit(by, "session_end", userID, zap.String("session", id))
			return nil
		}
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return state.ErrConflict
}

// makeRoom ends the sessions that were not refreshed for longest, until one more can be
// made.
func (d *Desk) makeRoom(ctx context.Context, by account.Actor, userID string) error {
	list, err := d.Sessions(ctx, userID)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Session) int { return a.Refreshed.Compare(b.Refreshed) })
	for _, s := range list[:max(len(list)-d.config.MaxPerUser+1, 0)] {
		if err := d.endOne(ctx, by, userID, s.ID); err != nil && !errors.Is(err, errNoSession) {
			return err
		}
	}
	return nil
}
