package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// Declared are accounts and teams that the configuration has. They are made at the
// start, if they are not there yet. Afterwards, what the configuration says otherwise
// than at the last start is changed, and nothing else: what was changed at run time
// stays. A password that its user has changed is never set again. What the
// configuration does not name any more stays as it is; only the roles and the members
// that it gave before are taken away from those it still names.
type Declared struct {
	// The accounts.
	Users []DeclaredUser `json:"users,omitempty"`
	// The teams.
	Teams []DeclaredTeam `json:"teams,omitempty"`
}

// DeclaredUser is an account that the configuration has.
type DeclaredUser struct {
	// The address that the user logs in with. Placeholders are expanded when the
	// configuration is loaded. Required.
	Email string `json:"email,omitempty"`

	// The name for people to read. Default: none.
	Name string `json:"name,omitempty"`

	// Whether the user administers the gateway. Default: false.
	Administrator bool `json:"administrator,omitempty"`

	// The first password, which has to be changed at the first login. Write a
	// placeholder such as {env.ADMIN_PASSWORD} or {file./run/secrets/admin}, since
	// the configuration can be read through the admin API. Placeholders are expanded
	// when the configuration is loaded. An administrator needs this or a hash;
	// others without one cannot log in until they are given one.
	Password string `json:"password,omitempty"`

	// An Argon2id hash of the first password, in the PHC string format. Placeholders
	// are expanded when the configuration is loaded.
	PasswordHash string `json:"password_hash,omitempty"`

	// The names of roles that the user has everywhere. Default: none.
	Roles []string `json:"roles,omitempty"`

	// The names of roles that the user has in teams, by the ids of these. Default:
	// none.
	TeamRoles map[string][]string `json:"team_roles,omitempty"`
}

// DeclaredTeam is a team that the configuration has.
type DeclaredTeam struct {
	// The team's id. Required.
	ID string `json:"id,omitempty"`

	// The name for people to read. Default: none.
	Name string `json:"name,omitempty"`

	// The addresses of the team's owners and of its other members, whose accounts
	// must be declared, too. Default: none.
	Owners  []string `json:"owners,omitempty"`
	Members []string `json:"members,omitempty"`
}

// declared is what the configuration said of a user when it was last looked at.
type declared struct {
	Name  string `json:"name,omitzero"`
	Admin bool   `json:"admin"`
	// Hash is that of the password.
	Hash string `json:"hash,omitzero"`
	// Grants are memberships and roles, as grant writes them.
	Grants []string `json:"grants,omitzero"`
}

// grant is a membership, or a role that is assigned.
type grant struct {
	kind, name, team string
}

func (g grant) String() string { return g.kind + "/" + g.name + "/" + g.team }

// Check refuses declarations that cannot be meant. Placeholders must have been
// expanded. No error holds a password.
func (s *Service) Check(d Declared) error {
	emails := map[string]bool{}
	for i, u := range d.Users {
		email, err := Email(u.Email)
		if err != nil {
			return fmt.Errorf("account %d: %w", i+1, err)
		}
		if emails[email] {
			return fmt.Errorf("the account %s is declared twice; write it once", email)
		}
		emails[email] = true
		if err := s.checkUser(u); err != nil {
			return fmt.Errorf("account %s: %w", email, err)
		}
	}
	ids := map[string]bool{}
	for _, t := range d.Teams {
		if err := checkTeam(t.ID, t.Name, ""); err != nil {
			return fmt.Errorf("team %s: %w", t.ID, err)
		}
		if ids[t.ID] {
			return fmt.Errorf("the team %s is declared twice; write it once", t.ID)
		}
		ids[t.ID] = true
		named := map[string]bool{}
		for _, who := range append(slices.Clone(t.Owners), t.Members...) {
			email, err := Email(who)
			if err != nil || !emails[email] {
				return fmt.Errorf("team %s: its member %s has no account here; declare one", t.ID, who)
			}
			if named[email] {
				return fmt.Errorf("team %s: the member %s is named twice; write it once", t.ID, who)
			}
			named[email] = true
		}
	}
	for _, u := range d.Users {
		for team := range u.TeamRoles {
			if !ids[team] {
				return fmt.Errorf("account %s: there is no team %s here; declare it", u.Email, team)
			}
		}
	}
	return nil
}

