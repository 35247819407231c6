package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// teams gives a configuration teams, and objects that are for some.
func (g generator) teams(c *Config) {
	c.Teams, c.Visibility = map[string][]string{}, map[string]Audience{}
	owned := func() string {
		if g.Intn(3) == 0 {
			return g.pick("a", "b", "ab", "a/**")
		}
		return g.estate()
	}
	for _, team := range []string{"s", "t", "u"} {
		if g.Intn(4) == 0 {
			continue
		}
		for range g.Intn(4) + 1 {
			c.Teams[team] = append(c.Teams[team], owned())
		}
	}
	for range g.Intn(4) {
		c.Visibility[g.estate()] = g.audience()
	}
	// What belongs to whom it is for.
	for pattern, audience := range c.Visibility {
		if audience.Team != "" && g.Intn(2) == 0 {
			c.Teams[audience.Team] = append(c.Teams[audience.Team], pattern)
		}
	}
	ids := slices.Sorted(maps.Keys(c.Teams))
	for i := range c.Roles {
		r := &c.Roles[i]
		if len(ids) == 0 || g.Intn(2) == 0 {
			continue
		}
		if g.Intn(3) == 0 {
			r.Teams = []string{"*"}
		} else {
			g.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			r.Teams = slices.Clone(ids[:g.Intn(len(ids))+1])
		}
		if g.Intn(2) == 0 {
			r.Allow = append(r.Allow, Grant{Permission: g.pick("*", "tools.execute", "resources.read", "completions.use")})
		}
		if g.Intn(4) > 0 {
			r.Deny = append(r.Deny, g.deny())
		}
		// Without what is refused, because it would never count.
		for _, grants := range []*[]Grant{&r.Allow, &r.Deny} {
			*grants = slices.DeleteFunc(*grants, func(grant Grant) bool {
				return slices.ContainsFunc(grant.Objects, func(o string) bool { return !naiveReaches(*c, r.Teams, o) })
			})
		}
	}
}

// estate makes objects of one server.
func (g generator) estate() string {
	o := g.pick("a", "a", "b", "ab", "a-b") + "/"
	switch g.Intn(5) {
	case 0:
		return o + g.pick("a", "b", "ab", "x:", "x:/a", "x:/", "X:/a/", "x:/a/b", "x:{a}")
	case 1, 2:
		return o + "x:" + g.join(3, "a", "b", "/a", "/b", "/", "*", "?", "#") + g.pick("", "/", "*", "**")
	}
	return o + g.join(3, "a", "b", "_", "/", "a", `\*`) + g.pick("", "*", "**", "*a")
}

func (g generator) audience() Audience {
	if g.Intn(3) == 0 {
		return Audience{Owner: g.pick("o", "p")}
	}
	return Audience{Team: g.pick("s", "t", "u", "v")}
}

// sees makes a principal: of some teams, of all or of none, and somebody.
func (g generator) sees() func(Audience) bool {
	teams := map[string]bool{}
	for _, team := range []string{"s", "t", "u", "v"} {
		teams[team] = g.Intn(2) == 0
	}
	who := g.pick("o", "p", "q")
	switch g.Intn(8) {
	case 0:
		return func(a Audience) bool { return a.Team != "" || a.Owner == who }
	case 1:
		return func(Audience) bool { return false }
	}
	return func(a Audience) bool { return a.Team != "" && teams[a.Team] || a.Owner != "" && a.Owner == who }
}

// naiveReaches reports whether a grant's object is on a server of which something
// belongs to one of the teams.
func naiveReaches(c Config, teams []string, object string) bool {
	pattern, _, _ := strings.Cut(object, "/")
	for team, owned := range c.Teams {
		for _, o := range owned {
			server, _, _ := strings.Cut(o, "/")
			if (slices.Contains(teams, team) || slices.Contains(teams, "*")) && naiveServer(pattern, server) {
				return true
			}
		}
	}
	return false
}

