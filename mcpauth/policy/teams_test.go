package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func mustCompileAll(t testing.TB, c Config) *Policy {
	t.Helper()
	p, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// of is a principal of these teams; "*" is of all. With "=who" it is that person.
func of(teams ...string) func(Audience) bool {
	return func(a Audience) bool {
		if a.Owner != "" {
			return slices.Contains(teams, "="+a.Owner)
		}
		return slices.Contains(teams, a.Team) || slices.Contains(teams, "*")
	}
}

// acme has servers that belong to teams as a whole, in parts, to several, and to none.
func acme(roles ...Role) Config {
	return Config{Roles: roles, Teams: map[string][]string{
		"sales":   {"crm", "desk/sales_*", "desk/file:///sales/**", "shared"},
		"support": {"desk/support_*", "tickets", "shared"},
	}}
}

// behaviour.md section 3.3: a role in team A grants nothing on team B, and nothing to
// who is not of team A.
func TestTeamRoles(t *testing.T) {
	each := Role{Name: "each", Teams: []string{"*"}, Extends: []string{"developer"}}
	sales := Role{Name: "sales", Teams: []string{"sales"}, Allow: []Grant{{Permission: "tools.execute"}, {Permission: "resources.read"}, {Permission: "logging.write"}}}
	for _, tt := range []struct {
		row            string
		role           Role
		of             []string
		perm           mcp.Permission
		server, object string
		team           string // in which it is allowed; empty if it is not
	}{
		{"a server of the team", sales, []string{"sales"}, mcp.ToolsExecute, "crm", "find", "sales"},
		{"who is not of the team", sales, []string{"support"}, mcp.ToolsExecute, "crm", "find", ""},
		{"who is of no team", sales, nil, mcp.ToolsExecute, "crm", "find", ""},
		{"of several teams", sales, []string{"support", "sales"}, mcp.ToolsExecute, "crm", "find", "sales"},
		{"an unrestricted administrator", sales, []string{"*"}, mcp.ToolsExecute, "crm", "find", "sales"},
		{"the server of another team", sales, []string{"sales", "support"}, mcp.ToolsExecute, "tickets", "find", ""},
		{"the same, by an administrator", sales, []string{"*"}, mcp.ToolsExecute, "tickets", "find", ""},
		{"a server of nobody", sales, []string{"*"}, mcp.ToolsExecute, "free", "find", ""},
		{"a tool of the team", sales, []string{"sales"}, mcp.ToolsExecute, "desk", "sales_find", "sales"},
		{"a tool of another team", sales, []string{"sales", "support"}, mcp.ToolsExecute, "desk", "support_find", ""},
		{"a tool of nobody", sales, []string{"sales"}, mcp.ToolsExecute, "desk", "find", ""},
		{"a server of both", sales, []string{"sales"}, mcp.ToolsExecute, "shared", "find", "sales"},
		{"a server of both, as the other", sales, []string{"support"}, mcp.ToolsExecute, "shared", "find", ""},
		{"a resource of the team", sales, []string{"sales"}, mcp.ResourcesRead, "desk", "file:///sales/a", "sales"},
		{"a resource of nobody", sales, []string{"sales"}, mcp.ResourcesRead, "desk", "file:///a", ""},
		{"a resource on the way up", sales, []string{"sales"}, mcp.ResourcesRead, "desk", "file:///sales/../a", ""},
		{"a resource of the team in another spelling", sales, []string{"sales"}, mcp.ResourcesRead, "desk", "FILE:///sales/a", ""},
		{"the server as such", sales, []string{"sales"}, mcp.LoggingWrite, "crm", "", "sales"},
		{"the server as such, of which the team has a part", sales, []string{"sales"}, mcp.LoggingWrite, "desk", "", ""},
		{"another permission", sales, []string{"sales"}, mcp.PromptsRead, "crm", "find", ""},

		{"in each team", each, []string{"sales"}, mcp.ToolsExecute, "crm", "find", "sales"},
		{"in each team, the other", each, []string{"support"}, mcp.ToolsExecute, "tickets", "find", "support"},
		{"in each team that there is", each, []string{"support"}, mcp.ToolsExecute, "crm", "find", ""},
		{"in each of both", each, []string{"support", "sales"}, mcp.ToolsExecute, "desk", "support_find", "support"},
		{"in each, of both", each, []string{"support", "sales"}, mcp.ToolsExecute, "shared", "find", "sales"},
		{"in each, in no team", each, nil, mcp.ToolsExecute, "crm", "find", ""},
		{"in each, what belongs to nobody", each, []string{"*"}, mcp.ToolsExecute, "free", "find", ""},
		{"in each, of a team that has nothing", each, []string{"ops"}, mcp.ToolsExecute, "crm", "find", ""},
	} {
		t.Run(tt.row, func(t *testing.T) {
			p := mustCompileAll(t, acme(tt.role))
			rs := p.RolesOf(nil, nil, of(tt.of...))
			kind := KindName
			if tt.perm == mcp.ResourcesRead {
				kind = KindURI
			}
			d := p.Judge(rs, Question{Permission: tt.perm, Server: tt.server, Kind: kind, Object: tt.object})
			if d.Allowed != (tt.team != "") || d.Team != tt.team || d.Allowed && d.Rule.Role != tt.role.Name {
				t.Errorf("%+v", d)
			}
			if p.Allows(rs, tt.perm, tt.server, kind, tt.object) != d.Allowed {
				t.Error("Allows and Judge differ")
			}
			if d.Allowed && (!p.AllowsSome(rs, tt.perm, tt.server) || !p.AllowsServer(rs, tt.server)) {
				t.Error("allowed, but not on the server")
			}
		})
	}
}

func TestTeamRolesOnServers(t *testing.T) {
	p := mustCompileAll(t, acme(
		Role{Name: "sales", Teams: []string{"sales"}, Allow: []Grant{{Permission: "tools.execute"}}},
		Role{Name: "support", Teams: []string{"support"}, Allow: []Grant{{Permission: "prompts.read", Objects: []string{"*/x"}}}},
		Role{Name: "all", When: []Condition{{"g", []string{"all"}}}, Allow: []Grant{{Permission: "*"}}},
	))
	for _, tt := range []struct {
		of, server      string
		all, some, used bool
		roles           string
	}{
		{"sales", "crm", true, true, true, "sales"},
		{"sales", "shared", true, true, true, "sales"},
		{"sales", "desk", false, true, true, ""},
		{"sales", "tickets", false, false, false, ""},
		{"sales", "free", false, false, false, ""},
		{"support", "crm", false, false, false, ""},
		{"support", "shared", false, false, true, "support"},
		{"support", "desk", false, false, true, ""},
		{"*", "shared", true, true, true, "sales support"},
		{"*", "free", false, false, false, ""},
		{"", "crm", false, false, false, ""},
	} {
		rs := p.RolesOf(nil, nil, of(tt.of))
		all, some, used := p.AllowsAll(rs, mcp.ToolsRead, tt.server), p.AllowsSome(rs, mcp.ToolsRead, tt.server), p.AllowsServer(rs, tt.server)
		if roles := join(p.RoleNamesOn(rs, tt.server)); all != tt.all || some != tt.some || used != tt.used || roles != tt.roles {
			t.Errorf("%s on %s: all %v, some %v, used %v, roles %q", tt.of, tt.server, all, some, used, roles)
		}
	}
	rs := p.RolesOf(claims(map[string][]string{"g": {"all"}}), nil, of("sales"))
	if got := join(p.RoleNames(rs)) + "; " + join(p.RoleNamesOn(rs, "free")); got != "all sales; all" {
		t.Errorf("roles %s", got)
	}
	if !mustCompile(t).RolesOf(nil, nil, of("*")).IsEmpty() || !p.RolesOf(nil, nil, nil).IsEmpty() || p.RolesOf(nil, nil, of("sales")).IsEmpty() {
		t.Error("IsEmpty")
	}
	if p.RoleNamesOn(RoleSet{}, "crm") != nil || p.RoleNamesOn(rs, "") != nil {
		t.Error("roles without a set or a server")
	}
}

// What a role denies in a team, it denies on what belongs to the team, however it is
// spelled, and nowhere else.
func TestTeamRolesDeny(t *testing.T) {
	config := acme(
		Role{Name: "all", Allow: []Grant{{Permission: "*"}}},
		Role{Name: "not", Teams: []string{"sales"}, Deny: []Grant{
			{Permission: "tools.read", Objects: []string{"*/*_secret", "crm/find"}},
			{Permission: "resources.read", Objects: []string{"desk"}},
			{Permission: "client.sampling"},
		}},
	)
	config.Teams["sales"] = append(config.Teams["sales"], "tickets/y:/deep/down/**", "tickets/x:/*")
	config.Roles[1].Deny = append(config.Roles[1].Deny, Grant{Permission: "resources.subscribe", Objects: []string{"tickets/y:/**"}})
	p := mustCompileAll(t, config)
	for _, tt := range []struct {
		perm           mcp.Permission
		server, object string
		kind           ObjectKind
		denied         bool
	}{
		{mcp.ToolsExecute, "crm", "a_secret", KindName, true},
		{mcp.ToolsRead, "crm", "find", KindName, true},
		{mcp.ToolsRead, "crm", "other", KindName, false},
		{mcp.ToolsRead, "tickets", "a_secret", KindName, false},
		{mcp.ToolsRead, "free", "a_secret", KindName, false},
		{mcp.ToolsRead, "desk", "sales_secret", KindName, true},
		{mcp.ToolsRead, "desk", "support_secret", KindName, false},
		{mcp.ResourcesRead, "desk", "file:///sales/a", KindURI, true},
		{mcp.ResourcesRead, "desk", "FILE:///Sales/a/", KindURI, true},
		{mcp.ResourcesRead, "desk", "file:///sales/%61", KindURI, true},
		{mcp.ResourcesRead, "desk", "file:///other/%61", KindURI, true}, // it could be sales/..
		{mcp.ResourcesRead, "desk", "db:%61", KindURI, false},           // that could not
		{mcp.ResourcesRead, "desk", "file:///other/a", KindURI, false},
		{mcp.ResourcesRead, "desk", "file:///{+path}", KindTemplate, true},
		{mcp.ResourcesRead, "desk", "file:///other/{path}", KindTemplate, false},
		{mcp.ResourcesSubscribe, "tickets", "y:/deep/down/{x}", KindTemplate, true},
		{mcp.ResourcesSubscribe, "tickets", "y:/deep/{+x}", KindTemplate, true},
		{mcp.ResourcesSubscribe, "tickets", "y:/high/{+x}", KindTemplate, false},
		{mcp.ClientSampling, "crm", "", KindNone, true},
		{mcp.ClientSampling, "desk", "", KindNone, false},
	} {
		rs := p.RolesOf(nil, nil, of("sales"))
		asked := Question{Permission: tt.perm, Server: tt.server, Kind: tt.kind, Object: tt.object}
		d := p.Judge(rs, asked)
		if d.Allowed == tt.denied || tt.denied != (d.Reason == Denied && d.Rule.Role == "not" && d.Team == "sales") {
			t.Errorf("%+v: %+v", asked, d)
		}
		if !p.Allows(p.RolesOf(nil, nil, of("support")), tt.perm, tt.server, tt.kind, tt.object) {
			t.Errorf("%+v: denied to who is not of the team", asked)
		}
	}
	rs := p.RolesOf(nil, nil, of("sales"))
	for server, want := range map[string]bool{"crm": false, "desk": false, "tickets": false, "support": true, "free": true} {
		if p.AllowsAll(rs, mcp.ToolsRead, server) != want {
			t.Errorf("all tools on %s: %v", server, !want)
		}
		if !p.AllowsSome(rs, mcp.ToolsRead, server) || !p.AllowsServer(rs, server) {
			t.Errorf("nothing on %s", server)
		}
	}
}

// Conditions, narrowed schemas and scopes that would help count in the team only.
func TestTeamRolesWithConditionsAndScopes(t *testing.T) {
	p := mustCompileAll(t, acme(
		Role{Name: "sales", Teams: []string{"sales"}, Allow: []Grant{{Permission: "tools.execute", Objects: []string{"crm", "shared", "desk"}, If: `args.region == "eu"`}}},
		Role{Name: "scoped", Teams: []string{"*"}, When: []Condition{{"scope", []string{"mcp:write"}}}, Allow: []Grant{{Permission: "tools.execute", Objects: []string{"*/*save"}}}},
	))
	question := func(server, tool, region string) Question {
		return Question{
			Permission: mcp.ToolsExecute, Server: server, Kind: KindName, Object: tool,
			Arguments: func() (map[string]any, error) { return map[string]any{"region": region}, nil },
		}
	}
	for _, tt := range []struct {
		server, tool, region string
		reason               Reason
		narrowed             bool
		scopes               string
	}{
		{"crm", "find", "eu", Granted, true, ""},
		{"crm", "find", "us", ConditionFalse, true, ""},
		{"crm", "save", "us", ConditionFalse, true, "mcp:write"},
		{"desk", "sales_save", "us", ConditionFalse, true, "mcp:write"},
		{"desk", "support_save", "eu", NoRule, false, ""},
		{"tickets", "save", "eu", NoRule, false, ""},
		{"free", "save", "eu", NoRule, false, ""},
	} {
		rs := p.RolesOf(nil, nil, of("sales"))
		asked := question(tt.server, tt.tool, tt.region)
		if d := p.Judge(rs, asked); d.Reason != tt.reason || d.Rule != nil && d.Team != "sales" {
			t.Errorf("%+v: %+v", tt, d)
		}
		if _, narrowed := p.Narrow(rs, tt.server, tt.tool); narrowed != tt.narrowed {
			t.Errorf("%+v: narrowed %v", tt, narrowed)
		}
		if got := join(p.ScopesForQuestion(nil, nil, of("sales"), asked)); got != tt.scopes {
			t.Errorf("%+v: scopes %q", tt, got)
		}
		if got := p.ScopesForQuestion(nil, nil, of(), asked); got != nil {
			t.Errorf("%+v: scopes %q for who is of no team", tt, got)
		}
	}
	for server, want := range map[string]bool{"crm": true, "desk": true, "tickets": false} {
		if rs := p.RolesOf(nil, nil, of("sales")); p.Narrows(rs, server) != want {
			t.Errorf("narrows on %s: %v", server, !want)
		}
	}
}

// A role that extends one which holds in teams does not hold in these teams, and the
// other way round.
func TestTeamsAreNotExtended(t *testing.T) {
	p := mustCompileAll(t, acme(
		Role{Name: "base", Teams: []string{"sales"}, Allow: []Grant{{Permission: "tools.read"}}},
		Role{Name: "support", Teams: []string{"support"}, Extends: []string{"base"}},
	))
	rs := p.RolesOf(nil, nil, of("support"))
	if !p.Allows(rs, mcp.ToolsRead, "tickets", KindName, "a") || p.Allows(rs, mcp.ToolsRead, "crm", KindName, "a") {
		t.Error("what is extended does not hold in the team that extends it")
	}
}

func TestTeamErrors(t *testing.T) {
	for _, tt := range []struct {
		row    string
		config Config
		want   string
		at     Error
	}{
		{"no team", acme(Role{Name: "r", Teams: []string{}}), `role "r": the list of teams is empty: leave it out for a role that holds everywhere`, Error{Team: -1, Grant: -1}},
		{"an unknown team", acme(Role{Name: "r", Teams: []string{"sales", "salse"}}), `role "r": team 2: nothing belongs to team "salse", so the role would hold nowhere: there are sales, support`, Error{Team: 1, Grant: -1}},
		{"every team and one", acme(Role{Name: "r", Teams: []string{"sales", "*"}}), `role "r": team 2: * is every team: name no others beside it`, Error{Team: 1, Grant: -1}},
		{"no teams at all", Config{Roles: []Role{{Name: "r", Teams: []string{"*"}}}}, `role "r": team 1: nothing belongs to any team, so the role would hold nowhere: say first what belongs to which team`, Error{Team: 0, Grant: -1}},
		{"a team without any", Config{Roles: []Role{{Name: "r", Teams: []string{"a"}}}}, `role "r": team 1: nothing belongs to team "a", so the role would hold nowhere: say first what belongs to which team`, Error{Team: 0, Grant: -1}},
		{
			"a grant elsewhere", acme(Role{Name: "r", Teams: []string{"support"}, Allow: []Grant{{Permission: "*"}, {Permission: "tools.read", Objects: []string{"d*/x", "crm/x"}}}}),
			`role "r": grant 2: object 2: "crm/x": nothing there belongs to a team of the role, so this would never count`,
			Error{Team: -1, Grant: 1, Object: 1},
		},
		{
			"a deny elsewhere", acme(Role{Name: "r", Teams: []string{"*"}, Deny: []Grant{{Permission: "tools.read", Objects: []string{"free*"}}}}),
			`role "r": deny 1: object 1: "free*": nothing there belongs to a team of the role, so this would never count`,
			Error{Team: -1, Grant: 0, Object: 0, Deny: true},
		},
		{"a team called *", Config{Teams: map[string][]string{"*": {"a"}}}, "team *: this stands for every team, and cannot be the id of one", Error{}},
		{"a team without a name", Config{Teams: map[string][]string{"": {"a"}}}, "the id of a team is empty; is a placeholder unset?", Error{}},
		{"a team with nothing", Config{Teams: map[string][]string{"a": {}}}, "team a: nothing is named that belongs to it", Error{}},
		{"a glob of servers", Config{Teams: map[string][]string{"a": {"b", "c*/d"}}}, "team a: c*/d: name one server: write server/object, with stars in the object only", Error{}},
		{"no object", Config{Teams: map[string][]string{"a": {"b/"}}}, `team a: b/: there is no object after the slash: write "b" for everything on the server`, Error{}},
		{"no server", Config{Visibility: map[string]Audience{"/b": {Team: "a"}}}, "visibility of /b: write server/object: there is no server before the slash", Error{}},
		{"a whole server", Config{Visibility: map[string]Audience{"b/**": {Team: "a"}}}, "visibility of b/**: this is the whole server: say for whom that is by its name alone", Error{}},
		{"a server alone", Config{Visibility: map[string]Audience{"b": {Team: "a"}}}, "visibility of b: this is the whole server: say for whom that is by its name alone", Error{}},
		{
			"an exception",
			Config{Visibility: map[string]Audience{"s/a_*": {Team: "a"}, "s/a_b": {}}},
			"visibility of s/a_b: public makes no exception from s/a_*, which matches it too: who sees an object must be let by all that match it",
			Error{},
		},
		{
			"a wide exception",
			Config{Visibility: map[string]Audience{"s/**b": {Owner: "a"}, "s/a*b": {}}},
			"visibility of s/a*b: public makes no exception from s/**b, which matches it too: who sees an object must be let by all that match it",
			Error{},
		},
	} {
		t.Run(tt.row, func(t *testing.T) {
			p, err := tt.config.Compile()
			if err == nil || err.Error() != tt.want || p != nil {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
			if wrong, ok := errors.AsType[*Error](err); ok {
				if wrong.Team != tt.at.Team || wrong.Grant != tt.at.Grant || wrong.Deny != tt.at.Deny || wrong.Grant >= 0 && wrong.Object != tt.at.Object {
					t.Errorf("place %+v", wrong)
				}
			} else if _, ok := errors.AsType[*ObjectError](err); !ok {
				t.Errorf("an error of type %T", err)
			}
		})
	}
	if _, err := (Config{Visibility: map[string]Audience{"s/a": {Team: "a"}, "s/b": {}, "t/**": {}}}).Compile(); err == nil || !strings.Contains(err.Error(), "t/**") {
		t.Error(err)
	}
	if _, err := (Config{Visibility: map[string]Audience{"s/a_*": {Team: "a"}, "s/b": {}, "t/a_b": {}, `s/a\*`: {}}}).Compile(); err != nil {
		t.Error(err)
	}
}

// More roles than a question has room for.
func TestManyTeamRoles(t *testing.T) {
	config := Config{Teams: map[string][]string{}}
	for i := range 700 {
		team := fmt.Sprintf("t%03d", i)
		config.Teams[team] = []string{"s/" + team, "s/all", "w" + team}
		config.Roles = append(config.Roles, Role{Name: "r" + team, Teams: []string{team}, Allow: []Grant{{Permission: "tools.read"}}})
	}
	p := mustCompileAll(t, config)
	rs := p.RolesOf(nil, nil, of("t000", "t511", "t512", "t699"))
	for i := range 700 {
		team := fmt.Sprintf("t%03d", i)
		want := slices.Contains([]int{0, 511, 512, 699}, i)
		if p.Allows(rs, mcp.ToolsRead, "s", KindName, team) != want || p.AllowsAll(rs, mcp.ToolsRead, "w"+team) != want {
			t.Errorf("%s: %v", team, !want)
		}
	}
	if d := p.Judge(rs, Question{Permission: mcp.ToolsRead, Server: "s", Kind: KindName, Object: "all"}); d.Team != "t000" || d.Rule.Role != "rt000" {
		t.Errorf("%+v", d)
	}
}
