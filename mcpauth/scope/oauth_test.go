package scope

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func scopeMap(tb testing.TB, configured map[string][]string) *ScopeMap {
	tb.Helper()
	m, err := NewScopeMap(configured)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func namesOf(set Permissions) string {
	var names []string
	for _, p := range set.List() {
		names = append(names, p.String())
	}
	return strings.Join(names, " ")
}

func TestBuiltinScopes(t *testing.T) {
	m := scopeMap(t, nil)
	const read = "servers.use tools.read resources.read resources.subscribe prompts.read completions.use tasks.read"
	for name, want := range map[string]string{
		"mcp:tools.read":          "servers.use tools.read",
		"mcp:tools.execute":       "servers.use tools.read tools.execute",
		"mcp:tools":               "servers.use tools.read tools.execute",
		"mcp:resources.read":      "servers.use resources.read",
		"mcp:resources.subscribe": "servers.use resources.subscribe",
		"mcp:resources":           "servers.use resources.read resources.subscribe",
		"mcp:prompts.read":        "servers.use prompts.read",
		"mcp:prompts.execute":     "servers.use prompts.read prompts.execute",
		"mcp:prompts":             "servers.use prompts.read prompts.execute",
		"mcp:completions":         "servers.use completions.use",
		"mcp:logging":             "servers.use logging.write",
		"mcp:tasks":               "servers.use tasks.read tasks.write",
		"mcp:client":              "servers.use client.sampling client.elicitation client.roots",
		"mcp:servers":             "servers.use",
		"mcp:read":                read,
		"mcp:write": "servers.use tools.read tools.execute resources.read resources.subscribe prompts.read prompts.execute completions.use " +
			"logging.write tasks.read tasks.write",
		"mcp:all":           namesOf(allPermissions),
		"mcp":               "",
		"mcp:":              "",
		"mcp:*":             "",
		"mcp:tools.*":       "",
		"MCP:tools.read":    "",
		"tools.read":        "",
		"openid":            "",
		"mcp:tools.read ":   "",
		"mcp:none":          "",
		"mcp:admin.metrics": "",
	} {
		if got := namesOf(m.Permissions([]string{name})); got != want {
			t.Errorf("%s gives %q, want %q", name, got, want)
		}
	}
	for _, p := range mcp.Permissions() {
		if !m.Permissions([]string{"mcp:" + p.String()}).Has(Of(p, mcp.ServersUse)) {
			t.Errorf("mcp:%s does not give itself", p)
		}
		if name, ok := m.ScopeFor(p); !ok || name != "mcp:"+p.String() {
			t.Errorf("the narrowest scope for %s is %q", p, name)
		}
	}
	if got := namesOf(m.Permissions([]string{"openid", "mcp:tools.read", "mcp:prompts.read"})); got != "servers.use tools.read prompts.read" {
		t.Errorf("several give %q", got)
	}
}

func TestConfiguredScopes(t *testing.T) {
	m := scopeMap(t, map[string][]string{
		"warehouse.read": {"tools.read", "resources.read"},
		"all-tools":      {"tools.*"},
		"https://x/root": {"*"},
		"mcp:read":       {"prompts.read"}, // means only this now
		"mcp:all":        {},
	})
	for name, want := range map[string]string{
		"warehouse.read": "servers.use tools.read resources.read",
		"all-tools":      "servers.use tools.read tools.execute",
		"https://x/root": namesOf(allPermissions),
		"mcp:read":       "servers.use prompts.read",
		"mcp:all":        "",
		"mcp:tools.read": "servers.use tools.read",
	} {
		if got := namesOf(m.Permissions([]string{name})); got != want {
			t.Errorf("%s gives %q, want %q", name, got, want)
		}
	}
	for p, want := range map[mcp.Permission]string{
		mcp.ToolsRead: "all-tools", mcp.ToolsExecute: "all-tools", mcp.ResourcesRead: "warehouse.read", mcp.PromptsRead: "mcp:read",
		mcp.ClientRoots: "https://x/root",
	} {
		// all-tools and warehouse.read give as many; the first in order is taken.
		if got, _ := m.ScopeFor(p); got != want {
			t.Errorf("the narrowest scope for %s is %q, want %q", p, got, want)
		}
	}
	for name, permissions := range map[string][]string{
		"": {"*"}, "a b": {"*"}, `a"`: {"*"}, `a\`: {"*"}, "ä": {"*"}, "a\n": {"*"},
		"x": {"Tools.read"}, "y": {"tools"}, "z": {""}, "v": {"tools.read", "a2a.invoke"}, "w": {"admin.*"},
	} {
		if _, err := NewScopeMap(map[string][]string{name: permissions}); err == nil {
			t.Errorf("%q: %q is accepted", name, permissions)
		}
	}
}

// The smallest set of scopes that would help, or none if nothing would.
func TestScopesFor(t *testing.T) {
	m := scopeMap(t, nil)
	small := scopeMap(t, map[string][]string{"r": {"tools.read", "prompts.read"}, "w": {"tools.execute"}, "x": {"prompts.execute"}})
	gone := scopeMap(t, map[string][]string{
		"mcp:client.roots": {}, "mcp:client": {}, "mcp:all": {},
	})
	for _, row := range []struct {
		m    *ScopeMap
		held []string
		need Permissions
		want []string
	}{
		{m, nil, Of(mcp.ToolsRead), []string{"mcp:tools.read"}},
		{m, nil, Of(mcp.ToolsExecute), []string{"mcp:tools.execute"}},
		{m, []string{"mcp:tools.read"}, Of(mcp.ToolsExecute), []string{"mcp:tools.execute"}},
		{m, []string{"mcp:tools"}, Of(mcp.ToolsExecute), nil}, // nothing is missing
		{m, []string{"mcp:tools"}, Of(mcp.ToolsExecute, mcp.PromptsRead), []string{"mcp:prompts.read"}},
		{m, nil, Of(mcp.ServersUse, mcp.ToolsRead, mcp.ToolsExecute), []string{"mcp:tools.execute"}}, // it gives the others
		{m, nil, Of(mcp.PromptsExecute, mcp.CompletionsUse), []string{"mcp:completions.use", "mcp:prompts.execute"}},
		{m, nil, useServer, []string{"mcp:servers.use"}},
		{m, nil, Of(mcp.PermissionNone), nil},
		{m, nil, Of(mcp.ToolsRead, mcp.PermissionNone), nil},
		{m, nil, 0, nil},
		{small, nil, Of(mcp.ToolsRead), []string{"r"}},
		{small, nil, Of(mcp.ToolsExecute, mcp.PromptsRead), []string{"r", "w"}},
		{small, []string{"r"}, Of(mcp.ToolsExecute), []string{"w"}},
		{gone, nil, Of(mcp.ClientRoots), nil}, // no scope would help
		{gone, nil, Of(mcp.ToolsRead, mcp.ClientRoots), nil},
		{nil, nil, Of(mcp.ToolsRead), nil},
	} {
		got := row.m.ScopesFor(row.held, row.need)
		if !slices.Equal(got, row.want) {
			t.Errorf("with %q for %q: %q, want %q", row.held, namesOf(row.need), got, row.want)
		}
	}
	if name, ok := gone.ScopeFor(mcp.ClientRoots); ok || name != "" {
		t.Errorf("%q", name)
	}
	if name, ok := m.ScopeFor(mcp.PermissionCount); ok || name != "" {
		t.Errorf("%q", name)
	}
}

// Whatever is missing, the scopes asked for suffice, and none of them is superfluous.
func TestScopesForSuffice(t *testing.T) {
	for _, m := range []*ScopeMap{
		scopeMap(t, nil),
		scopeMap(t, map[string][]string{"a": {"tools.*", "prompts.read"}, "b": {"prompts.*"}, "c": {"resources.read", "tasks.*"}, "d": {"*"}}),
	} {
		for need := Permissions(2); need <= allPermissions; need += 2 {
			for _, held := range [][]string{nil, {"mcp:tools.read"}, {"mcp:read", "openid"}} {
				scopes := m.ScopesFor(held, need)
				if m.Permissions(held).Has(need) != (scopes == nil) {
					t.Fatalf("%q: %q", namesOf(need), scopes)
				}
				if !m.Permissions(append(slices.Clone(held), scopes...)).Has(need) {
					t.Fatalf("%q: %q do not suffice", namesOf(need), scopes)
				}
				for i := range scopes {
					without := append(slices.Clone(held), scopes[:i]...)
					if m.Permissions(append(without, scopes[i+1:]...)).Has(need) {
						t.Fatalf("%q: of %q %s is superfluous", namesOf(need), scopes, scopes[i])
					}
				}
			}
		}
	}
}

// Scopes bound a token only where that is configured, and then bound one without any
// scope to nothing.
func TestScopePermissions(t *testing.T) {
	for _, row := range []struct {
		on     bool
		claims string
		scopes []string
		want   *Refusal
	}{
		{false, `{}`, nil, nil},
		{false, `{}`, []string{"openid"}, nil},
		{true, `{}`, nil, refusedOAuth},
		{true, `{}`, []string{}, refusedOAuth},
		{true, `{}`, []string{"openid", "profile"}, refusedOAuth},
		{true, `{}`, []string{"mcp:prompts.read"}, refusedOAuth},
		{true, `{}`, []string{"openid", "mcp:tools.read"}, nil},
		// Both lists bind. Where the claim refuses, no scope would help.
		{true, `{"scopes":{"permissions":["tools.*"]}}`, []string{"mcp:read"}, nil},
		{true, `{"scopes":{"permissions":["prompts.read"]}}`, []string{"mcp:read"}, refusedPermission},
		{true, `{"scopes":{"permissions":["prompts.read"]}}`, nil, refusedPermission},
		{true, `{"scopes":{"permissions":["tools.read"]}}`, nil, refusedOAuth},
	} {
		cfg := Config{ScopePermissions: row.on}
		if err := cfg.Provision(); err != nil {
			t.Fatal(err)
		}
		s, err := Parse(lookup(t, row.claims), row.scopes, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Permit(Of(mcp.ToolsRead)); got != row.want || s.Permits(Of(mcp.ToolsRead)) != (got == nil) {
			t.Errorf("%+v: %+v", row, got)
		}
	}
}
