package scope

import (
	"net/http"
	"slices"
)

// Visibility says who may see a server, or a single object of it.
type Visibility string

// The visibilities. An empty one is that of a team, and "user", an older name, is
// private (behaviour.md section 2.3); any other is seen by nobody.
const (
	// Public is for every principal.
	Public Visibility = "public"
	// Team is for tokens of the team it belongs to, and unrestricted ones.
	Team Visibility = "team"
	// Private is for its owner, with a token of a team or an unrestricted one.
	Private Visibility = "private"
)

// Valid reports whether v is one of the visibilities that may be configured.
func (v Visibility) Valid() bool { return v == Public || v == Team || v == Private }

// teamsClaim is which form the claim teams had. They mean different things.
type teamsClaim uint8

const (
	teamsAbsent teamsClaim = iota
	teamsNull
	teamsEmpty
	teamsListed
)

// view is what a token sees.
type view uint8

const (
	viewPublic view = iota
	viewTeams       // what is public, and what belongs to its teams
	viewAll         // the same of all teams
)

// readTeams reads teams: a list of names, or of objects with the name in id. An
// element of any other form makes the token invalid; ContextForge dropped it, and
// read a text as a list of its characters.
func readTeams(value any, present bool) (teamsClaim, []string, *Error) {
	switch {
	case !present:
		return teamsAbsent, nil, nil
	case value == nil:
		return teamsNull, nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return 0, nil, invalid("teams", "is not a list")
	}
	if len(list) == 0 {
		return teamsEmpty, nil, nil
	}
	names := make([]string, len(list))
	for i, element := range list {
		if object, ok := element.(map[string]any); ok {
			element = object["id"]
		}
		name, ok := element.(string)
		if !ok || name == "" {
			return 0, nil, invalid("teams", "has an element that does not name a team")
		}
		names[i] = name
	}
	slices.Sort(names)
	return teamsListed, slices.Compact(names), nil
}

// resolve works out what the token sees by its claims.
func (s *Scope) resolve() {
	s.view, s.teams = viewPublic, nil
	switch s.claim {
	case teamsAbsent:
		if s.admin && !s.publicOnly {
			s.view = viewAll
		}
	case teamsNull:
		if s.admin {
			s.view = viewAll
		}
	case teamsEmpty:
		// Public only, even for an administrator.
	case teamsListed:
		// Being an administrator adds nothing to a list.
		s.view, s.teams = viewTeams, s.named
	}
}

// Sees reports whether a token sees what has the visibility, belongs to the team and
// to the owner. The subject is who holds the token, named in the way that owner
// names somebody; the two are compared byte for byte, and an empty one is nobody.
//
// Ownership never overrides the teams: a token that is public only does not even see
// what is private to its own holder. Nobody sees what is private to others.
func (s *Scope) Sees(v Visibility, team, owner, subject string) bool {
	if s == nil {
		return false
	}
	switch v {
	case Public:
		return true
	case Team, "":
		if s.view == viewAll {
			return true
		}
		_, found := slices.BinarySearch(s.teams, team)
		return found
	case Private, "user":
		return s.view != viewPublic && owner != "" && owner == subject
	}
	return false
}

// Account is what is known of a token's holder apart from the token.
type Account struct {
	// Admin is whether the holder is an administrator now.
	Admin bool
	// Teams are the teams that the holder is an active member of now.
	Teams []string
}

// ForAccount returns the scope as the account bounds it (behaviour.md section 2.2).
//
// The account decides about sessions: it says who is an administrator, and which
// teams there are; a list in the token narrows that, and no list means all of them.
// Of every other token, the account can only take away: an administrator must still
// be one, and the holder must be a member of every team that the token lists, or the
// token is refused.
func (s *Scope) ForAccount(a Account) (*Scope, *Refusal) {
	if s == nil {
		return nil, refusedMembership
	}
	bounded := *s
	if s.session {
		bounded.admin = a.Admin
		bounded.view, bounded.teams = viewTeams, nil
		switch {
		case a.Admin && s.claim == teamsListed:
			bounded.teams = s.named
		case a.Admin:
			bounded.view = viewAll
		default:
			bounded.teams = slices.Sorted(slices.Values(a.Teams))
			bounded.teams = slices.DeleteFunc(slices.Compact(bounded.teams), func(team string) bool {
				return team == "" || s.claim == teamsListed && !slices.Contains(s.named, team)
			})
			if len(bounded.teams) == 0 {
				bounded.view = viewPublic
			}
		}
		return &bounded, nil
	}
	bounded.admin = s.admin && a.Admin
	bounded.resolve()
	for _, team := range bounded.teams {
		if !slices.Contains(a.Teams, team) {
			return nil, refusedMembership
		}
	}
	return &bounded, nil
}

var refusedMembership = &Refusal{Status: http.StatusForbidden, Reason: ReasonMembership, Cause: CauseMembership}
