package policy

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// naive judges straight from the configuration, one role, grant and object
// after the other. It shares no code with the engine.
type naive struct {
	Config
	sees func(Audience) bool
	// has are the names of the principal's roles.
	has   map[string]bool
	rules []naiveRule
}

func newNaive(roles []Role, claims map[string][]string, scopes []string) naive {
	return newNaiveOf(Config{Roles: roles}, claims, scopes, nil)
}

func newNaiveOf(config Config, claims map[string][]string, scopes []string, sees func(Audience) bool) naive {
	roles := config.Roles
	n := naive{Config: config, sees: sees, has: map[string]bool{}}
	n.rules = n.flat()
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
		if r.Teams != nil && len(n.teamsOf(r.Name)) == 0 {
			n.has[r.Name] = false
		}
	}
	return n
}

// teamsOf are the principal's teams in which a role holds, sorted.
func (n naive) teamsOf(role string) (in []string) {
	for _, r := range n.Roles {
		for team := range n.Teams {
			if r.Name == role && n.sees(Audience{Team: team}) && (slices.Contains(r.Teams, team) || slices.Contains(r.Teams, "*")) {
				in = append(in, team)
			}
		}
	}
	slices.Sort(in)
	return in
}

// holdsFor returns the first team in which a role holds and to which that belongs; an
// empty one if it holds everywhere.
func (n naive) holdsFor(role string, q asked, deny bool) (string, bool) {
	for _, r := range n.Roles {
		if r.Name == role && r.Teams == nil {
			return "", true
		}
	}
	for _, team := range n.teamsOf(role) {
		for _, o := range n.Teams[team] {
			if deny && naiveDenies("*", o, q, true) || !deny && n.allowsObject("*", o, q) {
				return team, true
			}
		}
	}
	return "", false
}

// hides reports whether something is not for the principal.
func (n naive) hides(q asked) bool {
	for pattern, audience := range n.Visibility {
		if audience != (Audience{}) && (n.sees == nil || !n.sees(audience)) && naiveDenies("*", pattern, q, true) {
			return true
		}
	}
	return false
}

// grants returns what a role allows, or denies, with what it extends.
func (n naive) grants(name string, deny bool, seen map[string]bool) (all []Grant) {
	for _, r := range n.Roles {
		if r.Name != name || seen[name] {
			continue
		}
		seen[name] = true
		if deny {
			all = append(all, r.Deny...)
		} else {
			all = append(all, r.Allow...)
		}
		for _, other := range r.Extends {
			all = append(all, n.grants(other, deny, seen)...)
		}
	}
	return all
}

// naiveRule is a grant of one object.
type naiveRule struct {
	role, object string
	grant        Grant
	deny         bool
}

// flat lists everything that the roles allow and deny.
func (n naive) flat() (all []naiveRule) {
	for _, r := range n.Roles {
		for _, deny := range []bool{false, true} {
			for _, g := range n.grants(r.Name, deny, map[string]bool{}) {
				objects := g.Objects
				if objects == nil {
					objects = []string{"*"}
				}
				for _, o := range objects {
					all = append(all, naiveRule{r.Name, o, g, deny})
				}
			}
		}
	}
	return all
}

// any reports whether a grant of the principal's roles, as far as they hold for what
// is asked, satisfies f.
func (n naive) any(deny bool, q asked, f func(g Grant, object string) bool) bool {
	return slices.ContainsFunc(n.rules, func(r naiveRule) bool {
		if r.deny != deny || !n.has[r.role] || !f(r.grant, r.object) {
			return false
		}
		_, ok := n.holdsFor(r.role, q, deny)
		return ok
	})
}

func (n naive) allowsServer(server string) bool {
	return n.any(false, asked{perm: mcp.ServersUse, server: server}, func(_ Grant, o string) bool {
		pattern, _, _ := strings.Cut(o, "/")
		return naiveServer(pattern, server)
	}) && !n.denies(asked{perm: mcp.ServersUse, server: server}, nil)
}

// allows answers without arguments.
func (n naive) allows(perm mcp.Permission, server string, kind ObjectKind, object string) bool {
	q := asked{perm: perm, server: server, kind: kind, object: object}
	return !n.hides(q) && n.grantsIt(q, func(string) (bool, error) { return false, nil }) &&
		!n.denies(q, func(string) (bool, error) { return true, nil })
}

// judge answers with them.
func (n naive) judge(q asked) bool {
	if q.kind == KindNone {
		return n.allows(q.perm, q.server, q.kind, q.object)
	}
	holds := func(condition string) (bool, error) { return naiveConditions[condition](q) }
	return !n.hides(q) && n.grantsIt(q, holds) && !n.denies(q, holds)
}

