package compare

import (
	"encoding/json"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

const testIssuer = "https://login.example.com"

// config is a configuration of one gateway, with what change says otherwise.
func config(change map[string]any) map[string]any {
	auth := map[string]any{
		"handler": "mcp_auth", "public_url": "https://mcp.example.com", "servers": []string{"a"},
		"issuers": []any{map[string]any{"issuer": testIssuer}},
	}
	maps.Copy(auth, change)
	return auth
}

// load loads a configuration with these handlers.
func load(t testing.TB, handlers ...map[string]any) *gateways.Set {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apps": map[string]any{"http": map[string]any{"servers": map[string]any{
		"s": map[string]any{"routes": []any{map[string]any{"handle": handlers}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := gateways.Load(file, gateways.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

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

func inquire(t *testing.T, h *mcpauth.Handler, claims map[string]any) *mcpauth.Inquiry {
	t.Helper()
	i, err := h.InquireClaims(claims, "a", mcpauth.Circumstances{Now: time.Now()})
	if err != nil || i.Refused() != "" {
		t.Fatalf("%v: %v %s", claims, err, i.Refused())
	}
	return i
}

func statusOf(i *mcpauth.Inquiry, perm mcp.Permission, o policy.Region) string {
	outlook, _ := i.Outlook(perm, o.Kind, o.Object)
	return status(outlook)
}

// covers reports whether a change is one of somebody with these claims, and of that
// permission and object.
func covers(c Change, claims map[string]any, perm mcp.Permission, object string) bool {
	changed, _ := mcp.ParsePermission(c.Permission)
	if c.Permission != "*" && changed != perm && changed.Implies() != perm && perm != mcp.ServersUse {
		return false
	}
	for said := range strings.FieldsSeq(strings.TrimPrefix(c.Who, "anybody")) {
		claim, values, _ := strings.Cut(said, "=")
		has, ok := claims[claim].([]any)
		if !ok {
			has = []any{claims[claim]}
		}
		// These stand for scopes that give the permission, and for any team.
		if values != everything && values != "any" && !slices.ContainsFunc(strings.Split(values, "|"), func(value string) bool { return slices.Contains(has, any(value)) }) {
			return false
		}
	}
	return perm == mcp.ServersUse || c.Object == "" || stands(c.Object, object)
}

// stands reports whether a pattern of the generator stands for an object.
func stands(pattern, object string) bool {
	p, err := policy.Compile([]policy.Role{{Name: "r", Allow: []policy.Grant{{Permission: "*", Objects: []string{"a/" + pattern}}}}})
	if err != nil {
		return false
	}
	rs := p.RolesOf(nil, nil, nil)
	kind, perm := policy.KindName, mcp.ToolsRead
	if strings.HasPrefix(object, "x:") {
		kind, perm = policy.KindURI, mcp.ResourcesRead
	}
	if p.Allows(rs, perm, "a", kind, object) {
		return true
	}
	// A deny takes a little more of URIs.
	return kind == policy.KindURI && (strings.Contains(object, "..") || p.Allows(rs, perm, "a", kind, object+"/"))
}

// compared are the issuers of principals that are compared: what both have, or what the
// one has with what the other has instead.
func compared(handlers [2]*mcpauth.Handler) (both [][2]string) {
	older, newer := handlers[0].Sources(), handlers[1].Sources()
	for _, name := range older {
		if slices.Contains(newer, name) {
			both = append(both, [2]string{name, name})
		}
	}
	if both == nil && len(older) == 1 && len(newer) == 1 {
		both = append(both, [2]string{older[0], newer[0]})
	}
	return both
}

func from(issuer string, claims map[string]any) map[string]any {
	all := maps.Clone(claims)
	all["iss"] = issuer
	return all
}

// TestComparesWithEverybody asks both configurations of everybody and everything: there
// must be a change for each difference, and every change must be a difference.
func TestComparesWithEverybody(t *testing.T) {
	different, changes, found := 0, 0, make(map[Kind]int)
	hides, inTeams, vouched := 0, 0, 0
	const pairs, people = 120, 24
	for seed := range pairs {
		g := generator{rand.New(rand.NewSource(int64(seed)))}
		pair := g.pair()
		sets := [2]*gateways.Set{load(t, pair[0]), load(t, pair[1])}
		r, err := Configurations(sets[0], sets[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		handlers := [2]*mcpauth.Handler{sets[0].All()[0], sets[1].All()[0]}
		differs := false
		asked := compared(handlers)
		for _, n := range g.Perm(len(everybody))[:people*min(len(asked), 1)] {
			issuers := asked[g.Intn(len(asked))]
			claims := from(issuers[1], everybody[n])
			older, newer := inquire(t, handlers[0], from(issuers[0], claims)), inquire(t, handlers[1], claims)
			for _, perm := range mcp.Permissions() {
				asked := objects[category(perm.String())]
				if asked == nil {
					asked = []policy.Region{{}}
				}
				for _, o := range asked {
					before, after := statusOf(older, perm, o), statusOf(newer, perm, o)
					if before == after || category(perm.String()) == "completions" {
						continue
					}
					differs = true
					if !slices.ContainsFunc(r.Changes, func(c Change) bool { return covers(c, claims, perm, o.Object) }) {
						t.Errorf("seed %d: %v: %s %s is %q, then %q, and no change says so", seed, claims, perm, o.Object, before, after)
					}
				}
			}
		}
		for _, c := range r.Changes {
			found[c.Kind]++
			changes++
			if c.Hides != nil {
				hides++
			}
			for _, rule := range []*mcpauth.WrittenRule{c.Old, c.New} {
				if rule != nil && rule.Teams != nil {
					inTeams++
				}
			}
			if len(handlers[1].Sources()) == 1 && handlers[1].TrustedHeader != nil || c.Claims["iss"] == "trusted_header" {
				vouched++
			}
			perm, _ := mcp.ParsePermission(c.Permission)
			if c.Permission == "*" {
				after := inquire(t, handlers[1], c.Claims)
				for _, perm := range mcp.Permissions() {
					for _, o := range append(objects[category(perm.String())], policy.Region{}) {
						if c.Object != "" && (o.Kind == policy.KindNone || strings.Contains(o.Object, "..") || !stands(c.Object, o.Object)) {
							continue
						}
						if now := statusOf(after, perm, o) != ""; o.Kind != policy.KindNone && now != (c.Kind == Gained) {
							t.Errorf("seed %d: %+v: not %s of %s", seed, c, perm, o.Object)
						}
					}
				}
				continue
			}
			o := policy.Region{Object: c.Example}
			if all := kinds[category(c.Permission)]; all != nil {
				o.Kind = all[0]
			}
			older, newer := inquire(t, handlers[0], c.Claims), inquire(t, handlers[1], c.Claims)
			before, after := statusOf(older, perm, o), statusOf(newer, perm, o)
			if o.Kind == policy.KindName && before == after && category(c.Permission) == "completions" {
				o.Kind = policy.KindURI // the example does not say which
				before, after = statusOf(older, perm, o), statusOf(newer, perm, o)
			}
			want := Changed
			switch {
			case before == "":
				want = Gained
			case after == "":
				want = Lost
			}
			if before == after || c.Kind != want {
				t.Errorf("seed %d: %+v: is %q, then %q", seed, c, before, after)
			}
			for _, o := range objects[category(perm.String())] {
				now := statusOf(newer, perm, o) != ""
				if !c.Partly && o.Kind == policy.KindName && (c.Object == "" || stands(c.Object, o.Object)) && (c.Kind == Gained && !now || c.Kind == Lost && now) {
					t.Errorf("seed %d: %+v: not of %s", seed, c, o.Object)
				}
			}
		}
		if differs {
			different++
		}
		if t.Failed() {
			a, _ := json.Marshal(pair)
			b, _ := json.Marshal(r)
			t.Fatalf("%s\n%s", a, b)
		}
	}
	t.Logf("%d of %d pairs differ, by %d changes: %v; by %d something is hidden, %d are of rules in teams, %d of principals without a token",
		different, pairs, changes, found, hides, inTeams, vouched)
	if different < pairs/4 || different > pairs*9/10 || found[Gained] < 30 || found[Lost] < 30 || found[Changed] < 10 ||
		hides < 20 || inTeams < 20 || vouched < 20 {
		t.Error("the generator makes too little that differs, or too much")
	}
}
