package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// rules are grants, arranged by server, permission and object so that a
// question meets only those that could answer it. A policy has four sets: what is
// allowed and what is denied, without and with a condition.
type rules struct {
	// deny is set where a match means no.
	deny bool
	// byScheme is set where a URI that cannot be compared matches only the
	// patterns that can begin with its scheme, and not all there are. The rules
	// about everything of a name have it: many of them are meant for tools.
	byScheme bool
	// any is set when there is any rule at all.
	any bool
	// every is for the grants on all servers, servers for those on one by its
	// name, patterns for those on a glob of servers.
	every    *table
	servers  map[string]*table
	patterns globIndex[*table]
	// hasPatterns spares the lookup where there is no such glob.
	hasPatterns bool
}

// table is what is granted on one server or glob of servers.
type table struct {
	// touched are the roles with any grant here.
	touched grants
	// slots are by permission; a permission is granted in its own slot and in
	// the slot of each permission it implies, and denied in its own and in those
	// of each permission that is of no use without it. The slot of PermissionNone
	// is for every permission.
	slots [mcp.PermissionCount]*slot
}

// slot is what is granted on one server for one permission.
type slot struct {
	// some are the roles with any grant here, whole those that have the whole
	// server.
	some, whole grants
	exact       map[string]*grants
	globs       *globIndex[grants]
	// uris are the patterns, exact ones included, as a deny compares them with
	// URIs.
	uris *globIndex[grants]
}

// parsed is a grant as read.
type parsed struct {
	perm      mcp.Permission
	objects   []object
	condition *condition
	grant     Grant
}

// parseGrant reads a grant. On an error it returns the place of the object at
// fault, or -1.
func parseGrant(g Grant, deny bool) (parsed, int, error) {
	perm, err := parsePermission(g.Permission)
	if err != nil {
		return parsed{}, -1, err
	}
	p := parsed{perm: perm, grant: g}
	if g.If != "" {
		if perm != mcp.ToolsExecute && perm != mcp.PromptsExecute {
			return parsed{}, -1, fmt.Errorf("%s cannot have a condition: only tools.execute and prompts.execute have arguments to look at", g.Permission)
		}
		if p.condition, err = newCondition(g.If); err != nil {
			return parsed{}, -1, fmt.Errorf("if: %w", err)
		}
	}
	if g.Objects == nil {
		p.objects = []object{{server: "*", whole: true}}
		return p, -1, nil
	}
	if len(g.Objects) == 0 {
		verb := "allow"
		if deny {
			verb = "deny"
		}
		return parsed{}, -1, fmt.Errorf("the list of objects is empty: leave it out to %s everything on every server", verb)
	}
	for i, text := range g.Objects {
		o, err := parseObject(perm, text, deny)
		if err != nil {
			return parsed{}, i, fmt.Errorf("%q: %w", text, err)
		}
		p.objects = append(p.objects, o)
	}
	return p, -1, nil
}

// object is an object pattern as read.
type object struct {
	server string
	// whole is for everything on the server; otherwise there are tokens of the
	// object's pattern.
	whole   bool
	pattern string
	tokens  []token
}

func parseObject(perm mcp.Permission, text string, deny bool) (object, error) {
	server, pattern, hasObject := strings.Cut(text, "/")
	switch {
	case !utf8.ValidString(text):
		return object{}, errors.New("not valid UTF-8")
	case text == "":
		return object{}, errors.New("the object is empty; is a placeholder unset? Leave the objects out to allow everything on every server")
	case server == "":
		return object{}, errors.New("write server/object: there is no server before the slash")
	case hasObject && pattern == "":
		return object{}, fmt.Errorf("there is no object after the slash: write %q for everything on the server", server)
	}
	for i := 0; i < len(server); i++ {
		if c := server[i]; c-'a' >= 26 && !isDigit(c) && c != '-' && c != '*' {
			return object{}, fmt.Errorf("%q cannot be a server: write server/object, where server is made of a-z, 0-9 and -, and * for any of these", server)
		}
	}
	if len(server) > maxGlob {
		return object{}, fmt.Errorf("a server has at most %d bytes", maxGlob)
	}
	o := object{server: serverPattern(server), whole: !hasObject, pattern: pattern}
	if o.whole {
		return o, nil
	}
	o.tokens = tokenize(pattern)
	isGlob := slices.ContainsFunc(o.tokens, func(t token) bool { return t.wild != 0 })
	if len(o.tokens) == 1 && o.tokens[0].wild == doubleStar {
		o.whole = true
		return o, nil
	}
	switch {
	case isServerLevel(perm):
		return object{}, fmt.Errorf("%s is not about an object: write the server alone, %q", perm, server)
	case isGlob && len(pattern) > maxGlob:
		return object{}, fmt.Errorf("a glob has at most %d bytes", maxGlob)
	case isGlob && isOfResources(perm) && deny && !canDenyURI(o.tokens):
		return object{}, errors.New("no URI is spelled like this glob: write the scheme, lower-case file:/// for files, no doubled slash, dot segment, semicolon, brace or default port, and percent-encode only space \" < > ^ ` { | }")
	case isGlob && isOfResources(perm) && !deny && !canMatchURI(o.tokens):
		return object{}, errors.New("no URI matches this glob, because one with a dot segment, an encoded slash or percent sign, a backslash, user information or characters outside ASCII can only be named exactly")
	}
	return o, nil
}

