package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Need is what an operation needs, as far as scopes can give it.
type Need struct {
	// Asked are questions, each of which [Policy.Judge] must answer with yes.
	Asked []Question
	// OneOf are what else scopes must give, each by one scope at least.
	OneOf []OneOf
	// Weight says how much a scope gives away, at least 1. A nil function weighs
	// all the same.
	Weight func(scope string) int
}

// OneOf is something that one of several scopes gives.
type OneOf struct {
	// Propose are the scopes that may be proposed for it.
	Propose []string
	// Given reports whether a scope, proposed for whatever reason, gives it.
	Given func(scope string) bool
}

// ScopesFor returns the fewest scopes that would have to be added to those the
// principal has for [Policy.Allows] to say yes, sorted. See [Policy.ScopesForAll].
func (p *Policy) ScopesFor(values func(claim string) []string, scopes []string, sees func(Audience) bool, perm mcp.Permission, server string, kind ObjectKind, object string) []string {
	asked := Question{Permission: perm, Server: server, Kind: kind, Object: object}
	return p.scopesFor(values, scopes, sees, Need{Asked: []Question{asked}}, false)
}

// ScopesForQuestion is ScopesFor with the arguments known: for [Policy.Judge] to
// say yes.
func (p *Policy) ScopesForQuestion(values func(claim string) []string, scopes []string, sees func(Audience) bool, asked Question) []string {
	return p.ScopesForAll(values, scopes, sees, Need{Asked: []Question{asked}})
}

// ScopesForAll returns the scopes that would have to be added to those the principal
// has for all of a need to be met, sorted: the lightest such set, of those one with
// the fewest scopes, of those one whose scopes are named in the fewest conditions of
// roles, and of those the first in order. None of them is superfluous. It returns nil
// when no scope would help, and when nothing is missing. Scopes that would also bring a
// role that denies the operation are not proposed. Only roles whose other conditions
// hold are considered. It is not meant for the path of requests that are allowed.
//
// Roles that ask for scopes in many overlapping conditions can make the lightest
// set hard to find. The search is cut short then, and the answer, though still
// sufficient, without a superfluous scope and always the same, may not be the
// lightest; where some roles deny, it may be missing.
func (p *Policy) ScopesForAll(values func(claim string) []string, scopes []string, sees func(Audience) bool, need Need) []string {
	asked := slices.Clone(need.Asked)
	for i := range asked {
		if asked[i].Arguments != nil {
			asked[i].Arguments = sync.OnceValues(asked[i].Arguments)
		}
		if asked[i].Claims != nil {
			asked[i].Claims = sync.OnceValue(asked[i].Claims)
		}
	}
	need.Asked = asked
	return p.scopesFor(values, scopes, sees, need, true)
}

func (p *Policy) scopesFor(values func(claim string) []string, scopes []string, sees func(Audience) bool, need Need, evaluate bool) []string {
	if p == nil {
		return nil
	}
	seen := p.see(sees)
	s := search{policy: p, seen: seen, need: need, evaluate: evaluate, held: make([]int, p.conditionCount), effort: maxEffort}
	holds := p.holding(values, scopes)
	for id, holds := range holds {
		if holds {
			s.held[id] = 1
		}
	}
	if s.denied() {
		return nil // what a role that is held denies stays denied
	}
	s.need.OneOf = slices.DeleteFunc(slices.Clone(need.OneOf), func(o OneOf) bool { return slices.ContainsFunc(scopes, o.Given) })
	for i := range need.Asked {
		ways := p.ways(seen, holds, &need.Asked[i], evaluate)
		if len(ways) == 0 {
			return nil
		}
		s.ways = append(s.ways, ways)
	}
	s.descend(0)
	return s.irreducible()
}

// way is a role, or several alike, that allows what a question asks: the conditions
// on scopes that do not hold yet.
type way []scopeCondition

// ways returns what scopes could give the roles that allow it.
func (p *Policy) ways(seen view, holds []bool, asked *Question, evaluate bool) []way {
	// Ask once for all roles that scopes could add: most refusals are ones that
	// no scope changes.
	reach := make([]uint64, p.words)
	for id := range p.roles {
		if p.roles[id].holds(holds) {
			reach[id/64] |= 1 << (id % 64)
		}
	}
	grants := func(q *question) bool { return p.grant(q, evaluate) == Granted }
	if !p.try(p.roleSet(reach, seen), asked, grants) {
		return nil
	}
	one := make([]uint64, p.words)
	found := make(map[string]way)
	for id := range p.roles {
		if reach[id/64]>>(id%64)&1 == 0 {
			continue
		}
		clear(one)
		one[id/64] = 1 << (id % 64)
		if !p.try(p.roleSet(one, seen), asked, grants) {
			continue
		}
		w := way{}
		var ids []int32
		for _, c := range p.roles[id].scopes {
			if !holds[c.id] {
				w, ids = append(w, c), append(ids, c.id)
			}
		}
		if len(w) == 0 {
			return []way{w}
		}
		found[fmt.Sprint(ids)] = w
	}
	var all []way
	for _, key := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[key])
	}
	return all
}

