package account

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// loginBeat is what the time of a failed login is a multiple of, so that it does not
// tell what was wrong: whether there is such a user is known to nobody who asks.
const loginBeat = 250 * time.Millisecond

// failures are the wrong passwords for a user.
type failureRecord struct {
	Count int `json:"count"`
	// Until is how long the account is locked.
	Until time.Time `json:"until,omitzero"`
}

var failures = state.Table[failureRecord]{Name: state.TableFailure, Version: 1}

// Proof is that somebody knew a user's password. It is made by Authenticate alone.
type Proof struct {
	user userRecord
	// MustChange is whether the password has to be changed, and nothing else may be
	// done with the proof.
	MustChange bool
}

// User is whose password it was.
func (p Proof) User() User { return p.user.User }

// Authenticate is the one way in which a password is checked. Every failure that is
// about the user or the password is the same *[Error] of the kind Credentials: for an
// unknown address, a wrong password, an account that is not active and one that is
// locked, and takes as long.
func (s *Service) Authenticate(ctx context.Context, email, password, address string) (Proof, error) {
	begun := time.Now()
	proof, err := s.authenticate(ctx, email, password, address)
	if errors.Is(err, errCredentials) && s.beat > 0 {
		wait := time.NewTimer(s.beat - time.Since(begun)%s.beat)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	return proof, err
}

var turnSeed = maphash.MakeSeed()

func (s *Service) authenticate(ctx context.Context, email, password, address string) (Proof, error) {
	// One after the other for each address, or logins with the right password would be
	// counted as failures of each other. Those for addresses that nobody has wait, too:
	// how long many at a time take is not to tell which have an account.
	turn := s.turns[maphash.String(turnSeed, strings.ToLower(email))%uint64(len(s.turns))]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return Proof{}, errBusy
	}
	entry, err := s.user(ctx, email)
	if err != nil && !errors.Is(err, errUserUnknown) {
		return Proof{}, err
	}
	u := entry.Data
	refused := func(why string) (Proof, error) {
		// Who does not exist is not named: people write passwords there by mistake.
		s.logger.Warn("login refused", zap.String("cause", why), zap.String("user", u.Email), zap.String("client_ip", address))
		return Proof{}, errCredentials
	}
	why := ""
	switch {
	case err != nil:
		why = "unknown"
	case !u.Active:
		why = "not_active"
	case u.Hash == "":
		why = "no_password"
	}
	if err := s.hasher.take(ctx); err != nil {
		return Proof{}, err
	}
	defer s.hasher.give()
	if why == "" {
		locked, err := s.count(ctx, u.User)
		if err != nil {
			return Proof{}, err
		}
		if locked {
			why = "locked"
		}
	}
	if why != "" {
		if _, _, err := s.hasher.compare(s.hasher.decoy, password); err != nil {
			return Proof{}, err
		}
		return refused(why)
	}
	ok, outdated, err := s.hasher.compare(u.Hash, password)
	if err != nil {
		return Proof{}, err
	}
	if !ok {
		return refused("password")
	}
	if err := s.forget(ctx, u.ID); err != nil {
		return Proof{}, err
	}
	if outdated {
		if err := s.rehash(ctx, &u, s.hasher.cost.hash(password)); err != nil {
			return Proof{}, err
		}
	}
	return Proof{user: u, MustChange: s.mustChange(u)}, nil
}

func (s *Service) mustChange(u userRecord) bool {
	return u.MustChange || s.passwords.MaxAge > 0 && s.now().Sub(u.PasswordChanged) >= time.Duration(s.passwords.MaxAge)
}

// count counts an attempt as a failure before it is made: then no more can be made at
// the same time, on however many nodes, than are left. It is forgotten if it succeeds.
func (s *Service) count(ctx context.Context, u User) (locked bool, err error) {
	err = s.change(ctx, func() ([]state.Change, error) {
		now := s.now().UTC()
		records, err := s.store.Read(ctx, failures.Key(u.ID))
		if err != nil {
			return nil, err
		}
		entry := state.Entry[failureRecord]{Record: records[0]}
		if entry.Exists() {
			if entry, err = failures.Decode(records[0]); err != nil {
				return nil, err
			}
		}
		f := entry.Data
		if !f.Until.IsZero() {
			if now.Before(f.Until) && !s.protected(u) {
				locked = true
				return nil, nil
			}
			if !now.Before(f.Until) {
				f = failureRecord{}
			}
		}
		locked = false
		if f.Count++; f.Count >= s.config.MaxFailures && f.Until.IsZero() {
			f.Until = now.Add(time.Duration(s.config.Lockout))
			s.logger.Warn("account locked, unless this password is right", zap.String("user", u.Email),
				zap.Int("failures", f.Count), zap.Bool("exempt", s.protected(u)))
		}
		put, err := failures.Replace(entry, f)
		return []state.Change{put.Until(now.Add(time.Duration(s.config.Lockout)))}, err
	})
	return locked, err
}

