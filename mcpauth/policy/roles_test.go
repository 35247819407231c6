package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// claims returns a values function for claims.
func claims(c map[string][]string) func(string) []string {
	return func(claim string) []string { return c[claim] }
}

func TestRolesOf(t *testing.T) {
	p := mustCompile(t,
		Role{Name: "zeta"},
		Role{Name: "data", When: []Condition{{"groups", []string{"data-team", "ops-team"}}}},
		Role{Name: "both", When: []Condition{{"groups", []string{"data-team"}}, {"groups", []string{"ops-team"}}}},
		Role{Name: "reader", When: []Condition{{"scope", []string{"mcp:read"}}}},
		Role{Name: "mixed", When: []Condition{{"groups", []string{"data-team"}}, {"scope", []string{"mcp:read", "mcp:all"}}}},
	)
	tests := []struct {
		row    string
		claims map[string][]string
		scopes []string
		want   string
	}{
		{"nothing", nil, nil, "zeta"},
		{"any value", map[string][]string{"groups": {"x", "ops-team"}}, nil, "data zeta"},
		{"all conditions", map[string][]string{"groups": {"ops-team", "data-team"}}, nil, "both data zeta"},
		{"scope", nil, []string{"mcp:read"}, "reader zeta"},
		{"claim and scope", map[string][]string{"groups": {"data-team"}}, []string{"mcp:all"}, "data mixed zeta"},
		{"a claim called scope is not the scopes", map[string][]string{"scope": {"mcp:read"}}, nil, "zeta"},
		{"scopes are not a claim", nil, []string{"data-team"}, "zeta"},
		{"exact bytes", map[string][]string{"groups": {"Data-Team", " data-team", "data-team ops-team", ""}}, []string{"mcp:read mcp:all"}, "zeta"},
		{"another claim", map[string][]string{"Groups": {"data-team"}, "group": {"data-team"}}, nil, "zeta"},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			rs := p.RolesOf(claims(tt.claims), tt.scopes, nil)
			if got := strings.Join(p.RoleNames(rs), " "); got != tt.want {
				t.Errorf("roles %q, want %q", got, tt.want)
			}
			if rs.IsEmpty() {
				t.Error("not empty")
			}
		})
	}
	if p := mustCompile(t, Role{Name: "r", When: []Condition{{"a", []string{"b"}}}}); !p.RolesOf(nil, nil, nil).IsEmpty() {
		t.Error("no claims, no role")
	}
	if p := mustCompile(t); !p.RolesOf(nil, nil, nil).IsEmpty() || p.AllowsServer(p.RolesOf(nil, nil, nil), "s") {
		t.Error("a policy without roles allows nothing")
	}
}

func TestRolesOfManyRoles(t *testing.T) {
	var roles []Role
	var want []string
	for i := range 200 {
		name := fmt.Sprintf("r%03d", 199-i)
		roles = append(roles, Role{Name: name, When: []Condition{{"g", []string{name}}}, Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/" + name}}}})
	}
	for _, i := range []int{0, 63, 64, 127, 128, 199} {
		want = append(want, fmt.Sprintf("r%03d", i))
	}
	p := mustCompile(t, roles...)
	rs := p.RolesOf(claims(map[string][]string{"g": want}), nil, nil)
	if got := p.RoleNames(rs); !slices.Equal(got, want) {
		t.Fatalf("roles %v, want %v", got, want)
	}
	for i := range 200 {
		name := fmt.Sprintf("r%03d", i)
		if got := p.Allows(rs, mcp.ToolsRead, "s", KindName, name); got != slices.Contains(want, name) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestScopesFor(t *testing.T) {
	when := func(pairs ...string) (conditions []Condition) {
		for _, pair := range pairs {
			claim, values, _ := strings.Cut(pair, "=")
			conditions = append(conditions, Condition{claim, strings.Split(values, "|")})
		}
		return conditions
	}
	p := mustCompile(t,
		Role{Name: "open", Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/open"}}}},
		Role{Name: "three", When: when("scope=a", "scope=b", "scope=c"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"s"}}}},
		Role{Name: "two", When: when("scope=y|x", "scope=z|x2"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/t*"}}}},
		Role{Name: "one-y", When: when("scope=d"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/to*"}}}},
		Role{Name: "one-a", When: when("scope=e|c2"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"s/to*"}}}},
		Role{Name: "overlap", When: when("scope=p|q", "scope=q|r", "scope=r|q|a"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"o"}}}},
		Role{Name: "group", When: when("groups=g", "scope=only"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"g"}}}},
	)
	tests := []struct {
		row    string
		groups []string
		scopes []string
		server string
		object string
		want   string
	}{
		{"allowed already", nil, nil, "s", "open", ""},
		{"only one role", nil, nil, "s", "x", "a b c"},
		{"what it has is left out", nil, []string{"b"}, "s", "x", "a c"},
		{"nothing missing", nil, []string{"a", "b", "c"}, "s", "x", ""},
		{"fewer win", nil, nil, "s", "t", "x x2"},
		{"fewest, then first in order", nil, nil, "s", "tool", "c2"},
		{"one scope for several conditions", nil, nil, "o", "x", "q"},
		{"another set when some are there", nil, []string{"p"}, "o", "x", "r"},
		{"other conditions fail", nil, nil, "g", "x", ""},
		{"other conditions hold", []string{"g"}, nil, "g", "x", "only"},
		{"no role", nil, nil, "elsewhere", "x", ""},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			values := claims(map[string][]string{"groups": tt.groups})
			got := p.ScopesFor(values, tt.scopes, nil, mcp.ToolsRead, tt.server, KindName, tt.object)
			if strings.Join(got, " ") != tt.want || (tt.want == "") != (got == nil) {
				t.Fatalf("scopes %q, want %q", got, tt.want)
			}
			if got != nil {
				rs := p.RolesOf(values, append(slices.Clone(tt.scopes), got...), nil)
				if !p.Allows(rs, mcp.ToolsRead, tt.server, KindName, tt.object) {
					t.Error("the scopes do not help")
				}
			}
		})
	}
}

func TestScopesForIsBounded(t *testing.T) {
	var conditions []Condition
	for i := range 20 {
		var values []string
		for j := range 20 {
			values = append(values, fmt.Sprintf("s%02d-%02d", i, (j*7+i)%20))
		}
		conditions = append(conditions, Condition{"scope", values})
	}
	p := mustCompile(t, Role{Name: "r", When: conditions, Allow: []Grant{{Permission: "*"}}})
	got := p.ScopesFor(nil, nil, nil, mcp.ToolsRead, "s", KindName, "x")
	if len(got) != 20 || !slices.IsSorted(got) {
		t.Fatalf("scopes %v", got)
	}
	if !p.AllowsServer(p.RolesOf(nil, got, nil), "s") {
		t.Error("the scopes do not help")
	}
}
