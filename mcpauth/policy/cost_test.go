package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// shape says how the n-th rule of a generated policy is written, and an object
// that it allows.
type shape struct {
	name string
	// denies is whether there is a deny beside each rule, of other objects.
	denies bool
	rule   func(n int) (permission, pattern string, kind ObjectKind, object string)
}

var shapes = []shape{
	{"exact", false, func(n int) (string, string, ObjectKind, string) {
		name := fmt.Sprintf("tool_%05d", n)
		return "tools.execute", name, KindName, name
	}},
	{"glob", false, func(n int) (string, string, ObjectKind, string) {
		switch n % 4 {
		case 0:
			return "tools.execute", fmt.Sprintf("query_%05d_*", n), KindName, fmt.Sprintf("query_%05d_x", n)
		case 1:
			return "tools.execute", fmt.Sprintf("*_%05d", n), KindName, fmt.Sprintf("x_%05d", n)
		case 2:
			return "resources.read", fmt.Sprintf("file:///pub/%05d/**", n), KindURI, fmt.Sprintf("file:///pub/%05d/a/b.md", n)
		}
		return "resources.read", fmt.Sprintf("file:///doc/**/%05d/*.md", n), KindURI, fmt.Sprintf("file:///doc/a/%05d/b.md", n)
	}},
	{"mixed", false, mixed},
	{"denying", true, mixed},
}

func mixed(n int) (string, string, ObjectKind, string) {
	switch n % 10 {
	case 0, 1:
		return "tools.execute", fmt.Sprintf("query_%05d_*", n), KindName, fmt.Sprintf("query_%05d_x", n)
	case 2:
		return "tools.execute", fmt.Sprintf("*_%05d", n), KindName, fmt.Sprintf("x_%05d", n)
	case 3:
		return "resources.read", fmt.Sprintf("file:///pub/%05d/**", n), KindURI, fmt.Sprintf("file:///pub/%05d/a/b.md", n)
	}
	name := fmt.Sprintf("tool_%05d", n)
	return "tools.execute", name, KindName, name
}

// The principal of a generated policy has 5 of 200 roles.
const (
	manyRoles  = 200
	everyNthIs = 40
)

// build makes a policy of that many rules on 20 servers, a principal's roles,
// and questions about its first rules, which are the same whatever the number:
// half of them allowed, half about other objects on the same servers.
func (s shape) build(t testing.TB, count int) (*Policy, RoleSet, []asked) {
	t.Helper()
	roles := make([]Role, manyRoles)
	var mine []string
	for i := range roles {
		name := fmt.Sprintf("role-%03d", i)
		roles[i] = Role{Name: name, When: []Condition{{"groups", []string{name}}}}
		if i%everyNthIs == 0 {
			mine = append(mine, name)
		}
	}
	var questions []asked
	for n := range count {
		permission, pattern, kind, object := s.rule(n)
		server := fmt.Sprintf("server-%02d", n%20)
		// The first ten rules are the principal's; of the others it has its share.
		role := &roles[n%manyRoles]
		if n < 10 {
			role = &roles[n%5*everyNthIs]
			perm, _ := mcp.ParsePermission(permission)
			questions = append(questions, asked{perm: perm, server: server, kind: kind, object: object}, asked{perm: perm, server: server, kind: kind, object: "z" + object + "z"})
		}
		role.Allow = append(role.Allow, Grant{Permission: permission, Objects: []string{server + "/" + pattern}})
		if s.denies {
			not := server + "/" + "not_" + pattern
			if kind == KindURI {
				not = server + "/" + pattern + "/*.key"
			}
			role.Deny = append(role.Deny, Grant{Permission: permission, Objects: []string{not}})
		}
	}
	p := mustCompile(t, roles...)
	return p, p.RolesOf(claims(map[string][]string{"groups": mine}), nil, nil), questions
}

