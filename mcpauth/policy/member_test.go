package policy

import (
	"maps"
	"slices"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// member is a principal of whom more is true in some teams, judged in the naive way.
type member struct {
	naive
	// inTeams are the same principal as if what is true in a team were true everywhere.
	inTeams map[string]naive
}

// at is the principal as it is for what is asked: what belongs to a team has the roles
// that are had there.
func (m member) at(q asked, deny bool) naive {
	n := m.naive
	n.has = map[string]bool{}
	maps.Copy(n.has, m.has)
	for team, there := range m.inTeams {
		owns := slices.ContainsFunc(m.Teams[team], func(o string) bool {
			return deny && naiveDenies("*", o, q, true) || !deny && n.allowsObject("*", o, q)
		})
		if !m.sees(Audience{Team: team}) || !owns {
			continue
		}
		for role, has := range there.has {
			n.has[role] = n.has[role] || has
		}
	}
	return n
}

func (m member) judge(q asked) bool {
	holds := func(condition string) (bool, error) { return naiveConditions[condition](q) }
	if q.kind == KindNone {
		return !m.hides(q) && m.at(q, false).grantsIt(q, func(string) (bool, error) { return false, nil }) &&
			!m.at(q, true).denies(q, func(string) (bool, error) { return true, nil })
	}
	return !m.hides(q) && m.at(q, false).grantsIt(q, holds) && !m.at(q, true).denies(q, holds)
}

// TestMembersAgreeWithNaive: a role that is had in a team counts for what belongs to it,
// and for nothing else.
func TestMembersAgreeWithNaive(t *testing.T) {
	questions, allowed, denied, more, fewer := 0, 0, 0, 0, 0
	configsFrom(t, withTeams+30_000, 500, func(g generator, config Config, p *Policy) {
		for range 3 {
			has := map[string][]string{"h": g.values()}
			scopes, sees := g.values(), g.sees()
			m := member{newNaiveOf(config, has, scopes, sees), map[string]naive{}}
			inTeams := map[string]func(string) []string{}
			for _, team := range []string{"s", "t", "u", "w"} {
				if g.Intn(3) == 0 {
					continue
				}
				there := map[string][]string{"g": append(g.values(), g.values()...), "h": append(g.values(), has["h"]...)}
				inTeams[team], m.inTeams[team] = claims(there), newNaiveOf(config, there, scopes, sees)
			}
			rs, plain := p.RolesOfMember(claims(has), inTeams, scopes, sees), p.RolesOf(claims(has), scopes, sees)
			for range 100 {
				q := g.question()
				want := m.judge(q)
				d := p.Judge(rs, q.question())
				if d.Allowed != want {
					t.Errorf("%v on %v %v: %v, want %v", p.RoleNames(rs), q, q.perm, d, want)
				}
				if d.Rule != nil && !slices.Contains(p.RoleNames(rs), d.Rule.Role) {
					t.Errorf("%v: decided by %s, which is none of %v", q, d.Rule.Role, p.RoleNames(rs))
				}
				if d.Rule != nil && d.Team == "" && !m.has[d.Rule.Role] {
					t.Errorf("%v: %s is not had everywhere", q, d.Rule.Role)
				}
				if p.AllowsAll(rs, q.perm, q.server) && !want || want && !p.AllowsSome(rs, q.perm, q.server) || want && !p.AllowsServer(rs, q.server) {
					t.Errorf("%v: all and some of %v disagree", q, q.server)
				}
				questions++
				before := p.Judge(plain, q.question()).Allowed
				switch {
				case want && !before:
					more++
				case before && !want:
					fewer++
				}
				if want {
					allowed++
				} else if d.Reason == Denied {
					denied++
				}
			}
		}
	})
	if allowed < questions/10 || denied < questions/40 || more < questions/200 || fewer < questions/2000 {
		t.Errorf("of %d questions %d are allowed, %d denied; %d because of a team, and %d are not for that: the generator asks too little", questions, allowed, denied, more, fewer)
	}
}

// TestRolesOfMember: what one has in a team.
func TestRolesOfMember(t *testing.T) {
	role := func(name string, teams ...string) Role {
		return Role{Name: name, When: []Condition{{"roles", []string{name}}}, Teams: teams, Allow: []Grant{{Permission: "tools.execute"}}}
	}
	p, err := acme(role("everywhere"), role("anyTeam", "*"), role("salesOnly", "sales")).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		global, sales, support []string
		of                     []string
		allowed                []string
		names                  []string
	}{
		"everywhere":                       {global: []string{"everywhere"}, allowed: []string{"crm", "shared", "wiki"}, names: []string{"everywhere"}},
		"in the team":                      {sales: []string{"everywhere"}, of: []string{"sales"}, allowed: []string{"crm", "shared"}, names: []string{"everywhere"}},
		"in a team that one is not of":     {sales: []string{"everywhere"}, of: []string{"support"}},
		"in another team":                  {support: []string{"salesOnly"}, of: []string{"sales", "support"}, allowed: []string{"shared"}, names: []string{"salesOnly"}},
		"a role of teams, in one of them":  {sales: []string{"anyTeam"}, of: []string{"sales", "support"}, allowed: []string{"crm", "shared"}, names: []string{"anyTeam"}},
		"a role of teams, everywhere":      {global: []string{"anyTeam"}, of: []string{"sales"}, allowed: []string{"crm", "shared"}, names: []string{"anyTeam"}},
		"nothing":                          {of: []string{"sales"}},
		"a team that owns nothing matters": {global: []string{"everywhere"}, sales: nil, of: []string{"*"}, allowed: []string{"crm", "shared", "wiki"}, names: []string{"everywhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := map[string]func(string) []string{"none": claims(map[string][]string{"roles": {"everywhere"}})}
			if tc.sales != nil {
				in["sales"] = claims(map[string][]string{"roles": tc.sales})
			}
			if tc.support != nil {
				in["support"] = claims(map[string][]string{"roles": tc.support})
			}
			rs := p.RolesOfMember(claims(map[string][]string{"roles": tc.global}), in, nil, of(tc.of...))
			var allowed []string
			for _, server := range []string{"crm", "shared", "wiki"} {
				if p.AllowsAll(rs, mcp.ToolsExecute, server) {
					allowed = append(allowed, server)
				}
			}
			if !slices.Equal(allowed, tc.allowed) || !slices.Equal(p.RoleNames(rs), tc.names) || rs.IsEmpty() != (tc.names == nil) {
				t.Errorf("allowed on %v by %v, want %v by %v", allowed, p.RoleNames(rs), tc.allowed, tc.names)
			}
		})
	}
	if rs := (*Policy)(nil).RolesOfMember(nil, nil, nil, nil); !rs.IsEmpty() {
		t.Error("no policy gives roles")
	}
	rs := p.RolesOfMember(claims(nil), map[string]func(string) []string{"sales": claims(map[string][]string{"roles": {"everywhere"}})}, nil, of("sales"))
	if n := testing.AllocsPerRun(100, func() { p.Allows(rs, mcp.ToolsExecute, "crm", KindName, "x") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