// clone copies a configuration as deep as the tests change it.
func (c Config) clone() Config {
	c.Roles, c.Teams, c.Visibility = slices.Clone(c.Roles), maps.Clone(c.Teams), maps.Clone(c.Visibility)
	return c
}

func TestOrderOfTeamsDoesNotMatter(t *testing.T) {
	configsFrom(t, withTeams, 500, func(g generator, config Config, p *Policy) {
		other := config.clone()
		other.Roles = shuffled(g, config.Roles)
		for i := range other.Roles {
			r := &other.Roles[i]
			r.Teams = slices.Clone(r.Teams)
			g.Shuffle(len(r.Teams), func(i, j int) { r.Teams[i], r.Teams[j] = r.Teams[j], r.Teams[i] })
		}
		for team, owned := range other.Teams {
			owned = slices.Clone(owned)
			g.Shuffle(len(owned), func(i, j int) { owned[i], owned[j] = owned[j], owned[i] })
			other.Teams[team] = owned
		}
		q, err := other.Compile()
		if err != nil {
			t.Fatal(err)
		}
		has, scopes, sees := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values(), g.sees()
		rs, rsq := p.RolesOf(has, scopes, sees), q.RolesOf(has, scopes, sees)
		if !slices.Equal(p.RoleNames(rs), q.RoleNames(rsq)) {
			t.Errorf("roles %v and %v", p.RoleNames(rs), q.RoleNames(rsq))
		}
		for range 200 {
			a := g.question()
			x, y := p.Judge(rs, a.question()), q.Judge(rsq, a.question())
			if x.Reason != y.Reason || x.Team != y.Team || x.Hidden != y.Hidden ||
				p.AllowsAll(rs, a.perm, a.server) != q.AllowsAll(rsq, a.perm, a.server) ||
				p.AllowsSome(rs, a.perm, a.server) != q.AllowsSome(rsq, a.perm, a.server) ||
				!slices.Equal(p.ScopesForQuestion(has, scopes, sees, a.question()), q.ScopesForQuestion(has, scopes, sees, a.question())) {
				t.Errorf("another order, another answer: %v: %v, %v", a, x, y)
			}
		}
	})
}

// holding checks that the roles which hold for what is asked are the right ones, all
// of them, whether they decide or not.
func holding(t *testing.T, n naive, p *Policy, rs RoleSet, a asked) {
	t.Helper()
	for _, deny := range []bool{false, true} {
		asked := a.question()
		q, ok := p.newQuestion(rs, &asked)
		if !ok || q.view == nil || q.view.teams == nil {
			return
		}
		q.enter(deny)
		var want []string
		for _, r := range n.Roles {
			if _, holds := n.holdsFor(r.Name, a, deny); holds && n.has[r.Name] {
				want = append(want, r.Name)
			}
		}
		if got := p.namesOf(q.roles()); !slices.Equal(got, want) {
			t.Errorf("%v on %v: roles %v, want %v (denying: %v)", a, a.perm, got, want, deny)
		}
	}
}

// Less of anything never allows more: without a team, an object of a team, a team of
// a role, a role or a grant.
func TestRemovingTeamsNeverAllowsMore(t *testing.T) {
	changed := map[string]int{}
	configsFrom(t, withTeams, 3000, func(g generator, config Config, _ *Policy) {
		config = config.clone()
		for i := range config.Roles {
			// Without a role or a team there is also less that it denies.
			config.Roles[i].Deny, config.Roles[i].Extends = nil, nil
		}
		more, err := config.Compile()
		if err != nil {
			t.Fatal(err)
		}
		less := config.clone()
		sees := g.sees()
		fewer := sees
		without := g.pick("the principal's team", "the team's object", "the role's team", "the role", "the grant")
		team, i := g.pick("s", "t", "u"), g.Intn(len(less.Roles))
		r := &less.Roles[i]
		switch without {
		case "the principal's team":
			fewer = func(a Audience) bool { return a.Team != team && sees(a) }
		case "the team's object":
			if owned := less.Teams[team]; len(owned) > 1 {
				less.Teams[team] = owned[1:]
			}
		case "the role's team":
			if len(r.Teams) > 1 {
				r.Teams = r.Teams[1:]
			}
		case "the role":
			less.Roles = slices.Delete(less.Roles, i, i+1)
		case "the grant":
			r.Allow = r.Allow[:len(r.Allow)/2]
		}
		p, err := less.Compile()
		if err != nil {
			return // something would never count
		}
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		changed[without] += neverMore(t, g, p, more, p.RolesOf(has, scopes, fewer), more.RolesOf(has, scopes, sees))
	})
	for without, count := range changed {
		if count < 20 {
			t.Errorf("without %s only %d questions have another answer", without, count)
		}
	}
}

