package policy

import (
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// role is a compiled role: its conditions by number. Those on the token's scopes
// are kept with their values, to tell which scopes are missing.
type role struct {
	name   string
	others []int32
	scopes []scopeCondition
}

type scopeCondition struct {
	id     int32
	values []string
}

// RoleSet is the roles that a principal has under one policy. It is made by
// [Policy.RolesOf], once per token, and never changes. Any other policy allows a
// RoleSet nothing, so that one kept from before a reload cannot be taken for
// something else; see [RoleSet.Of]. The zero RoleSet allows nothing.
type RoleSet struct {
	policy *Policy
	// bits are the roles that hold everywhere.
	bits []uint64
	// view is nil for a principal whose roles all hold everywhere and from whom
	// nothing is hidden.
	view *view
}

// Of reports whether the set was made by p. A set that was not must be made
// again.
func (rs RoleSet) Of(p *Policy) bool {
	return rs.policy != nil && rs.policy == p
}

// IsEmpty reports whether the set has no role.
func (rs RoleSet) IsEmpty() bool {
	return !slices.ContainsFunc(rs.held(), func(word uint64) bool { return word != 0 })
}

// held are all roles, those that hold in teams included.
func (rs RoleSet) held() []uint64 {
	switch {
	case rs.view == nil:
		return rs.bits
	case rs.view.all != nil:
		return rs.view.all
	}
	return rs.view.held
}

// RolesOf returns the roles of a principal. values returns the values of one of
// its claims: the text of a string, the elements of a list of strings, and
// nothing for a claim that is absent or of any other shape. It is asked once for
// each claim that the roles name, except for "scope", for which scopes stand;
// it may be nil.
//
// sees reports whether the principal is one of an audience, and so sees what is for
// it. It is asked once for each audience that the configuration names. A role that
// holds in teams is held by a principal that is of one of them. A nil function
// stands for a principal that is of no audience.
func (p *Policy) RolesOf(values func(claim string) []string, scopes []string, sees func(Audience) bool) RoleSet {
	if p == nil {
		return RoleSet{}
	}
	return p.roleSet(p.rolesHolding(p.holding(values, scopes)), p.see(sees))
}

// RolesOfMember is [Policy.RolesOf] for a principal of whom more is true in some of its
// teams than elsewhere: inTeams returns, by the id of a team, the values of the claims
// there. A role that the principal has by them counts for what belongs to that team, as
// far as the principal is of the team and the role holds there. In teams that own
// nothing it has no meaning.
func (p *Policy) RolesOfMember(values func(claim string) []string, inTeams map[string]func(claim string) []string, scopes []string, sees func(Audience) bool) RoleSet {
	if p == nil {
		return RoleSet{}
	}
	seen := p.see(sees)
	for id, team := range p.teams.ids {
		there, ok := inTeams[team]
		if !ok || seen.teams == nil || seen.teams[id/64]>>(id%64)&1 == 0 {
			continue
		}
		if seen.own == nil {
			seen.own = make([][]uint64, len(p.teams.ids))
		}
		seen.own[id] = p.rolesHolding(p.holding(there, scopes))
	}
	return p.roleSet(p.rolesHolding(p.holding(values, scopes)), seen)
}

// rolesHolding returns the roles all of whose conditions hold.
func (p *Policy) rolesHolding(holds []bool) []uint64 {
	bits := make([]uint64, p.words)
	for id := range p.roles {
		r := &p.roles[id]
		if r.holds(holds) && !slices.ContainsFunc(r.scopes, func(c scopeCondition) bool { return !holds[c.id] }) {
			bits[id/64] |= 1 << (id % 64)
		}
	}
	return bits
}

// holding returns, by number, the conditions that hold.
func (p *Policy) holding(values func(claim string) []string, scopes []string) []bool {
	holds := make([]bool, p.conditionCount)
	for claim, byValue := range p.conditions {
		var has []string
		if claim == scopeClaim {
			has = scopes
		} else if values != nil {
			has = values(claim)
		}
		for _, v := range has {
			for _, id := range byValue[v] {
				holds[id] = true
			}
		}
	}
	return holds
}

// holds reports whether the conditions other than scopes hold.
func (r *role) holds(holding []bool) bool {
	for _, id := range r.others {
		if !holding[id] {
			return false
		}
	}
	return true
}

// RoleNames returns the names of the roles, sorted; none if the set was made by
// another policy.
func (p *Policy) RoleNames(rs RoleSet) []string {
	if !rs.Of(p) {
		return nil
	}
	return p.namesOf(rs.held())
}

// RoleNamesOn returns the names of the roles that hold for the whole of that server,
// sorted: those that hold everywhere, and those that hold in a team to which the
// server belongs. What a role gives in one team is nothing that the server of another
// should be told of.
func (p *Policy) RoleNamesOn(rs RoleSet, server string) []string {
	// Any permission that is about a server does.
	q, ok := p.newQuestion(rs, &Question{Permission: mcp.LoggingWrite, Server: server})
	if !ok {
		return nil
	}
	if q.view != nil && q.view.teams != nil {
		q.enter(false)
	}
	return p.namesOf(q.roles())
}

func (p *Policy) namesOf(held []uint64) []string {
	var names []string
	for id := range p.roles {
		if held[id/64]>>(id%64)&1 == 1 {
			names = append(names, p.roles[id].name)
		}
	}
	return names
}