// The cost of a decision, counted in places visited, must not depend on how many
// rules there are.
func TestCostDoesNotGrowWithRules(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			worst := map[int]int{}
			for _, count := range []int{10, 1000, 10_000} {
				p, rs, questions := s.build(t, count)
				for i, q := range questions {
					allowed, steps := p.decide(rs, q.perm, q.server, q.kind, q.object)
					if allowed != (i%2 == 0) {
						t.Fatalf("%d rules: %v is %v", count, q, allowed)
					}
					worst[count] = max(worst[count], steps)
				}
			}
			// A tree of 10,000 patterns is at most a few digits deeper than one of ten.
			if worst[10_000] > worst[10]+10 {
				t.Errorf("most places visited, by number of rules: %v", worst)
			}
		})
	}
}

// Globs that crowd together must not become a list either.
func TestCostOfCrowdedGlobs(t *testing.T) {
	const count = 10_000
	for _, tt := range []struct {
		name, server, pattern, object string
		limit                         int
	}{
		{"common prefix", "s", "db_*_%05d", "db_x_09999", 12},
		{"common suffix", "s", "%05d_*_read", "09999_x_read", 12},
		{"both common, one shape", "s", "db_%05d*_read", "db_09999_read", 12},
		{"both common, several stars", "s", "a**_%05d_*b", "a/x_09999_yb", 12},
		{"both common, and the inner literal often", "s", "*%05d*", strings.Repeat("09999", 20), 500},
		{"servers by prefix", "team%05d-*", "x", "x", 12},
		{"servers by suffix", "*-team%05d", "x", "x", 12},
		{"many servers", "s%05d", "*", "x", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var grants []Grant
			for n := range count {
				object := tt.server + "/" + tt.pattern
				grants = append(grants, Grant{Permission: "tools.read", Objects: []string{strings.Replace(object, "%05d", fmt.Sprintf("%05d", n), 1)}})
			}
			p, rs := granting(t, grants...)
			server := strings.NewReplacer("%05d", "09999", "*", "x").Replace(tt.server)
			allowed, steps := p.decide(rs, mcp.ToolsRead, server, KindName, tt.object)
			if !allowed || steps > tt.limit {
				t.Errorf("allowed %v in %d steps, at most %d", allowed, steps, tt.limit)
			}
			if allowed, steps := p.decide(rs, mcp.ToolsRead, server, KindName, tt.object+"/y"); allowed || steps > tt.limit {
				t.Errorf("no match: allowed %v in %d steps, at most %d", allowed, steps, tt.limit)
			}
		})
	}
}

// A client chooses the text; whatever it sends is read once per candidate.
func TestLongObjectsAreReadOnce(t *testing.T) {
	a := newGlob(tokenize("**x*y*z/**a*b**/*c")).middle
	text := strings.Repeat("x/y/a", 1<<20)
	if a.words != 1 || a.match(text) {
		t.Errorf("%d words", a.words)
	}
	p, rs := granting(t, Grant{Permission: "resources.read", Objects: []string{"s/**x*y*z/**a*b**/*c", "s/*a*a*a*a*a*b", "s/**//**//**//x"}})
	for _, object := range []string{text, strings.Repeat("a", 1<<20), strings.Repeat("://", 1<<19), strings.Repeat("{", 1<<20)} {
		for _, kind := range []ObjectKind{KindURI, KindTemplate} {
			if p.Allows(rs, mcp.ResourcesRead, "s", kind, object) {
				t.Errorf("%.10q... is allowed", object)
			}
		}
	}
}

