package account

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// User is an account.
type User struct {
	// ID is the claim sub of the user's tokens. No other user ever has the same,
	// not even one who gets the address later.
	ID string `json:"id"`
	// Email is what the user logs in with, in lower case. It does not change.
	Email string `json:"email"`
	// FullName is what people call the user.
	FullName string `json:"full_name,omitzero"`
	// Admin is whether the user administers the gateway.
	Admin bool `json:"is_admin"`
	// Active users can log in, and their tokens are good.
	Active bool `json:"is_active"`
	// MustChange is whether the password has to be changed before anything else. It
	// is so for one that somebody else chose.
	MustChange bool `json:"password_change_required"`
	// Created is when the account was made.
	Created time.Time `json:"created_at"`
	// Updated is when it was last changed.
	Updated time.Time `json:"updated_at"`
	// PasswordChanged is when the password was last changed.
	PasswordChanged time.Time `json:"password_changed_at,omitzero"`
	// LastLogin is when the user last began a session.
	LastLogin time.Time `json:"last_login,omitzero"`
}

// userRecord is what is kept of a user.
type userRecord struct {
	User
	// Hash is that of the password; without one nobody can log in. Former are those
	// before, the last one first.
	Hash   string   `json:"hash,omitzero"`
	Former []string `json:"former,omitzero"`
	// Passwords is how many the user has had. Hashing one anew does not count.
	Passwords int `json:"passwords"`
	// Declared is what the configuration said when it was last looked at.
	Declared *declared `json:"declared,omitzero"`
}

var (
	users   = state.Table[userRecord]{Name: state.TableUser, Version: 1}
	userIDs = state.Table[string]{Name: state.TableUserID, Version: 1}
)

// NewUser is a user to be.
type NewUser struct {
	Email, FullName string
	// Password may be empty: then somebody has to set one before the user can log in.
	Password string
	// Hash is that of a password, instead of it. See CheckHash.
	Hash   string
	Admin  bool
	Active bool
	// MustChange is whether the password has to be changed at the first login.
	MustChange bool
}

// Create makes a user.
func (s *Service) Create(ctx context.Context, by Actor, n NewUser) (User, error) {
	u, err := s.create(ctx, n, nil)
	if err != nil {
		return User{}, err
	}
	s.audit(by, "user_create", u.Email, zap.Bool("is_admin", u.Admin), zap.Bool("is_active", u.Active))
	return u, nil
}

func (s *Service) create(ctx context.Context, n NewUser, d *declared) (User, error) {
	email, err := Email(n.Email)
	if err != nil {
		return User{}, err
	}
	if err := checkName("user", n.FullName); err != nil {
		return User{}, err
	}
	now := s.now().UTC()
	u := userRecord{Declared: d, User: User{
		ID: rand.Text(), Email: email, FullName: n.FullName, Admin: n.Admin, Active: n.Active, Created: now, Updated: now,
	}}
	switch {
	case n.Hash != "":
		if err := CheckHash(n.Hash); err != nil {
			return User{}, invalid("password_malformed", err.Error())
		}
		s.setHash(&u, n.Hash, n.MustChange)
	case n.Password != "":
		hash, err := s.accept(ctx, &u, n.Password)
		if err != nil {
			return User{}, err
		}
		s.setHash(&u, hash, n.MustChange)
	}
	if d != nil {
		d.Hash = u.Hash
	}
	err = s.change(ctx, func() ([]state.Change, error) {
		records, err := s.store.Read(ctx, users.Key(email), roster.Key(rosterKey))
		if err != nil {
			return nil, err
		}
		if records[0].Exists() {
			return nil, errUserTaken
		}
		makeUser, err1 := users.Create(u, time.Time{}, email)
		makeID, err2 := userIDs.Create(email, time.Time{}, u.ID)
		enter, err3 := s.enter(records[1], u.User)
		return []state.Change{makeUser, makeID, enter}, errors.Join(err1, err2, err3)
	})
	return u.User, err
}

// User returns the user with an address.
func (s *Service) User(ctx context.Context, email string) (User, error) {
	entry, err := s.user(ctx, email)
	return entry.Data.User, err
}

func (s *Service) user(ctx context.Context, email string) (state.Entry[userRecord], error) {
	email, err := Email(email)
	if err != nil {
		return state.Entry[userRecord]{}, errUserUnknown
	}
	entry, err := users.Get(ctx, s.store, email)
	if errors.Is(err, state.ErrNotFound) {
		err = errUserUnknown
	}
	return entry, err
}

// UserByID returns the user with an ID.
func (s *Service) UserByID(ctx context.Context, id string) (User, error) {
	entry, err := s.userByID(ctx, id)
	return entry.Data.User, err
}

func (s *Service) userByID(ctx context.Context, id string) (state.Entry[userRecord], error) {
	if !names.MatchString(id) {
		return state.Entry[userRecord]{}, errUserUnknown
	}
	email, err := userIDs.Get(ctx, s.store, id)
	if errors.Is(err, state.ErrNotFound) {
		return state.Entry[userRecord]{}, errUserUnknown
	}
	if err != nil {
		return state.Entry[userRecord]{}, err
	}
	entry, err := s.user(ctx, email.Data)
	if err == nil && entry.Data.ID != id {
		err = errUserUnknown
	}
	return entry, err
}