// try makes a question of its own each time: what it remembers of conditions is
// about the roles it was asked for.
func (p *Policy) try(rs RoleSet, asked *Question, f func(*question) bool) bool {
	q, ok := p.newQuestion(rs, asked)
	q.arguments, q.claims, q.client = asked.Arguments, asked.Claims, asked.Client
	return ok && f(&q)
}

// maxEffort bounds a search, counted in ways looked at.
const maxEffort = 20_000

// search looks for the lightest set of scopes.
type search struct {
	policy   *Policy
	seen     view
	need     Need
	evaluate bool
	// ways are those of each question.
	ways [][]way
	// held counts, by condition, what makes it hold: what the principal has, and
	// each of the scopes chosen.
	held   []int
	chosen []string
	effort int

	best   []string // sorted; nil when nothing was found
	weight int      // of the best
}

// descend tries every set that is the scopes chosen, which weigh that much, and
// more.
func (s *search) descend(weight int) {
	if s.best != nil && weight > s.weight || s.denied() {
		return // and more scopes weigh more, and take no denial away
	}
	next, met := s.next()
	if met {
		sorted := slices.Sorted(slices.Values(s.chosen))
		if s.best == nil || weight < s.weight || s.policy.isSmaller(sorted, s.best) {
			s.best, s.weight = sorted, weight
			if s.best == nil {
				s.best = []string{}
			}
		}
		return
	}
	for _, scope := range next {
		if s.effort <= 0 {
			return
		}
		s.choose(scope, 1)
		s.chosen = append(s.chosen, scope)
		s.descend(weight + s.weigh(scope))
		s.chosen = s.chosen[:len(s.chosen)-1]
		s.choose(scope, -1)
	}
}

// next returns scopes of which each set that meets the need has one, the smallest
// first, or that it is met.
func (s *search) next() (scopes []string, met bool) {
	s.effort--
	for _, ways := range s.ways {
		s.effort -= len(ways)
		var open []string
		for _, w := range ways {
			i := slices.IndexFunc(w, func(c scopeCondition) bool { return s.held[c.id] == 0 })
			if i < 0 {
				open = nil
				break
			}
			open = append(open, w[i].values...)
		}
		if open != nil {
			return s.ordered(open), false
		}
	}
	for _, o := range s.need.OneOf {
		if !slices.ContainsFunc(s.chosen, o.Given) {
			return s.ordered(slices.Clone(o.Propose)), false
		}
	}
	return nil, true
}

func (s *search) ordered(scopes []string) []string {
	slices.SortFunc(scopes, func(a, b string) int {
		p := s.policy
		return cmp.Or(s.weigh(a)-s.weigh(b), p.breadth(a)-p.breadth(b), cmp.Compare(a, b))
	})
	return slices.Compact(scopes)
}

func (s *search) weigh(scope string) int {
	if s.need.Weight == nil {
		return 1
	}
	return s.need.Weight(scope)
}

// choose adds a scope, or takes it away again.
func (s *search) choose(scope string, by int) {
	for _, id := range s.policy.conditions[scopeClaim][scope] {
		s.held[id] += by
	}
}

// denied reports whether the roles that the principal would have now deny anything
// of what is asked.
func (s *search) denied() bool {
	p := s.policy
	if !p.deny.any && !p.denyIf.any {
		return false
	}
	holds := make([]bool, len(s.held))
	for id, by := range s.held {
		holds[id] = by > 0
	}
	s.effort -= p.words
	rs := p.roleSet(p.rolesHolding(holds), s.seen)
	return slices.ContainsFunc(s.need.Asked, func(asked Question) bool {
		return p.try(rs, &asked, func(q *question) bool {
			return p.ask(&p.deny, q) || p.refuses(&p.denyIf, q, s.evaluate)
		})
	})
}

// irreducible returns the best set without what is superfluous in it, which a
// search that was cut short may leave.
func (s *search) irreducible() []string {
	if len(s.best) == 0 {
		return nil
	}
	for _, scope := range s.best {
		s.choose(scope, 1)
	}
	for _, scope := range slices.Backward(slices.Clone(s.best)) {
		s.choose(scope, -1)
		s.chosen = slices.DeleteFunc(slices.Clone(s.best), func(other string) bool { return other == scope })
		if _, met := s.next(); met {
			s.best = s.chosen
		} else {
			s.choose(scope, 1)
		}
	}
	return s.best
}

// isSmaller reports whether a has fewer scopes than b, or is otherwise to be preferred.
func (p *Policy) isSmaller(a, b []string) bool {
	return cmp.Or(len(a)-len(b), p.breadth(a...)-p.breadth(b...), slices.Compare(a, b)) < 0
}

// breadth is in how many conditions of roles the scopes are named. One that gives more
// than another usually stands wherever the other does, and elsewhere.
func (p *Policy) breadth(scopes ...string) (count int) {
	for _, scope := range scopes {
		count += len(p.conditions[scopeClaim][scope])
	}
	return count
}
