package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func mustCompile(t testing.TB, roles ...Role) *Policy {
	t.Helper()
	p, err := Compile(roles)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// granting compiles a single role for everybody, and returns its RoleSet.
func granting(t testing.TB, grants ...Grant) (*Policy, RoleSet) {
	t.Helper()
	p := mustCompile(t, Role{Name: "r", Allow: grants})
	return p, p.RolesOf(nil, nil, nil)
}

func TestNames(t *testing.T) {
	tests := []struct {
		row     string
		pattern string
		allowed []string
		denied  []string
	}{
		{
			"A19 exact bytes", "s/admin",
			[]string{"admin"},
			[]string{"Admin", "ADMIN", "admin ", " admin", "ａdmin", "adm\u0069n\u200b", "admi\u0301n", "admin\x00", "admin/", "adm", "admin2", ""},
		},
		{
			"A19 under a glob", "s/adm*",
			[]string{"admin", "adm", "adm in", "adm\x00"},
			[]string{"Admin", "ａdmin", " admin", "ad"},
		},
		{"A19 decomposed", "s/caf\u00e9", []string{"caf\u00e9"}, []string{"cafe\u0301", "CAF\u00c9"}},
		{
			"C14 anchored", "s/db_*",
			[]string{"db_", "db_read", "db_.."},
			[]string{"xdb_read", "db", "my_db_read", "db_/read", "db_/../x"},
		},
		{"C14 suffix", "s/*_read", []string{"_read", "db_read"}, []string{"db_read2", "db_reader", "a/_read"}},
		{"both ends", "s/ab*ba", []string{"abba", "abXba"}, []string{"aba", "ab", "ba", "ab/ba"}},
		{"several stars", "s/a*b*c", []string{"abc", "aXbYc", "abbc", "abcbc"}, []string{"acb", "abcX", "a/bc", "Xabc"}},
		{"double star", "s/a**c", []string{"ac", "a/b/c"}, []string{"a/b/cd"}},
		{"mixed stars", "s/a/**/*.md", []string{"a/b/c.md", "a//.md", "a/b/c/d.md"}, []string{"a/c.md", "a/b/c.md/", "a/b/c.mdx"}},
		{"star after double star", "s/**x*y/**", []string{"xy/", "a/xay/b", "x/xy/"}, []string{"x/y/", "xy"}},
		{"three stars are two", "s/a***c", []string{"a/b/c"}, []string{"b"}},
		{"literal star", `s/a\*b`, []string{"a*b"}, []string{"ab", "aXb", `a\*b`}},
		{"literal star in a glob", `s/\*_*`, []string{"*_x", "*_"}, []string{"a_x", `\*_x`}},
		{"escaped then wild", `s/a\**`, []string{"a*", "a*b"}, []string{"a", "ab"}},
		{"nothing else is special", `s/[ab]?{c,d}\n`, []string{`[ab]?{c,d}\n`}, []string{"a1c\n", "aXc"}},
		{"slash in a name", "s/a/b", []string{"a/b"}, []string{"a", "b", "a/", "a/b/"}},
		{"any name without slash", "s/*", []string{"", "a", "a b"}, []string{"a/b", "/"}},
		{"everything", "s/**", []string{"", "a", "a/b", "\xff"}, nil},
		{"server alone", "s", []string{"", "a", "a/b", "../x"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := granting(t, Grant{Permission: "tools.execute", Objects: []string{tt.pattern}})
			for _, name := range tt.allowed {
				if !p.Allows(rs, mcp.ToolsExecute, "s", KindName, name) {
					t.Errorf("%q does not match %q", tt.pattern, name)
				}
			}
			for _, name := range tt.denied {
				if p.Allows(rs, mcp.ToolsExecute, "s", KindName, name) {
					t.Errorf("%q matches %q", tt.pattern, name)
				}
			}
			for _, server := range []string{"", "t", "S", "s ", "ss", "s/a", "*", "**"} {
				if p.Allows(rs, mcp.ToolsExecute, server, KindName, tt.allowed[0]) || p.AllowsServer(rs, server) {
					t.Errorf("%q is allowed on server %q", tt.pattern, server)
				}
			}
		})
	}
}

func TestServers(t *testing.T) {
	tests := []struct {
		row     string
		objects []string
		allowed []string
		denied  []string
	}{
		{"exact", []string{"a/x"}, []string{"a"}, []string{"b", "aa", "A"}},
		{"C14 glob does not cross the separator", []string{"a*/x"}, []string{"a", "ab", "a-b"}, []string{"ba", "a/x", "a/b"}},
		{"middle", []string{"a*-*z/x"}, []string{"a-z", "ab-yz"}, []string{"az", "a-zz2"}},
		{"suffix", []string{"*-prod/x"}, []string{"-prod", "eu-prod"}, []string{"prod", "eu-prod-2"}},
		{"all by star", []string{"*/x"}, []string{"a", "any"}, []string{"", "a/b"}},
		{"all by two stars", []string{"**/x"}, []string{"a", "any"}, []string{"", "a/b"}},
		{"all by leaving out", nil, []string{"a", "any"}, []string{"", "a/b"}},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := granting(t, Grant{Permission: "tools.execute", Objects: tt.objects})
			for _, server := range tt.allowed {
				if !p.Allows(rs, mcp.ToolsExecute, server, KindName, "x") || !p.AllowsServer(rs, server) ||
					!p.Allows(rs, mcp.ServersUse, server, KindNone, "") || !p.AllowsSome(rs, mcp.ToolsRead, server) {
					t.Errorf("%v denied on server %q", tt.objects, server)
				}
			}
			for _, server := range tt.denied {
				if p.Allows(rs, mcp.ToolsExecute, server, KindName, "x") || p.AllowsServer(rs, server) ||
					p.Allows(rs, mcp.ServersUse, server, KindNone, "") || p.AllowsSome(rs, mcp.ToolsRead, server) {
					t.Errorf("%v allowed on server %q", tt.objects, server)
				}
			}
		})
	}
}