func (s *Service) checkUser(u DeclaredUser) error {
	switch {
	case u.Password != "" && u.PasswordHash != "":
		return errors.New("there are a password and a hash; leave one out")
	case u.Administrator && u.Password == "" && u.PasswordHash == "":
		return errors.New("an administrator needs a password or a password_hash; there is no default")
	case u.PasswordHash != "":
		if err := CheckHash(u.PasswordHash); err != nil {
			return err
		}
	case u.Password != "":
		if err := s.passwords.Check(u.Password, u.Email, u.Name, u.Administrator); err != nil {
			return err
		}
	}
	roles := slices.Clone(u.Roles)
	for _, more := range u.TeamRoles {
		roles = append(roles, more...)
	}
	for _, role := range roles {
		if err := CheckRole(role); err != nil {
			return err
		}
	}
	return checkName("user", u.Name)
}

// byConfiguration is who does what is declared.
var byConfiguration = Actor{Name: "configuration"}

// Declare makes accounts and teams as they are declared, and calls ended for users whose
// sessions and tokens have to be ended. It goes on after an error about one of them,
// and returns all of these; with one of the store, it is tried again later.
func (s *Service) Declare(ctx context.Context, d Declared, ended func(User) error) error {
	var failed []error
	for _, t := range d.Teams {
		if err := s.declareTeam(ctx, t); err != nil {
			failed = append(failed, fmt.Errorf("team %s: %w", t.ID, err))
		}
	}
	for _, u := range d.Users {
		if err := s.declareUser(ctx, u, grants(d, u), ended); err != nil {
			failed = append(failed, fmt.Errorf("account %s: %w", u.Email, err))
		}
	}
	return errors.Join(failed...)
}

func (s *Service) declareTeam(ctx context.Context, t DeclaredTeam) error {
	known, err := s.Team(ctx, t.ID)
	switch {
	case errors.Is(err, errTeamUnknown):
		_, err = s.CreateTeam(ctx, byConfiguration, t.ID, t.Name, "")
		if errors.Is(err, errTeamTaken) { // another node was faster
			err = nil
		}
	case err == nil && t.Name != "" && known.Name != t.Name:
		_, err = s.UpdateTeam(ctx, byConfiguration, t.ID, &t.Name, nil)
	}
	return err
}

// grants are what is declared for a user.
func grants(d Declared, u DeclaredUser) []grant {
	var all []grant
	is := func(email string) bool { return strings.EqualFold(email, u.Email) }
	for _, t := range d.Teams {
		if slices.ContainsFunc(t.Owners, is) {
			all = append(all, grant{"member", string(Owner), t.ID})
		}
		if slices.ContainsFunc(t.Members, is) {
			all = append(all, grant{"member", string(Member), t.ID})
		}
	}
	for _, role := range u.Roles {
		all = append(all, grant{"role", role, ""})
	}
	for team, roles := range u.TeamRoles {
		for _, role := range roles {
			all = append(all, grant{"role", role, team})
		}
	}
	return all
}

