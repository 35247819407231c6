package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func TestBuiltInRoles(t *testing.T) {
	for name, want := range map[string]struct{ call, prompt, log bool }{
		"platform_admin": {true, true, true}, "platform_viewer": {false, true, false}, "team_admin": {true, true, false},
		"developer": {true, true, false}, "viewer": {true, true, false},
	} {
		role, ok := BuiltIn(name)
		if !ok || role.Name != name || len(role.When) != 0 {
			t.Fatalf("%s: %v", name, role)
		}
		p := mustCompile(t, Role{Name: "r", Extends: []string{name}})
		rs := p.RolesOf(nil, nil, nil)
		for _, perm := range []mcp.Permission{mcp.ServersUse, mcp.ToolsRead, mcp.ResourcesRead, mcp.PromptsRead} {
			if !p.Allows(rs, perm, "any", KindURI, "x:y") {
				t.Errorf("%s: not %v", name, perm)
			}
		}
		got := want
		got.call, got.prompt, got.log = p.AllowsAll(rs, mcp.ToolsExecute, "s"), p.AllowsAll(rs, mcp.PromptsExecute, "s"), p.AllowsAll(rs, mcp.LoggingWrite, "s")
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if d := p.Judge(rs, Question{Permission: mcp.ToolsRead, Server: "s", Kind: KindName, Object: "t"}); d.Rule.Role != "r" || d.Rule.From != name || d.Rule.Source != "built-in" {
			t.Errorf("%s: rule %+v", name, d.Rule)
		}
	}
	role, ok := BuiltIn("admin")
	if ok || role.Name != "" {
		t.Error("there is no built-in role admin")
	}
	role, _ = BuiltIn("viewer")
	role.Allow[0].Permission = "*"
	if again, _ := BuiltIn("viewer"); again.Allow[0].Permission == "*" {
		t.Error("changing the role changed the built-in one")
	}
}

func TestExtends(t *testing.T) {
	p := mustCompile(t,
		Role{Name: "top", Extends: []string{"left", "right", "platform_viewer"}},
		Role{Name: "left", When: []Condition{{"g", []string{"v"}}}, Extends: []string{"base", "platform_viewer"}, Deny: []Grant{{Permission: "tools.execute", Objects: []string{"s/not"}, Source: "left:1"}}},
		Role{Name: "right", Extends: []string{"base"}, When: []Condition{{"g", []string{"w"}}}},
		Role{Name: "base", When: []Condition{{"g", []string{"x"}}}, Allow: []Grant{{Permission: "tools.read", Objects: []string{"z"}}, {Permission: "tools.execute", Objects: []string{"s"}, Source: "base:2"}}},
		Role{Name: "viewer", Extends: []string{"viewer"}, When: []Condition{{"g", []string{"y"}}}},
		Role{Name: "developer", When: []Condition{{"g", []string{"none"}}}},
		Role{Name: "dev2", Extends: []string{"developer"}, When: []Condition{{"g", []string{"none"}}}},
	)
	ask := func(object string, groups ...string) Decision {
		rs := p.RolesOf(claims(map[string][]string{"g": groups}), nil, nil)
		return p.Judge(rs, Question{Permission: mcp.ToolsExecute, Server: "s", Kind: KindName, Object: object})
	}
	if d := ask("t"); !d.Allowed || d.Rule.Role != "top" || d.Rule.From != "base" || d.Rule.Index != 1 || d.Rule.Source != "base:2" {
		t.Errorf("inherited: %+v %+v", d, d.Rule)
	}
	if d := ask("not"); d.Reason != Denied || d.Rule.Role != "top" || d.Rule.From != "left" || d.Rule.Source != "left:1" {
		t.Errorf("inherited deny: %+v", d)
	}
	if got := join(p.RoleNames(p.RolesOf(nil, nil, nil))); got != "top" {
		t.Errorf("roles %q: what a role extends is not held", got)
	}
	q := mustCompile(t, Role{Name: "viewer", Extends: []string{"viewer"}}, Role{Name: "team_admin"}, Role{Name: "r", Extends: []string{"team_admin"}})
	if rs := q.RolesOf(nil, nil, nil); !q.Allows(rs, mcp.ToolsExecute, "s", KindName, "t") || q.Judge(rs, Question{Permission: mcp.ToolsExecute, Server: "s", Kind: KindName}).Rule.Role != "viewer" {
		t.Error("a role may extend the built-in one of its name, and hides it from others")
	}
	for _, tt := range []struct {
		row   string
		roles []Role
		want  string
		role  int
		place int
	}{
		{"unknown", []Role{{Name: "a"}, {Name: "b", Extends: []string{"a", "c"}}}, `extends 2: there is no role "c" to extend`, 1, 1},
		{"itself", []Role{{Name: "a", Extends: []string{"a"}}}, "extends itself", 0, 0},
		{"cycle", []Role{{Name: "a", Extends: []string{"b"}}, {Name: "b", Extends: []string{"c"}}, {Name: "c", Extends: []string{"viewer", "a"}}}, `extends "a", which extends it in turn`, 2, 1},
	} {
		_, err := Compile(tt.roles)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.RoleIndex != tt.role || e.Extends != tt.place || e.Grant != -1 {
			t.Errorf("%s: %v", tt.row, err)
		}
	}
	if !strings.Contains(compileError(Role{Name: "a", Extends: []string{"x"}}), "developer, platform_admin, platform_viewer, team_admin, viewer") {
		t.Error("the error does not list the built-in roles")
	}
}

func compileError(roles ...Role) string {
	_, err := Compile(roles)
	return err.Error()
}
