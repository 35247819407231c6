package policy

import (
	"fmt"
	"maps"
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
	if g.Intn(2) == 0 {
		return "x:" + g.join(4, "a", "b", "A", "/a", "/b", "/", "?a", "#b", "{a}", "%20", "/", "%7b", "/a.") + g.pick("", "/", "/a", "?a", "#a")
	}
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
			r.Allow = append(r.Allow, g.grant())
		}
		if g.Intn(3) == 0 {
			r.Deny = append(r.Deny, g.deny())
		}
		if i > 0 && g.Intn(6) == 0 {
			r.Extends = []string{string(rune('a' + g.Intn(i)))}
		}
	}
	return roles
}

func (g generator) grant() Grant {
	grant := Grant{Permission: g.pick("*", g.permission().String(), "tools.execute", "tools.execute", "tools.execute", "tools.read", "resources.read", "completions.use")}
	for range g.Intn(4) {
		grant.Objects = append(grant.Objects, g.object(grant.Permission))
	}
	if grant.Objects == nil && g.Intn(4) > 0 {
		grant.Objects = []string{g.object(grant.Permission)}
	}
	if strings.HasSuffix(grant.Permission, ".execute") && g.Intn(3) > 0 {
		grant.If = g.pick(slices.Sorted(maps.Keys(naiveConditions))...)
	}
	return grant
}

// deny makes a grant that is narrower, so that something is left.
func (g generator) deny() Grant {
	grant := g.grant()
	if grant.Objects == nil || g.Intn(5) > 0 {
		o := g.pick("a", "b", "a*", "*") + "/"
		switch permission := grant.Permission; {
		case strings.HasPrefix(permission, "resources.") || g.Intn(3) == 0:
			o += "x:" + g.join(4, "a", "b", "/a", "/", "*", "**", "A", "?", "#", "%20") + g.pick("", "/", "/*", "/**", "{a}")
		default:
			o += g.join(4, "a", "b", "_", "/", "*", "a", `\*`)
		}
		if perm, _ := mcp.ParsePermission(grant.Permission); isServerLevel(perm) {
			o = g.pick("a", "b", "a*")
		}
		grant.Objects = []string{o}
	}
	return grant
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
	// args are the arguments, or argsErr why there are none.
	args    map[string]any
	argsErr error
}

func (q *asked) question() Question {
	return Question{
		Permission: q.perm, Server: q.server, Kind: q.kind, Object: q.object, Client: "c",
		Arguments: func() (map[string]any, error) { return q.args, q.argsErr },
		Claims:    func() map[string]any { return map[string]any{"d": "a"} },
	}
}

// argsOf are the arguments of generated questions; none for an error.
var argsOf = []map[string]any{
	{}, {"x": "a"}, {"x": "b", "n": 1.0}, {"x": "a", "n": 7.0}, {"x": 1.0, "n": 4.5}, {"x": []any{"a"}}, {"x": nil, "n": "1"}, nil,
}

func (g generator) question() asked {
	q := asked{perm: g.permission(), server: g.server(), kind: ObjectKind(g.Intn(4)), object: g.name(), args: argsOf[g.Intn(len(argsOf))]}
	if q.args == nil {
		q.argsErr = errNaive
	}
	if g.Intn(2) == 0 {
		q.perm = []mcp.Permission{mcp.ToolsRead, mcp.ToolsExecute, mcp.ResourcesRead, mcp.CompletionsUse}[g.Intn(4)]
	}
	if g.Intn(4) == 0 {
		q.perm, q.kind, q.server = mcp.ToolsExecute, KindName, g.pick("a", "b", "ab")
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
	policiesFrom(t, 0, count, f)
}

func policiesFrom(t *testing.T, first int64, count int, f func(g generator, roles []Role, p *Policy)) {
	t.Helper()
	configsFrom(t, first, count, func(g generator, config Config, p *Policy) { f(g, config.Roles, p) })
}

// withTeams is the seed from which on configurations have teams and hidden objects.
const withTeams = 1_000_000

func configsFrom(t *testing.T, first int64, count int, f func(g generator, config Config, p *Policy)) {
	t.Helper()
	refused := 0
	for seed := first; seed < first+int64(count); seed++ {
		g := generator{rand.New(rand.NewSource(seed))}
		config := Config{Roles: g.roles()}
		if seed >= withTeams {
			g.teams(&config)
		}
		p, err := config.Compile()
		if err != nil {
			if !strings.Contains(err.Error(), "no URI ") {
				t.Fatalf("seed %d: %v: %+v", seed, err, config)
			}
			refused++
			continue
		}
		f(g, config, p)
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, config)
		}
	}
	if refused > count/10 {
		t.Errorf("%d of %d policies refused", refused, count)
	}
}

