package policy

import (
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// question is a question under way. It lives on the asker's stack.
type question struct {
	policy *Policy
	// bits are what is asked for: the roles that hold everywhere, which held keeps,
	// or, of other rules, teams or audiences. view is the rest of the RoleSet.
	bits, held []uint64
	view       *view
	team       teamRoles
	perm       mcp.Permission
	server     string
	kind       ObjectKind
	object     string
	mode       mode
	// deny is set while what is denied is asked, byScheme like that of the rules.
	deny, byScheme bool
	// rule is the one that the last answer came from.
	rule *Rule
	// plain and spelled remember what isPlainURI says of the object, and
	// hasOneSpelling.
	plain, spelled answer
	// steps counts what was visited, for the tests that hold it constant.
	steps int
	trial
}

// mode says what a match means.
type mode uint8

const (
	// matching takes the first match for the answer.
	matching mode = iota
	// evaluating takes the first whose condition says so.
	evaluating
	// collecting looks for all.
	collecting
	// touching takes anything of that permission that is allowed on the server for
	// a match, and what is denied on all of it.
	touching
)

type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// newQuestion returns false for a question that makes no sense: the roles are of
// another policy, the permission or kind does not exist, or no server can have
// that name.
func (p *Policy) newQuestion(rs RoleSet, asked *Question) (question, bool) {
	if asked.Kind > KindTemplate || !p.canDecide(rs, asked.Permission, asked.Server) {
		return question{}, false
	}
	q := question{policy: p, bits: rs.bits, held: rs.bits, view: rs.view, perm: asked.Permission, server: asked.Server, kind: asked.Kind, object: asked.Object}
	switch {
	case isServerLevel(q.perm):
		q.kind = KindNone
	case q.kind == KindName && isOfResources(q.perm):
		q.kind = KindURI
	case q.kind == KindTemplate && isOfNames(q.perm):
		q.kind = KindURI
	}
	return q, true
}

// ask reports whether one of the rules decides. What is hidden is asked with what is
// denied, so that it cannot be forgotten.
func (p *Policy) ask(r *rules, q *question) bool {
	if !r.any {
		return false
	}
	if r == &p.deny && p.hides(q) {
		return true
	}
	if q.view != nil && q.view.teams != nil {
		q.enter(r.deny)
	}
	return r.match(q)
}

// match reports whether one of the rules decides, for the bits of the question.
func (r *rules) match(q *question) bool {
	q.deny, q.byScheme = r.deny, r.byScheme
	found := r.on(q.server)
	decided := false
	for t := found.next(); t != nil && !decided; t = found.next() {
		q.steps++
		if q.perm == mcp.ServersUse && !q.deny {
			decided = q.decided(&t.touched)
		} else {
			decided = t.slots[q.perm].matches(q) || t.slots[mcp.PermissionNone].matches(q)
		}
	}
	q.steps += found.globs.steps
	return decided
}

// decided reports whether one of the grants, all of which match, decides.
func (q *question) decided(g *grants) bool {
	return q.decidedBy(g, g.roles)
}

// decidedBy is decided, with only some of the roles.
func (q *question) decidedBy(g *grants, roles roleMask) bool {
	if q.team.gathering {
		q.gather(roles)
		return false
	}
	held := q.roles()
	role := roles.first(held)
	if role < 0 {
		return false
	}
	if q.mode != evaluating && q.mode != collecting {
		q.rule = g.of(role)
		return true
	}
	for _, r := range g.rules {
		if held[r.role/64]>>(r.role%64)&1 == 0 {
			continue
		}
		if q.mode == collecting {
			q.collect(r)
		} else if q.holds(r) {
			q.rule = r
			return true
		}
	}
	return false
}

// tables is a walk over the tables that concern a server.
type tables struct {
	rules  *rules
	server string
	stage  int
	globs  candidates[*table]
}

// on begins the walk.
func (r *rules) on(server string) tables {
	return tables{rules: r, server: server}
}

// next returns the next table, or nil.
func (w *tables) next() *table {
	if w.stage == 0 {
		w.stage = 1
		if t := w.rules.every; t != nil {
			return t
		}
	}
	if w.stage == 1 {
		w.stage = 2
		if t := w.rules.servers[w.server]; t != nil {
			return t
		}
	}
	if !w.rules.hasPatterns {
		return nil
	}
	if w.stage == 2 {
		w.stage = 3
		w.globs = w.rules.patterns.find(w.server)
	}
	for e := w.globs.next(); e != nil; e = w.globs.next() {
		if e.glob.matchInner(w.server) {
			return e.value
		}
	}
	return nil
}

// matches reports whether a rule in the slot is of one of the roles, matches the
// object, and decides.
func (s *slot) matches(q *question) bool {
	if s == nil || !s.some.roles.meets(q.roles()) {
		return false
	}
	if q.decided(&s.whole) {
		return true
	}
	switch {
	case q.mode == touching:
		return !q.deny && q.decided(&s.some)
	case q.kind == KindNone:
		// Of everything, a deny of anything is one too many.
		return q.deny && !isServerLevel(q.perm) && q.decided(&s.some)
	case q.deny && q.kind != KindName:
		return s.deniesURI(q)
	}
	if s.exact != nil {
		if g := s.exact[q.object]; g != nil && q.decided(g) {
			return true
		}
	}
	if s.globs == nil {
		return false
	}
	found := s.globs.find(q.object)
	for e := found.next(); e != nil; e = found.next() {
		if e.value.roles.meets(q.roles()) && q.isMatchedBy(e.glob) && q.decided(&e.value) {
			q.steps += found.steps
			return true
		}
	}
	q.steps += found.steps
	return false
}

// isMatchedBy matches a glob whose prefix and suffix the object has.
func (q *question) isMatchedBy(g *glob) bool {
	if q.kind == KindName {
		return g.matchInner(q.object)
	}
	if q.plain == unknown {
		q.plain = no
		if isPlainURI(q.object) {
			q.plain = yes
		}
	}
	switch {
	case q.plain == no:
		return false
	case q.kind == KindTemplate:
		return g.matchTemplate(q.object)
	}
	return g.matchURI(q.object)
}

// hasOneSpelling reports whether the text, which is all that is looked at of the
// object, can be compared with what is denied.
func (q *question) hasOneSpelling(text string) bool {
	if q.spelled == unknown {
		q.spelled = no
		if isPlainURI(text) && hasOneSpelling(text) {
			q.spelled = yes
		}
	}
	return q.spelled == yes
}
