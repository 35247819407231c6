package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// meets reports whether the scopes meet the need.
func meets(p *Policy, has func(string) []string, scopes []string, need Need) bool {
	rs := p.RolesOf(has, scopes, nil)
	for _, asked := range need.Asked {
		if !p.Judge(rs, asked).Allowed {
			return false
		}
	}
	for _, o := range need.OneOf {
		if !slices.ContainsFunc(scopes, o.Given) {
			return false
		}
	}
	return true
}

// subsets are all of a few scopes, sorted.
func subsets(scopes ...string) (all [][]string) {
	for bits := range 1 << len(scopes) {
		set := []string{}
		for i, scope := range scopes {
			if bits>>i&1 == 1 {
				set = append(set, scope)
			}
		}
		all = append(all, set)
	}
	return all
}

// need makes what an operation needs: a few questions, and what else scopes give.
// The scopes a and b mean nothing to roles.
func (g generator) need() (need Need, exact bool) {
	for range g.Intn(3) + 1 {
		q := g.question()
		need.Asked = append(need.Asked, q.question())
	}
	exact = true
	for range g.Intn(3) {
		var given []string
		for range g.Intn(3) + 1 {
			given = append(given, g.pick("1", "2", "3", "a", "b"))
		}
		o := OneOf{Propose: given, Given: func(scope string) bool { return slices.Contains(given, scope) }}
		if g.Intn(3) == 0 {
			o.Propose, exact = given[:1], exact && len(given) == 1
		}
		need.OneOf = append(need.OneOf, o)
	}
	if g.Intn(2) == 0 {
		weights := map[string]int{}
		for _, scope := range []string{"1", "2", "3", "a", "b"} {
			weights[scope] = g.Intn(4) + 1
		}
		need.Weight = func(scope string) int { return weights[scope] }
	}
	return need, exact
}

// TestScopesForAllAgreesWithTrying: with the scopes that are proposed everything is
// allowed, without any one of them it is not, nothing lighter would do, and nothing
// is proposed only if nothing would help.
func TestScopesForAllAgreesWithTrying(t *testing.T) {
	helped, several := 0, 0
	policies(t, 1500, func(g generator, _ []Role, p *Policy) {
		has, scopes := claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values()
		for range 20 {
			need, exact := g.need()
			var best []string
			weight := 0
			for _, add := range subsets("1", "2", "3", "a", "b") {
				if !meets(p, has, append(slices.Clone(scopes), add...), need) {
					continue
				}
				w := 0
				for _, scope := range add {
					if w++; need.Weight != nil {
						w += need.Weight(scope) - 1
					}
				}
				if best == nil || w < weight || w == weight && p.isSmaller(add, best) {
					best, weight = add, w
				}
			}
			got := p.ScopesForAll(has, scopes, nil, need)
			if exact && !slices.Equal(got, best) || !exact && len(best) == 0 && got != nil {
				t.Errorf("with %v, %+v needs %v, want %v", scopes, need, got, best)
			}
			if got == nil {
				continue
			}
			helped++
			if len(got) > 1 {
				several++
			}
			all := append(slices.Clone(scopes), got...)
			if !meets(p, has, all, need) {
				t.Errorf("with %v, %v does not help", scopes, got)
			}
			for i := range got {
				if meets(p, has, slices.Delete(slices.Clone(all), len(scopes)+i, len(scopes)+i+1), need) {
					t.Errorf("with %v, of %v %s is superfluous", scopes, got, got[i])
				}
			}
		}
	})
	if helped < 1000 || several < 300 {
		t.Errorf("scopes helped %d times, several %d times: the generator asks too little", helped, several)
	}
}

