package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// naive judges straight from the configuration, one role, grant and object
// after the other. It shares no code with the engine.
type naive struct {
	roles []Role
	// has are the names of the principal's roles.
	has map[string]bool
}

func newNaive(roles []Role, claims map[string][]string, scopes []string) naive {
	n := naive{roles, map[string]bool{}}
	for _, r := range roles {
		n.has[r.Name] = true
		for _, c := range r.When {
			values := claims[c.Claim]
			if c.Claim == "scope" {
				values = scopes
			}
			if !slices.ContainsFunc(values, func(v string) bool { return slices.Contains(c.Values, v) }) {
				n.has[r.Name] = false
			}
		}
	}
	return n
}

// any reports whether a grant of the principal's roles satisfies f.
func (n naive) any(f func(permission, object string) bool) bool {
	for _, r := range n.roles {
		if !n.has[r.Name] {
			continue
		}
		for _, g := range r.Allow {
			objects := g.Objects
			if objects == nil {
				objects = []string{"*"}
			}
			for _, o := range objects {
				if f(g.Permission, o) {
					return true
				}
			}
		}
	}
	return false
}

func (n naive) allowsServer(server string) bool {
	return n.any(func(_, o string) bool {
		pattern, _, _ := strings.Cut(o, "/")
		return naiveServer(pattern, server)
	})
}

func naiveServer(pattern, server string) bool {
	return server != "" && naiveMatch(pattern, server) && !strings.Contains(server, "/")
}

func naiveGives(granted string, perm mcp.Permission) bool {
	switch perm.String() {
	case "tools.read":
		return granted == "*" || granted == "tools.read" || granted == "tools.execute"
	case "prompts.read":
		return granted == "*" || granted == "prompts.read" || granted == "prompts.execute"
	}
	return granted == "*" || granted == perm.String()
}

func (n naive) allows(perm mcp.Permission, server string, kind ObjectKind, object string) bool {
	if perm == mcp.ServersUse {
		return n.allowsServer(server)
	}
	return n.any(func(granted, o string) bool {
		serverPattern, pattern, _ := strings.Cut(o, "/")
		if !naiveGives(granted, perm) || !naiveServer(serverPattern, server) {
			return false
		}
		if strings.Trim(pattern, "*") == "" && len(pattern) != 1 {
			return true
		}
		switch strings.SplitN(perm.String(), ".", 2)[0] {
		case "logging", "tasks", "client":
			return false
		case "resources":
			if kind == KindName {
				kind = KindURI
			}
		}
		switch kind {
		case KindNone:
			return false
		case KindName:
			return naiveMatch(pattern, object)
		}
		if !strings.Contains(strings.ReplaceAll(pattern, `\*`, ""), "*") {
			return strings.ReplaceAll(pattern, `\*`, "*") == object
		}
		if !naivePlain(object) || !naiveURI(pattern, object) {
			return false
		}
		brace := strings.Index(object, "{")
		if kind == KindURI || brace < 0 {
			return true
		}
		if !strings.HasSuffix(pattern, "*") || strings.HasSuffix(pattern, `\*`) || !naiveURI(pattern, object[:brace]) {
			return false
		}
		return strings.HasSuffix(pattern, "**") && !strings.HasSuffix(pattern, `\**`) ||
			len(naiveExpression.FindAllString(object, -1)) == strings.Count(object, "{")
	})
}

var (
	naiveExpression = regexp.MustCompile(`\{[A-Za-z0-9_.;?&]`)
	naiveUnsafe     = regexp.MustCompile(`[\x00-\x1f\x7f\\]|%(25|2[fF]|5[cC]|3[fF]|23|[cC]0|[cC]1|[01][0-9a-fA-F]|7[fF])`)
	naivePercent    = regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	naiveDot        = regexp.MustCompile(`%2[eE]`)
	naiveSeparators = regexp.MustCompile(`[/:?#;=&]`)
	naiveAuthority  = regexp.MustCompile(`(^|:)//[^/?#]*[@%]`)
)

func naivePlain(uri string) bool {
	for _, r := range uri {
		if r > 0x7e {
			return false
		}
	}
	if naiveUnsafe.MatchString(uri) || strings.Contains(naivePercent.ReplaceAllString(uri, ""), "%") || naiveAuthority.MatchString(uri) {
		return false
	}
	for _, piece := range naiveSeparators.Split(naiveDot.ReplaceAllString(uri, "."), -1) {
		if piece == "." || piece == ".." {
			return false
		}
	}
	return true
}

// naiveURI matches path, query and fragment each on its own.
func naiveURI(pattern, uri string) bool {
	p, u := naiveParts(pattern), naiveParts(uri)
	for i := range p {
		if (p[i] == nil) != (u[i] == nil) || p[i] != nil && !naiveMatch(*p[i], *u[i]) {
			return false
		}
	}
	return true
}

func naiveParts(s string) (parts [3]*string) {
	s, fragment, ok := strings.Cut(s, "#")
	if ok {
		parts[2] = &fragment
	}
	s, query, ok := strings.Cut(s, "?")
	if ok {
		parts[1] = &query
	}
	parts[0] = &s
	return parts
}

// naiveMatch tries every way to divide the text.
func naiveMatch(pattern, s string) bool {
	type state struct{ p, s int }
	seen := map[state]bool{}
	var try func(p, i int) bool
	try = func(p, i int) bool {
		if at := (state{p, i}); seen[at] {
			return false
		} else {
			seen[at] = true
		}
		switch rest := pattern[p:]; {
		case rest == "":
			return i == len(s)
		case strings.HasPrefix(rest, `\*`):
			return i < len(s) && s[i] == '*' && try(p+2, i+1)
		case strings.HasPrefix(rest, "*"):
			stars := len(rest) - len(strings.TrimLeft(rest, "*"))
			for j := i; ; j++ {
				if try(p+stars, j) {
					return true
				}
				if j == len(s) || stars == 1 && s[j] == '/' {
					return false
				}
			}
		default:
			return i < len(s) && s[i] == rest[0] && try(p+1, i+1)
		}
	}
	return try(0, 0)
}
