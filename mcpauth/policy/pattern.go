package policy

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Pattern is the pattern of an object as a grant has it after the slash, for others
// than grants that have to match objects: an exact name or URI, or a glob, by the
// same rules. It is immutable and safe for concurrent use.
type Pattern struct {
	exact string
	// whole matches everything; glob is nil for an exact pattern.
	whole bool
	glob  *glob
}

// NewPattern reads a pattern. See [Grant] for what it may hold.
func NewPattern(text string) (*Pattern, error) {
	switch {
	case text == "":
		return nil, errors.New("the pattern is empty")
	case !utf8.ValidString(text):
		return nil, errors.New("the pattern is not valid UTF-8")
	}
	tokens := tokenize(text)
	switch {
	case !slices.ContainsFunc(tokens, func(t token) bool { return t.wild != 0 }):
		return &Pattern{exact: tokens[0].text}, nil
	case len(tokens) == 1 && tokens[0].wild == doubleStar:
		return &Pattern{whole: true}, nil
	case len(text) > maxGlob:
		return nil, fmt.Errorf("a glob has at most %d bytes", maxGlob)
	}
	return &Pattern{glob: newURIGlob(tokens, pathEnds)}, nil
}

// Match reports whether an object of that kind matches, as it would a grant. What is
// about no object, KindNone, matches only the pattern for everything.
func (p *Pattern) Match(kind ObjectKind, object string) bool {
	switch {
	case p.whole:
		return true
	case kind == KindNone || kind > KindTemplate:
		return false
	case p.glob == nil:
		return object == p.exact
	}
	q := question{kind: kind, object: object}
	return p.glob.fits(object) && q.isMatchedBy(p.glob)
}