func TestAgreesWithNaive(t *testing.T) {
	for _, first := range []int64{0, withTeams, withTeams + 10_000} {
		t.Run(fmt.Sprint("from ", first), func(t *testing.T) {
			t.Parallel()
			agreesWithNaive(t, first)
		})
	}
}

func agreesWithNaive(t *testing.T, first int64) {
	t.Helper()
	questions, allowed, denied, evaluated, hidden, inTeam := 0, 0, 0, 0, 0, 0
	configsFrom(t, first, 1450, func(g generator, config Config, p *Policy) {
		for range 4 {
			has := map[string][]string{"g": g.values(), "h": g.values()}
			scopes, sees := g.values(), g.sees()
			rs := p.RolesOf(claims(has), scopes, sees)
			n := newNaiveOf(config, has, scopes, sees)
			for _, r := range config.Roles {
				if n.has[r.Name] != slices.Contains(p.RoleNames(rs), r.Name) {
					t.Errorf("%v %v: role %s", has, scopes, r.Name)
				}
				for _, server := range []string{"a", "b"} {
					_, holds := n.holdsFor(r.Name, asked{perm: mcp.LoggingWrite, server: server}, false)
					if (n.has[r.Name] && holds) != slices.Contains(p.RoleNamesOn(rs, server), r.Name) {
						t.Errorf("%v %v: role %s on %s", has, scopes, r.Name, server)
					}
				}
			}
			for i := range 100 {
				q := g.question()
				want := n.judge(q)
				d := p.Judge(rs, q.question())
				if d.Allowed != want || d.Allowed != (d.Reason == Granted) {
					t.Errorf("%v on %v %v: %v, want %v", p.RoleNames(rs), q, q.perm, d, want)
				}
				if i%4 == 0 || !d.Allowed {
					explains(t, n, q, d)
				}
				if i%4 == 1 {
					holding(t, n, p, rs, q)
				}
				always := want
				if i%4 == 0 || q.perm == mcp.ToolsExecute || q.perm == mcp.PromptsExecute {
					always = n.allows(q.perm, q.server, q.kind, q.object)
				}
				if got := p.Allows(rs, q.perm, q.server, q.kind, q.object); got != always || always && !want {
					t.Errorf("%v on %v %v without arguments: %v, want %v", p.RoleNames(rs), q, q.perm, got, always)
				}
				if server := p.AllowsServer(rs, q.server); !server && want || i%4 == 0 && server != n.allowsServer(q.server) {
					t.Errorf("%v on server %q: %v", p.RoleNames(rs), q.server, server)
				}
				if p.AllowsAll(rs, q.perm, q.server) && !want {
					t.Errorf("all of %v on %q, but not %q", q.perm, q.server, q.object)
				}
				if want && !p.AllowsSome(rs, q.perm, q.server) {
					t.Errorf("%v, but not some of %v on %q", q, q.perm, q.server)
				}
				questions++
				switch {
				case want:
					allowed++
				case d.Reason == Denied:
					denied++
				case d.Reason == HiddenObject:
					hidden++
				}
				if d.Team != "" {
					inTeam++
				}
				if want != always || d.Err != nil || d.Reason == ConditionFalse {
					evaluated++
				}
			}
		}
	})
	if questions < 500_000 || allowed < questions/10 || denied < questions/40 || evaluated < questions/100 ||
		first >= withTeams && (hidden < questions/50 || inTeam < questions/50) {
		t.Errorf("of %d questions %d are allowed, %d denied, %d evaluated, %d about what is hidden, %d decided in a team: the generator asks too little",
			questions, allowed, denied, evaluated, hidden, inTeam)
	}
}

