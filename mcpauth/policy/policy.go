// Package policy answers one question for the whole gateway: may this principal
// do this. The request gate, the filter of lists, notifications and completion,
// and the tools that explain a decision all ask it, so that they cannot differ.
//
// What any role of a principal denies is denied, whatever another allows; deny is
// also the default, and the answer to whatever is out of the ordinary. A grant may
// depend on the arguments of a call, by a condition in CEL, see [Policy.Judge].
//
// A role can hold in teams only, and then counts only for what belongs to one of
// them that the principal is of; and objects can be for a team or a single person,
// and are then hidden from everybody else, whatever their roles, see [Config].
//
// Roles are compiled once into a [Policy], which never changes; what a principal
// has of them is worked out once per token, as a [RoleSet]. A question then takes
// no lock and no allocation, and does not get slower with the number of grants,
// objects or servers: names are looked up, globs are found by the literals they
// start and end with and have in between. (Of an object that many roles grant,
// the roles are compared 64 at a time; a principal with roles that hold in teams
// costs an allocation where there are more than 512 roles.) Only a condition that
// decides costs more.
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
	// teams are what belongs to teams, and which roles hold there.
	teams teams
	// audiences are those for whom objects are that not everybody sees; hidden has
	// the objects, with the place of an audience for a role.
	audiences []Audience
	hidden    rules
	// every are the roles that grant *, on whatever it may be.
	every roleMask
	// What is allowed and denied whatever the arguments, and what is if a
	// condition holds.
	allow, deny, allowIf, denyIf rules
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

// Allows reports whether the roles allow perm on that object of that server,
// whatever the arguments are: for a permission to execute, a grant with a
// condition does not count, and a deny with a condition does; [Policy.Judge] knows
// better. Whether something may be seen does not depend on arguments: what a
// condition could allow is visible.
//
// For a permission that is about a server, and for KindNone, the object is not
// looked at. [mcp.ServersUse] is allowed by any grant that touches the server, as
// [Policy.AllowsServer] says.
//
// Permissions on resources always treat the object as a URI, unless it is a
// template, which nothing is to those on tools and prompts, so that asking with the
// wrong kind widens nothing.
func (p *Policy) Allows(rs RoleSet, perm mcp.Permission, server string, kind ObjectKind, object string) bool {
	allowed, _ := p.decide(rs, perm, server, kind, object)
	return allowed
}

// AllowsAll reports whether one grant allows perm on everything that server has,
// and nothing of it is denied or hidden, so that a list of it need not be filtered. It errs
// on the side of false: it does not notice that several globs cover everything
// together.
func (p *Policy) AllowsAll(rs RoleSet, perm mcp.Permission, server string) bool {
	allowed, _ := p.decide(rs, perm, server, KindNone, "")
	return allowed
}

// AllowsSome reports whether any grant of perm touches that server, and perm is
// not denied on the whole of it: whether there could be an object for which
// [Policy.Judge] says yes. Without one, a list is empty, and a subscription to its
// changes is not allowed. It errs on the side of true: it does not notice that
// everything which is allowed is denied piece by piece.
func (p *Policy) AllowsSome(rs RoleSet, perm mcp.Permission, server string) bool {
	if isServerLevel(perm) {
		return p.AllowsAll(rs, perm, server)
	}
	if !p.canDecide(rs, perm, server) {
		return false
	}
	q := question{policy: p, bits: rs.bits, held: rs.bits, view: rs.view, perm: perm, server: server, mode: touching}
	return !p.ask(&p.deny, &q) && (p.ask(&p.allow, &q) || p.ask(&p.allowIf, &q))
}

// AllowsServer reports whether the server may be used at all, which is so as
// soon as any grant touches it, whatever the permission, unless all of it is
// denied.
func (p *Policy) AllowsServer(rs RoleSet, server string) bool {
	return p.AllowsAll(rs, mcp.ServersUse, server)
}

// canDecide reports whether a question makes sense: the roles are of this very
// policy, the permission exists, the server can have that name.
func (p *Policy) canDecide(rs RoleSet, perm mcp.Permission, server string) bool {
	return p != nil && rs.policy == p && perm > mcp.PermissionNone && perm < mcp.PermissionCount &&
		server != "" && strings.IndexByte(server, '/') < 0
}

// decide answers what does not depend on arguments, and says how many steps it
// took.
func (p *Policy) decide(rs RoleSet, perm mcp.Permission, server string, kind ObjectKind, object string) (bool, int) {
	asked := Question{Permission: perm, Server: server, Kind: kind, Object: object}
	q, ok := p.newQuestion(rs, &asked)
	if !ok {
		return false, 0
	}
	return p.settle(&q, false) == Granted, q.steps
}
