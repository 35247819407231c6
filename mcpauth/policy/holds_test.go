package policy

import (
	"slices"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// TestHolds: what somebody holds is what they are allowed on anything of one of the
// servers at least, and all of it only by a grant of all.
func TestHolds(t *testing.T) {
	p, err := Config{
		Teams: map[string][]string{"red": {"crm"}},
		Roles: []Role{
			{Name: "one", When: []Condition{{"r", []string{"one"}}}, Allow: []Grant{{Permission: "tools.execute", Objects: []string{"tickets/create_*"}}}},
			{Name: "if", When: []Condition{{"r", []string{"if"}}}, Allow: []Grant{{Permission: "prompts.execute", If: "args.x == 1"}}},
			{Name: "team", When: []Condition{{"r", []string{"team"}}}, Teams: []string{"red"}, Allow: []Grant{{Permission: "*"}}},
			{Name: "admin", When: []Condition{{"r", []string{"admin"}}}, Extends: []string{"platform_admin"}},
			{Name: "without", When: []Condition{{"r", []string{"without"}}}, Allow: []Grant{{Permission: "*"}}, Deny: []Grant{{Permission: "tasks.write"}}},
			{Name: "elsewhere", When: []Condition{{"r", []string{"elsewhere"}}}, Allow: []Grant{{Permission: "*", Objects: []string{"other/**"}}}},
			{Name: "each", When: []Condition{{"r", []string{"each"}}}, Allow: all()},
			{Name: "no", When: []Condition{{"r", []string{"no"}}}, Deny: []Grant{{Permission: "servers.use"}}},
		},
	}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	most := slices.DeleteFunc(mcp.Permissions(), func(p mcp.Permission) bool { return p == mcp.TasksWrite })
	for name, tc := range map[string]struct {
		roles []string
		red   bool
		want  []mcp.Permission
		every bool
	}{
		"none":               {},
		"an object":          {roles: []string{"one"}, want: []mcp.Permission{mcp.ServersUse, mcp.ToolsRead, mcp.ToolsExecute}},
		"a condition":        {roles: []string{"if"}, want: []mcp.Permission{mcp.ServersUse, mcp.PromptsRead, mcp.PromptsExecute}},
		"in a team":          {roles: []string{"team"}, red: true, want: mcp.Permissions(), every: true},
		"not of the team":    {roles: []string{"team"}},
		"built in":           {roles: []string{"admin"}, want: mcp.Permissions(), every: true},
		"all but one":        {roles: []string{"without"}, want: most},
		"denied by another":  {roles: []string{"admin", "without"}, want: most},
		"on another server":  {roles: []string{"elsewhere"}},
		"each by itself":     {roles: []string{"each"}, want: mcp.Permissions()},
		"nothing is allowed": {roles: []string{"admin", "no"}},
	} {
		t.Run(name, func(t *testing.T) {
			rs := p.RolesOf(func(string) []string { return tc.roles }, nil, func(a Audience) bool { return tc.red && a.Team == "red" })
			permissions, every := p.Holds(rs, []string{"tickets", "crm"})
			if !slices.Equal(permissions, tc.want) || every != tc.every {
				t.Errorf("got %v %v, expected %v %v", permissions, every, tc.want, tc.every)
			}
			other, err := Compile(nil)
			if err != nil {
				t.Fatal(err)
			}
			if permissions, every := other.Holds(rs, []string{"tickets"}); permissions != nil || every {
				t.Error("another policy gives something")
			}
			if permissions, _ := p.Holds(rs, nil); permissions != nil {
				t.Error("something is held on no server")
			}
		})
	}
}

// all grants each permission by its name.
func all() (grants []Grant) {
	for _, p := range mcp.Permissions() {
		grants = append(grants, Grant{Permission: p.String()})
	}
	return grants
}
