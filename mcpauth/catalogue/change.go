package catalogue

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// Update says what is to be changed of a token; nil leaves it as it is.
type Update struct {
	Name, Description *string
	Tags              *[]string
	// Scope takes the place of the whole scope before.
	Scope  *Scope
	Active *bool
}

var errBeyond = invalid("beyond_token", "the token itself was made for less, and cannot be made to do more than that; make a new one")

// Update changes a token. It holds for the token in circulation: what its record says
// bounds it from now on.
//
// A token never gets to permit more than it was made for, and whoever lets one do more
// again than now has to hold that, as for a new token.
func (s *Service) Update(ctx context.Context, from Caller, id string, u Update) (Token, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Token{}, err
	}
	return s.update(ctx, c, id, u)
}

func (s *Service) update(ctx context.Context, c *caller, id string, u Update) (Token, error) {
	var tags []string
	if u.Tags != nil {
		tags = *u.Tags
	}
	if err := checkTexts(u.Name, u.Description, tags); err != nil {
		return Token{}, err
	}
	var after Record
	var fields []zap.Field
	err := s.onBehalf(ctx, c, func() ([]state.Change, error) {
		entry, err := s.changeable(ctx, c, id)
		if err != nil {
			return nil, err
		}
		before := entry.Data
		switch {
		case !before.Revoked.IsZero():
			return nil, errRevoked
		case !s.now().Before(before.Expires):
			return nil, errExpired
		}
		after = before
		fields = nil
		if u.Name != nil {
			after.Name = *u.Name
		}
		if u.Description != nil {
			after.Description = *u.Description
		}
		if u.Tags != nil {
			after.Tags = *u.Tags
		}
		if u.Active != nil {
			after.Active = *u.Active
			fields = append(fields, zap.Bool("is_active", after.Active))
		}
		if u.Scope != nil {
			scope, err := s.rescope(ctx, c, &before, *u.Scope)
			if err != nil {
				return nil, err
			}
			after.Scopes = scope.claim
			fields = append(fields, zap.Strings("permissions", scope.names), zap.Bool("scope_changed", true))
		}
		replace, err := Records.Replace(entry, after)
		if err != nil {
			return nil, err
		}
		changes := []state.Change{replace}
		// The name is had by active tokens only.
		if before.Active == after.Active && before.Name == after.Name {
			return changes, nil
		}
		if after.Active {
			take, err := s.take(ctx, &after)
			if err != nil {
				return nil, err
			}
			changes = append(changes, take)
		}
		release, err := s.release(ctx, &before)
		return append(changes, release...), err
	})
	if err != nil {
		return Token{}, err
	}
	s.audit(c.by, "token_update", &after, fields...)
	tokens, err := s.showAll(ctx, []Record{after})
	if err != nil {
		return Token{}, err
	}
	return tokens[0], nil
}

// changeable reads the record of a token that the caller may change.
func (s *Service) changeable(ctx context.Context, c *caller, id string) (state.Entry[Record], error) {
	entry, err := s.record(ctx, id)
	if err != nil {
		return entry, err
	}
	ok, err := s.changes(ctx, c, &entry.Data)
	if err == nil && !ok {
		err = errUnknown
	}
	return entry, err
}

// rescope compiles another scope for a token.
func (s *Service) rescope(ctx context.Context, c *caller, r *Record, wanted Scope) (*compiled, error) {
	scope, err := compile(wanted, r.ID, s.issuer.Name())
	if err != nil {
		return nil, err
	}
	claim, err := parse(r.Claim, r.ID, s.issuer.Name())
	if err != nil {
		return nil, err
	}
	if !scope.within(claim) {
		return nil, errBeyond
	}
	now, err := parse(r.Scopes, r.ID, s.issuer.Name())
	if err != nil {
		return nil, err
	}
	held, err := s.held(ctx, c)
	if err != nil {
		return nil, err
	}
	if scope.names == nil && now.names != nil && c.by.ID != r.UserID && !held.Every {
		return nil, errUnbounded
	}
	return scope, held.covers(scope, now)
}

