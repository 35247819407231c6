package policy

import (
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// except compiles a role that allows everything and denies this.
func except(t testing.TB, denies ...Grant) (*Policy, RoleSet) {
	t.Helper()
	p := mustCompile(t, Role{Name: "all", Allow: []Grant{{Permission: "*"}}}, Role{Name: "not", Deny: denies})
	return p, p.RolesOf(nil, nil, nil)
}

func TestDenyWins(t *testing.T) {
	type ask struct {
		perm   mcp.Permission
		server string
		kind   ObjectKind
		object string
	}
	tests := []struct {
		row     string
		deny    Grant
		denied  []ask
		allowed []ask
	}{
		{
			"read hides, and what is hidden is not called",
			Grant{Permission: "tools.read", Objects: []string{"s/x*"}},
			[]ask{{mcp.ToolsRead, "s", KindName, "x1"}, {mcp.ToolsExecute, "s", KindName, "x1"}},
			[]ask{{mcp.ToolsRead, "s", KindName, "y"}, {mcp.ToolsRead, "t", KindName, "x1"}, {mcp.PromptsRead, "s", KindName, "x1"}, {mcp.ServersUse, "s", KindNone, ""}, {mcp.ToolsExecute, "s", KindName, "X1"}},
		},
		{
			"execute does not hide",
			Grant{Permission: "tools.execute", Objects: []string{"s/x"}},
			[]ask{{mcp.ToolsExecute, "s", KindName, "x"}},
			[]ask{{mcp.ToolsRead, "s", KindName, "x"}, {mcp.ToolsExecute, "s", KindName, "X"}},
		},
		{
			"prompts",
			Grant{Permission: "prompts.read", Objects: []string{"s/x"}},
			[]ask{{mcp.PromptsRead, "s", KindName, "x"}, {mcp.PromptsExecute, "s", KindName, "x"}},
			[]ask{{mcp.ToolsRead, "s", KindName, "x"}},
		},
		{
			"prompts execute",
			Grant{Permission: "prompts.execute", Objects: []string{"s/x"}},
			[]ask{{mcp.PromptsExecute, "s", KindName, "x"}},
			[]ask{{mcp.PromptsRead, "s", KindName, "x"}},
		},
		{
			"resources",
			Grant{Permission: "resources.read", Objects: []string{"s/x:a"}},
			[]ask{{mcp.ResourcesRead, "s", KindURI, "x:a"}, {mcp.ResourcesSubscribe, "s", KindURI, "x:a"}, {mcp.ResourcesRead, "s", KindName, "X:A"}},
			[]ask{{mcp.CompletionsUse, "s", KindURI, "x:a"}, {mcp.ResourcesRead, "s", KindURI, "x:b"}},
		},
		{
			"subscribe",
			Grant{Permission: "resources.subscribe", Objects: []string{"s/x:a"}},
			[]ask{{mcp.ResourcesSubscribe, "s", KindURI, "x:a"}},
			[]ask{{mcp.ResourcesRead, "s", KindURI, "x:a"}},
		},
		{
			"tasks",
			Grant{Permission: "tasks.read", Objects: []string{"s"}},
			[]ask{{mcp.TasksRead, "s", KindNone, ""}, {mcp.TasksWrite, "s", KindNone, ""}},
			[]ask{{mcp.LoggingWrite, "s", KindNone, ""}, {mcp.ServersUse, "s", KindNone, ""}},
		},
		{
			"the server",
			Grant{Permission: "servers.use", Objects: []string{"s", "x-*"}},
			[]ask{{mcp.ServersUse, "s", KindNone, ""}, {mcp.ToolsRead, "s", KindName, "x"}, {mcp.LoggingWrite, "s", KindNone, ""}, {mcp.ResourcesRead, "x-1", KindURI, "x:a"}, {mcp.ServersUse, "x-1", KindNone, ""}},
			[]ask{{mcp.ServersUse, "t", KindNone, ""}, {mcp.ToolsRead, "t", KindName, "x"}},
		},
		{
			"everything on the server is the server",
			Grant{Permission: "*", Objects: []string{"s/**"}},
			[]ask{{mcp.ServersUse, "s", KindNone, ""}, {mcp.ToolsRead, "s", KindName, "x"}},
			[]ask{{mcp.ServersUse, "t", KindNone, ""}},
		},
		{
			"everything on some objects is not",
			Grant{Permission: "*", Objects: []string{"s/x*"}},
			[]ask{{mcp.ToolsExecute, "s", KindName, "x"}, {mcp.CompletionsUse, "s", KindName, "x"}, {mcp.ResourcesRead, "s", KindURI, "x:a"}},
			[]ask{{mcp.ServersUse, "s", KindNone, ""}, {mcp.LoggingWrite, "s", KindNone, ""}, {mcp.ToolsRead, "s", KindName, "y"}},
		},
		{
			"everywhere",
			Grant{Permission: "tools.execute"},
			[]ask{{mcp.ToolsExecute, "any", KindName, "x"}},
			[]ask{{mcp.ToolsRead, "any", KindName, "x"}, {mcp.ServersUse, "any", KindNone, ""}},
		},
		{
			"a kind that does not fit is no way around",
			Grant{Permission: "tools.execute", Objects: []string{"s/x:a*"}},
			[]ask{{mcp.ToolsExecute, "s", KindName, "x:a1"}, {mcp.ToolsExecute, "s", KindURI, "x:a1"}, {mcp.ToolsExecute, "s", KindTemplate, "x:a{b}"}, {mcp.ToolsExecute, "s", KindURI, "x:%61"}},
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := except(t, tt.deny)
			for _, a := range tt.denied {
				d := p.Judge(rs, Question{Permission: a.perm, Server: a.server, Kind: a.kind, Object: a.object})
				if p.Allows(rs, a.perm, a.server, a.kind, a.object) || d.Reason != Denied || d.Rule.Role != "not" || !d.Rule.Deny {
					t.Errorf("%v does not deny %v: %+v", tt.deny, a, d)
				}
				if p.AllowsAll(rs, a.perm, a.server) {
					t.Errorf("all of %v on %v, but not %v", a.perm, a.server, a)
				}
			}
			for _, a := range tt.allowed {
				if d := p.Judge(rs, Question{Permission: a.perm, Server: a.server, Kind: a.kind, Object: a.object}); !d.Allowed || d.Rule.Role != "all" {
					t.Errorf("%v denies %v: %+v", tt.deny, a, d)
				}
			}
		})
	}
}