// protected reports whether an account cannot be locked.
func (s *Service) protected(u User) bool { return u.administers() && !s.config.LockAdministrators }

// forget ends what was counted.
func (s *Service) forget(ctx context.Context, id string) error {
	_, err := s.store.Apply(ctx, state.Remove(failures.Key(id)))
	return err
}

// Unlock lets a user try again at once.
func (s *Service) Unlock(ctx context.Context, by Actor, email string) error {
	u, err := s.User(ctx, email)
	if err != nil {
		return err
	}
	if err := s.forget(ctx, u.ID); err != nil {
		return err
	}
	s.audit(by, "user_unlock", u.Email)
	return nil
}

// Locked returns until when a user is locked; the zero time if not at all.
func (s *Service) Locked(ctx context.Context, u User) (time.Time, error) {
	entry, err := failures.Get(ctx, s.store, u.ID)
	if errors.Is(err, state.ErrNotFound) || err == nil && (s.protected(u) || !s.now().Before(entry.Data.Until)) {
		return time.Time{}, nil
	}
	return entry.Data.Until, err
}

// rehash keeps a password by today's parameters. It is still the same password.
func (s *Service) rehash(ctx context.Context, u *userRecord, hash string) error {
	return s.edit(ctx, u.Email, func(now *userRecord) error {
		if now.ID != u.ID || now.Passwords != u.Passwords {
			return errCredentials
		}
		if now.Hash == u.Hash { // or another node was faster
			if now.Declared != nil && now.Declared.Hash == now.Hash {
				d := *now.Declared
				d.Hash, now.Declared = hash, &d
			}
			now.Hash = hash
		}
		*u = *now
		return nil
	})
}

// ChangePassword gives the user of a proof a new password. Whoever calls it ends the
// user's sessions.
func (s *Service) ChangePassword(ctx context.Context, p Proof, password, address string) error {
	if err := s.replacePassword(ctx, p.user, password, false); err != nil {
		return err
	}
	s.audit(By(p.user.User, address), "password_change", p.user.Email)
	return nil
}

// Enter makes the changes of a login, if what was proven still holds: the user is
// there and active, and the password is still the same. They are made in one with the
// note of when the user has last logged in.
func (s *Service) Enter(ctx context.Context, p Proof, changes ...state.Change) (User, error) {
	if p.MustChange {
		return User{}, errCredentials
	}
	var after User
	err := s.change(ctx, func() ([]state.Change, error) {
		entry, err := s.user(ctx, p.user.Email)
		if errors.Is(err, errUserUnknown) {
			return nil, errCredentials
		}
		if err != nil {
			return nil, err
		}
		u := entry.Data
		if u.ID != p.user.ID || !u.Active || s.mustChange(u) || u.Passwords != p.user.Passwords {
			return nil, errCredentials
		}
		u.LastLogin = s.now().UTC()
		after = u.User
		replace, err := users.Replace(entry, u)
		return append([]state.Change{replace}, changes...), err
	})
	return after, err
}

// Require makes changes on behalf of a user who is active, and must not have been
// changed meanwhile.
func (s *Service) Require(ctx context.Context, id string, plan func(User) ([]state.Change, error)) error {
	return s.change(ctx, func() ([]state.Change, error) {
		entry, err := s.userByID(ctx, id)
		if err != nil {
			return nil, err
		}
		if !entry.Data.Active || s.mustChange(entry.Data) {
			return nil, errUserUnknown
		}
		changes, err := plan(entry.Data.User)
		if err != nil || len(changes) == 0 {
			return nil, err
		}
		return append(changes, state.Require(entry.Record)), nil
	})
}

// RequireAdministrator makes changes on behalf of a user who is an active administrator,
// and must not have been changed meanwhile. Whether the password has to be changed does
// not matter: they may have come in without one.
func (s *Service) RequireAdministrator(ctx context.Context, id string, plan func() ([]state.Change, error)) error {
	return s.change(ctx, func() ([]state.Change, error) {
		entry, err := s.userByID(ctx, id)
		if err != nil {
			return nil, err
		}
		if !entry.Data.Active || !entry.Data.Admin {
			return nil, errUserUnknown
		}
		changes, err := plan()
		if err != nil || len(changes) == 0 {
			return nil, err
		}
		return append(changes, state.Require(entry.Record)), nil
	})
}
