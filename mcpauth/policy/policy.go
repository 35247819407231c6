// Package policy answers one question for the whole gateway: may this principal
// do this. The request gate, the filter of lists, notifications and completion,
// and the tools that explain a decision all ask it, so that they cannot differ.
//
// Roles are compiled once into a [Policy], which never changes; what a principal
// has of them is worked out once per token, as a [RoleSet]. A question then takes
// no lock and no allocation, and does not get slower with the number of grants,
// objects or servers: names are looked up, globs are found by the literals they
// start and end with and have in between. (Of an object that many roles grant,
// the roles are compared 64 at a time.) Deny is the default, and the answer to
// whatever is out of the ordinary.
package policy

import (
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Policy is a compiled set of roles. It is immutable and safe for concurrent
// use. A nil Policy allows nothing.
type Policy struct {
	// roles are sorted by name; a role's number is its place.
	roles []role
	// words is the length of a RoleSet's bits.
	words int
	// conditions leads from a claim and a value to the conditions that this
	// satisfies, which are numbered up to conditionCount.
	conditions     map[string]map[string][]int32
	conditionCount int32
	allow          rules
}

// ObjectKind says what the text of an object is, and so how a glob may match it.
type ObjectKind uint8

const (
	// KindNone is for a question about a server as such, such as setting its log
	// level. Asked with a permission that is about objects, the question is
	// whether all of them are allowed.
	KindNone ObjectKind = iota
	// KindName is the name of a tool or prompt: any bytes, compared as they are.
	KindName
	// KindURI is the URI of a resource. A glob matches only a URI that cannot be
	// read in two ways.
	KindURI
	// KindTemplate is a URI template that a server lists. It is allowed, which
	// means visible, when it is granted by its own text, or covered: the grant
	// is for everything, or a glob that ends in a wildcard has already matched
	// the text before the template's first expression and stands for the rest.
	// The URIs made from it are judged on their own when they are read.
	KindTemplate
)

// question is a question under way. It lives on the asker's stack.
type question struct {
	bits   []uint64
	perm   mcp.Permission
	kind   ObjectKind
	object string
	// plain remembers what isPlainURI says of the object.
	plain answer
	// steps counts what was visited, for the tests that hold it constant.
	steps int
}

type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// Allows reports whether one of the roles allows perm on that object of that
// server. For a permission that is about a server, and for KindNone, the object
// is not looked at. [mcp.ServersUse] is allowed by any grant that touches the
// server, as [Policy.AllowsServer] says.
//
// Permissions on resources always treat the object as a URI, unless it is a
// template, so that asking with the wrong kind widens nothing.
func (p *Policy) Allows(rs RoleSet, perm mcp.Permission, server string, kind ObjectKind, object string) bool {
	allowed, _ := p.decide(rs, perm, server, kind, object)
	return allowed
}

// AllowsAll reports whether one grant allows perm on everything that server has,
// so that a list of it need not be filtered. It errs on the side of false: it
// does not notice that several globs cover everything together.
func (p *Policy) AllowsAll(rs RoleSet, perm mcp.Permission, server string) bool {
	allowed, _ := p.decide(rs, perm, server, KindNone, "")
	return allowed
}

// AllowsSome reports whether any grant of perm touches that server: whether
// there could be an object for which [Policy.Allows] says yes. Without one, a
// list is empty, and a subscription to its changes is not allowed.
func (p *Policy) AllowsSome(rs RoleSet, perm mcp.Permission, server string) bool {
	if perm == mcp.ServersUse {
		return p.AllowsServer(rs, server)
	}
	if isServerLevel(perm) {
		return p.AllowsAll(rs, perm, server)
	}
	if !p.canDecide(rs, perm, server) {
		return false
	}
	found := p.allow.on(server)
	for t := found.next(); t != nil; t = found.next() {
		if t.slots[perm].touches(rs.bits) || t.slots[mcp.PermissionNone].touches(rs.bits) {
			return true
		}
	}
	return false
}

// AllowsServer reports whether the server may be used at all, which is so as
// soon as any grant touches it, whatever the permission.
func (p *Policy) AllowsServer(rs RoleSet, server string) bool {
	if !p.canDecide(rs, mcp.ServersUse, server) {
		return false
	}
	found := p.allow.on(server)
	for t := found.next(); t != nil; t = found.next() {
		if t.touched.meets(rs.bits) {
			return true
		}
	}
	return false
}

// canDecide reports whether a question makes sense: the roles are of this very
// policy, the permission exists, the server can have that name.
func (p *Policy) canDecide(rs RoleSet, perm mcp.Permission, server string) bool {
	return p != nil && rs.policy == p && perm > mcp.PermissionNone && perm < mcp.PermissionCount &&
		server != "" && strings.IndexByte(server, '/') < 0
}

// decide answers, and says how many steps it took.
func (p *Policy) decide(rs RoleSet, perm mcp.Permission, server string, kind ObjectKind, object string) (bool, int) {
	if perm == mcp.ServersUse {
		return p.AllowsServer(rs, server), 0
	}
	if kind > KindTemplate || !p.canDecide(rs, perm, server) {
		return false, 0
	}
	if isServerLevel(perm) {
		kind = KindNone
	} else if kind == KindName && isOfResources(perm) {
		kind = KindURI
	}
	q := question{bits: rs.bits, perm: perm, kind: kind, object: object}
	found := p.allow.on(server)
	for t := found.next(); t != nil; t = found.next() {
		q.steps++
		if t.slots[perm].matches(&q) || t.slots[mcp.PermissionNone].matches(&q) {
			return true, q.steps + found.globs.steps
		}
	}
	return false, q.steps + found.globs.steps
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

func (s *slot) touches(bits []uint64) bool {
	return s != nil && s.some.meets(bits)
}

// matches reports whether a grant in the slot is of one of the roles and matches
// the object.
func (s *slot) matches(q *question) bool {
	if !s.touches(q.bits) {
		return false
	}
	if s.whole.meets(q.bits) {
		return true
	}
	if q.kind == KindNone {
		return false
	}
	if s.exact != nil && s.exact[q.object].meets(q.bits) {
		return true
	}
	if s.globs == nil {
		return false
	}
	found := s.globs.find(q.object)
	for e := found.next(); e != nil; e = found.next() {
		if e.value.meets(q.bits) && q.isMatchedBy(e.glob) {
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