// explains checks that the rule named is of a role that, alone, gives the answer
// it is named for.
func explains(t *testing.T, n naive, q asked, d Decision) {
	t.Helper()
	if d.Rule == nil {
		if d.Reason != NoRule && d.Reason != HiddenObject || (d.Reason == HiddenObject) != n.hides(q) ||
			d.Reason == HiddenObject && n.sees(n.Visibility[d.Hidden]) {
			t.Errorf("%v: %v", q, d)
		}
		return
	}
	alone := n
	alone.has = map[string]bool{d.Rule.Role: true}
	if team, ok := n.holdsFor(d.Rule.Role, q, d.Rule.Deny); !ok || team != d.Team {
		t.Errorf("%v: team %q, want %q", q, d.Team, team)
	}
	holds := func(condition string) (bool, error) { return naiveConditions[condition](q) }
	sometimes := func(string) (bool, error) { return true, nil }
	if q.kind == KindNone {
		holds = sometimes
	}
	ok := n.has[d.Rule.Role]
	switch d.Reason {
	case Granted:
		ok = ok && !d.Rule.Deny && alone.grantsIt(q, holds)
	case Denied:
		ok = ok && d.Rule.Deny && alone.denies(q, holds)
	case ConditionFalse, ConditionFailed:
		ok = ok && !d.Rule.Deny && alone.grantsIt(q, sometimes) && !alone.grantsIt(q, holds)
	default:
		ok = false
	}
	if !ok {
		t.Errorf("%v is not explained by %+v", q, d)
	}
}

// shuffled returns the roles in another order, at every level.
func shuffled(g generator, roles []Role) []Role {
	roles = slices.Clone(roles)
	g.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
	for i := range roles {
		r := &roles[i]
		r.When, r.Extends = slices.Clone(r.When), slices.Clone(r.Extends)
		g.Shuffle(len(r.Extends), func(i, j int) { r.Extends[i], r.Extends[j] = r.Extends[j], r.Extends[i] })
		g.Shuffle(len(r.When), func(i, j int) { r.When[i], r.When[j] = r.When[j], r.When[i] })
		for _, grants := range []*[]Grant{&r.Allow, &r.Deny} {
			list := slices.Clone(*grants)
			g.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			for j := range list {
				o := slices.Clone(list[j].Objects)
				g.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
				list[j].Objects = o
			}
			*grants = list
		}
	}
	return roles
}

func TestOrderDoesNotMatter(t *testing.T) {
	policies(t, 500, func(g generator, roles []Role, p *Policy) {
		q := mustCompile(t, shuffled(g, roles)...)
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		rs, rsq := p.RolesOf(has, scopes, nil), q.RolesOf(has, scopes, nil)
		if !slices.Equal(p.RoleNames(rs), q.RoleNames(rsq)) {
			t.Errorf("roles %v and %v", p.RoleNames(rs), q.RoleNames(rsq))
		}
		for range 100 {
			a := g.question()
			if p.Allows(rs, a.perm, a.server, a.kind, a.object) != q.Allows(rsq, a.perm, a.server, a.kind, a.object) ||
				p.AllowsAll(rs, a.perm, a.server) != q.AllowsAll(rsq, a.perm, a.server) ||
				p.Judge(rs, a.question()).Reason != q.Judge(rsq, a.question()).Reason ||
				!slices.Equal(p.ScopesFor(has, scopes, nil, a.perm, a.server, a.kind, a.object), q.ScopesFor(has, scopes, nil, a.perm, a.server, a.kind, a.object)) {
				t.Errorf("another order, another answer: %v", a)
			}
		}
	})
}