func TestScopesForAll(t *testing.T) {
	when := func(alternatives ...string) (conditions []Condition) {
		for _, values := range alternatives {
			conditions = append(conditions, Condition{"scope", strings.Split(values, "|")})
		}
		return conditions
	}
	p := mustCompile(t,
		Role{Name: "get", When: when("get"), Allow: []Grant{{Permission: "prompts.execute", Objects: []string{"s/p"}}}},
		Role{Name: "complete", When: when("complete"), Allow: []Grant{{Permission: "completions.use", Objects: []string{"s"}}}},
		Role{Name: "both", When: when("zz", "both|get"), Allow: []Grant{{Permission: "*", Objects: []string{"s"}}}},
		Role{Name: "same", When: when("both|get", "zz"), Allow: []Grant{{Permission: "*", Objects: []string{"s"}}}},
		Role{Name: "wide", When: when("narrow|all"), Allow: []Grant{{Permission: "tools.read", Objects: []string{"v"}}}},
		Role{Name: "wider", When: when("other|all"), Allow: []Grant{{Permission: "logging.write", Objects: []string{"v"}}}},
		Role{Name: "one", When: when("one"), Allow: []Grant{{Permission: "*", Objects: []string{"t"}}}},
		Role{Name: "other", When: when("other"), Allow: []Grant{{Permission: "prompts.execute", Objects: []string{"t/p"}}}, Deny: []Grant{{Permission: "completions.use"}}},
	)
	ask := func(server string, permissions ...mcp.Permission) (asked []Question) {
		for _, perm := range permissions {
			asked = append(asked, Question{Permission: perm, Server: server, Kind: KindName, Object: "p"})
		}
		return asked
	}
	oneOf := func(scopes ...string) []OneOf {
		return []OneOf{{Propose: scopes, Given: func(scope string) bool { return slices.Contains(scopes, scope) }}}
	}
	heavy := func(scope string) int { return map[string]int{"get": 9}[scope] + 1 }
	for _, tt := range []struct {
		row  string
		held []string
		need Need
		want string
	}{
		{"one question", nil, Need{Asked: ask("s", mcp.PromptsExecute)}, "get"},
		{"two questions", nil, Need{Asked: ask("s", mcp.PromptsExecute, mcp.CompletionsUse)}, "both zz"},
		{"what is held counts", []string{"get"}, Need{Asked: ask("s", mcp.PromptsExecute, mcp.CompletionsUse)}, "complete"},
		{"the lightest", nil, Need{Asked: ask("s", mcp.PromptsExecute), Weight: heavy}, "both zz"},
		{"one role for two questions", nil, Need{Asked: ask("t", mcp.PromptsExecute, mcp.CompletionsUse)}, "one"},
		{"a scope that brings a denial", nil, Need{Asked: ask("t", mcp.PromptsExecute), Weight: func(scope string) int { return len(scope) }}, "one"},
		{"a denial that is held", []string{"other"}, Need{Asked: ask("t", mcp.PromptsExecute, mcp.CompletionsUse)}, ""},
		{"one of two cannot be helped", nil, Need{Asked: append(ask("s", mcp.PromptsExecute), ask("u", mcp.ToolsRead)...)}, ""},
		{"a scope for something else does for both", nil, Need{Asked: ask("s", mcp.PromptsExecute), OneOf: oneOf("a", "get")}, "get"},
		{"a scope for something else alone", []string{"get"}, Need{Asked: ask("s", mcp.PromptsExecute), OneOf: oneOf("b", "a")}, "a"},
		{"nothing proposes it", nil, Need{Asked: ask("s", mcp.PromptsExecute), OneOf: oneOf()}, ""},
		{"what is named less often", nil, Need{Asked: ask("v", mcp.ToolsRead)}, "narrow"},
		{"but one rather than two", nil, Need{Asked: ask("v", mcp.ToolsRead, mcp.LoggingWrite)}, "all"},
		{"nothing is missing", []string{"get"}, Need{Asked: ask("s", mcp.PromptsExecute), OneOf: oneOf("get")}, ""},
	} {
		t.Run(tt.row, func(t *testing.T) {
			got := p.ScopesForAll(nil, tt.held, nil, tt.need)
			if strings.Join(got, " ") != tt.want || (got == nil) != (tt.want == "") {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	if got := (*Policy)(nil).ScopesForAll(nil, nil, nil, Need{Asked: ask("s", mcp.PromptsExecute)}); got != nil {
		t.Errorf("no policy: %q", got)
	}
}

// A search that is cut short leaves nothing superfluous.
func TestScopesForAllIsBounded(t *testing.T) {
	var roles []Role
	for i := range 40 {
		var conditions []Condition
		for j := range 20 {
			var values []string
			for k := range 10 {
				values = append(values, fmt.Sprintf("s%03d", (i*31+j*17+k*13)%97))
			}
			conditions = append(conditions, Condition{"scope", values})
		}
		roles = append(roles, Role{Name: fmt.Sprintf("r%02d", i), When: conditions, Allow: []Grant{{Permission: "*"}}})
	}
	roles = append(roles, Role{Name: "denies", When: []Condition{{"scope", []string{"s001"}}}, Deny: []Grant{{Permission: "*"}}})
	p := mustCompile(t, roles...)
	need := Need{Asked: []Question{{Permission: mcp.ToolsRead, Server: "s", Kind: KindName, Object: "x"}, {Permission: mcp.ServersUse, Server: "s"}}}
	got := p.ScopesForAll(nil, nil, nil, need)
	if got == nil || !slices.IsSorted(got) || !meets(p, nil, got, need) {
		t.Fatalf("scopes %v", got)
	}
	for i := range got {
		if meets(p, nil, slices.Delete(slices.Clone(got), i, i+1), need) {
			t.Errorf("of %v %s is superfluous", got, got[i])
		}
	}
	if again := p.ScopesForAll(nil, nil, nil, need); !slices.Equal(got, again) {
		t.Errorf("%v, and then %v", got, again)
	}
}

// A scope that no token can have would make the challenge that names it malformed.
func TestScopesThatCannotBe(t *testing.T) {
	for _, scope := range []string{`a"b`, `a\b`, "a\x00b", "a\x7f", "é", "\xff", "a b", "a\nb", ""} {
		if _, err := Compile([]Role{{Name: "r", When: []Condition{{"scope", []string{scope}}}}}); err == nil {
			t.Errorf("%q is accepted", scope)
		}
	}
	const fine = "https://x.example/!#[]~:a"
	if _, err := Compile([]Role{{Name: "r", When: []Condition{{"scope", []string{fine}}}}}); err != nil {
		t.Error(err)
	}
}