// Revoke ends a token for good. To do so again changes nothing.
func (s *Service) Revoke(ctx context.Context, from Caller, id, reason string) error {
	c, err := s.caller(ctx, from)
	if err != nil {
		return err
	}
	entry, err := s.changeable(ctx, c, id)
	if err != nil {
		return err
	}
	return s.revoke(ctx, c.by, entry, reason)
}

// RevokeAny is Revoke for an administrator and the token of anybody.
func (s *Service) RevokeAny(ctx context.Context, from Caller, id, reason string) error {
	c, err := s.caller(ctx, from)
	if err != nil {
		return err
	}
	return s.revokeAny(ctx, c, id, reason)
}

func (s *Service) revokeAny(ctx context.Context, c *caller, id, reason string) error {
	if err := c.oversees(); err != nil {
		return err
	}
	entry, err := s.record(ctx, id)
	if err != nil {
		return err
	}
	return s.revoke(ctx, c.by, entry, reason)
}

// RevokeHeld is Revoke for who has shown the token itself, which is good yet: who has it
// could use it, and may as well end it (RFC 7009 section 2.1). One without a record is
// revoked, too.
func (s *Service) RevokeHeld(ctx context.Context, by account.Actor, id string, expires time.Time) error {
	entry, err := s.record(ctx, id)
	if errors.Is(err, errUnknown) {
		entry, err = state.Entry[Record]{Data: Record{ID: id, Expires: expires}}, nil
	}
	if err != nil {
		return err
	}
	return s.revoke(ctx, by, entry, "by its holder")
}

// clockSkew is more than the leeway that anybody may give to expired tokens.
const clockSkew = 10 * time.Minute

// revoke writes the revocation first, which alone ends the token everywhere. Whatever
// fails after that leaves a token that is dead, and a record that does not say so; to
// revoke it again puts that right.
func (s *Service) revoke(ctx context.Context, by account.Actor, entry state.Entry[Record], reason string) error {
	if utf8.RuneCountInString(reason) > maxReason || !isText(reason) {
		return invalid("reason_invalid", fmt.Sprintf("a reason is text of at most %d characters, without control characters", maxReason))
	}
	if err := s.revocations.Revoke(ctx, state.Revocation{
		Kind: state.RevokeID, Issuer: s.issuer.Name(), Value: entry.Data.ID, Expires: entry.Data.Expires.Add(clockSkew),
	}); err != nil {
		return err
	}
	var after Record
	err := s.change(ctx, func() ([]state.Change, error) {
		after = Record{}
		entry, err := s.record(ctx, entry.Data.ID)
		if err != nil || !entry.Data.Revoked.IsZero() {
			return nil, gone(err)
		}
		after = entry.Data
		after.Revoked, after.RevokedBy, after.Reason, after.Active = s.now().UTC(), by.Name, reason, false
		replace, err := Records.Replace(entry, after)
		if err != nil {
			return nil, err
		}
		over := after.Revoked.Add(kept)
		changes, err := s.release(ctx, &entry.Data)
		if err != nil {
			return nil, err
		}
		changes = append(changes, replace.Until(over))
		index, err := ofUsers.Create(struct{}{}, over, after.UserID, after.ID)
		index.If = state.Any
		changes = append(changes, index)
		if after.Team != "" && err == nil {
			index, err = ofTeams.Create(struct{}{}, over, after.Team, after.ID)
			index.If = state.Any
			changes = append(changes, index)
		}
		return changes, err
	})
	if err != nil {
		return err
	}
	switch {
	case after.ID != "":
		s.audit(by, "token_revoke", &after, zap.String("reason", reason))
	case !entry.Exists():
		s.audit(by, "token_revoke", &entry.Data, zap.String("reason", reason), zap.Bool("recorded", false))
	}
	return nil
}

// release is the change by which a token's name is free again. Of one that has expired
// it may be another's by now.
func (s *Service) release(ctx context.Context, r *Record) ([]state.Change, error) {
	entry, err := names.Get(ctx, s.store, nameKey(r)...)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case entry.Data != r.ID:
		return nil, nil
	}
	return []state.Change{state.Delete(entry.Record)}, nil
}
