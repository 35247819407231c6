package policy

import (
	"fmt"
	"math/rand"
	"reflect"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func TestNarrow(t *testing.T) {
	tests := []struct {
		row        string
		conditions []string
		want       map[string][]any
	}{
		{"constant", []string{`args.x == "c"`}, map[string][]any{"x": {"c"}}},
		{"the other way round", []string{`"c" == args.x`}, map[string][]any{"x": {"c"}}},
		{"index", []string{`args["x y"] == "c"`}, map[string][]any{"x y": {"c"}}},
		{"set", []string{`args.x in ["b", "a", "b"]`}, map[string][]any{"x": {"a", "b"}}},
		{"scalars", []string{`args.x in [2, 1.0, 1u, 0.5, true, false, null, "s", -0.0]`}, map[string][]any{"x": {nil, false, true, 0.5, int64(0), int64(1), int64(2), "s"}}},
		{"conjunction", []string{`args.x == 1 && args.y in ["a", "b"] && size(args.z) < 3`}, map[string][]any{"x": {int64(1)}, "y": {"a", "b"}}},
		{"both at once", []string{`args.x in ["a", "b", "c"] && args.x in ["b", "c", "d"]`}, map[string][]any{"x": {"b", "c"}}},
		{"one of both", []string{`args.x == "a" || args.x == "b" && args.y == 1`}, map[string][]any{"x": {"a", "b"}}},
		{"union of rules", []string{`args.x == "a" && args.y == 1`, `args.x in ["b", "a"]`}, map[string][]any{"x": {"a", "b"}}},
		{"not all rules", []string{`args.x == "a"`, `args.y == "a"`}, nil},
		{"no value left", []string{`args.x == "a" && args.x == "b"`}, nil},
		{"no value", []string{`args.x in []`}, nil},
		{"negation", []string{`!(args.x == "a")`}, nil},
		{"inequality", []string{`args.x != "a"`}, nil},
		{"presence is not a value", []string{`has(args.x) == true`}, nil},
		{"below", []string{`args.x.y == "a"`}, nil},
		{"not a constant", []string{`args.x == claims.y && args.z in [args.x] && args.u in claims.list && args[tool] == "a"`}, nil},
		{"another map", []string{`claims.x == "a" && {"x": "b"}.x == "b" && claims["x"] == "a" && args[1 == 1 ? "a" : "b"] == 1`}, nil},
		{"not exact", []string{`args.x == 9007199254740992 && args.y == 1e300 && args.z == 9007199254740992u && args.u == b"x"`}, nil},
		{"choice", []string{`args.y == 1 ? args.x == "a" : args.x == "b"`}, nil},
		{"a variable that is called args", []string{`claims.list.exists(args, args.x == "a")`}, nil},
		{"literal", []string{`true`}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			var roles []Role
			for i, condition := range tt.conditions {
				roles = append(roles, Role{Name: fmt.Sprint("r", i), Allow: []Grant{{Permission: "tools.execute", Objects: []string{"s/t", "s/*"}, If: condition}}})
			}
			p := mustCompile(t, roles...)
			got, ok := p.Narrow(p.RolesOf(nil, nil, nil), "s", "t")
			plain := map[string][]any{}
			for name, c := range got {
				plain[name] = c.Values
			}
			if !p.Narrows(p.RolesOf(nil, nil, nil), "s") || ok != (tt.want != nil) || ok && !reflect.DeepEqual(plain, tt.want) {
				t.Errorf("%v, %v, want %v", plain, ok, tt.want)
			}
		})
	}
	fixing := Grant{Permission: "tools.execute", Objects: []string{"s/t"}, If: `args.x == "a"`}
	for row, role := range map[string]Role{
		"another grant without a condition": {Name: "r", Allow: []Grant{fixing, {Permission: "*", Objects: []string{"s"}}}},
		"denied":                            {Name: "r", Allow: []Grant{fixing}, Deny: []Grant{{Permission: "tools.read", Objects: []string{"s/t"}}}},
		"another tool":                      {Name: "r", Allow: []Grant{{Permission: "tools.execute", Objects: []string{"s/u"}, If: `args.x == "a"`}}},
		"a role that is not held":           {Name: "r", When: []Condition{{"g", []string{"v"}}}, Allow: []Grant{fixing}},
	} {
		p := mustCompile(t, role)
		if got, ok := p.Narrow(p.RolesOf(nil, nil, nil), "s", "t"); ok || got != nil {
			t.Errorf("%s: %v", row, got)
		}
	}
	p := mustCompile(t, Role{Name: "r", Allow: []Grant{fixing, {Permission: "tools.read"}}})
	if _, ok := p.Narrow(p.RolesOf(nil, nil, nil), "s", "t"); !ok {
		t.Error("a grant to see is no grant to call")
	}
	if !p.Narrows(p.RolesOf(nil, nil, nil), "s") || p.Narrows(p.RolesOf(nil, nil, nil), "t") || p.Narrows(RoleSet{}, "s") {
		t.Error("only s has tools that can be narrowed")
	}
	if _, ok := p.Narrow(RoleSet{}, "s", "t"); ok {
		t.Error("no roles")
	}
}

