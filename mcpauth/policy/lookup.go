package policy

import (
	"bytes"
	"slices"
	"strings"
)

// candidates is a lookup under way. It lives on the caller's stack.
type candidates[T any] struct {
	text string
	// start is how much of the text the prefix has taken, end where the suffix
	// begins: never before start, so that the two do not overlap.
	start, end int
	prefix     *node[T]
	suffix     *node[T]
	entries    []*entry[T]
	inner      scan[T]
	fold       bool
	// steps counts the nodes and entries visited.
	steps int
}

// find begins a lookup.
func (x *globIndex[T]) find(text string) candidates[T] {
	c := candidates[T]{text: text, end: len(text), prefix: &x.root, fold: x.fold}
	c.enter(x.root.suffixes)
	return c
}

// enter makes the suffix node, which may be nil, the current one.
func (c *candidates[T]) enter(suffix *node[T]) {
	c.suffix = suffix
	if suffix == nil {
		return
	}
	c.entries = suffix.entries
	if suffix.inner != nil {
		c.inner = scan[T]{index: suffix.inner, at: c.start, fold: c.fold}
	}
}

// next returns the next glob whose prefix and suffix the text has, and its first
// literal in between, or nil. The rest is for the caller to match. A glob may be
// returned more than once.
func (c *candidates[T]) next() *entry[T] {
	for {
		if len(c.entries) > 0 {
			e := c.entries[0]
			c.entries = c.entries[1:]
			c.steps++
			return e
		}
		if c.inner.index != nil {
			c.entries = c.inner.next(c.text[:c.end], &c.steps)
			continue
		}
		if c.suffix != nil {
			if c.enter(c.longerSuffix()); c.suffix != nil {
				c.steps++
				continue
			}
		}
		if c.prefix = c.longerPrefix(); c.prefix == nil {
			return nil
		}
		c.steps++
		c.end = len(c.text)
		c.enter(c.prefix.suffixes)
	}
}

// longerPrefix returns the node below the prefix that the text leads to.
func (c *candidates[T]) longerPrefix() *node[T] {
	if c.prefix == nil {
		return nil
	}
	child := c.prefix.below(c.text[c.start:], c.fold)
	if child != nil {
		c.start += len(child.label)
	}
	return child
}

// longerSuffix returns the node below the suffix that the text leads to.
func (c *candidates[T]) longerSuffix() *node[T] {
	if c.start == c.end {
		return nil
	}
	i := bytes.IndexByte(c.suffix.firsts, lower(c.text[c.end-1], c.fold))
	if i < 0 {
		return nil
	}
	child := c.suffix.children[i]
	if len(child.label) > c.end-c.start {
		return nil
	}
	for j := 1; j < len(child.label); j++ {
		if child.label[j] != lower(c.text[c.end-1-j], c.fold) {
			return nil
		}
	}
	c.end -= len(child.label)
	return child
}

// below returns the child of n that the text leads to.
func (n *node[T]) below(text string, fold bool) *node[T] {
	if text == "" {
		return nil
	}
	i := bytes.IndexByte(n.firsts, lower(text[0], fold))
	if i < 0 {
		return nil
	}
	child := n.children[i]
	// Most labels in a crowded tree are one byte long, and that one is known.
	if len(child.label) > 1 && !hasPrefix(text, child.label, fold) {
		return nil
	}
	return child
}

// hasPrefix is strings.HasPrefix, or the same with a prefix in lower case and a
// text, of ASCII, in any.
func hasPrefix(text, prefix string, fold bool) bool {
	if !fold {
		return strings.HasPrefix(text, prefix)
	}
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}

// lower returns c, in lower case if fold is set.
func lower(c byte, fold bool) byte {
	if fold && c-'A' < 26 {
		return c | 0x20
	}
	return c
}

// innerIndex finds, among globs with the same prefix and suffix, those whose
// first literal in between occurs in the text.
type innerIndex[T any] struct {
	all      []*entry[T]
	literals node[T]
}

func (x *innerIndex[T]) add(e *entry[T]) {
	x.all = append(x.all, e)
	n := x.literals.at(e.glob.inner)
	n.entries = append(n.entries, e)
}

// fewInner is how many globs are tried faster than they are looked up.
const fewInner = 4

// scan looks for inner literals, from every place in the text. A literal that
// occurs often is reported once: a client must not be able to have the same glob
// matched at each of a million occurrences. When there are more literals to
// remember than fit on the stack, everything is a candidate.
type scan[T any] struct {
	// index is nil when the scan is over.
	index *innerIndex[T]
	// at is the place in the text, below the node reached from there, and depth
	// the length of the literal it stands for.
	at, depth int
	fold      bool
	below     *node[T]
	seen      [8]*node[T]
	seenCount int
}

// next returns globs that are candidates; none when the scan is over.
func (s *scan[T]) next(text string, steps *int) []*entry[T] {
	if len(s.index.all) <= fewInner {
		return s.finish(s.index.all)
	}
	for s.at < len(text) {
		if s.below == nil {
			s.below, s.depth = &s.index.literals, 0
		}
		s.below = s.below.below(text[s.at+s.depth:], s.fold)
		if s.below == nil {
			s.at++
			continue
		}
		*steps++
		s.depth += len(s.below.label)
		if len(s.below.entries) == 0 || s.hasSeen(s.below) {
			continue
		}
		if s.seenCount == len(s.seen) {
			return s.finish(s.index.all)
		}
		s.seen[s.seenCount] = s.below
		s.seenCount++
		return s.below.entries
	}
	return s.finish(nil)
}

func (s *scan[T]) finish(entries []*entry[T]) []*entry[T] {
	s.index = nil
	return entries
}

func (s *scan[T]) hasSeen(n *node[T]) bool {
	return slices.Contains(s.seen[:s.seenCount], n)
}