// Neither does more that is denied or hidden.
func TestNarrowingNeverAllowsMore(t *testing.T) {
	changed := map[string]int{}
	configsFrom(t, withTeams, 1500, func(g generator, config Config, more *Policy) {
		less := config.clone()
		sees := g.sees()
		fewer := sees
		with := g.pick("a deny", "a deny in teams", "an entry", "another audience", "a principal who sees less")
		r := &less.Roles[g.Intn(len(less.Roles))]
		pattern := g.estate()
		switch with {
		case "a deny":
			r.Deny = append(slices.Clone(r.Deny), g.deny())
		case "a deny in teams":
			if len(less.Teams) > 0 {
				less.Roles = append(less.Roles, Role{Name: "z", Teams: []string{"*"}, Deny: []Grant{g.deny()}})
			}
		case "an entry":
			if less.Visibility[pattern] == (Audience{}) {
				less.Visibility[pattern] = g.audience()
			}
		case "another audience":
			// From everybody to some.
			config.Visibility = maps.Clone(config.Visibility)
			config.Visibility[pattern] = Audience{}
			less.Visibility[pattern] = g.audience()
			var err error
			if more, err = config.Compile(); err != nil {
				return // an exception from another entry
			}
		case "a principal who sees less":
			who := g.pick("s", "t", "o", "p")
			fewer = func(a Audience) bool { return a.Team != who && a.Owner != who && sees(a) }
			for i := range less.Roles {
				less.Roles[i].Deny, less.Roles[i].Extends = nil, nil
			}
			config.Roles = less.Roles
			var err error
			if more, err = config.Compile(); err != nil {
				t.Fatal(err)
			}
		}
		p, err := less.Compile()
		if err != nil {
			return // a glob that no URI matches, or a deny that would never count
		}
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		changed[with] += neverMore(t, g, p, more, p.RolesOf(has, scopes, fewer), more.RolesOf(has, scopes, sees))
	})
	for with, count := range changed {
		if count < 20 {
			t.Errorf("with %s only %d questions have another answer", with, count)
		}
	}
}

// What may be used is listed, and what is not listed may not be used: the filter of
// lists and the gate agree, with teams and hidden objects too.
func TestListsAgreeWithGate(t *testing.T) {
	used, hidden := 0, 0
	configsFrom(t, withTeams+20_000, 800, func(g generator, config Config, p *Policy) {
		has, scopes, sees := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values(), g.sees()
		rs := p.RolesOf(has, scopes, sees)
		for range 200 {
			q := g.question()
			listed := q
			switch q.perm {
			case mcp.ToolsExecute:
				q.kind, listed.perm = KindName, mcp.ToolsRead
			case mcp.PromptsExecute:
				q.kind, listed.perm = KindName, mcp.PromptsRead
			case mcp.ResourcesRead:
			default:
				continue
			}
			listed.kind = q.kind
			seen := p.Allows(rs, listed.perm, listed.server, listed.kind, listed.object)
			d := p.Judge(rs, q.question())
			if d.Allowed && !seen || q.perm == mcp.ResourcesRead && q.kind != KindNone && seen != d.Allowed || d.Reason == HiddenObject && seen {
				t.Errorf("%v: listed %v, and %v", q, seen, d)
			}
			if p.AllowsAll(rs, listed.perm, q.server) && !seen {
				t.Errorf("%v is not listed, but everything is", q)
			}
			if d.Allowed {
				used++
			}
			if d.Reason == HiddenObject {
				hidden++
			}
		}
	})
	if used < 5000 || hidden < 1000 {
		t.Errorf("only %d questions are about what may be used, %d about what is hidden", used, hidden)
	}
}