// Users returns users in the order of their addresses: those after one, up to limit of
// them or state.MaxScan. The next call's after is next, which is empty when there is
// nothing more.
func (s *Service) Users(ctx context.Context, after string, limit int) (list []User, next string, err error) {
	from := ""
	if after != "" {
		from = users.Key(after)
	}
	records, key, err := s.store.Scan(ctx, state.Prefix(users.Name), from, limit)
	if err != nil {
		return nil, "", err
	}
	for _, r := range records {
		entry, err := users.Decode(r)
		if err != nil {
			return nil, "", err
		}
		list = append(list, entry.Data.User)
	}
	if key == "" {
		return list, "", nil
	}
	_, parts, err := state.Parts(key)
	if err != nil || len(parts) != 1 {
		return nil, "", state.ErrDamaged
	}
	return list, parts[0], nil
}

// Update says what is to be changed of a user; nil leaves it as it is.
type Update struct {
	FullName *string
	Admin    *bool
	Active   *bool
}

// Update changes a user. Whoever calls it ends the sessions and tokens of a user that
// is not active any more.
func (s *Service) Update(ctx context.Context, by Actor, email string, update Update) (User, error) {
	var after User
	err := s.edit(ctx, email, func(u *userRecord) error {
		if by.ID == u.ID && (update.Admin != nil && !*update.Admin && u.Admin || update.Active != nil && !*update.Active && u.Active) {
			return errSelf
		}
		if update.FullName != nil {
			if err := checkName("user", *update.FullName); err != nil {
				return err
			}
			u.FullName = *update.FullName
		}
		if update.Admin != nil {
			u.Admin = *update.Admin
		}
		if update.Active != nil {
			u.Active = *update.Active
		}
		after = u.User
		return nil
	})
	if err != nil {
		return User{}, err
	}
	s.audit(by, "user_update", after.Email, zap.Bool("is_admin", after.Admin), zap.Bool("is_active", after.Active))
	return after, nil
}

// edit changes the record of a user, and with it the list of administrators.
func (s *Service) edit(ctx context.Context, email string, edit func(*userRecord) error) error {
	email, err := Email(email)
	if err != nil {
		return errUserUnknown
	}
	return s.change(ctx, func() ([]state.Change, error) {
		records, err := s.store.Read(ctx, users.Key(email), roster.Key(rosterKey))
		if err != nil {
			return nil, err
		}
		if !records[0].Exists() {
			return nil, errUserUnknown
		}
		entry, err := users.Decode(records[0])
		if err != nil {
			return nil, err
		}
		u := entry.Data
		if err := edit(&u); err != nil {
			return nil, err
		}
		u.Updated = s.now().UTC()
		replace, err := users.Replace(entry, u)
		if err != nil {
			return nil, err
		}
		if entry.Data.administers() == u.administers() {
			return []state.Change{replace}, nil
		}
		guard, err := s.enroll(records[1], u.User)
		return []state.Change{replace, guard}, err
	})
}

// SetPassword gives a user another password, which has to be changed at the next login.
// Whoever calls it ends the user's sessions.
func (s *Service) SetPassword(ctx context.Context, by Actor, email, password string) error {
	entry, err := s.user(ctx, email)
	if err != nil {
		return err
	}
	if err := s.replacePassword(ctx, entry.Data, password, true); err != nil {
		return err
	}
	s.audit(by, "password_set", entry.Data.Email)
	return s.forget(ctx, entry.Data.ID)
}

// replacePassword gives a user another password, unless it was changed since it was
// read.
func (s *Service) replacePassword(ctx context.Context, was userRecord, password string, mustChange bool) error {
	hash, err := s.accept(ctx, &was, password)
	if err != nil {
		return err
	}
	return s.edit(ctx, was.Email, func(u *userRecord) error {
		if u.ID != was.ID {
			return errUserUnknown
		}
		if u.Hash != was.Hash || u.Admin != was.Admin {
			return errBusy
		}
		s.setHash(u, hash, mustChange)
		return nil
	})
}

// Delete ends a user, with the memberships and roles. Whoever calls it ends the user's
// sessions and tokens before.
func (s *Service) Delete(ctx context.Context, by Actor, email string) error {
	email, err := Email(email)
	if err != nil {
		return errUserUnknown
	}
	var gone User
	err = s.change(ctx, func() ([]state.Change, error) {
		records, err := s.store.Read(ctx, users.Key(email), roster.Key(rosterKey))
		if err != nil {
			return nil, err
		}
		if !records[0].Exists() {
			return nil, errUserUnknown
		}
		entry, err := users.Decode(records[0])
		if err != nil {
			return nil, err
		}
		if gone = entry.Data.User; gone.ID == by.ID {
			return nil, errSelf
		}
		leave, err := s.leave(records[1], gone)
		return []state.Change{state.Delete(entry.Record), state.Remove(userIDs.Key(gone.ID)), leave}, err
	})
	if err != nil {
		return err
	}
	s.audit(by, "user_delete", email)
	// What is left from here on belongs to an ID that nobody has any more.
	teams, err := s.teamIDs(ctx, gone.ID)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(teams, state.MaxChanges) {
		changes := make([]state.Change, len(batch))
		for i, team := range batch {
			changes[i] = state.Remove(members.Key(team, gone.ID))
		}
		if _, err := s.store.Apply(ctx, changes...); err != nil {
			return err
		}
	}
	return errors.Join(
		s.clear(ctx, state.Prefix(memberOf.Name, gone.ID)),
		s.clear(ctx, state.Prefix(assignments.Name, gone.ID)),
		s.forget(ctx, gone.ID),
	)
}
