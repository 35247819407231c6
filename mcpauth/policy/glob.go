package policy

import "strings"

// maxGlob bounds a glob's length in bytes, and so the memory an automaton needs
// while it runs. Exact patterns have no bound.
const maxGlob = 1024

// wildcard is what a run of stars in a pattern stands for.
type wildcard uint8

const (
	// star is "*": any run of bytes without a slash, the empty one included.
	star wildcard = iota + 1
	// doubleStar is "**" (or more stars): any run of bytes.
	doubleStar
)

// token is a piece of a pattern: literal text, or a wildcard.
type token struct {
	text string
	wild wildcard
}

// tokenize reads a pattern: stars are wildcards, `\*` is a literal star, and
// everything else is itself, a backslash in front of anything else included.
// Literals and wildcards alternate.
func tokenize(pattern string) []token {
	var tokens []token
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			tokens = append(tokens, token{text: text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(pattern); i++ {
		switch {
		case strings.HasPrefix(pattern[i:], `\*`):
			text.WriteByte('*')
			i++
		case pattern[i] == '*':
			flush()
			wild := star
			for i+1 < len(pattern) && pattern[i+1] == '*' {
				wild = doubleStar
				i++
			}
			tokens = append(tokens, token{wild: wild})
		default:
			text.WriteByte(pattern[i])
		}
	}
	flush()
	return tokens
}

// glob is a compiled pattern: a literal prefix, wildcards with literals between
// them, a literal suffix. Without a wildcard it is just its prefix.
type glob struct {
	prefix, suffix string
	// first and last are the outermost wildcards; 0 when there is none.
	first, last wildcard
	// middle matches what stands between prefix and suffix, and inner is the
	// first literal there; none when that is a single wildcard, or nothing.
	middle *automaton
	inner  string
	// parts is how the pattern is divided when it is matched with a URI; nil
	// when its literals have neither "?" nor "#".
	parts *uriParts
}

// newGlob compiles tokens.
func newGlob(tokens []token) *glob {
	g := &glob{}
	if len(tokens) > 0 && tokens[0].wild == 0 {
		g.prefix = tokens[0].text
		tokens = tokens[1:]
	}
	if n := len(tokens); n > 0 && tokens[n-1].wild == 0 {
		g.suffix = tokens[n-1].text
		tokens = tokens[:n-1]
	}
	if n := len(tokens); n > 0 {
		g.first, g.last = tokens[0].wild, tokens[n-1].wild
		if n > 1 {
			g.middle, g.inner = newAutomaton(tokens), tokens[1].text
		}
	}
	return g
}

// match reports whether the whole of s matches.
func (g *glob) match(s string) bool {
	return g.fits(s) && g.matchInner(s)
}

// fits reports whether s starts with the prefix and ends with the suffix, and these
// do not overlap.
func (g *glob) fits(s string) bool {
	return len(s) >= len(g.prefix)+len(g.suffix) &&
		strings.HasPrefix(s, g.prefix) && strings.HasSuffix(s, g.suffix)
}

// matchInner reports whether s matches, given that it fits.
func (g *glob) matchInner(s string) bool {
	if g.first == 0 {
		return len(s) == len(g.prefix)
	}
	s = s[len(g.prefix) : len(s)-len(g.suffix)]
	if g.middle != nil {
		return g.middle.match(s)
	}
	return g.first == doubleStar || strings.IndexByte(s, '/') < 0
}

// maxWords is how many words hold a state for each byte of the longest glob.
const maxWords = maxGlob / 64

// automaton matches two or more wildcards with the literals between them in one
// pass over the text, without going back, whatever the text is: the text comes
// from clients. State i means that i literal bytes have been read; the states
// in which a wildcard stands stay active. All states live in a few words.
type automaton struct {
	words int
	// final is the last state.
	final int
	// class numbers the bytes that occur in a literal, from 1; 0 is any other
	// byte. advance has, for each class, the states that such a byte leads on
	// from.
	class   [256]uint8
	advance []uint64
	// shallow and deep are the states in which a "*" or "**" stands.
	shallow, deep []uint64
}

// newAutomaton compiles tokens that start and end with a wildcard.
func newAutomaton(tokens []token) *automaton {
	a := &automaton{}
	classes := 1
	for _, t := range tokens {
		a.final += len(t.text)
		for i := 0; i < len(t.text); i++ {
			if c := t.text[i]; a.class[c] == 0 {
				a.class[c] = uint8(classes)
				classes++
			}
		}
	}
	a.words = a.final/64 + 1
	a.advance = make([]uint64, classes*a.words)
	a.shallow = make([]uint64, a.words)
	a.deep = make([]uint64, a.words)
	state := 0
	for _, t := range tokens {
		switch t.wild {
		case star:
			a.shallow[state/64] |= 1 << (state % 64)
		case doubleStar:
			a.deep[state/64] |= 1 << (state % 64)
		}
		for i := 0; i < len(t.text); i++ {
			a.advance[int(a.class[t.text[i]])*a.words+state/64] |= 1 << (state % 64)
			state++
		}
	}
	return a
}

// fold makes an automaton of lower-case literals match either case.
func (a *automaton) fold() {
	for c := 'A'; c <= 'Z'; c++ {
		a.class[c] = a.class[c|0x20]
	}
}

func (a *automaton) match(s string) bool {
	var buffer [maxWords]uint64
	active := buffer[:a.words]
	active[0] = 1
	for i := 0; i < len(s); i++ {
		c := s[i]
		advance := a.advance[int(a.class[c])*a.words:][:a.words]
		var carry, alive uint64
		for w, now := range active {
			stay := a.deep[w]
			if c != '/' {
				stay |= a.shallow[w]
			}
			moved := now & advance[w]
			active[w] = moved<<1 | carry | now&stay
			carry = moved >> 63
			alive |= active[w]
		}
		if alive == 0 {
			return false
		}
	}
	return active[a.final/64]>>(a.final%64)&1 == 1
}
