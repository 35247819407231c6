package policy

import "github.com/caddymcp/caddy-mcp-gateway/internal/mcp"

// ownedPattern is a pattern of visibility or of a team, in a survey: URIs that have
// several spellings are asked of the engine, because no text decides about them.
type ownedPattern struct {
	pattern int
	slot    slot
}

// own enters such a pattern.
func (s *survey) own(i int, p GrantPattern) {
	if !p.Owned || s.kind == KindName {
		return
	}
	o, err := parseObject(mcp.PermissionNone, "a/"+p.Text, true)
	if err != nil {
		return // no configuration has it
	}
	owned := &ownedPattern{pattern: i}
	owned.slot.add(&Rule{Deny: true}, o, true)
	if owned.slot.uris != nil {
		gather(&owned.slot.uris.root)
	}
	s.owned = append(s.owned, owned)
}

// matches reports whether it is taken to match.
func (p *ownedPattern) matches(text string, kind ObjectKind) bool {
	one := []uint64{1}
	q := question{bits: one, held: one, kind: kind, object: text, deny: true, byScheme: true}
	return p.slot.matches(&q)
}

// oddSamples are URIs that have several spellings, of every scheme that a pattern
// begins with: what has a slash in all of them, and what has not.
func (s *survey) oddSamples(other string) []string {
	var texts []string
	for _, owned := range s.owned {
		begin := ""
		if tokens := tokenize(s.patterns[owned.pattern].Text); tokens[0].wild == 0 {
			begin = tokens[0].text
		}
		for _, name := range []string{begin, "x:"} {
			if end := scheme(name); end > 0 {
				texts = append(texts, name[:end+1]+"/"+other+";"+other, name[:end+1]+other+";"+other)
			}
		}
	}
	return texts
}