func TestPermissions(t *testing.T) {
	type ask struct {
		perm   mcp.Permission
		kind   ObjectKind
		object string
	}
	tests := []struct {
		row     string
		grant   Grant
		allowed []ask
		denied  []ask
	}{
		{
			"execute implies read",
			Grant{Permission: "tools.execute", Objects: []string{"s/x*"}},
			[]ask{{mcp.ToolsExecute, KindName, "x1"}, {mcp.ToolsRead, KindName, "x1"}, {mcp.ServersUse, KindNone, ""}},
			[]ask{{mcp.ToolsRead, KindName, "y"}, {mcp.PromptsRead, KindName, "x1"}, {mcp.ToolsRead, KindNone, ""}, {mcp.LoggingWrite, KindNone, ""}},
		},
		{
			"read does not imply execute",
			Grant{Permission: "prompts.read", Objects: []string{"s/x"}},
			[]ask{{mcp.PromptsRead, KindName, "x"}},
			[]ask{{mcp.PromptsExecute, KindName, "x"}, {mcp.ToolsRead, KindName, "x"}},
		},
		{
			"subscribe does not imply read",
			Grant{Permission: "resources.subscribe", Objects: []string{"s"}},
			[]ask{{mcp.ResourcesSubscribe, KindURI, "x:y"}},
			[]ask{{mcp.ResourcesRead, KindURI, "x:y"}},
		},
		{
			"every permission on objects is not about the server",
			Grant{Permission: "*", Objects: []string{"s/x*"}},
			[]ask{{mcp.ToolsExecute, KindName, "x"}, {mcp.ResourcesRead, KindURI, "x:a"}, {mcp.CompletionsUse, KindName, "x"}, {mcp.ServersUse, KindNone, ""}},
			[]ask{{mcp.LoggingWrite, KindNone, ""}, {mcp.LoggingWrite, KindName, "x"}, {mcp.TasksRead, KindName, "x1"}, {mcp.ToolsRead, KindName, "y"}},
		},
		{
			"every permission on the server",
			Grant{Permission: "*", Objects: []string{"s"}},
			[]ask{{mcp.LoggingWrite, KindNone, ""}, {mcp.TasksWrite, KindName, "id"}, {mcp.ClientRoots, KindNone, ""}, {mcp.ToolsRead, KindNone, ""}},
			[]ask{{mcp.PermissionNone, KindName, "x"}, {mcp.PermissionCount, KindName, "x"}, {255, KindName, "x"}, {mcp.ToolsRead, KindTemplate + 1, "x"}},
		},
		{
			"two stars are the whole server",
			Grant{Permission: "logging.write", Objects: []string{"s/**"}},
			[]ask{{mcp.LoggingWrite, KindNone, ""}, {mcp.ServersUse, KindNone, ""}},
			[]ask{{mcp.ClientRoots, KindNone, ""}},
		},
		{
			"only the server",
			Grant{Permission: "servers.use", Objects: []string{"s"}},
			[]ask{{mcp.ServersUse, KindNone, ""}},
			[]ask{{mcp.ToolsRead, KindName, "x"}, {mcp.ClientSampling, KindNone, ""}},
		},
		{
			"a resource asked as a name is still a URI",
			Grant{Permission: "resources.read", Objects: []string{"s/file:///pub/**"}},
			[]ask{{mcp.ResourcesRead, KindName, "file:///pub/a"}},
			[]ask{{mcp.ResourcesRead, KindName, "file:///pub/../a"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := granting(t, tt.grant)
			for _, a := range tt.allowed {
				if !p.Allows(rs, a.perm, "s", a.kind, a.object) {
					t.Errorf("%v denies %v %q", tt.grant, a.perm, a.object)
				}
			}
			for _, a := range tt.denied {
				if p.Allows(rs, a.perm, "s", a.kind, a.object) {
					t.Errorf("%v allows %v %q", tt.grant, a.perm, a.object)
				}
			}
		})
	}
}

func TestAllowsAllAndSome(t *testing.T) {
	p, rs := granting(t,
		Grant{Permission: "tools.execute", Objects: []string{"whole", "two/**", "names/*", "glob/x*", "exact/x", "eu-*"}},
		Grant{Permission: "*", Objects: []string{"star", "starred/x"}},
		Grant{Permission: "logging.write", Objects: []string{"log"}})
	for server, want := range map[string][2]bool{
		"whole": {true, true}, "two": {true, true}, "names": {false, true}, "glob": {false, true},
		"exact": {false, true}, "eu-1": {true, true}, "star": {true, true}, "starred": {false, true},
		"log": {false, false}, "other": {false, false},
	} {
		if got := p.AllowsAll(rs, mcp.ToolsRead, server); got != want[0] {
			t.Errorf("AllowsAll on %s = %v", server, got)
		}
		if got := p.AllowsSome(rs, mcp.ToolsRead, server); got != want[1] {
			t.Errorf("AllowsSome on %s = %v", server, got)
		}
	}
	for server, want := range map[string]bool{"log": true, "star": true, "starred": false, "whole": false} {
		if got := p.AllowsSome(rs, mcp.LoggingWrite, server); got != want {
			t.Errorf("AllowsSome(logging.write) on %s = %v", server, got)
		}
	}
	if !p.AllowsAll(rs, mcp.ServersUse, "glob") || !p.AllowsSome(rs, mcp.ServersUse, "glob") || p.AllowsAll(rs, mcp.ServersUse, "other") {
		t.Error("servers.use is not what AllowsServer says")
	}
}

func TestForeignRoleSets(t *testing.T) {
	p, rs := granting(t, Grant{Permission: "*"})
	q, other := granting(t, Grant{Permission: "*"})
	var none *Policy
	for name, allowed := range map[string]bool{
		"own":         p.Allows(rs, mcp.ToolsRead, "s", KindName, "x"),
		"other":       p.Allows(other, mcp.ToolsRead, "s", KindName, "x") || p.AllowsServer(other, "s") || p.AllowsAll(other, mcp.ToolsRead, "s"),
		"zero":        p.Allows(RoleSet{}, mcp.ToolsRead, "s", KindName, "x"),
		"nil policy":  none.Allows(rs, mcp.ToolsRead, "s", KindName, "x") || none.Allows(RoleSet{}, mcp.ToolsRead, "s", KindName, "x"),
		"nil for nil": none.AllowsServer(none.RolesOf(nil, nil, nil), "s") || none.AllowsSome(RoleSet{}, mcp.ToolsRead, "s"),
	} {
		if allowed != (name == "own") {
			t.Errorf("%s: %v", name, allowed)
		}
	}
	if !rs.Of(p) || rs.Of(q) || (RoleSet{}).Of(none) || none.RoleNames(rs) != nil || p.RoleNames(other) != nil ||
		none.ScopesFor(nil, nil, nil, mcp.ToolsRead, "s", KindName, "x") != nil {
		t.Error("a RoleSet is of the policy that made it, and of no other")
	}
}

func TestErrors(t *testing.T) {
	grant := func(permission string, objects ...string) []Role {
		return []Role{{Name: "ok"}, {Name: "r", Allow: []Grant{{Permission: "tools.read"}, {Permission: permission, Objects: objects}}}}
	}
	when := func(claim string, values ...string) []Role {
		return []Role{{Name: "r", When: []Condition{{"a", []string{"b"}}, {claim, values}}}}
	}
	tests := []struct {
		row   string
		roles []Role
		want  []string
		place [4]int
	}{
		{"no name", []Role{{}}, []string{"role 1", "name"}, [4]int{0, -1, -1, -1}},
		{"name with a comma", []Role{{Name: "a,b"}}, []string{`"a,b"`, "comma"}, [4]int{0, -1, -1, -1}},
		{"name with a line break", []Role{{Name: "a\r\nx"}}, []string{"visible ASCII"}, [4]int{0, -1, -1, -1}},
		{"duplicate", []Role{{Name: "a"}, {Name: "b"}, {Name: "a"}}, []string{`role "a"`, "role number 1"}, [4]int{2, -1, -1, -1}},
		{"no claim", when("", "v"), []string{"condition 2", "claim"}, [4]int{0, 1, -1, -1}},
		{"no values", when("groups"), []string{`"groups"`, "at least one value"}, [4]int{0, 1, -1, -1}},
		{"empty value", when("groups", "a", ""), []string{"placeholder"}, [4]int{0, 1, -1, -1}},
		{"scopes in one value", when("scope", "a b"), []string{`"a b"`, "separate"}, [4]int{0, 1, -1, -1}},
		{"unknown permission", grant("tools.exec"), []string{`role "r": grant 2`, `did you mean "tools.execute"?`, "prompts.read", "*"}, [4]int{1, -1, 1, -1}},
		{"permission in capitals", grant("Tools.Read"), []string{`did you mean "tools.read"?`}, [4]int{1, -1, 1, -1}},
		{"category", grant("tools.*"), []string{"unknown permission", "tools.read"}, [4]int{1, -1, 1, -1}},
		{"far off", grant("everything"), []string{`unknown permission "everything": the permissions are *, servers.use,`}, [4]int{1, -1, 1, -1}},
		{"no permission", grant(""), []string{"unknown permission"}, [4]int{1, -1, 1, -1}},
		{"empty list", []Role{{Name: "r", Allow: []Grant{{Permission: "tools.read", Objects: []string{}}}}}, []string{"leave it out"}, [4]int{0, -1, 0, -1}},
		{"empty object", grant("tools.read", "s/a", ""), []string{"object 2", "placeholder"}, [4]int{1, -1, 1, 1}},
		{"no server", grant("tools.read", "/a"), []string{"server/object"}, [4]int{1, -1, 1, 0}},
		{"no object", grant("tools.read", "s/"), []string{`"s" for everything`}, [4]int{1, -1, 1, 0}},
		{"capital in a server", grant("tools.read", "Srv/a"), []string{`"Srv"`, "a-z"}, [4]int{1, -1, 1, 0}},
		{"URI without a server", grant("resources.read", "file:///a"), []string{`"file:"`, "server/object"}, [4]int{1, -1, 1, 0}},
		{"escape in a server", grant("tools.read", `a\*/b`), []string{"cannot be a server"}, [4]int{1, -1, 1, 0}},
		{"not UTF-8", grant("tools.read", "s/\xff"), []string{"UTF-8"}, [4]int{1, -1, 1, 0}},
		{"object of a server permission", grant("logging.write", "s/x"), []string{"logging.write", `"s"`}, [4]int{1, -1, 1, 0}},
		{"glob of a server permission", grant("tasks.read", "s/*"), []string{"tasks.read"}, [4]int{1, -1, 1, 0}},
		{"long glob", grant("tools.read", "s/"+strings.Repeat("a", maxGlob)+"*"), []string{"1024"}, [4]int{1, -1, 1, 0}},
		{"long server", grant("tools.read", "*"+strings.Repeat("a", maxGlob)+"*"), []string{"1024"}, [4]int{1, -1, 1, 0}},
		{"glob no URI matches", grant("resources.read", "s/file:///a/../*"), []string{"no URI matches"}, [4]int{1, -1, 1, 0}},
		{"user information in a glob", grant("resources.subscribe", "s/ssh://git@host/**"), []string{"named exactly"}, [4]int{1, -1, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, err := Compile(tt.roles)
			var e *Error
			if !errors.As(err, &e) || p != nil {
				t.Fatalf("policy %v, error %v", p, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if place := [4]int{e.RoleIndex, e.Condition, e.Grant, e.Object}; place != tt.place || e.Role != tt.roles[e.RoleIndex].Name {
				t.Errorf("error is at %v of %q, want %v", place, e.Role, tt.place)
			}
		})
	}
}

// The longest globs fit the words an automaton has.
func TestLongestGlobs(t *testing.T) {
	server := "*" + strings.Repeat("a", maxGlob-2) + "*"
	object := "**" + strings.Repeat("b", maxGlob-3) + "*"
	p, rs := granting(t, Grant{Permission: "tools.read", Objects: []string{server + "/" + object}})
	for n, want := range map[int]bool{maxGlob: true, maxGlob - 3: true, maxGlob - 4: false, 0: false} {
		s, o := strings.Repeat("a", n+1), strings.Repeat("b", n)
		if got := p.Allows(rs, mcp.ToolsRead, s, KindName, o); got != want {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
}

func TestRolesAreNotKept(t *testing.T) {
	roles := []Role{{Name: "r", When: []Condition{{"g", []string{"v"}}}, Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/a"}}}}}
	p := mustCompile(t, roles...)
	roles[0].Name, roles[0].When[0].Values[0], roles[0].Allow[0].Objects[0] = "q", "w", "s/b"
	rs := p.RolesOf(claims(map[string][]string{"g": {"v"}}), nil, nil)
	if p.RoleNames(rs)[0] != "r" || !p.Allows(rs, mcp.ToolsRead, "s", KindName, "a") || p.Allows(rs, mcp.ToolsRead, "s", KindName, "b") {
		t.Error("changing the configuration changed the policy")
	}
}
