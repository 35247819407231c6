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
// question meets only those that could answer it. Nothing in here says that a
// match means yes: a second set can hold what is denied and be asked first. (It
// would have to take a URI that is not plain for a match.)
type rules struct {
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
	touched roleMask
	// slots are by permission; a permission is granted in its own slot and in
	// the slot of each permission it implies. The slot of PermissionNone is for
	// the grants of every permission.
	slots [mcp.PermissionCount]*slot
}

// slot is what is granted on one server for one permission.
type slot struct {
	// some are the roles with any grant here, whole those that have the whole
	// server.
	some, whole roleMask
	exact       map[string]roleMask
	globs       *globIndex[roleMask]
}

// add enters a grant of the role. On an error it returns the place of the object
// at fault, or -1.
func (r *rules) add(role int, g Grant) (int, error) {
	perm, err := parsePermission(g.Permission)
	if err != nil {
		return -1, err
	}
	if g.Objects == nil {
		r.grant(role, perm, object{server: "*", whole: true})
		return -1, nil
	}
	if len(g.Objects) == 0 {
		return -1, errors.New("the list of objects is empty: leave it out to allow everything on every server")
	}
	for i, text := range g.Objects {
		o, err := parseObject(perm, text)
		if err != nil {
			return i, fmt.Errorf("%q: %w", text, err)
		}
		r.grant(role, perm, o)
	}
	return -1, nil
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

func parseObject(perm mcp.Permission, text string) (object, error) {
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
		if c := server[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '*') {
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
	case isGlob && isOfResources(perm) && !canMatchURI(o.tokens):
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
	}
	return false
}

func isOfResources(perm mcp.Permission) bool {
	return perm == mcp.ResourcesRead || perm == mcp.ResourcesSubscribe
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

// grant enters one object in the tables.
func (r *rules) grant(role int, perm mcp.Permission, o object) {
	t := r.table(o.server)
	t.touched.add(role)
	for {
		t.slot(perm).grant(role, o)
		if perm = perm.Implies(); perm == mcp.PermissionNone {
			return
		}
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
	}
}

func (t *table) slot(perm mcp.Permission) *slot {
	if t.slots[perm] == nil {
		t.slots[perm] = &slot{}
	}
	return t.slots[perm]
}

func (s *slot) grant(role int, o object) {
	s.some.add(role)
	switch {
	case o.whole:
		s.whole.add(role)
	case len(o.tokens) == 1:
		// A single token that is not "**" is a literal, or "*".
		if o.tokens[0].wild == 0 {
			if s.exact == nil {
				s.exact = make(map[string]roleMask)
			}
			mask := s.exact[o.tokens[0].text]
			mask.add(role)
			s.exact[o.tokens[0].text] = mask
			return
		}
		fallthrough
	default:
		if s.globs == nil {
			s.globs = &globIndex[roleMask]{}
		}
		s.globs.add(o.pattern, func() *glob { return newURIGlob(o.tokens, pathEnds) }).add(role)
	}
}

// roleMask is a set of roles that is small in most places and has a bit test
// where it is not.
type roleMask []maskWord

type maskWord struct {
	index int
	bits  uint64
}

func (m *roleMask) add(role int) {
	index, bit := role/64, uint64(1)<<(role%64)
	for i := range *m {
		if (*m)[i].index == index {
			(*m)[i].bits |= bit
			return
		}
	}
	*m = append(*m, maskWord{index, bit})
}

// meets reports whether the set has a role in common with a RoleSet's bits.
func (m roleMask) meets(bits []uint64) bool {
	for _, w := range m {
		if bits[w.index]&w.bits != 0 {
			return true
		}
	}
	return false
}