func (n naive) grantsIt(q asked, holds func(string) (bool, error)) bool {
	return n.any(false, q, func(g Grant, o string) bool {
		if !n.allowsObject(g.Permission, o, q) {
			return false
		}
		if g.If == "" || strings.HasSuffix(q.perm.String(), ".read") || q.perm == mcp.ServersUse {
			return true
		}
		ok, err := holds(g.If)
		return ok && err == nil
	})
}

// denies reports whether a deny matches; with no holds, only those without a
// condition.
func (n naive) denies(q asked, holds func(string) (bool, error)) bool {
	return n.any(true, q, func(g Grant, o string) bool {
		if !naiveDenies(g.Permission, o, q, false) {
			return false
		}
		if g.If == "" {
			return true
		}
		if holds == nil {
			return false
		}
		ok, err := holds(g.If)
		return ok || err != nil
	})
}

// naiveDenies reports whether a pattern matches in the way of a deny; byScheme is for
// what is hidden or belongs to a team.
func naiveDenies(permission, object string, q asked, byScheme bool) bool {
	server, pattern, _ := strings.Cut(object, "/")
	if !naiveServer(server, q.server) {
		return false
	}
	category, action, _ := strings.Cut(permission, ".")
	asked, _, _ := strings.Cut(q.perm.String(), ".")
	all := permission == "*" || permission == "servers.use"
	hides := action == "read" && category == asked
	if !all && !hides && permission != q.perm.String() {
		return false
	}
	if strings.Trim(pattern, "*") == "" && len(pattern) != 1 {
		return true
	}
	kind := q.kind
	if kind == KindTemplate && (asked == "tools" || asked == "prompts") {
		kind = KindURI
	}
	switch {
	case slices.Contains([]string{"servers", "logging", "tasks", "client"}, asked):
		return false
	case kind == KindNone:
		return true
	case kind == KindName && asked != "resources":
		return naiveMatch(pattern, q.object)
	}
	literal := strings.ReplaceAll(pattern, `\*`, "\x01")
	isGlob := strings.Contains(literal, "*")
	patterns := []string{strings.ToLower(pattern)}
	if base, ok := strings.CutSuffix(strings.TrimRight(literal, "*"), "/"); ok && base != "" && !strings.HasSuffix(base, "/") && !strings.HasSuffix(base, ":") {
		patterns = append(patterns, strings.ToLower(strings.ReplaceAll(base, "\x01", `\*`)))
	}
	text, _, isTemplate := strings.Cut(q.object, "{")
	if kind == KindTemplate && !isGlob && strings.ReplaceAll(literal, "\x01", "*") == q.object {
		return true
	}
	if kind != KindTemplate {
		text, isTemplate = q.object, false
	}
	couldBegin := func(text string, deep bool) bool {
		return (isGlob || !strings.Contains(pattern, "{")) && slices.ContainsFunc(patterns, func(p string) bool {
			if deep && naiveFlat.MatchString(strings.ReplaceAll(p, `\*`, "\x01")) {
				return false
			}
			begin, _, glob := strings.Cut(strings.ReplaceAll(p, `\*`, "\x01"), "*")
			begin = strings.ReplaceAll(begin, "\x01", "*")
			return strings.HasPrefix(begin, text) || glob && strings.HasPrefix(text, begin)
		})
	}
	if !naivePlain(text) || !naiveOneSpelling(text) {
		scheme := strings.ToLower(naiveScheme.FindString(text))
		return !byScheme || scheme == "" || strings.Contains(text, "{") ||
			couldBegin(scheme, naiveDeep.MatchString(text) && !naiveUp.MatchString(text))
	}
	text = strings.ToLower(text)
	if isTemplate {
		return couldBegin(text, byScheme && strings.Contains(text, "/"))
	}
	parts := naiveParts(text)
	texts := []string{text, *parts[0]}
	if parts[1] != nil {
		texts = append(texts, *parts[0]+"?"+*parts[1])
	}
	for _, t := range texts {
		for _, p := range patterns {
			if naiveMatch(p, t) || strings.HasSuffix(t, "/") && naiveMatch(p, t[:len(t)-1]) {
				return true
			}
		}
	}
	return false
}

