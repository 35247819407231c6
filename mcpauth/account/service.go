// Package account knows the people that the gateway lets log in: users with their
// passwords, teams, who is of which team, and which roles are assigned to whom. All of
// it is kept in the gateway's store, so that every node knows the same.
//
// Whether somebody may do what is asked here is for the caller to know; who did it is
// told for the audit log. What holds whoever asks is held here: there is always an
// active administrator, and nobody takes that away from themselves.
package account

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// Config is what can be chosen about accounts. The zero value has the defaults.
type Config struct {
	// Which passwords are accepted.
	Passwords PasswordPolicy `json:"passwords,omitzero"`

	// How many wrong passwords lock an account. Default: 5.
	MaxFailures int `json:"max_failures,omitempty"`

	// For how long an account is locked, and for how long a wrong password counts.
	// Default: 1h.
	Lockout caddy.Duration `json:"lockout,omitempty"`

	// Whether the accounts of administrators can be locked, too. If they can, then
	// whoever knows their addresses can keep all of them out, for as long as they
	// like. If not, their passwords can be guessed at without end, as fast as the
	// limits on logins allow; with 22 characters or more that leads nowhere. Default:
	// false, wrong passwords for active administrators are logged only.
	LockAdministrators bool `json:"lock_administrators,omitempty"`

	// How many accounts there may be. Default: 10000.
	MaxUsers int `json:"max_users,omitempty"`

	// Cost is for tests, which have many passwords: no configuration can make hashes
	// cheaper. Default: three passes over 64 MiB.
	Cost Cost `json:"-"`
}

// Service is what can be done with accounts. It is safe for concurrent use, also by
// several nodes with one store.
type Service struct {
	store     state.Store
	config    Config
	passwords PasswordPolicy
	hasher    *hasher
	turns     [64]chan struct{}
	// beat is what the time of a failed login is a multiple of.
	beat   time.Duration
	logger *zap.Logger
	now    func() time.Time
}

// New returns the service on a store, which need not be open yet. The logger is told
// of every change.
func New(store state.Store, config Config, logger *zap.Logger) (*Service, error) {
	if err := config.Passwords.defaults(); err != nil {
		return nil, err
	}
	if config.MaxFailures == 0 {
		config.MaxFailures = 5
	}
	if config.Lockout == 0 {
		config.Lockout = caddy.Duration(time.Hour)
	}
	if config.Cost == (Cost{}) {
		config.Cost = defaultCost
	}
	if config.MaxUsers == 0 {
		config.MaxUsers = 10_000
	}
	if config.MaxFailures < 0 || config.Lockout < 0 || config.MaxUsers < 0 {
		return nil, errors.New("the limits of accounts must be positive; leave one out for its default")
	}
	s := &Service{
		store: store, config: config, passwords: config.Passwords, hasher: newHasher(config.Cost),
		logger: logger, now: steady.Now, beat: loginBeat,
	}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	return s, nil
}

// Passwords is the policy, with its defaults filled in.
func (s *Service) Passwords() PasswordPolicy { return s.passwords }

// Actor is who does something, for the audit log and for what nobody may do to
// themselves.
type Actor struct {
	// ID is that of their account. It is empty for the configuration, the command
	// line and whoever else is no user.
	ID string
	// Name is what the log calls them.
	Name string
	// Address is where the request came from, if it did.
	Address string
}

// By is a user as an actor.
func By(u User, address string) Actor { return Actor{ID: u.ID, Name: u.Email, Address: address} }

// Kind is what sort of a mistake an Error is.
type Kind uint8

// The kinds of errors.
const (
	// Invalid is for what is malformed, or against the policy.
	Invalid Kind = iota + 1
	// Unknown is for what does not exist.
	Unknown
	// Taken is for what exists already.
	Taken
	// Refused is for what would break a rule about administrators.
	Refused
	// Full is for what would be more than there may be.
	Full
	// Credentials is for a wrong password, and for all else for which nobody is let in.
	Credentials
	// Forbidden is for what somebody may not do, whoever they are.
	Forbidden
	// Busy is for what did not get its turn. It may be tried again.
	Busy
	// Unprocessable is for what is of the right type, and still says nothing.
	Unprocessable
)

// Error says why something was not done. Every error that is not one, and not the
// store's, is a defect.
type Error struct {
	Kind Kind
	// Reason is a stable word, Message says it to a person. Neither holds a secret.
	Reason, Message string
}

func (e *Error) Error() string { return e.Message }

func invalid(reason, message string) *Error { return &Error{Invalid, reason, message} }

var (
	errBusy         = &Error{Busy, "busy", "too much is going on; try again"}
	errCredentials  = &Error{Credentials, "credentials_invalid", "Invalid email or password"}
	errUserUnknown  = &Error{Unknown, "user_unknown", "there is no such user"}
	errUserTaken    = &Error{Taken, "user_exists", "there is already a user with this address"}
	errTeamUnknown  = &Error{Unknown, "team_unknown", "there is no such team"}
	errTeamTaken    = &Error{Taken, "team_exists", "there is already a team with this id"}
	errNoMember     = &Error{Unknown, "member_unknown", "the user is not a member of the team"}
	errNoAssignment = &Error{Unknown, "assignment_unknown", "the user does not have this role there"}
	errLast         = &Error{Refused, "last_administrator", "this is the last active administrator; make another one first"}
	errSelf         = &Error{Refused, "own_account", "administrators cannot demote, deactivate or delete themselves; another one has to"}
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
		// Those who met go on at different times.
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

// read returns records by their keys, as many as there are.
func (s *Service) read(ctx context.Context, keys []string) ([]state.Record, error) {
	var all []state.Record
	for len(keys) > 0 {
		n := min(len(keys), state.MaxChanges)
		records, err := s.store.Read(ctx, keys[:n]...)
		if err != nil {
			return nil, err
		}
		all, keys = append(all, records...), keys[n:]
	}
	return all, nil
}

// clear ends all records with a prefix. Records that come meanwhile may stay.
func (s *Service) clear(ctx context.Context, prefix string) error {
	var changes []state.Change
	for r, err := range state.All(ctx, s.store, prefix) {
		if err != nil {
			return err
		}
		changes = append(changes, state.Remove(r.Key))
	}
	for len(changes) > 0 {
		n := min(len(changes), state.MaxChanges)
		if _, err := s.store.Apply(ctx, changes[:n]...); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

// audit logs what was done, and by whom.
func (s *Service) audit(by Actor, action, target string, fields ...zap.Field) {
	who := []zap.Field{zap.String("action", action), zap.String("target", target), zap.String("actor", by.Name)}
	if by.ID != "" {
		who = append(who, zap.String("actor_id", by.ID))
	}
	if by.Address != "" {
		who = append(who, zap.String("client_ip", by.Address))
	}
	s.logger.Info("audit", append(who, fields...)...)
}

// checkName refuses names of people and teams that would not fit, or that could play
// tricks in a log or on a page.
func checkName(what, name string) error {
	if len(name) > maxName || hasControl(name) {
		return invalid("name_invalid", fmt.Sprintf("the name of a %s must be text without control characters, of at most %d bytes", what, maxName))
	}
	return nil
}