func (s *Service) declareUser(ctx context.Context, u DeclaredUser, wanted []grant, ended func(User) error) error {
	entry, err := s.user(ctx, u.Email)
	if errors.Is(err, errUserUnknown) {
		made, err := s.create(ctx, NewUser{
			Email: u.Email, FullName: u.Name, Password: u.Password, Hash: u.PasswordHash,
			Admin: u.Administrator, Active: true, MustChange: true,
		}, &declared{Name: u.Name, Admin: u.Administrator})
		if err != nil && !errors.Is(err, errUserTaken) {
			return err
		}
		if err == nil {
			s.audit(byConfiguration, "user_create", made.Email, zap.Bool("is_admin", made.Admin))
		}
		if entry, err = s.user(ctx, u.Email); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	last := entry.Data.Declared
	if last == nil {
		// Whoever made this account may have chosen its password. So it is not made
		// an administrator's as it is.
		if u.Administrator && !entry.Data.Admin && u.Password == "" && u.PasswordHash == "" {
			return errors.New("there is an account already; give it a password to make it an administrator's")
		}
		last = &declared{Name: entry.Data.FullName, Admin: entry.Data.Admin, Hash: entry.Data.Hash}
	}
	next := declared{Name: u.Name, Admin: u.Administrator, Hash: last.Hash}
	newHash := ""
	if entry.Data.Hash == last.Hash {
		if newHash, err = s.declaredHash(ctx, u, entry.Data, last.Hash); err != nil {
			return err
		}
	}
	if newHash != "" {
		next.Hash = newHash
	}
	if err := s.declareGrants(ctx, u.Email, wanted, last.Grants); err != nil {
		return err
	}
	for _, g := range wanted {
		next.Grants = append(next.Grants, g.String())
	}
	slices.Sort(next.Grants)
	demoted := last.Admin && !u.Administrator
	if entry.Data.Declared != nil && newHash == "" && next.Name == last.Name && next.Admin == last.Admin && slices.Equal(next.Grants, last.Grants) {
		return nil
	}
	err = s.edit(ctx, u.Email, func(now *userRecord) error {
		if now.ID != entry.Data.ID || now.Hash != entry.Data.Hash {
			return errBusy
		}
		if next.Name != last.Name {
			now.FullName = next.Name
		}
		if next.Admin != last.Admin {
			now.Admin = next.Admin
		}
		if newHash != "" {
			s.setHash(now, newHash, true)
		}
		now.Declared = &next
		return nil
	})
	if err != nil {
		return err
	}
	s.audit(byConfiguration, "user_declare", entry.Data.Email, zap.Bool("is_admin", next.Admin), zap.Bool("password_set", newHash != ""))
	if newHash != "" || demoted {
		return ended(entry.Data.User)
	}
	return nil
}

// declaredHash returns the hash for a declared password that is another one than last
// time, and otherwise nothing.
func (s *Service) declaredHash(ctx context.Context, u DeclaredUser, is userRecord, last string) (string, error) {
	switch {
	case u.PasswordHash != "":
		if u.PasswordHash == last {
			return "", nil
		}
		return u.PasswordHash, nil
	case u.Password == "":
		return "", nil
	}
	if last != "" && is.Declared != nil {
		same, _, err := s.hasher.verify(ctx, last, u.Password)
		if err != nil || same {
			return "", err
		}
	}
	return s.hasher.make(ctx, u.Password)
}

// declareGrants gives what is new in the configuration, and takes away what is there no
// more.
func (s *Service) declareGrants(ctx context.Context, email string, wanted []grant, last []string) error {
	for _, g := range wanted {
		if slices.Contains(last, g.String()) {
			continue
		}
		var err error
		if g.kind == "member" {
			err = s.SetMember(ctx, byConfiguration, g.team, email, MemberRole(g.name))
		} else {
			err = s.Assign(ctx, byConfiguration, email, Assignment{Role: g.name, Team: g.team, Active: true})
		}
		if err != nil {
			return err
		}
	}
	for _, text := range last {
		fields := strings.SplitN(text, "/", 3)
		if len(fields) != 3 || slices.ContainsFunc(wanted, func(g grant) bool {
			return g.String() == text || g.kind == "member" && fields[0] == "member" && g.team == fields[2]
		}) {
			continue
		}
		var err error
		if fields[0] == "member" {
			err = s.RemoveMember(ctx, byConfiguration, fields[2], email)
		} else {
			err = s.Unassign(ctx, byConfiguration, email, fields[1], fields[2])
		}
		var gone *Error
		if err != nil && (!errors.As(err, &gone) || gone.Kind != Unknown) {
			return err
		}
	}
	return nil
}