// serverPattern writes every run of stars as one: in the name of a server they
// mean the same.
func serverPattern(s string) string {
	for strings.Contains(s, "**") {
		s = strings.ReplaceAll(s, "**", "*")
	}
	return s
}

// isServerLevel reports whether a permission is about a server, or about what
// belongs to a session or task there, and never about a named object.
func isServerLevel(perm mcp.Permission) bool {
	switch perm {
	case mcp.ServersUse, mcp.LoggingWrite, mcp.TasksRead, mcp.TasksWrite,
		mcp.ClientSampling, mcp.ClientElicitation, mcp.ClientRoots:
		return true
	default:
		return false
	}
}

func isOfResources(perm mcp.Permission) bool {
	return perm == mcp.ResourcesRead || perm == mcp.ResourcesSubscribe
}

// isOfNames reports whether a permission is about tools or prompts.
func isOfNames(perm mcp.Permission) bool {
	switch perm {
	case mcp.ToolsRead, mcp.ToolsExecute, mcp.PromptsRead, mcp.PromptsExecute:
		return true
	default:
		return false
	}
}

// canMatchURI reports whether a glob of these tokens can match any plain URI:
// whether it is one itself, with a harmless text in place of its wildcards.
func canMatchURI(tokens []token) bool {
	var uri strings.Builder
	for _, t := range tokens {
		if t.wild != 0 {
			uri.WriteString("20")
		} else {
			uri.WriteString(t.text)
		}
	}
	return isPlainURI(uri.String())
}

// add enters a rule for one object, for the permissions given.
func (r *rules) add(rule *Rule, o object, perms ...mcp.Permission) {
	r.any = true
	t := r.table(o.server)
	t.touched.add(rule)
	for _, perm := range perms {
		t.slot(perm).add(rule, o, r.deny)
	}
}

// table returns the table of a server pattern, made if there is none.
func (r *rules) table(server string) *table {
	if server == "*" {
		if r.every == nil {
			r.every = &table{}
		}
		return r.every
	}
	if !strings.Contains(server, "*") {
		if r.servers == nil {
			r.servers = make(map[string]*table)
		}
		t := r.servers[server]
		if t == nil {
			t = &table{}
			r.servers[server] = t
		}
		return t
	}
	r.hasPatterns = true
	t := r.patterns.add(server, func() *glob { return newGlob(tokenize(server)) })
	if *t == nil {
		*t = &table{}
	}
	return *t
}

// seal lets go of what only building the rules needed.
func (r *rules) seal() {
	r.every.seal()
	for _, t := range r.servers {
		t.seal()
	}
	for _, e := range r.patterns.byPattern {
		e.value.seal()
	}
	r.patterns.byPattern = nil
}

func (t *table) seal() {
	if t == nil {
		return
	}
	for _, s := range t.slots {
		if s != nil && s.globs != nil {
			s.globs.byPattern = nil
		}
		if s != nil && s.uris != nil {
			s.uris.byPattern = nil
			gather(&s.uris.root)
		}
	}
}

func (t *table) slot(perm mcp.Permission) *slot {
	if t.slots[perm] == nil {
		t.slots[perm] = &slot{}
	}
	return t.slots[perm]
}

func (s *slot) add(rule *Rule, o object, deny bool) {
	s.some.add(rule)
	if o.whole {
		s.whole.add(rule)
		return
	}
	if deny {
		s.denyURIs(rule, o)
	}
	// A single token that is not "**" is a literal, or "*".
	if len(o.tokens) == 1 && o.tokens[0].wild == 0 {
		if s.exact == nil {
			s.exact = make(map[string]*grants)
		}
		g := s.exact[o.tokens[0].text]
		if g == nil {
			g = &grants{}
			s.exact[o.tokens[0].text] = g
		}
		g.add(rule)
		return
	}
	if s.globs == nil {
		s.globs = &globIndex[grants]{}
	}
	s.globs.add(o.pattern, func() *glob { return newURIGlob(o.tokens, pathEnds) }).add(rule)
}
