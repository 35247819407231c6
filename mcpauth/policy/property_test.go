package policy

import (
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// generator makes policies and questions from so small a vocabulary that they
// meet often.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.Intn(len(from))] }

// join makes up to n pieces.
func (g generator) join(n int, from ...string) string {
	var b strings.Builder
	for range g.Intn(n) + 1 {
		b.WriteString(g.pick(from...))
	}
	return b.String()
}

func (g generator) server() string {
	return g.pick("a", "b", "ab", "a-b", "ba", "", "a/b")
}

func (g generator) name() string {
	return g.join(5, "a", "b", "_", "/", "a", "b", "*")
}

func (g generator) uri() string {
	return g.pick("x://", "x:///", "x:", "") + g.join(6, "a", "b", "/", "/", ".", "..", "%2e", "%2f", "%25", "@", "?", "#", "{a}", "{+b}", "%41", "\\", "é", ";", "*")
}

func (g generator) object(perm string) string {
	server := g.pick("a", "b", "ab", "a-b", "*", "a*", "*b", "a*b", "**", "*a*", "a**")
	if g.Intn(5) == 0 {
		return server
	}
	switch strings.SplitN(perm, ".", 2)[0] {
	case "servers", "logging", "tasks", "client":
		return server + g.pick("", "/**")
	case "resources":
		if g.Intn(4) > 0 {
			return server + "/" + g.pick("x://", "x:///", "x:", "") + g.join(5, "a", "b", "/", "*", "**", "?", "#", "{a}", "{+b}", `\*`, "%41")
		}
	}
	return server + "/" + g.join(5, "a", "b", "_", "/", "*", "**", "*", `\*`)
}

func (g generator) roles() []Role {
	roles := make([]Role, g.Intn(6)+1)
	for i := range roles {
		r := &roles[i]
		r.Name = string(rune('a' + i))
		for range g.Intn(3) {
			c := Condition{g.pick("g", "h", "scope"), nil}
			for range g.Intn(2) + 1 {
				c.Values = append(c.Values, g.pick("1", "2", "3"))
			}
			r.When = append(r.When, c)
		}
		for range g.Intn(4) {
			grant := Grant{Permission: g.pick("*", g.permission().String(), "tools.execute", "tools.read", "resources.read", "completions.use")}
			for range g.Intn(4) {
				grant.Objects = append(grant.Objects, g.object(grant.Permission))
			}
			if grant.Objects == nil && g.Intn(4) > 0 {
				grant.Objects = []string{g.object(grant.Permission)}
			}
			r.Allow = append(r.Allow, grant)
		}
	}
	return roles
}

func (g generator) permission() mcp.Permission {
	return mcp.Permission(g.Intn(int(mcp.PermissionCount)-1) + 1)
}

func (g generator) values() []string {
	var values []string
	for range g.Intn(3) {
		values = append(values, g.pick("1", "2", "3"))
	}
	return values
}

type asked struct {
	perm   mcp.Permission
	server string
	kind   ObjectKind
	object string
}

func (g generator) question() asked {
	q := asked{g.permission(), g.server(), ObjectKind(g.Intn(4)), g.name()}
	if g.Intn(2) == 0 {
		q.perm = []mcp.Permission{mcp.ToolsRead, mcp.ToolsExecute, mcp.ResourcesRead, mcp.CompletionsUse}[g.Intn(4)]
	}
	if q.kind >= KindURI {
		q.object = g.uri()
	}
	return q
}

// policies calls f with many generated policies. One whose globs no URI matches
// is refused by Compile, and passed over; there must be few of these.
func policies(t *testing.T, count int, f func(g generator, roles []Role, p *Policy)) {
	t.Helper()
	refused := 0
	for seed := range int64(count) {
		g := generator{rand.New(rand.NewSource(seed))}
		roles := g.roles()
		p, err := Compile(roles)
		if err != nil {
			if !strings.Contains(err.Error(), "no URI matches") {
				t.Fatalf("seed %d: %v", seed, err)
			}
			refused++
			continue
		}
		f(g, roles, p)
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, roles)
		}
	}
	if refused > count/10 {
		t.Errorf("%d of %d policies refused", refused, count)
	}
}

func TestAgreesWithNaive(t *testing.T) {
	questions, allowed := 0, 0
	policies(t, 2500, func(g generator, roles []Role, p *Policy) {
		for range 4 {
			has := map[string][]string{"g": g.values(), "h": g.values()}
			scopes := g.values()
			rs := p.RolesOf(claims(has), scopes)
			n := newNaive(roles, has, scopes)
			for _, r := range roles {
				if n.has[r.Name] != slices.Contains(p.RoleNames(rs), r.Name) {
					t.Errorf("%v %v: role %s", has, scopes, r.Name)
				}
			}
			for range 25 {
				q := g.question()
				want := n.allows(q.perm, q.server, q.kind, q.object)
				if got := p.Allows(rs, q.perm, q.server, q.kind, q.object); got != want {
					t.Errorf("%v on %v %v: %v, want %v", p.RoleNames(rs), q, q.perm, got, want)
				}
				if got := p.AllowsServer(rs, q.server); got != n.allowsServer(q.server) {
					t.Errorf("%v on server %q: %v", p.RoleNames(rs), q.server, got)
				}
				if p.AllowsAll(rs, q.perm, q.server) && !want {
					t.Errorf("all of %v on %q, but not %q", q.perm, q.server, q.object)
				}
				if want && !p.AllowsSome(rs, q.perm, q.server) {
					t.Errorf("%v, but not some of %v on %q", q, q.perm, q.server)
				}
				questions++
				if want {
					allowed++
				}
			}
		}
	})
	if questions < 200_000 || allowed < questions/10 || allowed > questions*9/10 {
		t.Errorf("%d of %d questions are allowed: the generator asks too little", allowed, questions)
	}
}

