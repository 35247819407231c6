package compare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// atom is one thing that a token says: that a claim has a value, or any one of several
// between which no configuration makes a difference.
type atom struct {
	claim  string
	values []string
}

func (a atom) label() string {
	const most = 4
	if n := len(a.values); n > most {
		return fmt.Sprintf("%s=%s|...%d more", a.claim, strings.Join(a.values[:most-1], "|"), n-most+1)
	}
	return a.claim + "=" + strings.Join(a.values, "|")
}

func (a atom) compare(b atom) int {
	return cmp.Or(cmp.Compare(a.claim, b.claim), cmp.Compare(a.values[0], b.values[0]))
}

// subject is whoever has a token that says just this, sorted. A token that says more has
// the same roles, and maybe others.
type subject []atom

func (s subject) with(more ...atom) subject {
	all := slices.Concat(s, more)
	slices.SortFunc(all, atom.compare)
	return slices.CompactFunc(all, func(a, b atom) bool { return a.compare(b) == 0 })
}

func (s subject) key() string {
	var b strings.Builder
	for _, a := range s {
		fmt.Fprintf(&b, "%q=%q ", a.claim, a.values[0])
	}
	return b.String()
}

// within reports whether another subject says all that this one does, and more.
func (s subject) within(other subject) bool {
	return len(s) < len(other) && !slices.ContainsFunc(s, func(a atom) bool {
		return !slices.ContainsFunc(other, func(b atom) bool { return a.compare(b) == 0 })
	})
}

func (s subject) label() string {
	if len(s) == 0 {
		return "anybody"
	}
	labels := make([]string, len(s))
	for i, a := range s {
		labels[i] = a.label()
	}
	return strings.Join(labels, " ")
}

// single are the claims that have one value, which is text.
var single = []string{"azp", "client_id", "env", "iss", "jti", "sub", "token_use", "typ"}

// claims returns those of a token of an issuer; false when there can be no such token.
func (s subject) claims(issuer string, audiences []string) (map[string]any, bool) {
	lists := make(map[string][]any)
	claims := map[string]any{"iss": issuer}
	for _, a := range s {
		value := a.values[0]
		if !slices.Contains(single, a.claim) {
			lists[a.claim] = append(lists[a.claim], value)
		} else if given, ok := claims[a.claim]; ok && given != value {
			return nil, false
		} else {
			claims[a.claim] = value
		}
	}
	// Two names for the same.
	if list := lists["scp"]; list != nil {
		for _, value := range lists["scope"] {
			if !slices.Contains(list, value) {
				list = append(list, value)
			}
		}
		lists["scope"], lists["scp"] = list, list
	}
	if lists["aud"] != nil {
		for _, audience := range audiences {
			lists["aud"] = append(lists["aud"], audience)
		}
	}
	for claim, list := range lists {
		claims[claim] = list
	}
	return claims, true
}

// sides are the old configuration and the new one, of which either may be nil.
type sides [2]*mcpauth.Handler

func (s sides) each(f func(side int, h *mcpauth.Handler)) {
	for side, h := range s {
		if h != nil {
			f(side, h)
		}
	}
}

// vocabulary is what both configurations look for in tokens: for each claim, the values
// that matter, each with all between which there is no difference.
type vocabulary map[string]map[string][]string

func newVocabulary(both sides, on string) vocabulary {
	// Values are alike if they occur in the same places.
	places := make(map[string]map[string]string)
	at := func(claim, value, place string) {
		if places[claim] == nil {
			places[claim] = make(map[string]string)
		}
		places[claim][value] += place + ";"
	}
	both.each(func(side int, h *mcpauth.Handler) {
		for r, role := range h.Roles {
			for c, condition := range role.When {
				for _, value := range slices.Compact(slices.Sorted(slices.Values(condition.Values))) {
					at(condition.Claim, value, fmt.Sprint("role", side, r, c))
				}
			}
			for _, team := range teamsOf(h, &role, on) {
				at("teams", team, fmt.Sprint("role", side, r))
			}
		}
		for _, object := range append(hidden(h, on), on) {
			for _, a := range seeing(h.Visibility[object]) {
				at(a.claim, a.values[0], fmt.Sprintf("visibility%d%q", side, object))
			}
		}
		if holdsInTeams(h) {
			for team, patterns := range owned(h, on) {
				at("teams", team, fmt.Sprintf("owned%d%q", side, patterns))
			}
		}
	})
	// Scopes can mean permissions, too.
	both.each(func(side int, h *mcpauth.Handler) {
		for i, issuer := range h.Issuers {
			for value := range places["scope"] {
				at("scope", value, fmt.Sprint("map", side, i, issuer.TokenScope.Scopes().Permissions([]string{value})))
			}
		}
	})
	v := make(vocabulary)
	for claim, values := range places {
		v[claim] = make(map[string][]string)
		for _, value := range slices.Sorted(maps.Keys(values)) {
			for _, other := range slices.Sorted(maps.Keys(values)) {
				if values[other] == values[value] {
					v[claim][value] = append(v[claim][value], other)
				}
			}
		}
	}
	return v
}

func (v vocabulary) atom(claim, value string) atom {
	if alike := v[claim][value]; alike != nil {
		return atom{claim, alike}
	}
	return atom{claim, []string{value}}
}

// all are the same atoms, with what is alike.
func (v vocabulary) all(atoms []atom) []atom {
	list := make([]atom, len(atoms))
	for n, a := range atoms {
		list[n] = v.atom(a.claim, a.values[0])
	}
	return list
}

// maxSubjects bounds how many kinds of principals are compared.
const maxSubjects = 5000