func TestAllowsDoesNotAllocate(t *testing.T) {
	for _, s := range shapes {
		p, rs, questions := s.build(t, 1000)
		for _, q := range questions {
			if n := testing.AllocsPerRun(20, func() {
				p.Allows(rs, q.perm, q.server, q.kind, q.object)
				p.AllowsAll(rs, q.perm, q.server)
				p.AllowsSome(rs, q.perm, q.server)
				p.AllowsServer(rs, q.server)
			}); n != 0 {
				t.Errorf("%s: %v: %v allocations", s.name, q, n)
			}
		}
	}
	judged, set, questions := shapes[3].build(t, 1000)
	for _, q := range questions {
		asked := q.question()
		if n := testing.AllocsPerRun(20, func() { judged.Judge(set, asked) }); n != 0 {
			t.Errorf("judging %v: %v allocations", q, n)
		}
	}
	p, rs := except(t, Grant{Permission: "*", Objects: []string{"abbc/x:/1/*a*b", "*/Y:/**", "a*/x:/1/z"}}, Grant{Permission: "tools.execute", If: "args.x == 1"})
	for _, kind := range []ObjectKind{KindNone, KindName, KindURI, KindTemplate} {
		for _, object := range []string{"x:/1/AxB?c#d", "x:/1/{a}/2?q=3", "y:/{a}", "X:/1/Z/", "z"} {
			asked := Question{Permission: mcp.ResourcesRead, Server: "abbc", Kind: kind, Object: object}
			if n := testing.AllocsPerRun(20, func() { p.Judge(rs, asked) }); n != 0 {
				t.Errorf("denying %v %q: %v allocations", kind, object, n)
			}
		}
	}
	p, rs = granting(t, Grant{Permission: "*", Objects: []string{"a*b*c/x:/**/{a}/*?q=*", "*/y:/**"}})
	for _, kind := range []ObjectKind{KindNone, KindName, KindURI, KindTemplate} {
		for _, object := range []string{"x:/1/{a}/2?q=3", "y:/{a}", "z"} {
			if n := testing.AllocsPerRun(20, func() { p.Allows(rs, mcp.ResourcesRead, "abbc", kind, object) }); n != 0 {
				t.Errorf("%v %q: %v allocations", kind, object, n)
			}
		}
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, s := range shapes {
		for _, count := range []int{10, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/rules=%d", s.name, count), func(b *testing.B) {
				p, rs, questions := s.build(b, count)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					q := &questions[i]
					if i++; i == len(questions) {
						i = 0
					}
					p.Allows(rs, q.perm, q.server, q.kind, q.object)
				}
			})
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	for _, s := range shapes {
		for _, count := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/rules=%d", s.name, count), func(b *testing.B) {
				p, rs, questions := s.build(b, count)
				var asked []Question
				for _, q := range questions {
					asked = append(asked, q.question())
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					p.Judge(rs, asked[i])
					if i++; i == len(asked) {
						i = 0
					}
				}
			})
		}
	}
}

func BenchmarkCondition(b *testing.B) {
	for _, condition := range []string{`args.schema == "public"`, `args.schema in ["public", "sales"] && claims.dept == "sales" && args.rows < 100`, `args.schema.matches("^[a-z]+$")`} {
		b.Run(condition, func(b *testing.B) {
			p := mustCompile(b, Role{Name: "r", Allow: []Grant{{Permission: "tools.execute", If: condition}}})
			rs, calls := p.RolesOf(nil, nil, nil), 0
			asked := calling("t", map[string]any{"schema": "public", "rows": 10.0}, &calls)
			b.ReportAllocs()
			for b.Loop() {
				p.Judge(rs, asked)
			}
		})
	}
}

func BenchmarkDeniedURIs(b *testing.B) {
	var denies []Grant
	for n := range 10_000 {
		denies = append(denies, Grant{Permission: "resources.read", Objects: []string{fmt.Sprintf("s/file:///secret/%05d/**", n)}})
	}
	p, rs := except(b, denies...)
	for _, q := range []asked{{kind: KindURI, object: "file:///public/Docs/readme.md?page=1"}, {kind: KindURI, object: "file:///secret/09999/a"}, {kind: KindTemplate, object: "file:///public/{+path}"}} {
		b.Run(q.object, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Allows(rs, mcp.ResourcesRead, "s", q.kind, q.object)
			}
		})
	}
}

func BenchmarkRolesOf(b *testing.B) {
	p, _, _ := shapes[2].build(b, 10_000)
	groups := []string{"role-000", "role-040", "role-080", "another", "and-another"}
	values := func(string) []string { return groups }
	b.ReportAllocs()
	for b.Loop() {
		p.RolesOf(values, nil, nil)
	}
}