// The scopes that are proposed are those that trying finds, in teams too; none help
// with what is hidden.
func TestScopesForInTeams(t *testing.T) {
	helped, hidden := 0, 0
	configsFrom(t, withTeams, 1500, func(g generator, _ Config, p *Policy) {
		has, scopes, sees := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values(), g.sees()
		for range 20 {
			a := g.question()
			var want []string
			for _, add := range subsets("1", "2", "3") {
				if p.Judge(p.RolesOf(has, append(slices.Clone(scopes), add...), sees), a.question()).Allowed && (want == nil || p.isSmaller(add, want)) {
					want = add
				}
			}
			if got := p.ScopesForQuestion(has, scopes, sees, a.question()); !slices.Equal(got, want) {
				t.Errorf("with %v, %v needs %v, want %v", scopes, a, got, want)
			}
			if len(want) > 0 {
				helped++
			}
			if p.Judge(p.RolesOf(has, scopes, sees), a.question()).Reason == HiddenObject {
				hidden++
			}
		}
	})
	if helped < 300 || hidden < 300 {
		t.Errorf("scopes helped only %d times, and %d questions were about what is hidden", helped, hidden)
	}
}

// FuzzObjects compares what is hidden, and what belongs to a team, with the naive way.
func FuzzObjects(f *testing.F) {
	for _, seed := range [][2]string{
		{"file:///pub/**", "file:///Pub/../x"},
		{"delete_*", "file:///\u00e9"},
		{"li*", "list:%41"},
		{"*://h/*", "{a}"},
		{"db:{a}", "db:{a}"},
		{"x:a*b*c/**", "X:A/b%20cbc//"},
		{`\*`, "*"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(text) > 200 || len(pattern) > 200 || !isASCII(pattern) {
			return
		}
		object := "s/" + pattern
		config := Config{
			Roles: []Role{
				{Name: "all", Allow: []Grant{{Permission: "*"}}},
				{Name: "not", Teams: []string{"u"}, Deny: []Grant{{Permission: "*"}}},
				{Name: "some", When: []Condition{{"g", []string{"1"}}}, Teams: []string{"t"}, Allow: []Grant{{Permission: "*"}}},
			},
			Teams: map[string][]string{"t": {object}, "u": {object}}, Visibility: map[string]Audience{object: {Team: "v"}},
		}
		if pattern == "" || strings.Trim(pattern, "*") == "" && len(pattern) != 1 {
			return // the whole server
		}
		p, err := config.Compile()
		if err != nil {
			return
		}
		for _, teams := range [][]string{{}, {"v"}, {"u", "v"}, {"t", "v"}} {
			for _, without := range []string{"", "all"} {
				has := map[string][]string{"g": {"1"}}
				c := config
				c.Roles = slices.DeleteFunc(slices.Clone(config.Roles), func(r Role) bool { return r.Name == without })
				q := p
				if without != "" {
					if q, err = c.Compile(); err != nil {
						t.Fatal(err)
					}
				}
				rs, n := q.RolesOf(claims(has), nil, of(teams...)), newNaiveOf(c, has, nil, of(teams...))
				for perm, kinds := range map[mcp.Permission][]ObjectKind{mcp.ToolsRead: {KindName}, mcp.ResourcesRead: {KindURI, KindTemplate}} {
					for _, kind := range kinds {
						want := n.allows(perm, "s", kind, text)
						if got := q.Allows(rs, perm, "s", kind, text); got != want {
							t.Fatalf("%q, of %v, without %q: %v %q is %v, want %v", pattern, teams, without, perm, text, got, want)
						}
					}
				}
			}
		}
	})
}