// What one spelling of a URI is denied must be denied in every other.
func TestDeniedURIs(t *testing.T) {
	tests := []struct {
		row     string
		pattern string
		denied  []string
		allowed []string
	}{
		{
			"glob", "file:///secret/**",
			[]string{
				"file:///secret/a", "file:///secret/", "file:///secret", "FILE:///Secret/A", "file:///secret/a?x", "file:///secret?x=1#y", "file:///secret/?a/b",
				"file:///pub/../secret/a", "file:///./secret/a", "file:///s%65cret/a", "file:///%73ecret/a", "file:///secret%2fa", "file:///secret%252fa",
				"file:////secret/a", "file:///secret//a", "file:///pub//a", "file:/secret/a", "file://localhost/secret/a", "file://secret/a", "file:secret/a",
				"file:///secret;x/a", "file:///secret./a", "file:///secret%20/a", "file:///secret /a", "file:///pub\\..\\secret", "file:///\uff53ecret/a",
				"file:///%EF%BD%93ecret/a", "file:///secret\x00", "/secret/a", "secret/a", "", "file:///a::$data", "file:///pub/a.", "file:///pub/a%20", "1file:///pub", "fi_le:///pub",
			},
			[]string{"file:///pub/a", "file:///secrets/a", "file:///pub/secret/a", "file:///my%20secret/a", "file:///pub/a.b/.c?d=e#f", "file:///", "db:a::b", "x://h:8080/a?secret"},
		},
		{
			"exact", "file:///secret",
			[]string{"file:///secret", "FILE:///SECRET", "file:///secret/", "file:///secret#x", "file:///x/../secret", "file:///%73ecret"},
			[]string{"file:///secret/a", "file:///secre", "file:///a"},
		},
		{"exact with a slash", "file:///secret/", []string{"file:///secret", "file:///secret/"}, []string{"file:///secret/a"}},
		{"exact that is not plain", "file:///a/../b", []string{"file:///a/../b", "file:///a/../c"}, []string{"file:///b"}},
		{"everything below the root", "file:///**", []string{"file:///a", "file:///"}, []string{"x:a"}},
		{"slash after a star", "x:/*/**", []string{"x:/a/b", "x:/a/", "x:/a"}, []string{"y:/a"}},
		{"star does not cross a slash", "x:/a/*", []string{"x:/a/b", "x:/a/b/", "x:/a/b?c/d", "x:/A", "x:/A/"}, []string{"x:/a/b/c", "x:/ab"}},
		{"suffix", "x:/**.key", []string{"x:/a/b.key", "x:/B.KEY?x", "x:/.key/"}, []string{"x:/key", "x:/a.keys", "x:/a?b.keys"}},
		{"middle", "x:/*b*B/c", []string{"x:/aBabaB/C", "x:/bb/c?d"}, []string{"x:/b/b/c", "x:/bab/cd"}},
		{"text in the query", "x:**secret**", []string{"x:/a?f=SECRET", "x:secret", "x:/a#secret"}, []string{"x:/a?f=s"}},
		{"query", "x:/a?q=*", []string{"x:/a?q=1", "x:/a?q=1#f", "X:/A?Q=2"}, []string{"x:/a", "x:/a?r=1", "x:/b?q=1"}},
		{"scheme", "*://h/**", []string{"x://h/a", "y://H", "x://h:443/a", "x://h:/a", "x://h:080/a", "x://h./a", "x://u@h/a", "x://g:80/"}, []string{"x://g/a", "x://h:8080/a", "x:h/a"}},
		{
			"address", "http://127.0.0.1/**",
			[]string{"http://127.0.0.1/a", "http://127.1/a", "http://0x7f000001/", "http://2130706433/", "http://127.0.0.01/", "http://[::1]/", "http://127.0.0.256/", "http://1.2.3.4.5/", "http://127.0..1/", "http://0127.0.0.1/", "http://1.2.3.4a/"},
			[]string{"http://10.0.0.1/a", "http://a1.example/", "http://1a.example/", "http://127.0.0.255/", "http://127.0.0.1:81/"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := except(t, Grant{Permission: "resources.read", Objects: []string{"s/" + tt.pattern}})
			for _, uri := range tt.denied {
				if p.Allows(rs, mcp.ResourcesRead, "s", KindURI, uri) || p.Allows(rs, mcp.ResourcesRead, "s", KindTemplate, uri) {
					t.Errorf("%q does not deny %q", tt.pattern, uri)
				}
				if !p.Allows(rs, mcp.ResourcesRead, "t", KindURI, uri) {
					t.Errorf("%q denies %q on another server", tt.pattern, uri)
				}
			}
			for _, uri := range tt.allowed {
				if !p.Allows(rs, mcp.ResourcesRead, "s", KindURI, uri) {
					t.Errorf("%q denies %q", tt.pattern, uri)
				}
			}
		})
	}
}

