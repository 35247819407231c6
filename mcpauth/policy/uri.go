package policy

import "strings"

// uriParts is a glob divided at the first "?" or "#" of its literals.
type uriParts struct {
	head *glob
	mark byte
	tail *glob
}

// The characters that end a part of a URI: the path ends at "?" or "#", the
// query at "#", the fragment nowhere.
const (
	pathEnds  = "?#"
	queryEnds = "#"
)

// newURIGlob compiles tokens like newGlob, with their parts.
func newURIGlob(tokens []token, ends string) *glob {
	g := newGlob(tokens)
	for i, t := range tokens {
		at := strings.IndexAny(t.text, ends)
		if at < 0 {
			continue
		}
		var head, tail []token
		head = append(head, tokens[:i]...)
		if at > 0 {
			head = append(head, token{text: t.text[:at]})
		}
		if at+1 < len(t.text) {
			tail = append(tail, token{text: t.text[at+1:]})
		}
		tail = append(tail, tokens[i+1:]...)
		g.parts = &uriParts{newGlob(head), t.text[at], newURIGlob(tail, endsAfter(t.text[at]))}
		break
	}
	return g
}

func endsAfter(mark byte) string {
	if mark == '?' {
		return queryEnds
	}
	return ""
}

// matchParts matches path with path, query with query and fragment with
// fragment, so that no wildcard stands for the "?" or "#" that begins one. With
// "https://*.example.com/**?page=*" for a pattern, a wildcard that could would
// let in "https://evil.test?.example.com/a?page=1".
func (g *glob) matchParts(uri, ends string) bool {
	at := -1
	if ends != "" {
		at = strings.IndexAny(uri, ends)
	}
	if g.parts == nil {
		return at < 0 && g.match(uri)
	}
	return at >= 0 && uri[at] == g.parts.mark &&
		g.parts.head.match(uri[:at]) && g.parts.tail.matchParts(uri[at+1:], endsAfter(g.parts.mark))
}

// matchURI reports whether the glob matches a URI that isPlainURI.
func (g *glob) matchURI(uri string) bool {
	return g.matchParts(uri, pathEnds)
}

// matchTemplate reports whether the glob covers a URI template (RFC 6570) that
// isPlainURI: whether every URI the template makes of harmless values would
// match. Deciding that in general is not possible, so only this much is
// claimed: the glob ends in a wildcard, it already matches the text before the
// first expression, and the rest of the template is within what that last
// wildcard stands for. After "**" that is anything in the same part of the URI;
// after "*" it is text without a slash and expressions that encode theirs.
// "file:///pub/**" covers "file:///pub/{+path}", and "file:///pub/*" covers
// "file:///pub/{name}" but neither "file:///pub/{+path}" nor "file:///{dir}/x".
// To be shown, such a template must be granted by its own text.
//
// What the values do to the URI is judged when the URI is read.
func (g *glob) matchTemplate(template string) bool {
	literal, rest, isTemplate := strings.Cut(template, "{")
	if !g.matchURI(template) {
		return false
	}
	if !isTemplate {
		return true
	}
	if g.suffix != "" || !g.matchURI(literal) {
		return false
	}
	return g.last == doubleStar || encodesSlashes(rest)
}

// encodesSlashes reports whether every expression of a template, given from
// after its first brace, is of a kind that writes a slash of its values as
// %2F: no operator, or one of . ; ? & (RFC 6570, section 3.2.1). Unknown
// operators do not.
func encodesSlashes(template string) bool {
	for found := true; found; _, template, found = strings.Cut(template, "{") {
		if template == "" {
			return false
		}
		c := template[0]
		if !isAlphanumeric(c) && c != '_' && strings.IndexByte(".;?&", c) < 0 {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c-'0' < 10 || (c|0x20)-'a' < 26
}

// isPlainURI reports whether there is only one way to read a URI, so that the
// server behind the gateway cannot understand by it something outside the glob
// that matched. A URI is opaque to MCP, but servers decode it, resolve its dots
// and cut it up, each in its own way; whatever they could disagree about makes
// it not plain:
//
//   - control characters, characters outside ASCII, backslashes;
//   - percent signs without two hexadecimal digits, and encoded characters that
//     change the structure when decoded too early or twice: "%" "/" "\" "?" "#",
//     control characters, and C0 and C1, which only occur in overlong UTF-8;
//   - "." or ".." standing alone between delimiters, as they are or encoded. The
//     delimiters are those of paths, and of parameters (";", "=", "&"), because
//     some servers drop what follows the one and others take paths in the other;
//   - "@" or "%" in an authority.
func isPlainURI(uri string) bool {
	dots := 0 // how many, while there is nothing else since the last delimiter
	for i := 0; i < len(uri); i++ {
		c := uri[i]
		switch c {
		case '/', ':', '?', '#', ';', '=', '&':
			if dots == 1 || dots == 2 {
				return false
			}
			dots = 0
			continue
		case '%':
			if i+2 >= len(uri) {
				return false
			}
			high, low := unhex(uri[i+1]), unhex(uri[i+2])
			if high > 15 || low > 15 {
				return false
			}
			i += 2
			c = high<<4 | low
			switch c {
			case '%', '/', '\\', '?', '#', 0xc0, 0xc1:
				return false
			}
			if isControl(c) {
				return false
			}
		default:
			if c >= 0x80 || c == '\\' || isControl(c) {
				return false
			}
		}
		if c == '.' && dots >= 0 {
			dots++
		} else {
			dots = -1
		}
	}
	return dots != 1 && dots != 2 && hasPlainAuthority(uri)
}

// hasPlainAuthority looks after every "//" that can begin an authority, because
// some servers take a URI within their own.
func hasPlainAuthority(uri string) bool {
	for from := 0; ; {
		at := strings.Index(uri[from:], "//")
		if at < 0 {
			return true
		}
		at += from
		from = at + 2
		if at > 0 && uri[at-1] != ':' {
			// Step by one: in "///" the second pair counts for itself, though it
			// cannot follow a colon.
			from = at + 1
			continue
		}
		authority := uri[at+2:]
		if end := strings.IndexAny(authority, "/?#"); end >= 0 {
			authority = authority[:end]
		}
		if strings.ContainsAny(authority, "@%") {
			return false
		}
	}
}

func isControl(c byte) bool {
	return c < 0x20 || c == 0x7f
}

// unhex returns the value of a hexadecimal digit, or more than 15.
func unhex(c byte) byte {
	switch {
	case c-'0' < 10:
		return c - '0'
	case (c|0x20)-'a' < 6:
		return (c | 0x20) - 'a' + 10
	}
	return 255
}
