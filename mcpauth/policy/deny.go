package policy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// deniedWith returns the slots that a denied permission is entered in: its own,
// and those of what is of no use, or would give away what is hidden, without it.
func deniedWith(perm mcp.Permission) []mcp.Permission {
	switch perm {
	case mcp.ServersUse:
		return []mcp.Permission{mcp.PermissionNone}
	case mcp.ToolsRead:
		return []mcp.Permission{perm, mcp.ToolsExecute}
	case mcp.PromptsRead:
		return []mcp.Permission{perm, mcp.PromptsExecute}
	case mcp.ResourcesRead:
		return []mcp.Permission{perm, mcp.ResourcesSubscribe}
	case mcp.TasksRead:
		return []mcp.Permission{perm, mcp.TasksWrite}
	default:
		return []mcp.Permission{perm}
	}
}

// denyURIs enters a pattern the way it is compared with URIs: in lower case, and
// without the "/", "/*" or "/**" that it ends in too.
func (s *slot) denyURIs(rule *Rule, o object) {
	if s.uris == nil {
		s.uris = &globIndex[grants]{fold: true}
	}
	if len(o.tokens) == 1 && strings.Contains(o.tokens[0].text, "{") {
		return // a template, by its own text: no URI that can be compared has a brace
	}
	tokens := make([]token, len(o.tokens))
	for i, t := range o.tokens {
		tokens[i] = token{lowerASCII(t.text), t.wild}
	}
	s.denyURI(rule, tokens)
	if n := len(tokens); tokens[n-1].wild != 0 {
		tokens = tokens[:n-1]
	}
	if n := len(tokens); n > 0 && tokens[n-1].wild == 0 {
		switch base, ok := strings.CutSuffix(tokens[n-1].text, "/"); {
		case !ok || strings.HasSuffix(base, "/") || strings.HasSuffix(base, ":"):
		case base != "":
			s.denyURI(rule, append(tokens[:n-1:n-1], token{text: base}))
		case n > 1:
			s.denyURI(rule, tokens[:n-1])
		}
	}
}

func (s *slot) denyURI(rule *Rule, tokens []token) {
	var key strings.Builder // the tokens, unambiguously
	for _, t := range tokens {
		key.WriteByte(byte(t.wild))
		key.WriteString(t.text)
	}
	s.uris.add(key.String(), func() *glob {
		g := newGlob(tokens)
		if g.middle != nil {
			g.middle.fold()
		}
		return g
	}).add(rule)
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c, true)
	}
	return string(b)
}

// gather fills in which roles have patterns at a node and below.
func gather(n *node[grants]) {
	if n.suffixes != nil {
		gatherSuffixes(n, n.suffixes)
	}
	for _, child := range n.children {
		gather(child)
		n.all.addAll(child.all)
	}
}

func gatherSuffixes(n, suffix *node[grants]) {
	entries := suffix.entries
	if suffix.inner != nil {
		entries = append(slices.Clip(entries), suffix.inner.all...)
	}
	for _, e := range entries {
		n.all.addAll(e.value.roles)
		if e.glob.first != 0 {
			n.globs.addAll(e.value.roles)
			if !e.glob.isFlat() {
				n.deep.addAll(e.value.roles)
			}
		}
	}
	for _, child := range suffix.children {
		gatherSuffixes(n, child)
	}
}

// deniesURI answers for a slot of what is denied, when the object is a URI or
// template.
func (s *slot) deniesURI(q *question) bool {
	text, isTemplate := q.object, false
	if q.kind == KindTemplate {
		if g := s.exact[q.object]; g != nil && q.decided(g) {
			return true
		}
		text, _, isTemplate = strings.Cut(q.object, "{")
	}
	if !q.hasOneSpelling(text) {
		if scheme := scheme(text); q.byScheme && s.uris != nil && scheme > 0 && !strings.Contains(text, "{") {
			return s.deniesTemplate(q, text[:scheme+1], isDeep(text[scheme+1:]))
		}
		return q.decided(&s.some)
	}
	if s.uris == nil {
		return false
	}
	if isTemplate {
		return s.deniesTemplate(q, text, q.byScheme && strings.Contains(text, "/"))
	}
	for {
		if s.deniesText(q, text) || strings.HasSuffix(text, "/") && s.deniesText(q, text[:len(text)-1]) {
			return true
		}
		// Once more without the fragment, and without the query.
		cut := strings.IndexByte(text, '#')
		if cut < 0 {
			cut = strings.IndexByte(text, '?')
		}
		if cut < 0 {
			return false
		}
		text = text[:cut]
	}
}

func (s *slot) deniesText(q *question, text string) bool {
	found := s.uris.find(text)
	for e := found.next(); e != nil; e = found.next() {
		if e.value.roles.meets(q.roles()) && e.glob.matchInner(text) && q.decided(&e.value) {
			q.steps += found.steps
			return true
		}
	}
	q.steps += found.steps
	return false
}

// deniesTemplate reports whether a template that begins with this text could make
// a URI that is denied: whether a glob begins with a beginning of the text, or any
// pattern with all of it. Flat globs do not count for what is deep. The rule it names
// is one of the role's here, not always the very one.
func (s *slot) deniesTemplate(q *question, text string, deep bool) bool {
	n := &s.uris.root
	for {
		q.steps++
		globs := n.globs
		if deep {
			globs = n.deep
		}
		if globs.meets(q.roles()) && q.decidedBy(&s.some, globs) {
			return true
		}
		if text == "" {
			return n.all.meets(q.roles()) && q.decidedBy(&s.some, n.all)
		}
		i := bytes.IndexByte(n.firsts, lower(text[0], true))
		if i < 0 {
			return false
		}
		n = n.children[i]
		common := min(len(text), len(n.label))
		if !strings.EqualFold(text[:common], n.label[:common]) {
			return false
		}
		if text = text[common:]; text == "" && common < len(n.label) {
			return n.all.meets(q.roles()) && q.decidedBy(&s.some, n.all)
		}
	}
}

