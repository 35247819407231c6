package policy

import "slices"

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
	bits   []uint64
}

// Of reports whether the set was made by p. A set that was not must be made
// again.
func (rs RoleSet) Of(p *Policy) bool {
	return rs.policy != nil && rs.policy == p
}

// IsEmpty reports whether the set has no role.
func (rs RoleSet) IsEmpty() bool {
	for _, word := range rs.bits {
		if word != 0 {
			return false
		}
	}
	return true
}

func (rs RoleSet) has(id int) bool {
	return rs.bits[id/64]>>(id%64)&1 == 1
}

// RolesOf returns the roles of a principal. values returns the values of one of
// its claims: the text of a string, the elements of a list of strings, and
// nothing for a claim that is absent or of any other shape. It is asked once for
// each claim that the roles name, except for "scope", for which scopes stand;
// it may be nil.
func (p *Policy) RolesOf(values func(claim string) []string, scopes []string) RoleSet {
	if p == nil {
		return RoleSet{}
	}
	return RoleSet{p, p.rolesHolding(p.holding(values, scopes))}
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
	var names []string
	for id := range p.roles {
		if rs.has(id) {
			names = append(names, p.roles[id].name)
		}
	}
	return names
}
