package scope

import (
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
		if names := m.Known(p); len(names) < 2 || names[0] != "mcp:"+p.String() {
			t.Errorf("the narrowest scopes for %s are %q", p, names)
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
		// all-tools and warehouse.read give as many.
		mcp.ToolsRead: "all-tools warehouse.read https://x/root", mcp.ToolsExecute: "all-tools https://x/root",
		mcp.ResourcesRead: "warehouse.read https://x/root", mcp.PromptsRead: "mcp:read https://x/root",
		mcp.ClientRoots: "https://x/root", mcp.PermissionCount: "",
	} {
		if got := strings.Join(m.Known(p), " "); got != want {
			t.Errorf("the scopes for %s are %q, want %q", p, got, want)
		}
	}
	if m := scopeMap(t, map[string][]string{"mcp:client.roots": {}, "mcp:client": {}, "mcp:all": {}}); len(m.Known(mcp.ClientRoots))+len(m.Givers(mcp.ClientRoots)) > 0 {
		t.Errorf("%q", m.Known(mcp.ClientRoots))
	}
	if got := strings.Join(m.Givers(mcp.PromptsRead), " "); got != "mcp:prompts.read mcp:read mcp:prompts.execute mcp:prompts mcp:write https://x/root" {
		t.Errorf("all scopes for prompts.read are %q", got)
	}
	if none := (*ScopeMap)(nil); none.Known(mcp.ToolsRead) != nil || none.Givers(mcp.ToolsRead) != nil || none.Weight("mcp:all") != 1 {
		t.Error("no map proposes scopes")
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

// The narrower, the lighter.
func TestWeights(t *testing.T) {
	m := scopeMap(t, nil)
	last := 0
	for _, name := range []string{"openid", "mcp:servers.use", "mcp:logging.write", "mcp:logging", "mcp:tools.execute", "mcp:tools", "mcp:read", "mcp:write", "mcp:all"} {
		if weight := m.Weight(name); weight <= last {
			t.Errorf("%s weighs %d, and what gives less %d", name, weight, last)
		} else {
			last = weight
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
