package policy

import (
	"slices"
	"sync"

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
	if rs.view != nil {
		return rs.view.held
	}
	return rs.bits
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

// ScopesFor returns the fewest scopes that would have to be added to those the
// principal has for [Policy.Allows] to say yes, sorted; of several such sets the
// first in order. It returns nil when no scope would help, and when nothing is
// missing. Scopes that would also bring a role that denies the operation are not
// proposed. Only roles whose other conditions hold are considered. It is not meant
// for the path of requests that are allowed.
//
// A role that asks for scopes in many overlapping conditions can make the fewest
// hard to find. The search is cut short then, and the answer, though still
// sufficient and always the same, may not be the smallest; where some roles deny,
// it may be missing.
func (p *Policy) ScopesFor(values func(claim string) []string, scopes []string, sees func(Audience) bool, perm mcp.Permission, server string, kind ObjectKind, object string) []string {
	return p.scopesFor(values, scopes, sees, Question{Permission: perm, Server: server, Kind: kind, Object: object}, false)
}

// ScopesForQuestion is ScopesFor with the arguments known: for [Policy.Judge] to
// say yes.
func (p *Policy) ScopesForQuestion(values func(claim string) []string, scopes []string, sees func(Audience) bool, asked Question) []string {
	if asked.Arguments != nil {
		asked.Arguments = sync.OnceValues(asked.Arguments)
	}
	if asked.Claims != nil {
		asked.Claims = sync.OnceValue(asked.Claims)
	}
	return p.scopesFor(values, scopes, sees, asked, true)
}

func (p *Policy) scopesFor(values func(claim string) []string, scopes []string, sees func(Audience) bool, asked Question, evaluate bool) []string {
	if p == nil {
		return nil
	}
	seen := p.see(sees)
	// ask makes a question of its own each time: what it remembers of conditions
	// is about the roles it was asked for.
	ask := func(bits []uint64, f func(*question) bool) bool {
		q, ok := p.newQuestion(p.roleSet(bits, seen), &asked)
		q.arguments, q.claims, q.client = asked.Arguments, asked.Claims, asked.Client
		return ok && f(&q)
	}
	grants := func(q *question) bool { return p.grant(q, evaluate) == Granted }
	allows := func(q *question) bool { return p.settle(q, evaluate) == Granted }
	denies := func(q *question) bool {
		return p.ask(&p.deny, q) || p.refuses(&p.denyIf, q, evaluate)
	}

	// Ask once for all roles that scopes could add: most refusals are ones that
	// no scope changes. What a role that is held denies stays denied.
	holds := p.holding(values, scopes)
	reach := make([]uint64, p.words)
	for id := range p.roles {
		if p.roles[id].holds(holds) {
			reach[id/64] |= 1 << (id % 64)
		}
	}
	if !ask(reach, grants) || ask(p.rolesHolding(holds), denies) {
		return nil
	}
	helps := func(added []string) bool {
		if !p.deny.any && !p.denyIf.any {
			return true
		}
		more := slices.Clone(holds)
		for _, scope := range added {
			for _, id := range p.conditions[scopeClaim][scope] {
				more[id] = true
			}
		}
		return ask(p.rolesHolding(more), allows)
	}
	one := make([]uint64, p.words)
	var best []string
	for id := range p.roles {
		if reach[id/64]>>(id%64)&1 == 0 {
			continue
		}
		clear(one)
		one[id/64] = 1 << (id % 64)
		if !ask(one, grants) {
			continue
		}
		var missing [][]string
		for _, c := range p.roles[id].scopes {
			if !holds[c.id] {
				missing = append(missing, c.values)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if found := fewest(missing, helps); found != nil && (best == nil || isFewer(found, best)) {
			best = found
		}
	}
	return best
}

// isFewer reports whether a has fewer scopes than b, or comes first in order.
func isFewer(a, b []string) bool {
	return len(a) < len(b) || len(a) == len(b) && slices.Compare(a, b) < 0
}

// maxTries bounds the search for the fewest scopes of one role.
const maxTries = 1000

// fewest returns the smallest sorted set with a value of each of the lists, which
// are sorted, that helps; of several the first in order.
func fewest(lists [][]string, helps func([]string) bool) []string {
	// One value of each list is always enough.
	var found []string
	for _, list := range lists {
		if !slices.ContainsFunc(list, func(v string) bool { return slices.Contains(found, v) }) {
			found = append(found, list[0])
		}
	}
	slices.Sort(found)
	limit := len(found)
	if !helps(found) {
		found, limit = nil, len(lists)
	}

	tries := maxTries
	var search func(chosen []string, size int)
	search = func(chosen []string, size int) {
		if tries--; tries < 0 {
			return
		}
		var open []string
		for _, list := range lists {
			if !slices.ContainsFunc(list, func(v string) bool { return slices.Contains(chosen, v) }) {
				open = list
				break
			}
		}
		if open == nil {
			sorted := slices.Sorted(slices.Values(chosen))
			if (found == nil || isFewer(sorted, found)) && helps(sorted) {
				found, limit = sorted, len(sorted)
			}
			return
		}
		if len(chosen) == size {
			return
		}
		for _, v := range open {
			search(append(slices.Clip(chosen), v), size)
		}
	}
	for size := 1; size <= limit; size++ {
		search(nil, size)
	}
	return found
}
