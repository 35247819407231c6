package policy

import (
	"math/bits"
	"slices"
)

// Rule is a grant as it stands in a compiled policy, for explanations. It must not
// be changed.
type Rule struct {
	// Role is the role of the principal that the rule belongs to.
	Role string
	// From is the role in which the grant is written: Role itself, or one that it
	// extends.
	From string
	// Index is the place of the grant in what From allows, or denies.
	Index int
	// Deny says that the rule denies.
	Deny bool
	// Permission, If and Source are those of the grant. Source is "built-in" in a
	// built-in role.
	Permission string
	If         string
	Source     string

	role      int
	condition *condition
	// object is what is hidden, or belongs to a team, as it is written. A rule of a
	// role has none.
	object string
}

// hides reports whether the rule hides something, whatever the roles are.
func (r *Rule) hides() bool { return r.object != "" }

// grants are the roles that grant something, or deny it, and the rules by which
// they do.
type grants struct {
	roles roleMask
	// rules are sorted by role. Of rules without a condition, one of each role is
	// enough.
	rules []*Rule
}

func (g *grants) add(r *Rule) {
	at, found := slices.BinarySearchFunc(g.rules, r.role, compareRole)
	if found && r.condition == nil || slices.Contains(g.rules, r) {
		return
	}
	for at < len(g.rules) && g.rules[at].role == r.role {
		at++
	}
	g.roles.add(r.role)
	g.rules = slices.Insert(g.rules, at, r)
}

func compareRole(r *Rule, role int) int { return r.role - role }

// of returns the first rule of that role, which must have one.
func (g *grants) of(role int) *Rule {
	at, _ := slices.BinarySearchFunc(g.rules, role, compareRole)
	return g.rules[at]
}

// roleMask is a set of roles that is small in most places and has a bit test
// where it is not.
type roleMask []maskWord

type maskWord struct {
	index int
	bits  uint64
}

func (m *roleMask) add(role int) {
	m.addWord(maskWord{role / 64, uint64(1) << (role % 64)})
}

func (m *roleMask) addWord(w maskWord) {
	for i := range *m {
		if (*m)[i].index == w.index {
			(*m)[i].bits |= w.bits
			return
		}
	}
	*m = append(*m, w)
}

func (m *roleMask) addAll(others roleMask) {
	for _, w := range others {
		m.addWord(w)
	}
}

// first returns the first role that the set has in common with a RoleSet's bits,
// or -1.
func (m roleMask) first(set []uint64) int {
	first := -1
	for _, w := range m {
		if common := set[w.index] & w.bits; common != 0 {
			if id := w.index*64 + bits.TrailingZeros64(common); first < 0 || id < first {
				first = id
			}
		}
	}
	return first
}

// meets reports whether the set has a role in common with a RoleSet's bits.
func (m roleMask) meets(bits []uint64) bool {
	for _, w := range m {
		if bits[w.index]&w.bits != 0 {
			return true
		}
	}
	return false
}
