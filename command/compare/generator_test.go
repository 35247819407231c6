package compare

import (
	"maps"
	"math/rand"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// generator makes configurations that differ a little.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.Intn(len(from))] }

func (g generator) grant() map[string]any {
	permission := g.pick("*", "tools.execute", "tools.execute", "tools.execute", "tools.read", "prompts.execute", "servers.use", "client.roots", "resources.read")
	grant := map[string]any{"permission": permission}
	object := g.pick("a", "*", "a*")
	if category, _, _ := strings.Cut(permission, "."); slices.Contains([]string{"tools", "prompts"}, category) || permission == "*" && g.Intn(2) == 0 {
		object += "/" + g.pick("p", "q", "p*", "*q", "**", "p/*", "*p*")
	} else if category == "resources" {
		object += "/" + g.pick("x:/p/**", "x:/p/q", "**")
	}
	grant["objects"] = []string{object}
	if strings.HasSuffix(permission, ".execute") && g.Intn(4) == 0 {
		grant["if"] = g.pick(`args.n < 5`, `args.n < 6`)
	}
	return grant
}

func (g generator) role(name string) map[string]any {
	role := map[string]any{"name": name}
	var when, allow, deny []any
	if g.Intn(3) > 0 {
		when = append(when, map[string]any{"claim": "groups", "values": []string{"g1", "g2"}[g.Intn(2):][:1]})
	}
	switch g.Intn(8) {
	case 0:
		when = append(when, map[string]any{"claim": "scope", "values": []string{"s1", "s2"}[:g.Intn(2)+1]})
	case 1:
		when = append(when, map[string]any{"claim": "sub", "values": []string{"ann"}})
	case 2:
		when = append(when, map[string]any{"claim": "groups", "values": []string{"g1", "g2"}})
	}
	for range g.Intn(3) {
		allow = append(allow, g.grant())
	}
	if g.Intn(3) == 0 {
		deny = append(deny, g.grant())
	}
	role["when"], role["allow"], role["deny"] = when, allow, deny
	if g.Intn(10) == 0 {
		role["extends"] = []string{"viewer"}
	}
	if g.Intn(3) == 0 {
		role["teams"] = [][]string{{"t1"}, {"t2"}, {"t1", "t2"}, {"*"}}[g.Intn(4)]
	}
	return role
}

// object is one that is somebody's.
func (g generator) object() string { return "a/" + g.pick("p", "q*", "*q", "p/**", "x:/p/**", "x:/z") }

// owners say what belongs to the teams, and who sees what.
func (g generator) owners() map[string]any {
	visibility := make(map[string]any)
	who := func() map[string]any {
		if g.Intn(3) == 0 {
			return map[string]any{"level": "private", "owner": "ann"}
		}
		return map[string]any{"level": "team", "team": g.pick("t1", "t2")}
	}
	if g.Intn(8) == 0 {
		visibility["a"] = who()
	}
	for range max(g.Intn(5)-1, 0) {
		visibility[g.object()] = who()
	}
	return map[string]any{
		"visibility": visibility,
		"teams":      map[string]any{"t1": []string{g.object(), g.object()}, "t2": []string{g.pick("a", g.object())}},
	}
}

// sources let people in.
func (g generator) sources() map[string]any {
	issuer := map[string]any{"issuer": testIssuer}
	switch g.Intn(8) {
	case 0:
		issuer["token_scope"] = map[string]any{"scope_permissions": true}
	case 1:
		issuer["token_scope"] = map[string]any{"scope_permissions": true, "scope_map": map[string]any{"s1": []string{"tools.*"}}}
	}
	sources := map[string]any{"issuers": []any{issuer}}
	if g.Intn(4) == 0 {
		claims := make(map[string]any)
		for _, name := range []string{"groups", "teams"} {
			if g.Intn(4) > 0 {
				claims[name] = map[string]any{"from": "X-" + name}
			}
		}
		sources["trusted_header"] = map[string]any{"header": "X-User", "from": []string{"127.0.0.1"}, "claims": claims}
		if g.Intn(3) == 0 {
			sources["issuers"] = []any{}
		}
	}
	return sources
}

func conditional(condition string) map[string]any {
	return map[string]any{"name": "r5", "allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{"a/q*"}, "if": condition}}}
}

// pair makes two configurations: often the same, written in another way.
func (g generator) pair() [2]map[string]any {
	var pair [2]map[string]any
	var roles []any
	for _, name := range []string{"r1", "r2", "r3"}[:g.Intn(3)+1] {
		roles = append(roles, g.role(name))
	}
	if g.Intn(3) == 0 {
		roles = append(roles, conditional(`args.n < 7`))
	}
	owners, sources := g.owners(), g.sources()
	for side := range pair {
		theirs := slices.Clone(roles)
		if side == 1 {
			switch g.Intn(4) {
			case 0:
				theirs[0] = g.role("r1")
			case 1:
				renamed := maps.Clone(roles[0].(map[string]any))
				renamed["name"] = "other"
				theirs[0] = renamed
			case 2:
				theirs = append(theirs, g.role("r4"))
			}
			if last := theirs[len(theirs)-1].(map[string]any); last["name"] == "r5" && g.Intn(2) == 0 {
				theirs[len(theirs)-1] = conditional(`args.n < 8`)
			}
			slices.Reverse(theirs)
		}
		change := map[string]any{"roles": theirs}
		if side == 1 && g.Intn(3) == 0 {
			owners = g.owners()
		}
		if side == 1 && g.Intn(6) == 0 {
			sources = g.sources()
		}
		maps.Copy(change, owners)
		maps.Copy(change, sources)
		pair[side] = config(change)
	}
	return pair
}

// everybody has all the claims that could matter.
var everybody = func() (all []map[string]any) {
	subsets := func(of ...string) (lists [][]any) {
		for bits := range 1 << len(of) {
			list := []any{}
			for i, one := range of {
				if bits>>i&1 == 1 {
					list = append(list, one)
				}
			}
			lists = append(lists, list)
		}
		return lists
	}
	for _, groups := range subsets("g1", "g2") {
		for _, scopes := range append(subsets("s1", "s2"), []any{"mcp:all"}, []any{"s1", "mcp:tools.read"}, []any{"s2", "mcp:all"}, []any{"s1", "s2", "mcp:all"}, []any{"s1", "mcp:all"}) {
			for _, teams := range append(subsets("t1", "t2"), []any{"t3"}) {
				for _, sub := range []string{"ann", "bob"} {
					all = append(all, map[string]any{"groups": groups, "scope": scopes, "teams": teams, "sub": sub})
				}
			}
		}
	}
	return all
}()

var objects = func() map[string][]policy.Region {
	names := []string{"p/q", "p/p", "ppp", "qpz", "z/p", "zpq"}
	for _, a := range []string{"", "p", "q", "/", "z"} {
		for _, b := range []string{"p", "q", "/", "z"} {
			names = append(names, a+b)
		}
	}
	all := make(map[string][]policy.Region)
	for _, name := range names {
		all["tools"] = append(all["tools"], policy.Region{Kind: policy.KindName, Object: name})
	}
	all["prompts"] = all["tools"]
	for _, uri := range []string{"x:/p/q", "x:/p/z", "x:/z", "x:/p", "x:/p/../z"} {
		all["resources"] = append(all["resources"], policy.Region{Kind: policy.KindURI, Object: uri})
	}
	return all
}()
