package policy

import (
	"slices"
	"strings"
)

// GrantPattern is the object of a grant, without its server.
type GrantPattern struct {
	Text string
	// Deny is whether the grant denies.
	Deny bool
	// Owned is whether it is not of a grant, but says who sees an object or which
	// team it belongs to. What matches it is found as if it denied, except that a URI
	// with several spellings has to have one that could match, see [Config].
	Owned bool
}

// Region is a set of objects to which the same patterns apply, and that no rule can
// tell apart.
type Region struct {
	// Object is one of them.
	Object string
	Kind   ObjectKind
	// Matches are the patterns that apply, by their place in the list, in order.
	Matches []int
}

// maxRegionStates bounds the search of [Regions].
const maxRegionStates = 1 << 16

// ServerMatches reports whether the server of a grant, which may be a glob, stands for
// a server.
func ServerMatches(pattern, server string) bool {
	return newGlob(tokenize(serverPattern(pattern))).match(server)
}

// Regions divides all names, or all URIs, by the patterns that apply to them, so that
// two policies made of these patterns are equal if they say the same of each region.
//
// Of names that is exact. Of URIs it is not: what other spellings a URI could have
// decides too, and only a few are tried for each combination of patterns. It returns
// false when there are more combinations than it looks at, which takes many patterns
// that overlap, such as globs that begin and end with a wildcard.
func Regions(kind ObjectKind, patterns []GrantPattern) ([]Region, bool) {
	s := &survey{kind: kind, seen: make(map[string]bool), patterns: patterns}
	for i, p := range patterns {
		s.add(i, p)
		s.own(i, p)
	}
	s.compile()
	s.samples()
	complete := true
	for _, begin := range s.beginnings() {
		complete = s.search(begin) && complete
	}
	return s.regions, complete
}

// survey is a search for regions: all patterns are run side by side over texts, as
// one automaton whose states are bits, laid end to end.
type survey struct {
	kind     ObjectKind
	patterns []GrantPattern
	tracks   []track
	// advance and stay have, for each byte, the states it leads on from, and those in
	// which a wildcard takes it.
	advance, stay [256][]uint64
	words         int
	alphabet      []byte
	owned         []*ownedPattern
	regions       []Region
	// seen are the combinations found.
	seen map[string]bool
}

// track is a text that is looked for.
type track struct {
	// pattern is the pattern it belongs to, -1 for none.
	pattern int
	tokens  []token
	fold    bool
	// parts is whether no wildcard stands for what ends a part of a URI.
	parts       bool
	first, last int // its states
}

// add enters a pattern in the ways in which it is compared with objects.
func (s *survey) add(i int, p GrantPattern) {
	tokens := tokenize(p.Text)
	if s.kind == KindName || !p.Deny && !p.Owned {
		s.tracks = append(s.tracks, track{pattern: i, tokens: tokens, parts: s.kind != KindName})
		return
	}
	// See deniesURI and denyURIs.
	bases := [][]token{tokens}
	if n := len(tokens); n > 0 && tokens[n-1].wild != 0 {
		tokens = tokens[:n-1]
	}
	if n := len(tokens); n > 0 && tokens[n-1].wild == 0 {
		switch base, ok := strings.CutSuffix(tokens[n-1].text, "/"); {
		case !ok || strings.HasSuffix(base, "/") || strings.HasSuffix(base, ":"):
		case base != "":
			bases = append(bases, append(tokens[:n-1:n-1], token{text: base}))
		case n > 1:
			bases = append(bases, tokens[:n-1])
		}
	}
	for _, base := range bases {
		for _, end := range []string{"", "/", "?", "#", "/?", "/#"} {
			long := slices.Clone(base)
			if end != "" {
				long = appendText(long, end)
			}
			if strings.ContainsAny(end, "?#") {
				long = append(long, token{wild: doubleStar})
			}
			s.tracks = append(s.tracks, track{pattern: i, tokens: long, fold: true})
		}
	}
}

// appendText adds a literal; literals and wildcards alternate.
func appendText(tokens []token, text string) []token {
	if n := len(tokens); n > 0 && tokens[n-1].wild == 0 {
		tokens[n-1].text += text
		return tokens
	}
	return append(tokens, token{text: text})
}

// compile lays the automaton out.
func (s *survey) compile() {
	if s.kind != KindName {
		// A text with one of these has other spellings.
		for _, mark := range []string{"?", "#", ";"} {
			s.tracks = append(s.tracks, track{pattern: -1, tokens: []token{{wild: doubleStar}, {text: mark}, {wild: doubleStar}}})
		}
	}
	var used [256]bool
	used['/'] = true
	states := 0
	for n := range s.tracks {
		tr := &s.tracks[n]
		tr.first = states
		for _, t := range tr.tokens {
			states += len(t.text)
			for _, c := range []byte(t.text) {
				used[c] = true
				if tr.fold && isLetter(c) {
					used[c|0x20], used[c&^0x20] = true, true
				}
			}
		}
		tr.last = states
		states++
	}
	// One other byte stands for all that no pattern has.
	others := []byte("xyzabcdefghijklmnopqrstuvw0123456789_-ABCDEFGHIJKLMNOPQRSTUVWXYZ~")
	for c := range used {
		others = append(others, byte(c))
	}
	if i := slices.IndexFunc(others, func(c byte) bool { return !used[c] }); i >= 0 {
		s.alphabet = append(s.alphabet, others[i])
	}
	for c := range used {
		if used[c] {
			s.alphabet = append(s.alphabet, byte(c))
		}
	}
	s.words = states/64 + 1
	for _, c := range s.alphabet {
		s.advance[c], s.stay[c] = make([]uint64, s.words), make([]uint64, s.words)
		for n := range s.tracks {
			s.step(&s.tracks[n], c)
		}
	}
}

