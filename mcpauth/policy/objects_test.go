package policy

import (
	"fmt"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// The table of behaviour.md section 2.3 for objects: who sees them is decided before
// any role, and by every entry that matches.
func TestHidden(t *testing.T) {
	p := mustCompileAll(t, Config{
		Roles: []Role{{Name: "all", Allow: []Grant{{Permission: "*"}}}},
		Visibility: map[string]Audience{
			"s/team_*":           {Team: "a"},
			"s/*_private":        {Owner: "ann"},
			"s/team_b_*":         {Team: "b"},
			"s/open":             {},
			"s/file:///secret/*": {Team: "a"},
			"s/db:{id}":          {Team: "a"},
		},
	})
	for _, tt := range []struct {
		perm   mcp.Permission
		server string
		kind   ObjectKind
		object string
		seenBy string // of a principal of a, of b, of both, ann of a, and of nobody
	}{
		{mcp.ToolsRead, "s", KindName, "open", "a b ab ann nobody"},
		{mcp.ToolsRead, "s", KindName, "team_x", "a ab ann"},
		{mcp.ToolsExecute, "s", KindName, "team_x", "a ab ann"},
		{mcp.PromptsExecute, "s", KindName, "team_x", "a ab ann"},
		{mcp.CompletionsUse, "s", KindName, "team_x", "a ab ann"},
		{mcp.ToolsRead, "s", KindName, "team_b_x", "ab"},
		{mcp.ToolsRead, "s", KindName, "x_private", "ann"},
		{mcp.ToolsRead, "s", KindName, "team_private", "ann"},
		{mcp.ToolsRead, "s", KindName, "team_b_private", ""},
		{mcp.ToolsRead, "s", KindName, "Team_x", "a b ab ann nobody"},
		{mcp.ToolsRead, "t", KindName, "team_x", "a b ab ann nobody"},
		{mcp.ResourcesRead, "s", KindURI, "file:///secret/x", "a ab ann"},
		{mcp.ResourcesSubscribe, "s", KindURI, "FILE:///secret/x/", "a ab ann"},
		{mcp.ResourcesRead, "s", KindURI, "file:///secret", "a ab ann"},
		{mcp.ResourcesRead, "s", KindURI, "file:///other/%61", "a ab ann"}, // it could be secret/..
		{mcp.ResourcesRead, "s", KindURI, "db:%61", "ann"},                 // it could be x_private
		{mcp.ResourcesRead, "s", KindTemplate, "file:///{+path}", "a ab ann"},
		{mcp.ResourcesRead, "s", KindTemplate, "file:///other/{path}", "a b ab ann nobody"},
		{mcp.ResourcesRead, "s", KindTemplate, "mem:{path}", "ann"},
		{mcp.ResourcesRead, "s", KindURI, "file:///other/a", "a b ab ann nobody"},
		{mcp.ResourcesRead, "s", KindTemplate, "db:{id}", "ann"},
		{mcp.CompletionsUse, "s", KindTemplate, "db:{id}", "ann"},
		{mcp.LoggingWrite, "s", KindNone, "", "a b ab ann nobody"},
		{mcp.ServersUse, "s", KindNone, "", "a b ab ann nobody"},
		{mcp.ToolsRead, "s", KindNone, "", ""},
		{mcp.ToolsRead, "t", KindNone, "", "a b ab ann nobody"},
	} {
		var by []string
		for _, who := range []struct {
			name string
			sees func(Audience) bool
		}{{"a", of("a")}, {"b", of("b")}, {"ab", of("*")}, {"ann", of("a", "=ann")}, {"nobody", nil}} {
			rs := p.RolesOf(nil, nil, who.sees)
			d := p.Judge(rs, Question{Permission: tt.perm, Server: tt.server, Kind: tt.kind, Object: tt.object})
			if d.Allowed {
				by = append(by, who.name)
			} else if d.Reason != HiddenObject || d.Rule != nil || d.Hidden == "" {
				t.Errorf("%+v: %+v", tt, d)
			}
			if p.Allows(rs, tt.perm, tt.server, tt.kind, tt.object) != d.Allowed {
				t.Errorf("%+v: Allows and Judge differ", tt)
			}
			if !p.AllowsSome(rs, tt.perm, tt.server) || !p.AllowsServer(rs, tt.server) {
				t.Errorf("%+v: nothing on the server", tt)
			}
		}
		if got := join(by); got != tt.seenBy {
			t.Errorf("%+v is seen by %q", tt, got)
		}
	}
	d := p.Judge(p.RolesOf(nil, nil, nil), Question{Permission: mcp.ToolsRead, Server: "s", Kind: KindName, Object: "team_x"})
	if d.Hidden != "s/team_*" {
		t.Errorf("hidden by %q", d.Hidden)
	}
	if got := p.ScopesFor(nil, nil, nil, mcp.ToolsRead, "s", KindName, "team_x"); got != nil {
		t.Errorf("scopes %v would help with what is hidden", got)
	}
}

// A pattern for tools does not hide the resources whose URIs cannot be compared, nor
// templates, unless it could match them in another spelling.
func TestHiddenByScheme(t *testing.T) {
	p := mustCompileAll(t, Config{
		Roles: []Role{{Name: "all", Allow: []Grant{{Permission: "*"}}}},
		Visibility: map[string]Audience{
			"s/delete_*": {Team: "a"}, "s/drop": {Team: "a"}, "s/list*": {Team: "a"}, "s/db:x/**": {Team: "a"}, "s/h*:y": {Team: "a"},
		},
	})
	rs := p.RolesOf(nil, nil, nil)
	for uri, hidden := range map[string]bool{
		"file:///\u00dcbersicht": false,
		"file:///%C3%9C":         false,
		"file:///a;b":            false,
		"note:\u00e9":            false,
		"drop:\u00e9":            false, // the pattern has no colon
		"list:\u00e9":            true,
		"LISTS:\u00e9":           true,
		"lis:\u00e9":             false,
		"db:\u00e9":              true,
		"DB:%78/a":               true,
		"https://a:443/":         false, // the pattern's star is no slash
		"https:/a/../y":          true,  // but there may be none left
		"https:/a/%252e%252e/y":  true,
		"https:\\a:443\\":        true,
		"https:%41":              true,
		"https:/?/%41":           true,
		"\u00e9":                 true, // it has no scheme
		"delete_a":               true,
		"drop":                   true,
		"db:%7bx%7d":             false,
		"db:{x":                  true,
		"file:{x":                true,
	} {
		if p.Allows(rs, mcp.ResourcesRead, "s", KindURI, uri) == hidden {
			t.Errorf("%q: hidden %v", uri, !hidden)
		}
	}
	for template, hidden := range map[string]bool{
		"file:///{path}": false, "db:{id}": true, "db:x/{id}": true, "db:y/{id}": false, "list:{id}": true, "list:a/{id}": false, "http://{host}/": false, "{uri}": true, "https:{x}": true,
	} {
		if p.Allows(rs, mcp.ResourcesRead, "s", KindTemplate, template) == hidden {
			t.Errorf("template %q: hidden %v", template, !hidden)
		}
	}
}

// The globs that are for names, and the URIs that none of them can mean.
func TestFlatAndDeep(t *testing.T) {
	for pattern, flat := range map[string]bool{
		"*": true, "*_a": true, "a_*": true, "a*b*c": true, `\**`: true, "a*b:c*": true,
		"**": false, "a**": false, "a*b**c": false, "a**b*c": false, "*/a": false, "a/*": false, "a*b/c*": false, "a:*": false, "*a/": false,
	} {
		if newGlob(tokenize(pattern)).isFlat() != flat {
			t.Errorf("%q is flat: %v", pattern, !flat)
		}
	}
	for uri, deep := range map[string]bool{
		"///a": true, "/a": true, "//a:80/": true, "/\u00e9": true, "/a?b": true, "/a%41": true,
		"": false, "a": false, "a/b": false, "/": false, "///": false, "/?a": false, "/#/a": false, "?/a": false,
		"/../a": false, "/a/..": false, "/a/./b": false, "/%2e%2E": false, "/a%2f..": false, "/%252e": false, "/a\\b": false, `\a`: false,
	} {
		if isDeep(uri) != deep {
			t.Errorf("%q is deep: %v", uri, !deep)
		}
	}
}

// Neither the number of teams and of what belongs to them, nor that of hidden
// objects, may make a decision dearer, and none may allocate.
func TestCostDoesNotGrowWithTeams(t *testing.T) {
	type answers struct {
		p         *Policy
		rs        RoleSet
		questions []asked
	}
	build := func(count int) answers {
		config := Config{
			Roles: []Role{
				{Name: "each", Teams: []string{"*"}, Allow: []Grant{{Permission: "tools.execute"}, {Permission: "resources.read"}}, Deny: []Grant{{Permission: "tools.execute", Objects: []string{"*/not_*"}}}},
				{Name: "base", Allow: []Grant{{Permission: "tools.read"}}},
			},
			Teams: map[string][]string{}, Visibility: map[string]Audience{},
		}
		for i := range count {
			team := fmt.Sprintf("team%05d", i)
			server := fmt.Sprintf("s%d", i%5)
			config.Teams[team] = []string{server + "/" + team + "_*", server + "/*_" + team, server + "/x:/" + team + "/**", server + "/" + team, "own-" + team}
			config.Visibility[server+"/secret_"+team+"_*"] = Audience{Team: team}
			config.Visibility[server+"/y:/"+team+"/**"] = Audience{Team: team}
			config.Visibility[server+"/secret_"+team] = Audience{Owner: team}
			if i%10 == 0 {
				config.Roles = append(config.Roles, Role{Name: "role" + team, Teams: []string{team}, Allow: []Grant{{Permission: "prompts.execute"}}})
			}
		}
		a := answers{p: mustCompileAll(t, config)}
		a.rs = a.p.RolesOf(nil, nil, of("team00000", "team00001", "team00002", "team00003", "team00004"))
		for i := range 10 {
			team := fmt.Sprintf("team%05d", i)
			server := fmt.Sprintf("s%d", i%5)
			for _, object := range []string{team + "_x", "x_" + team, team, "secret_" + team + "_x", "secret_" + team, "other"} {
				a.questions = append(a.questions, asked{perm: mcp.ToolsExecute, server: server, kind: KindName, object: object}, asked{perm: mcp.PromptsExecute, server: server, kind: KindName, object: object})
			}
			for _, uri := range []string{"x:/" + team + "/a", "y:/" + team + "/a", "y:/" + team + "/\u00e9", "z:/a"} {
				a.questions = append(a.questions, asked{perm: mcp.ResourcesRead, server: server, kind: KindURI, object: uri}, asked{perm: mcp.ResourcesRead, server: server, kind: KindTemplate, object: uri + "{id}"})
			}
			a.questions = append(a.questions, asked{perm: mcp.ToolsExecute, server: server}, asked{perm: mcp.ToolsExecute, server: "own-" + team})
		}
		return a
	}
	few := build(10)
	for _, count := range []int{1000, 5000} {
		many := build(count)
		for i, q := range few.questions {
			want, before := few.p.decide(few.rs, q.perm, q.server, q.kind, q.object)
			got, after := many.p.decide(many.rs, q.perm, q.server, q.kind, q.object)
			if got != want || after > before+30 {
				t.Errorf("%v with %d teams: %v in %d steps, before %v in %d", q, count, got, after, want, before)
			}
			if count > 1000 || i%3 > 0 {
				continue
			}
			asked := q.question()
			if n := testing.AllocsPerRun(10, func() {
				many.p.Allows(many.rs, q.perm, q.server, q.kind, q.object)
				many.p.Judge(many.rs, asked)
				many.p.AllowsAll(many.rs, q.perm, q.server)
				many.p.AllowsSome(many.rs, q.perm, q.server)
				many.p.AllowsServer(many.rs, q.server)
			}); n != 0 {
				t.Errorf("%v: %v allocations", q, n)
			}
		}
	}
}

func BenchmarkTeams(b *testing.B) {
	for _, count := range []int{0, 10, 1000} {
		b.Run(fmt.Sprintf("teams=%d", count), func(b *testing.B) {
			config := Config{Roles: []Role{{Name: "r", Allow: []Grant{{Permission: "tools.execute"}}}}, Teams: map[string][]string{}, Visibility: map[string]Audience{}}
			for i := range count {
				team := fmt.Sprintf("t%04d", i)
				config.Teams[team] = []string{"s/" + team + "_*"}
				config.Visibility["s/"+team+"_x*"] = Audience{Team: team}
				config.Roles[0].Teams = []string{"*"}
			}
			p := mustCompileAll(b, config)
			rs := p.RolesOf(nil, nil, of("t0000", "t0001"))
			asked := Question{Permission: mcp.ToolsExecute, Server: "s", Kind: KindName, Object: "t0001_x"}
			b.ReportAllocs()
			for b.Loop() {
				if !p.Judge(rs, asked).Allowed {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