// shuffled returns the roles in another order, at every level.
func shuffled(g generator, roles []Role) []Role {
	roles = slices.Clone(roles)
	g.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
	for i := range roles {
		r := &roles[i]
		r.When, r.Allow = slices.Clone(r.When), slices.Clone(r.Allow)
		g.Shuffle(len(r.When), func(i, j int) { r.When[i], r.When[j] = r.When[j], r.When[i] })
		g.Shuffle(len(r.Allow), func(i, j int) { r.Allow[i], r.Allow[j] = r.Allow[j], r.Allow[i] })
		for j := range r.Allow {
			o := slices.Clone(r.Allow[j].Objects)
			g.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
			r.Allow[j].Objects = o
		}
	}
	return roles
}

func TestOrderDoesNotMatter(t *testing.T) {
	policies(t, 500, func(g generator, roles []Role, p *Policy) {
		q := mustCompile(t, shuffled(g, roles)...)
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		rs, rsq := p.RolesOf(has, scopes), q.RolesOf(has, scopes)
		if !slices.Equal(p.RoleNames(rs), q.RoleNames(rsq)) {
			t.Errorf("roles %v and %v", p.RoleNames(rs), q.RoleNames(rsq))
		}
		for range 100 {
			a := g.question()
			if p.Allows(rs, a.perm, a.server, a.kind, a.object) != q.Allows(rsq, a.perm, a.server, a.kind, a.object) ||
				p.AllowsAll(rs, a.perm, a.server) != q.AllowsAll(rsq, a.perm, a.server) ||
				!slices.Equal(p.ScopesFor(has, scopes, a.perm, a.server, a.kind, a.object), q.ScopesFor(has, scopes, a.perm, a.server, a.kind, a.object)) {
				t.Errorf("another order, another answer: %v", a)
			}
		}
	})
}

func TestRemovingNeverAllowsMore(t *testing.T) {
	policies(t, 500, func(g generator, roles []Role, p *Policy) {
		less := slices.Clone(roles)
		i := g.Intn(len(less))
		if n := len(less[i].Allow); n > 0 && g.Intn(3) > 0 {
			j := g.Intn(n)
			less[i].Allow = slices.Delete(slices.Clone(less[i].Allow), j, j+1)
		} else {
			less = slices.Delete(less, i, i+1)
		}
		q := mustCompile(t, less...)
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		rs, rsq := p.RolesOf(has, scopes), q.RolesOf(has, scopes)
		for range 100 {
			a := g.question()
			if q.Allows(rsq, a.perm, a.server, a.kind, a.object) && !p.Allows(rs, a.perm, a.server, a.kind, a.object) {
				t.Errorf("allowed only without a grant: %v", a)
			}
		}
	})
}

// ScopesFor must agree with trying every set of scopes.
func TestScopesForAgreesWithTrying(t *testing.T) {
	helped := 0
	policies(t, 1000, func(g generator, roles []Role, p *Policy) {
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		for range 20 {
			a := g.question()
			var want []string
			for _, add := range [][]string{{}, {"1"}, {"2"}, {"3"}, {"1", "2"}, {"1", "3"}, {"2", "3"}, {"1", "2", "3"}} {
				if p.Allows(p.RolesOf(has, append(slices.Clone(scopes), add...)), a.perm, a.server, a.kind, a.object) {
					want = add
					break
				}
			}
			got := p.ScopesFor(has, scopes, a.perm, a.server, a.kind, a.object)
			if !slices.Equal(got, want) {
				t.Errorf("with %v, %v needs %v, want %v", scopes, a, got, want)
			}
			if len(want) > 0 {
				helped++
			}
		}
	})
	if helped < 500 {
		t.Errorf("scopes helped only %d times", helped)
	}
}

// The index must find exactly the globs that match, each of many at once.
func TestIndexAgreesWithNaive(t *testing.T) {
	matches := 0
	for seed := range int64(150) {
		g := generator{rand.New(rand.NewSource(seed))}
		patterns := map[string]bool{}
		for range 80 {
			pattern := g.pick("", "", "a", "ab") + g.pick("*", "**") + g.join(3, "a", "b", "ab", "/", "_", "*", "**") + g.pick("", "*", "**") + g.pick("", "", "b", "ba")
			patterns[pattern] = true
		}
		var index globIndex[string]
		for pattern := range patterns {
			*index.add(pattern, func() *glob { return newGlob(tokenize(pattern)) }) = pattern
		}
		for range 40 {
			text := g.join(20, "a", "b", "/", "_", "ab")
			found := map[string]bool{}
			c := index.find(text)
			for e := c.next(); e != nil; e = c.next() {
				if e.glob.matchInner(text) {
					found[e.value] = true
				}
			}
			for pattern := range patterns {
				if want := naiveMatch(pattern, text); want != found[pattern] {
					t.Errorf("seed %d: %q found for %q: %v, want %v", seed, pattern, text, found[pattern], want)
				} else if want {
					matches++
				}
			}
		}
	}
	if matches < 5_000 {
		t.Errorf("only %d matches", matches)
	}
}