// step enters what a byte does in a track.
func (s *survey) step(tr *track, c byte) {
	state, part := tr.first, byte(0)
	for _, t := range tr.tokens {
		if t.wild != 0 && (t.wild == doubleStar || c != '/') && (!tr.parts || !endsPart(c, part)) {
			s.stay[c][state/64] |= 1 << (state % 64)
		}
		for _, l := range []byte(t.text) {
			if l == c || tr.fold && lower(l, true) == lower(c, true) {
				s.advance[c][state/64] |= 1 << (state % 64)
			}
			if endsPart(l, part) {
				part = l
			}
			state++
		}
	}
}

// endsPart reports whether a byte ends the part of a URI that began with another.
func endsPart(c, part byte) bool {
	return part != '#' && (c == '#' || c == '?' && part == 0)
}

func (s *survey) start() []uint64 {
	active := make([]uint64, s.words)
	for _, t := range s.tracks {
		active[t.first/64] |= 1 << (t.first % 64)
	}
	return active
}

func (s *survey) next(active []uint64, c byte) []uint64 {
	next := make([]uint64, s.words)
	advance, stay := s.advance[c], s.stay[c]
	if advance == nil {
		// No pattern has it, so that what stands for all others will do.
		advance, stay = s.advance[s.alphabet[0]], s.stay[s.alphabet[0]]
	}
	var carry uint64
	for w, now := range active {
		moved := now & advance[w]
		next[w] = moved<<1 | carry | now&stay[w]
		carry = moved >> 63
	}
	return next
}

func (s *survey) run(text string) []uint64 {
	active := s.start()
	for i := 0; i < len(text); i++ {
		active = s.next(active, text[i])
	}
	return active
}

// note remembers a text if it is the first of its kind.
func (s *survey) note(text string, kind ObjectKind, active []uint64) {
	if text == "" {
		return // no name; and whatever matches it matches some other text
	}
	key := make([]byte, 0, len(s.tracks)+3)
	var matches []int
	for _, t := range s.tracks {
		hit := active[t.last/64] >> (t.last % 64) & 1
		key = append(key, byte(hit))
		if hit == 1 && t.pattern >= 0 && !slices.Contains(matches, t.pattern) {
			matches = append(matches, t.pattern)
		}
	}
	key = append(key, byte(kind))
	if kind != KindName {
		plain := isPlainURI(text)
		hasOne := plain && hasOneSpelling(text)
		key = append(key, asByte(plain), asByte(hasOne))
		for _, p := range s.owned {
			hit := !hasOne && p.matches(text, kind)
			if key = append(key, asByte(hit)); hit && !slices.Contains(matches, p.pattern) {
				matches = append(matches, p.pattern)
			}
		}
	}
	if s.seen[string(key)] {
		return
	}
	s.seen[string(key)] = true
	slices.Sort(matches)
	s.regions = append(s.regions, Region{text, kind, matches})
}

func asByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// samples tries what a person would: the patterns with something in the places of
// their wildcards.
func (s *survey) samples() {
	other := string(s.alphabet[0])
	fillings := [][2]string{{other, other}}
	if s.kind != KindName {
		fillings = append(fillings, [2]string{other, other + "/" + other}, [2]string{other, "x:/" + other})
		if len(s.owned) > 0 {
			fillings = append(fillings, [2]string{other + "%20", other + "%20"})
		}
		for _, text := range []string{"x:/" + other, "x:/" + other + "/../" + other} {
			s.note(text, s.kind, s.run(text))
		}
	}
	for _, p := range s.patterns {
		for _, filling := range fillings {
			var b strings.Builder
			for _, t := range tokenize(p.Text) {
				switch t.wild {
				case star:
					b.WriteString(filling[0])
				case doubleStar:
					b.WriteString(filling[1])
				default:
					b.WriteString(t.text)
				}
			}
			text := b.String()
			s.note(text, s.kind, s.run(text))
			if s.kind == KindURI && strings.Contains(text, "{") {
				s.note(text, KindTemplate, s.run(text))
			}
		}
	}
	for _, text := range s.oddSamples(other) {
		s.note(text, s.kind, s.run(text))
	}
}

// beginnings are where a search sets out: anywhere, and in a URI.
func (s *survey) beginnings() []string {
	if s.kind == KindName {
		return []string{""}
	}
	return []string{"", "x:", "x:/"}
}

// search visits every state that a text can lead to, by the shortest texts, and
// reports whether it came to an end.
func (s *survey) search(begin string) bool {
	type place struct {
		active []uint64
		text   string
	}
	visited := make(map[string]bool)
	queue := []place{{s.run(begin), begin}}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		s.note(at.text, s.kind, at.active)
		for _, c := range s.alphabet {
			active := s.next(at.active, c)
			key := stateKey(active)
			if visited[key] {
				continue
			}
			if len(visited) == maxRegionStates {
				return false
			}
			visited[key] = true
			queue = append(queue, place{active, at.text + string([]byte{c})})
		}
	}
	return true
}

func stateKey(active []uint64) string {
	key := make([]byte, 0, 8*len(active))
	for _, w := range active {
		for range 8 {
			key = append(key, byte(w))
			w >>= 8
		}
	}
	return string(key)
}