func TestDeniedTemplates(t *testing.T) {
	p, rs := except(t, Grant{Permission: "resources.read", Objects: []string{"s/file:///secret/**", "s/db://tables", "s/x:/a/{id}", "g/**.key"}})
	for template, want := range map[string]bool{
		"file:///{+path}": false, "file:///sec{x}": false, "FILE:///Secret/{x}": false, "file:///secret/a/b{x}": false, "file://{host}/a": false, "{+uri}": false,
		"file:///docs/{+path}": true, "file:///docs/../{x}": false, "file:///se{x}": false, "file:///docs{x}": true,
		"db://tables/{name}": true, "db://tables{x}": false, "db://{x}": false, "db://tablesx{y}": true, "y:{x}": true,
		"x:/a/{id}": false, "x:/a/{name}": true, "x:/b/{id}": true,
	} {
		if got := p.Allows(rs, mcp.ResourcesRead, "s", KindTemplate, template); got != want {
			t.Errorf("template %q: %v", template, got)
		}
	}
	if p.Allows(rs, mcp.ResourcesRead, "g", KindTemplate, "x:/docs/{a}") {
		t.Error("a glob that begins with a wildcard could match what any template makes")
	}
}

func TestDenyAllAndSome(t *testing.T) {
	p, rs := except(t,
		Grant{Permission: "tools.execute", Objects: []string{"e", "x/*", "c/t"}},
		Grant{Permission: "tools.read", Objects: []string{"r", "o/t"}},
		Grant{Permission: "servers.use", Objects: []string{"gone"}},
		Grant{Permission: "tools.execute", Objects: []string{"if"}, If: "args.x == 1"})
	for server, want := range map[string]struct{ allRead, allExecute, someRead, someExecute, use bool }{
		"e": {true, false, true, false, true}, "x": {true, false, true, true, true}, "c": {true, false, true, true, true},
		"r": {false, false, false, false, true}, "o": {false, false, true, true, true}, "gone": {},
		"if": {true, false, true, true, true}, "other": {true, true, true, true, true},
	} {
		got := want
		got.allRead, got.allExecute = p.AllowsAll(rs, mcp.ToolsRead, server), p.AllowsAll(rs, mcp.ToolsExecute, server)
		got.someRead, got.someExecute = p.AllowsSome(rs, mcp.ToolsRead, server), p.AllowsSome(rs, mcp.ToolsExecute, server)
		got.use = p.AllowsServer(rs, server)
		if got != want {
			t.Errorf("%s: %+v, want %+v", server, got, want)
		}
	}
}

