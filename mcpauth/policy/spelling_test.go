package policy

import (
	"testing"
	"unicode"
)

// Where a name that a condition asks for stands in another letter case, the condition is
// not evaluated: some servers would find it, and the condition does not.
func TestSpelling(t *testing.T) {
	object := func(pairs ...any) map[string]any {
		o := make(map[string]any)
		for i := 0; i < len(pairs); i += 2 {
			o[pairs[i].(string)] = pairs[i+1]
		}
		return o
	}
	for _, tt := range []struct {
		condition string
		args      map[string]any
		want      Reason
	}{
		{`!has(args.force)`, object(), Granted},
		{`!has(args.force)`, object("other", true), Granted},
		{`!has(args.force)`, object("force", true), ConditionFalse},
		{`!has(args.force)`, object("Force", true), ConditionFailed},
		{`!has(args.tasks)`, object("ta\u017f\u212as", true), ConditionFailed},
		{`!has(args.force)`, object("deeper", []any{object("FORCE", true)}), ConditionFailed},
		{`!has(args.a.force)`, object("a", object("Force", true)), ConditionFailed},
		{`!("force" in args)`, object("Force", true), ConditionFailed},
		{`!("force" in args.a)`, object("a", object("Force", true)), ConditionFailed},
		{`!("a" in args) || args["a"] == 1`, object("A", 1), ConditionFailed},
		{`!args.exists(k, k == "force")`, object("Force", true), ConditionFailed},
		{`!args.exists(k, k in ["x", "force"])`, object("Force", true), ConditionFailed},
		{`args.a.all(v, !has(v.force))`, object("a", []any{object("FORCE", true)}), ConditionFailed},
		{`args != {"force": true}`, object("Force", true), ConditionFailed},
		{`args.x == 1 || args.X == 1`, object("x", 1), ConditionFailed},
		// What is no name of an argument does not matter.
		{`args.schema in ["public", "sales"]`, object("schema", "public", "Sales", 1), Granted},
		{`args.schema == "public"`, object("schema", "public", "Public", 1), Granted},
		{`args.x == 1 && claims.dept == "sales" && claims["deep"].n == 3`, object("x", 1, "Dept", 1, "DEEP", 1, "N", 1), Granted},
		{`args.x == 1 && "a" in claims.list && claims.list.exists(v, v == "b")`, object("x", 1, "A", 1, "B", 1), Granted},
		{`size(args) == 2`, object("a", 1, "b", object("A", 1)), Granted},
		{`server == "s"`, object("S", 1), Granted},
	} {
		t.Run(tt.condition, func(t *testing.T) {
			p := mustCompile(t, Role{Name: "r", Allow: []Grant{{Permission: "tools.execute", If: tt.condition}}})
			var calls int
			if d := p.Judge(p.RolesOf(nil, nil, nil), calling("t", tt.args, &calls)); d.Reason != tt.want {
				t.Errorf("%v: %+v, want %v", tt.args, d, tt.want)
			}
		})
	}
}

// What encoding/json takes for the same name, fold does too.
func TestFold(t *testing.T) {
	for r := range unicode.MaxRune {
		if other := unicode.SimpleFold(r); fold(string(r)) != fold(string(other)) {
			t.Errorf("%U and %U", r, other)
		}
	}
}