// condition makes a condition about args.x and others.
func (g generator) condition(depth int) string {
	constant := func() string {
		return g.pick(`"a"`, `"b"`, "1", "1.0", "0.5", "2u", "true", "null", "9007199254740992", "claims.c")
	}
	name := g.pick("args.x", "args.x", `args["x"]`, "args.y", "claims.x", "args.x.y", "args.z")
	switch g.Intn(9 - min(depth, 4)) {
	case 0, 1:
		return name + " == " + constant()
	case 2:
		return constant() + " == " + name
	case 3:
		return name + " in [" + constant() + ", " + constant() + "]"
	case 4:
		return g.pick(name+" != "+constant(), "has(args.x)", "has(args.x) == true", "tool == \"t\"", "size(args) > 1", "true", "false",
			"[args, {\"x\": "+constant()+"}].exists(args, args.x == "+constant()+")", "args.x == args.y", "type(args.x) == string")
	case 5, 6:
		return "(" + g.condition(depth+1) + " && " + g.condition(depth+1) + ")"
	case 7:
		return "(" + g.condition(depth+1) + " || " + g.condition(depth+1) + ")"
	}
	return g.pick("!("+g.condition(depth+1)+")", "("+g.condition(depth+1)+" ? "+g.condition(depth+1)+" : "+g.condition(depth+1)+")")
}

var narrowValues = []any{
	"a", "b", "", 1.0, int64(1), uint64(1), 0.5, 2.0, uint64(2), true, false, nil, 9007199254740992.0, int64(9007199254740993), "1", []any{"a"}, map[string]any{"y": "a"}, map[string]any{},
}

// checkNarrow calls the tool with all sorts of arguments, and returns how many
// were narrowed away. None of these may be allowed.
func checkNarrow(t *testing.T, p *Policy) (narrowed int) {
	t.Helper()
	rs := p.RolesOf(nil, nil, nil)
	constraints, ok := p.Narrow(rs, "s", "t")
	if ok != (len(constraints) > 0) {
		t.Fatalf("%v, %v", constraints, ok)
	}
	try := func(args map[string]any) {
		outside := false
		for name, c := range constraints {
			v, given := args[name]
			if !given || !contains(c.Values, v) {
				outside = true
			}
		}
		if !outside {
			return
		}
		narrowed++
		d := p.Judge(rs, Question{
			Permission: mcp.ToolsExecute, Server: "s", Kind: KindName, Object: "t",
			Arguments: func() (map[string]any, error) { return args, nil },
			Claims:    func() map[string]any { return map[string]any{"c": "c", "x": "a"} },
		})
		if d.Allowed {
			t.Fatalf("%v is allowed with %v, but narrowed to %v", args, d.Rule.If, constraints)
		}
	}
	for _, x := range narrowValues {
		try(map[string]any{"x": x})
		for _, y := range narrowValues[:7] {
			try(map[string]any{"x": x, "y": y})
			try(map[string]any{"y": x, "z": y})
			try(map[string]any{"x": x, "y": y, "z": x})
		}
	}
	return narrowed
}

// contains compares as JSON Schema does: numbers by value.
func contains(values []any, v any) bool {
	number := func(v any) (float64, bool) {
		switch v := v.(type) {
		case int64:
			return float64(v), true
		case uint64:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	}
	for _, w := range values {
		a, isA := number(v)
		b, isB := number(w)
		if isA && isB && a == b || reflect.DeepEqual(v, w) {
			return true
		}
	}
	return false
}

func TestNarrowAgreesWithEvaluation(t *testing.T) {
	narrowed := 0
	for seed := range int64(400) {
		g := generator{rand.New(rand.NewSource(seed))}
		var grants []Grant
		for range g.Intn(2) + 1 {
			grants = append(grants, Grant{Permission: "tools.execute", If: g.condition(0)})
		}
		p, err := Compile([]Role{{Name: "r", Allow: grants}})
		if err != nil {
			continue // such as 1 == "a"
		}
		narrowed += checkNarrow(t, p)
	}
	if narrowed < 10_000 {
		t.Errorf("only %d calls narrowed away", narrowed)
	}
}

func FuzzNarrow(f *testing.F) {
	for _, seed := range []string{`args.x == "a"`, `args["x"] in [1, 2.0, null] && has(args.y)`, `(args.x == 1 || args.x == "a") && !(args.y == 1)`, `args.x in [] || true`, `args.x == "a" ? args.y == 1 : false`} {
		f.Add(seed, `args.x in ["b", 0.5]`)
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		p, err := Compile([]Role{{Name: "r", Allow: []Grant{{Permission: "tools.execute", If: one}, {Permission: "tools.execute", If: other}}}})
		if err == nil {
			checkNarrow(t, p)
		}
	})
}