func TestRemovingNeverAllowsMore(t *testing.T) {
	policies(t, 500, func(g generator, roles []Role, _ *Policy) {
		// Without a role there is also less that it denies.
		for i := range roles {
			roles[i].Deny, roles[i].Extends = nil, nil
		}
		p := mustCompile(t, roles...)
		less := slices.Clone(roles)
		i := g.Intn(len(less))
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		fewer := scopes
		if n := len(less[i].Allow); n > 0 && g.Intn(3) > 0 {
			j := g.Intn(n)
			less[i].Allow = slices.Delete(slices.Clone(less[i].Allow), j, j+1)
		} else if g.Intn(2) == 0 || len(scopes) == 0 {
			less = slices.Delete(less, i, i+1)
		} else {
			fewer = scopes[1:]
		}
		q := mustCompile(t, less...)
		neverMore(t, g, q, p, q.RolesOf(has, fewer, nil), p.RolesOf(has, scopes, nil))
	})
}

func TestDenyingNeverAllowsMore(t *testing.T) {
	changed := 0
	policies(t, 800, func(g generator, roles []Role, p *Policy) {
		more := slices.Clone(roles)
		i := g.Intn(len(more))
		more[i].Deny = append(slices.Clone(more[i].Deny), g.deny())
		q, err := Compile(more)
		if err != nil {
			return // a glob that no URI matches
		}
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		changed += neverMore(t, g, q, p, q.RolesOf(has, scopes, nil), p.RolesOf(has, scopes, nil))
	})
	if changed < 500 {
		t.Errorf("only %d questions have another answer", changed)
	}
}

// neverMore checks that the first policy, with the first set, never allows what the
// second does not, and returns how often it allows less.
func neverMore(t *testing.T, g generator, less, more *Policy, a, b RoleSet) (changed int) {
	t.Helper()
	for range 100 {
		q := g.question()
		x, y := less.Judge(a, q.question()), more.Judge(b, q.question())
		if x.Allowed && !y.Allowed ||
			less.Allows(a, q.perm, q.server, q.kind, q.object) && !more.Allows(b, q.perm, q.server, q.kind, q.object) ||
			less.AllowsAll(a, q.perm, q.server) && !more.AllowsAll(b, q.perm, q.server) ||
			less.AllowsSome(a, q.perm, q.server) && !more.AllowsSome(b, q.perm, q.server) ||
			less.AllowsServer(a, q.server) && !more.AllowsServer(b, q.server) {
			t.Errorf("allowed only with less: %v: %v, %v", q, x, y)
		}
		if x.Allowed != y.Allowed {
			changed++
		}
	}
	return changed
}

// ScopesFor must agree with trying every set of scopes.
func TestScopesForAgreesWithTrying(t *testing.T) {
	helped := 0
	policies(t, 1000, func(g generator, roles []Role, p *Policy) {
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		for range 20 {
			a := g.question()
			smallest := func(allowed func(rs RoleSet) bool) (found []string) {
				for _, add := range subsets("1", "2", "3") {
					if allowed(p.RolesOf(has, append(slices.Clone(scopes), add...), nil)) && (found == nil || p.isSmaller(add, found)) {
						found = add
					}
				}
				return found
			}
			want := smallest(func(rs RoleSet) bool { return p.Allows(rs, a.perm, a.server, a.kind, a.object) })
			judged := smallest(func(rs RoleSet) bool { return p.Judge(rs, a.question()).Allowed })
			if got := p.ScopesForQuestion(has, scopes, nil, a.question()); !slices.Equal(got, judged) {
				t.Errorf("with %v, judging %v needs %v, want %v", scopes, a, got, judged)
			}
			got := p.ScopesFor(has, scopes, nil, a.perm, a.server, a.kind, a.object)
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
