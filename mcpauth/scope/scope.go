// Package scope is the first of the two layers of permission: what one token may
// reach, read from its claims alone. Roles, the second layer, say what a person
// may do; both must agree, and neither widens the other.
//
// The claims are those of tokens of ContextForge: teams and is_admin, which say
// what the token may see, and scopes, which binds it to a server, to permissions,
// to addresses, to times and to a number of requests. There is one schema, and it
// is strict: a member of scopes that is unknown, or of another type than it should
// be, makes the token invalid. Nothing is guessed, because every guess widens
// somebody's token.
//
// [Parse] compiles the claims once per token. The [Scope] is immutable after that,
// safe for concurrent use, and answers without allocation.
package scope

import (
	"net/netip"
	"slices"
)

// Scope is what one token may reach. It is made by [Parse]; the zero Scope and a
// nil one reach nothing.
type Scope struct {
	// What the claims say.
	admin      bool
	session    bool
	claim      teamsClaim
	named      []string
	publicOnly bool // of an administrator's token without the claim teams

	// What they come to.
	view  view
	teams []string // sorted

	server      string
	permissions Permissions
	granted     Permissions // by OAuth scopes
	addresses   []netip.Prefix
	window      *window
	limits      Limits
	key         Key
	// also is what bounds it beside the claims, see [Scope.Within].
	also *Scope
}

// Admin reports whether the token says that its owner is an administrator, and,
// after [Scope.ForAccount], whether the account agrees. It says nothing about what
// the token sees: see [Scope.Unrestricted].
func (s *Scope) Admin() bool { return s != nil && s.admin }

// Unrestricted reports whether the token's teams do not bound what it sees, except
// for what is private to others.
func (s *Scope) Unrestricted() bool { return s != nil && s.view == viewAll }

// PublicOnly reports whether the token sees nothing but what is public. Such a
// token does not get to the routes of administrators, whoever holds it.
func (s *Scope) PublicOnly() bool { return s == nil || s.view == viewPublic }

// Teams are the teams that the token is for, sorted. There are none in a token
// that is unrestricted, nor in one that is public only.
func (s *Scope) Teams() []string {
	if s == nil {
		return nil
	}
	return slices.Clone(s.teams)
}

// ServerScoped reports whether the token is bound to one server. It then reaches
// neither the routes of administrators nor those that manage tokens.
func (s *Scope) ServerScoped() bool {
	return s == nil || s.server != "" || s.also != nil && s.also.server != ""
}

// AllowsServer reports whether the token may be used with the server of that name,
// which must be the very one that it is bound to, byte for byte.
func (s *Scope) AllowsServer(name string) bool {
	return s != nil && (s.server == "" || s.server == name) && s.alsoServer(name)
}

// Limits are how often the token may be used.
func (s *Scope) Limits() Limits {
	if s == nil {
		return Limits{}
	}
	return s.limits
}