// isFlat reports whether a glob is one for names: it matches nothing with a slash in
// it, and says no scheme.
func (g *glob) isFlat() bool {
	return g.first == star && g.last == star && !strings.ContainsAny(g.prefix, "/:") && !strings.Contains(g.suffix, "/") &&
		(g.middle == nil || g.middle.class['/'] == 0 && !slices.ContainsFunc(g.middle.deep, func(word uint64) bool { return word != 0 }))
}

// isDeep reports whether there is a slash in every spelling of a URI, given from after
// its scheme, that is not at the end of its path.
func isDeep(uri string) bool {
	if end := strings.IndexAny(uri, "?#"); end >= 0 {
		uri = uri[:end]
	}
	uri = strings.TrimRight(uri, "/")
	// Dot segments, and what could be decoded to them.
	return strings.HasPrefix(uri, "/") && !strings.Contains(uri, "/.") && !strings.ContainsAny(uri, `\`) && !strings.Contains(uri, "%2")
}

// canDenyURI reports whether a glob of these tokens can match any URI that has
// one spelling.
func canDenyURI(tokens []token) bool {
	var uri strings.Builder
	for i, t := range tokens {
		switch {
		case t.wild == 0:
			uri.WriteString(t.text)
		case i > 0:
			uri.WriteString("20")
		case len(tokens) > 1 && strings.Contains(tokens[1].text, ":"):
			uri.WriteString("a")
		default:
			uri.WriteString("a:")
		}
	}
	return isPlainURI(uri.String()) && hasOneSpelling(uri.String())
}

// hasOneSpelling reports whether no other text is, to some server, the same URI,
// apart from the case of its letters, a query, a fragment and a slash at the end,
// which a deny takes care of. The URI must be plain, see isPlainURI. A deny that
// compares text can only be trusted with such URIs; see [Role] for the list.
func hasOneSpelling(uri string) bool {
	scheme := scheme(uri)
	if scheme < 0 {
		return false
	}
	rest := uri[scheme+1:]
	if strings.EqualFold(uri[:scheme], "file") && !strings.HasPrefix(rest, "///") {
		return false
	}
	if authority, ok := strings.CutPrefix(rest, "//"); ok {
		if end := strings.IndexAny(authority, "/?#"); end >= 0 {
			authority = authority[:end]
		}
		rest = rest[2+len(authority):]
		if !hasOneAuthority(authority) {
			return false
		}
	}
	previous := byte('/')
	if rest != "" && rest[0] == '/' {
		rest = rest[1:]
	}
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch c {
		case ' ', '"', '<', '>', '^', '`', '{', '|', '}', ';':
			return false
		case '%':
			// It is plain, so there are two digits.
			c = unhex(rest[i+1])<<4 | unhex(rest[i+2])
			i += 2
			if strings.IndexByte(" \"<>^`{|}", c) < 0 {
				return false
			}
		case '/':
			if previous == '/' {
				return false
			}
		}
		if endsSegment(c) && (previous == '.' || previous == ' ') {
			return false
		}
		previous = c
	}
	return previous != '.' && previous != ' ' && !strings.Contains(rest, "::$")
}

// scheme returns where the scheme of a URI ends, which is at its colon, or -1 when
// it has none (RFC 3986 section 3.1).
func scheme(uri string) int {
	end := strings.IndexByte(uri, ':')
	if end <= 0 || !isLetter(uri[0]) {
		return -1
	}
	for i := 1; i < end; i++ {
		if c := uri[i]; !isAlphanumeric(c) && c != '+' && c != '-' && c != '.' {
			return -1
		}
	}
	return end
}

func endsSegment(c byte) bool {
	return c == '/' || c == ':' || c == '?' || c == '#'
}

// hasOneAuthority looks at the host, which must not end in a dot, nor be an address
// other than four decimal numbers ("127.1" is "127.0.0.1" to many), and the port,
// which must not be a default one or have leading zeros. Others are left alone:
// ports differ.
func hasOneAuthority(authority string) bool {
	host, port, hasPort := authority, "", false
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		host, port, hasPort = authority[:i], authority[i+1:], true
	}
	if hasPort && (port == "" || port[0] == '0' || port == "80" || port == "443") {
		return false
	}
	for i := 0; i < len(host); i++ {
		if c := host[i]; !isAlphanumeric(c) && strings.IndexByte("-._~", c) < 0 {
			return false
		}
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || !isDigit(last[0]) {
		return last != "" || host == ""
	}
	count := 0
	for number := range strings.SplitSeq(host, ".") {
		count++
		if number == "" || len(number) > 3 || len(number) > 1 && number[0] == '0' || len(number) == 3 && number > "255" {
			return false
		}
		for i := 0; i < len(number); i++ {
			if !isDigit(number[i]) {
				return false
			}
		}
	}
	return count == 4
}

func isDigit(c byte) bool {
	return c-'0' < 10
}

func isLetter(c byte) bool {
	return (c|0x20)-'a' < 26
}
