package policy

import "bytes"

// globIndex finds the globs that can match a text without looking at those that
// cannot: a tree of the globs' literal prefixes, and where a prefix ends, a
// tree of the suffixes of the globs that have this prefix, read from the end. A
// lookup walks down the text once from its start and, at every prefix it meets,
// once from its end. Globs that share both and have more literals in between
// are found by the first of these, see innerIndex. The cost is bounded by the
// lengths of the text and of the longest pattern, however many globs there are.
//
// The worst case is left to globs that share all three, such as "a*b*1*c" and
// "a*b*2*c", and to a text that has many of the literals in it: then each such
// glob is a candidate of its own, and is matched, in one pass over the text,
// when a role of the principal grants it.
type globIndex[T any] struct {
	root node[T]
	// fold is for patterns of lower case that are to match either case of ASCII
	// letters.
	fold bool
	// byPattern holds the entries while the index is built.
	byPattern map[string]*entry[T]
}

// entry is a glob with what it leads to.
type entry[T any] struct {
	glob  *glob
	value T
}

// node is a place in a tree of strings. In a tree of suffixes, labels are
// written backwards.
type node[T any] struct {
	label string
	// firsts are the first bytes of the children's labels, in their order.
	firsts   []byte
	children []*node[T]
	// suffixes is the tree of suffixes of the globs whose prefix ends here.
	suffixes *node[T]
	// entries are the globs whose suffix ends here and that have no more
	// literals, inner those that do. In a tree of inner literals, entries are
	// those whose literal ends here.
	entries []*entry[T]
	inner   *innerIndex[T]
	// globs are the roles of the globs whose prefix ends here, and all those of
	// every pattern whose prefix ends here or below. deep are those of the globs that
	// are not flat. Only an index of what is denied has them.
	globs, deep, all roleMask
}

// add returns the value to fill in for the pattern that tokens were read from.
func (x *globIndex[T]) add(pattern string, compile func() *glob) *T {
	if e := x.byPattern[pattern]; e != nil {
		return &e.value
	}
	if x.byPattern == nil {
		x.byPattern = make(map[string]*entry[T])
	}
	e := &entry[T]{glob: compile()}
	x.byPattern[pattern] = e
	prefix := x.root.at(e.glob.prefix)
	if prefix.suffixes == nil {
		prefix.suffixes = &node[T]{}
	}
	suffix := prefix.suffixes.at(backwards(e.glob.suffix))
	if e.glob.middle == nil {
		suffix.entries = append(suffix.entries, e)
		return &e.value
	}
	if suffix.inner == nil {
		suffix.inner = &innerIndex[T]{}
	}
	suffix.inner.add(e)
	return &e.value
}

// at returns the node of a key below n, which it makes if there is none.
func (n *node[T]) at(key string) *node[T] {
	for key != "" {
		i := bytes.IndexByte(n.firsts, key[0])
		if i < 0 {
			child := &node[T]{label: key}
			n.firsts = append(n.firsts, key[0])
			n.children = append(n.children, child)
			return child
		}
		child := n.children[i]
		same := 0
		for same < len(key) && same < len(child.label) && key[same] == child.label[same] {
			same++
		}
		if same < len(child.label) {
			// The key leaves the label half-way: put a node there.
			fork := &node[T]{label: child.label[:same], firsts: []byte{child.label[same]}, children: []*node[T]{child}}
			child.label = child.label[same:]
			n.children[i] = fork
			child = fork
		}
		n, key = child, key[same:]
	}
	return n
}

func backwards(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
