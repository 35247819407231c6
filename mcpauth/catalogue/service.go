package catalogue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// Config bounds the catalogue. The zero value has the defaults.
type Config struct {
	// How many API tokens one user can have. Those that have expired or were revoked
	// count for 30 days more, as long as they are listed. A team can have ten times as
	// many. Default: 1000.
	MaxPerUser int `json:"max_per_user,omitempty"`
}

// teamFactor is how many times as many tokens a team can have as a user.
const teamFactor = 10

// Service makes API tokens, and looks after them. It is safe for concurrent use, also by
// several nodes with one store.
type Service struct {
	store       state.Store
	revocations *revocation.Set
	accounts    *account.Service
	issuer      *issue.Issuer
	holding     Holding
	config      Config
	logger      *zap.Logger
	now         func() time.Time
}

// New returns the catalogue of an issuer's API tokens. Holding tells what somebody may
// do; the logger is told of every change.
func New(store state.Store, revocations *revocation.Set, accounts *account.Service, issuer *issue.Issuer, holding Holding, config Config, logger *zap.Logger) (*Service, error) {
	if config.MaxPerUser == 0 {
		config.MaxPerUser = 1000
	}
	if config.MaxPerUser < 0 || config.MaxPerUser > 10_000 {
		return nil, fmt.Errorf("a user can have 1 to 10000 API tokens, not %d", config.MaxPerUser)
	}
	return &Service{store, revocations, accounts, issuer, holding, config, logger, time.Now}, nil
}

func invalid(reason, message string) *account.Error {
	return &account.Error{Kind: account.Invalid, Reason: reason, Message: message}
}

func unprocessable(reason, message string) *account.Error {
	return &account.Error{Kind: account.Unprocessable, Reason: reason, Message: message}
}

var (
	errUnknown = &account.Error{Kind: account.Unknown, Reason: "token_unknown", Message: "Token not found"}
	errTaken   = &account.Error{Kind: account.Taken, Reason: "name_taken", Message: "A token with this name already exists; give this one another, or revoke that"}
	errRevoked = &account.Error{Kind: account.Taken, Reason: "token_revoked", Message: "the token was revoked; that is for good"}
	errExpired = &account.Error{Kind: account.Taken, Reason: "token_expired", Message: "the token has expired; make a new one"}
	errFull    = &account.Error{Kind: account.Full, Reason: "tokens_full", Message: "the user has as many API tokens as one may have; those that were revoked count for 30 days"}
	errTeam    = &account.Error{Kind: account.Full, Reason: "tokens_full", Message: "the team has as many API tokens as one may have; those that were revoked count for 30 days"}
	errBusy    = &account.Error{Kind: account.Busy, Reason: "busy", Message: "too much is going on; try again"}
)

// maxAttempts bounds how often a change is begun again because somebody else was
// faster.
const maxAttempts = 40

// change makes the changes of a plan. When somebody else has changed what the plan was
// made from, it is made again.
func (s *Service) change(ctx context.Context, plan func() ([]state.Change, error)) error {
	for attempt := range maxAttempts {
		changes, err := plan()
		if err != nil || len(changes) == 0 {
			return err
		}
		if _, err = s.store.Apply(ctx, changes...); !errors.Is(err, state.ErrConflict) {
			return err
		}
		pause := time.NewTimer(rand.N(time.Duration(min(attempt+1, 20)) * time.Millisecond)) // #nosec G404 -- not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return state.Unavailable(context.Cause(ctx))
		}
	}
	return errBusy
}

// record reads the record of a token.
func (s *Service) record(ctx context.Context, id string) (state.Entry[Record], error) {
	if !isID(id) {
		return state.Entry[Record]{}, errUnknown
	}
	entry, err := Records.Get(ctx, s.store, id)
	if errors.Is(err, state.ErrNotFound) {
		err = errUnknown
	}
	return entry, err
}

// isID reports whether a text could be the ID of a token.
func isID(text string) bool {
	if len(text) < 16 || len(text) > 64 {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// audit logs what was done to a token, and by whom. There is nothing of the token itself
// in it.
func (s *Service) audit(by account.Actor, action string, r *Record, fields ...zap.Field) {
	who := []zap.Field{
		zap.String("action", action), zap.String("target", r.ID), zap.String("user", r.Email), zap.String("user_id", r.UserID),
		zap.String("actor", by.Name),
	}
	for name, value := range map[string]string{"actor_id": by.ID, "client_ip": by.Address, "team": r.Team} {
		if value != "" {
			who = append(who, zap.String(name, value))
		}
	}
	s.logger.Info("audit", append(who, fields...)...)
}