// subjects returns those between which the roles make a difference: the smallest tokens
// that give a role, nobody in particular, and, because what one role denies no other
// allows, any two of which one denies something. Where the configurations do not differ
// about any of these, they differ about no token: what a token says adds roles and takes
// none, a role allows whatever the others do, and a deny needs no more than one role that
// denies and one that would allow. A role that holds in teams is given by a token of each
// team alone, because an object is judged by any team that it belongs to. What somebody
// has to say to see an object is added to these, see sights.
func (v vocabulary) subjects(both sides, on string) ([]subject, error) {
	list := []subject{nil}
	seen := map[string]bool{subject(nil).key(): true}
	add := func(s subject) error {
		if !seen[s.key()] {
			seen[s.key()] = true
			list = append(list, s)
		}
		if len(list) > maxSubjects {
			return fmt.Errorf("the roles have more than %d kinds of principals; say with --as-claims or --principals which are of interest", maxSubjects)
		}
		return nil
	}
	var denying []subject
	var err error
	both.each(func(_ int, h *mcpauth.Handler) {
		for i := range h.Roles {
			for _, s := range v.having(h, &h.Roles[i], on) {
				if err == nil {
					err = add(s)
				}
				if denies(h.Roles, h.Roles[i].Name, nil) {
					denying = append(denying, s)
				}
			}
		}
	})
	for _, s := range slices.Clone(list) {
		for _, d := range denying {
			if err == nil {
				err = add(s.with(d...))
			}
		}
	}
	return list, err
}

// having returns the smallest subjects that have a role of a configuration on a server.
func (v vocabulary) having(h *mcpauth.Handler, role *policy.Role, server string) []subject {
	list := []subject{nil}
	if role.Teams != nil {
		list = nil
		for _, team := range teamsOf(h, role, server) {
			list = append(list, subject{v.atom("teams", team)})
		}
		list = slices.CompactFunc(list, func(a, b subject) bool { return a.key() == b.key() })
	}
	for _, condition := range role.When {
		var next []subject
		seen := make(map[string]bool)
		for _, s := range list {
			for _, value := range condition.Values {
				longer := s.with(v.atom(condition.Claim, value))
				if !seen[longer.key()] && len(next) <= maxSubjects {
					seen[longer.key()] = true
					next = append(next, longer)
				}
			}
		}
		list = next
	}
	return list
}

// denies reports whether a role denies anything, itself or by one that it extends.
func denies(roles []policy.Role, name string, path []string) bool {
	at := slices.IndexFunc(roles, func(r policy.Role) bool { return r.Name == name })
	if at < 0 || slices.Contains(path, name) {
		return false
	}
	return len(roles[at].Deny) > 0 || slices.ContainsFunc(roles[at].Extends, func(e string) bool {
		return denies(roles, e, append(slices.Clip(path), name))
	})
}

// seeing returns what a token has to say to see a server.
func seeing(v mcpauth.Visibility) []atom {
	switch v.Level {
	case scope.Team:
		return []atom{{"teams", []string{v.Team}}}
	case scope.Private:
		// Of any team, because one that is of none sees only what is public.
		return []atom{{"sub", []string{v.Owner}}, {"teams", []string{anyTeam}}}
	default:
		return nil
	}
}

// everything is the scope that gives every permission, unless the configuration says
// otherwise.
const everything = "mcp:all"

// variants returns the subject as it is, and with what it lacks in either configuration
// for its token to get to the server and to have the permission there. Of the scopes
// that give a permission, one stands for all between which there is no difference.
func (v vocabulary) variants(s subject, both sides, issuers [2]string, sights [][]atom, perm mcp.Permission) []subject {
	var list []subject
	for _, seen := range sights {
		for _, scopes := range v.ofPermission(s, both, issuers, perm) {
			longer := s.with(slices.Concat(v.all(seen), scopes)...).inTeams()
			if !slices.ContainsFunc(list, func(other subject) bool { return other.key() == longer.key() }) {
				list = append(list, longer)
			}
		}
	}
	return list
}

// ofPermission are the ways for a token to have a permission, or not to.
func (v vocabulary) ofPermission(s subject, both sides, issuers [2]string, perm mcp.Permission) [][]atom {
	ways, names := [][]atom{nil}, []string(nil)
	var given [2]*scope.ScopeMap
	both.each(func(side int, h *mcpauth.Handler) {
		for _, issuer := range h.Issuers {
			if issuer.Issuer == issuers[side] {
				given[side] = issuer.TokenScope.Scopes()
				names = slices.AppendSeq(names, maps.Keys(issuer.TokenScope.ScopeMap))
			}
		}
	})
	need := scope.Of(mcp.ServersUse, perm)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if given[0].Permissions([]string{name}).Has(need) != given[1].Permissions([]string{name}).Has(need) {
			ways = append(ways, []atom{v.atom("scope", name)})
		}
	}
	all := v["scope"][everything] == nil
	for _, m := range given {
		all = all && (m == nil || m.Permissions([]string{everything}).Has(scope.Of(mcp.Permissions()...)))
	}
	if all {
		if given[0] != nil || given[1] != nil {
			ways = append(ways, []atom{v.atom("scope", everything)})
		}
		return ways
	}
	var held []string
	for _, a := range s {
		if a.claim == "scope" {
			held = append(held, a.values[0])
		}
	}
	var together []atom
	for _, m := range given {
		var way []atom
		for _, perm := range (need &^ m.Permissions(held)).List() {
			if known := m.Known(perm); len(known) > 0 && !slices.ContainsFunc(way, func(a atom) bool { return a.values[0] == known[0] }) {
				way = append(way, v.atom("scope", known[0]))
			}
		}
		ways, together = append(ways, way), append(together, way...)
	}
	return append(ways, together)
}