func TestScopesForAvoidsDenies(t *testing.T) {
	read := []Grant{{Permission: "tools.read", Objects: []string{"s"}}}
	scope := func(values ...string) []Condition { return []Condition{{"scope", values}} }
	p := mustCompile(t,
		Role{Name: "reader", When: scope("a", "b"), Allow: read},
		Role{Name: "not-a", When: scope("a"), Deny: []Grant{{Permission: "tools.read", Objects: []string{"s/x"}}}},
		Role{Name: "both", When: []Condition{{"scope", []string{"c"}}, {"scope", []string{"d", "e"}}}, Allow: []Grant{{Permission: "tools.read", Objects: []string{"t"}}}},
		Role{Name: "not-d", When: scope("d"), Deny: []Grant{{Permission: "servers.use", Objects: []string{"t"}}}},
		// The others are named as often as those that deny, so that the order decides.
		Role{Name: "as-b", When: scope("b"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"elsewhere"}}}},
		Role{Name: "as-e", When: scope("e"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"elsewhere"}}}},
		Role{Name: "self", When: scope("f"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"u"}}}, Deny: []Grant{{Permission: "tools.read", Objects: []string{"u/x"}}}},
		Role{Name: "held", Deny: []Grant{{Permission: "tools.read", Objects: []string{"s/h"}}}},
		Role{Name: "caller", When: scope("g"), Allow: []Grant{{Permission: "tools.execute", Objects: []string{"v"}, If: "args.x == 1"}}},
	)
	for _, tt := range []struct {
		server, object string
		want           string
	}{{"s", "y", "a"}, {"s", "x", "b"}, {"t", "x", "c e"}, {"u", "y", "f"}, {"u", "x", ""}, {"s", "h", ""}, {"v", "x", "g"}} {
		if got := join(p.ScopesFor(nil, nil, nil, mcp.ToolsRead, tt.server, KindName, tt.object)); got != tt.want {
			t.Errorf("%s/%s needs %q, want %q", tt.server, tt.object, got, tt.want)
		}
	}
	if got := p.ScopesFor(nil, nil, nil, mcp.ToolsExecute, "v", KindName, "x"); got != nil {
		t.Errorf("without arguments %v would not help", got)
	}
	calls := 0
	asked := Question{Permission: mcp.ToolsExecute, Server: "v", Kind: KindName, Object: "x", Arguments: func() (map[string]any, error) {
		calls++
		return map[string]any{"x": 1.0}, nil
	}, Claims: func() map[string]any { return nil }}
	if got := join(p.ScopesForQuestion(nil, nil, nil, asked)); got != "g" || calls != 1 {
		t.Errorf("scopes %q after %d calls", got, calls)
	}
	asked.Arguments = func() (map[string]any, error) { return map[string]any{"x": 2.0}, nil }
	if got := p.ScopesForQuestion(nil, nil, nil, asked); got != nil {
		t.Errorf("with these arguments %v would not help", got)
	}
}
