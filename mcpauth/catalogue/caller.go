package catalogue

import (
	"context"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Caller is who asks for something, in an interactive session.
type Caller struct {
	*login.Visitor
	// Address is where the request comes from.
	Address string
}

// caller is a Caller, and what the accounts say of it now.
type caller struct {
	Caller
	by account.Actor
	// reach is what the session reaches: the teams that its token names and of which
	// the user still is.
	reach *scope.Scope
	// teams are those teams, and what the user is to them.
	teams map[string]account.MemberRole
	// office is for whom an Office acts. They may do everything with every token, and
	// are not known by a session.
	office bool
}

func (s *Service) caller(ctx context.Context, c Caller) (*caller, error) {
	memberships, err := s.accounts.TeamsOf(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	known := scope.Account{Admin: c.Admin}
	for _, m := range memberships {
		known.Teams = append(known.Teams, m.Team)
	}
	reach, refused := c.Claims.Scope.ForAccount(known)
	if refused != nil {
		return nil, &account.Error{Kind: account.Forbidden, Reason: refused.Reason, Message: "the session is for a team that its user is not of"}
	}
	full := &caller{Caller: c, by: account.By(c.User, c.Address), reach: reach, teams: make(map[string]account.MemberRole)}
	within := make(map[string]bool)
	for _, team := range reach.Teams() {
		within[team] = true
	}
	for _, m := range memberships {
		if reach.Unrestricted() || within[m.Team] {
			full.teams[m.Team] = m.Role
		}
	}
	return full, nil
}

var (
	errAdminNeeded   = &account.Error{Kind: account.Forbidden, Reason: "admin_required", Message: "Admin access required"}
	errAdminNarrowed = &account.Error{Kind: account.Forbidden, Reason: "admin_narrowed", Message: "Token oversight requires un-narrowed admin access"}
	errOthers        = &account.Error{Kind: account.Forbidden, Reason: "admin_required", Message: "Admin access required to create tokens for other users"}
	errOthersNarrow  = &account.Error{
		Kind: account.Forbidden, Reason: "admin_narrowed",
		Message: "Admin-delegated token creation requires un-narrowed admin access. Your session is narrowed to specific teams.",
	}
)

// oversees refuses whoever is not an administrator whose session reaches everything.
func (c *caller) oversees() error {
	switch {
	case c.office:
		return nil
	case !c.Admin:
		return errAdminNeeded
	case !c.reach.Unrestricted():
		return errAdminNarrowed
	}
	return nil
}

// held tells what the caller holds. An administrator holds everything.
func (s *Service) held(ctx context.Context, c *caller) (Held, error) {
	if c.office || c.Admin {
		return Held{Every: true}, nil
	}
	assigned, err := s.accounts.Assignments(ctx, c.ID)
	if err != nil {
		return Held{}, err
	}
	holder := Holder{Claims: c.Claims, Scope: c.reach}
	for _, a := range assigned {
		if a.Team == "" && a.Effective(s.now()) {
			holder.Roles = append(holder.Roles, a.Role)
		}
	}
	return s.holding(holder), nil
}

// sees reports whether a token is the caller's own, or of a team that the caller is of.
// A team that was made anew under an old name is another one: it is told apart by when
// it was made.
func (s *Service) sees(ctx context.Context, c *caller, r *Record) (bool, error) {
	if c.office || r.UserID == c.ID {
		return true, nil
	}
	if _, ok := c.teams[r.Team]; !ok || r.Team == "" {
		return false, nil
	}
	team, err := s.accounts.Team(ctx, r.Team)
	return err == nil && !team.Created.After(r.Created), gone(err)
}

// changes reports whether the caller may change and revoke a token: its user, and who
// owns its team.
func (s *Service) changes(ctx context.Context, c *caller, r *Record) (bool, error) {
	if !c.office && r.UserID != c.ID && c.teams[r.Team] != account.Owner {
		return false, nil
	}
	return s.sees(ctx, c, r)
}