var (
	naiveScheme = regexp.MustCompile(`(?i)^([a-z][a-z0-9+.-]*):`)
	naiveHost   = regexp.MustCompile(`(?i)^([a-z0-9._~-]*[a-z0-9_~-])?$`)
	naiveFirst  = regexp.MustCompile(`^//[^/?#]*`)
	naiveEnd    = regexp.MustCompile(`[.\x01]([/:?#]|$)`)
	naiveNumber = regexp.MustCompile(`(^|\.)[0-9][^.]*$`)
	naiveIPv4   = regexp.MustCompile(`^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.|$)){4}$`)
	naiveFlat   = regexp.MustCompile(`^[^*/:]*(\*[^*/]+)*\*[^*/]*$`)
	naiveDeep   = regexp.MustCompile(`(?i)^[a-z0-9+.-]+:/[^?#]*[^/?#]`)
	naiveUp     = regexp.MustCompile(`^[^?#]*(/\.|\\|%2)`)
	naiveMust   = regexp.MustCompile("(?i)%(20|22|3c|3e|5e|60|7b|7c|7d)")
)

// naiveOneSpelling looks for everything that makes another spelling likely.
func naiveOneSpelling(uri string) bool {
	scheme := naiveScheme.FindString(uri)
	if scheme == "" || strings.EqualFold(scheme, "file:") && !strings.HasPrefix(uri[5:], "///") {
		return false
	}
	rest := uri[len(scheme):]
	if strings.HasPrefix(rest, "//") {
		authority := naiveFirst.FindString(rest)
		rest = rest[len(authority):]
		host, port, hasPort := strings.Cut(authority[2:], ":")
		if strings.Contains(port, ":") || hasPort && (port == "" || port[0] == '0' || port == "80" || port == "443") {
			return false
		}
		if !naiveHost.MatchString(host) || naiveNumber.MatchString(host) && !naiveIPv4.MatchString(host) {
			return false
		}
	}
	for _, escape := range naivePercent.FindAllString(rest, -1) {
		if !naiveMust.MatchString(escape) {
			return false
		}
	}
	rest = strings.ReplaceAll(rest, "%20", "\x01")
	return !strings.ContainsAny(rest, " \"<>^`{|};") && !strings.Contains(rest, "//") && !strings.Contains(rest, "::$") &&
		!naiveEnd.MatchString(rest)
}

// naiveConditions are the conditions that the generator uses, written once more.
var naiveConditions = map[string]func(q asked) (bool, error){
	`args.x == "a"`: func(q asked) (bool, error) { return q.is("x", "a") },
	`args.x in ["a", "b"] && args.n < 5`: func(q asked) (bool, error) {
		a, err := q.is("x", "a")
		b, _ := q.is("x", "b")
		n, ok := q.args["n"].(float64)
		switch {
		case err == nil && !a && !b || ok && n >= 5:
			return false, nil
		case err != nil || !ok:
			return false, errNaive
		}
		return true, nil
	},
	`claims.d == "a"`: func(asked) (bool, error) { return true, nil },
	`claims.e == "a"`: func(asked) (bool, error) { return false, errNaive },
	`server == "a" || args.x == "b"`: func(q asked) (bool, error) {
		if q.server == "a" {
			return q.argsErr == nil, q.argsErr
		}
		return q.is("x", "b")
	},
	`tool.startsWith("a") && client == "c"`: func(q asked) (bool, error) { return strings.HasPrefix(q.object, "a"), nil },
	`!(args.x == "a")`: func(q asked) (bool, error) {
		is, err := q.is("x", "a")
		return !is, err
	},
	`has(args.n)`: func(q asked) (bool, error) {
		_, ok := q.args["n"]
		return ok, q.argsErr
	},
}

var errNaive = errors.New("cannot be evaluated")

func (q asked) is(name string, value any) (bool, error) {
	v, ok := q.args[name]
	if !ok || q.argsErr != nil {
		return false, errNaive
	}
	return v == value, nil
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

func (n naive) allowsObject(granted, o string, q asked) bool {
	perm, server, kind, object := q.perm, q.server, q.kind, q.object
	serverPattern, pattern, _ := strings.Cut(o, "/")
	if !naiveServer(serverPattern, server) {
		return false
	}
	if perm == mcp.ServersUse {
		return true
	}
	if !naiveGives(granted, perm) {
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
	case "tools", "prompts":
		if kind == KindTemplate {
			kind = KindURI
		}
	}
	switch kind {
	case KindNone:
		return false
	case KindName:
		return naiveMatch(pattern, object)
	default:
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
	seen := make([]bool, (len(pattern)+1)*(len(s)+1))
	var try func(p, i int) bool
	try = func(p, i int) bool {
		if at := p*(len(s)+1) + i; seen[at] {
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
