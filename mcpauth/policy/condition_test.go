package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func join(list []string) string { return strings.Join(list, " ") }

// calling is a question about a tool, with arguments that count how often they are
// asked for.
func calling(object string, args map[string]any, count *int) Question {
	return Question{
		Permission: mcp.ToolsExecute, Server: "s", Kind: KindName, Object: object, Client: "agent",
		Arguments: func() (map[string]any, error) { *count++; return args, nil },
		Claims: func() map[string]any {
			return map[string]any{"dept": "sales", "list": []any{"a", "b"}, "deep": map[string]any{"n": int64(3)}}
		},
	}
}

func TestConditions(t *testing.T) {
	args := map[string]any{"x": "a", "n": 3.0, "big": int64(1) << 60, "list": []any{"p", "q"}, "map": map[string]any{"k": true}, "nothing": nil, "ok": true}
	tests := []struct {
		condition string
		want      Reason
	}{
		{`args.x == "a"`, Granted},
		{`args.x == "b"`, ConditionFalse},
		{`args["x"] in ["a"]`, Granted},
		{`args.n == 3`, Granted},
		{`args.n < 4 && args.n > 2.5`, Granted},
		{`args.n == "3"`, ConditionFalse},
		{`args.big == 1152921504606846976`, Granted},
		{`args.list.all(v, v in ["p", "q"])`, Granted},
		{`"q" in args.list`, Granted},
		{`args.map.k == true`, Granted},
		{`args.nothing == null`, Granted},
		{`has(args.y)`, ConditionFalse},
		{`!has(args.y) || args.y == 1`, Granted},
		{`args.y == 1`, ConditionFailed},
		{`args.x < 3`, ConditionFailed},
		{`args.x.y == 1`, ConditionFailed},
		{`claims.dept == "sales" && "a" in claims.list && claims.deep.n == 3`, Granted},
		{`claims.none == 1`, ConditionFailed},
		{`server == "s" && tool == "t" && client == "agent"`, Granted},
		{`args.x == claims.dept`, ConditionFalse},
		{`args.x.matches("^[a-c]$")`, Granted},
		{`matches(args.x, "^b")`, ConditionFalse},
		{`size(args) == 7`, Granted},
		{`args.list.exists(a, args.list.exists(b, args.list.exists(c, a + b + c == "ppp")))`, Granted},
	}
	for _, tt := range tests {
		t.Run(tt.condition, func(t *testing.T) {
			for _, deny := range []bool{false, true} {
				grant := Grant{Permission: "tools.execute", Objects: []string{"s/t"}, If: tt.condition, Source: "here:1"}
				role := Role{Name: "r", Allow: []Grant{grant}}
				if deny {
					role = Role{Name: "r", Allow: []Grant{{Permission: "tools.execute"}}, Deny: []Grant{grant}}
				}
				p := mustCompile(t, role)
				var calls int
				d := p.Judge(p.RolesOf(nil, nil, nil), calling("t", args, &calls))
				want := tt.want
				if deny && want == ConditionFalse {
					want = Granted
				} else if deny {
					want = Denied
				}
				if d.Reason != want || d.Allowed != (want == Granted) || (d.Err != nil) != (tt.want == ConditionFailed) || calls > 1 {
					t.Errorf("deny %v: %+v, want %v, after %d calls", deny, d, want, calls)
				}
				if d.Rule == nil || want != Granted && (d.Rule.If != tt.condition || d.Rule.Source != "here:1" || d.Rule.Permission != "tools.execute") {
					t.Errorf("deny %v: rule %+v", deny, d.Rule)
				}
				if p.Allows(p.RolesOf(nil, nil, nil), mcp.ToolsExecute, "s", KindName, "t") || !p.Allows(p.RolesOf(nil, nil, nil), mcp.ToolsRead, "s", KindName, "t") {
					t.Error("without arguments the call must be refused, and the tool seen")
				}
			}
		})
	}
}

// A condition is evaluated only if the answer depends on it.
func TestConditionsOnlyWhenDecisive(t *testing.T) {
	call := func(object, condition string) Grant {
		return Grant{Permission: "tools.execute", Objects: []string{"s/" + object}, If: condition}
	}
	const true1, false1 = `args.x == "a"`, `args.x == "b"`
	tests := []struct {
		row         string
		allow, deny []Grant
		want        Reason
		calls       int
	}{
		{"no rule", nil, []Grant{call("t", true1)}, NoRule, 0},
		{"unconditional", []Grant{call("t", ""), call("t", true1)}, nil, Granted, 0},
		{"denied anyway", []Grant{call("t", true1)}, []Grant{call("t", ""), call("t", true1)}, Denied, 0},
		{"another tool", []Grant{call("u", true1), call("t", "")}, []Grant{call("u", true1)}, Granted, 0},
		{"only deny", []Grant{call("t", "")}, []Grant{call("t", false1)}, Granted, 1},
		{"both, once", []Grant{call("t", true1), call("t*", true1)}, []Grant{call("t", false1), call("*", false1)}, Granted, 1},
		{"no argument needed", []Grant{call("t", `client == "agent"`)}, nil, Granted, 0},
		{"one of several", []Grant{call("t", false1), call("*", `args.none == 1`), call("**", true1)}, nil, Granted, 1},
		{"an error before the one that is true", []Grant{call("t", `args.none == 1`), call("*", true1)}, nil, Granted, 1},
		{"the first of several is named", []Grant{call("**", false1), call("t", false1), call("*", `args.x == "c"`)}, nil, ConditionFalse, 1},
		{"what failed comes first", []Grant{call("t", false1), call("**", `args.none == 1`), call("*", `args.none == 2`)}, nil, ConditionFailed, 1},
		{"denied by one", []Grant{call("t", true1)}, []Grant{call("t", true1)}, Denied, 1},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p := mustCompile(t, Role{Name: "r", Allow: tt.allow, Deny: tt.deny})
			calls := 0
			d := p.Judge(p.RolesOf(nil, nil, nil), calling("t", map[string]any{"x": "a"}, &calls))
			if d.Reason != tt.want || calls != tt.calls || tt.want != ConditionFailed && d.Err != nil {
				t.Errorf("%+v after %d calls, want %v after %d", d, calls, tt.want, tt.calls)
			}
			if tt.want == ConditionFalse && d.Rule.Index != 0 || tt.want == ConditionFailed && d.Rule.Index != 1 {
				t.Errorf("rule %+v", d.Rule)
			}
		})
	}
}

// A rule that matches an object in several ways is evaluated once.
func TestConditionsOnlyOnce(t *testing.T) {
	p := mustCompile(t, Role{Name: "r", Allow: []Grant{{Permission: "tools.execute", Objects: []string{"s/t", "s/*", "s/**", "*/t*"}, If: `args.x == "b"`}}})
	calls := 0
	asked := calling("t", map[string]any{"x": "a"}, &calls)
	q, _ := p.newQuestion(p.RolesOf(nil, nil, nil), &asked)
	q.arguments = asked.Arguments
	if reason := p.settle(&q, true); reason != ConditionFalse || len(q.tried) != 1 || calls != 1 {
		t.Errorf("%v after trying %d rules, %d calls", reason, len(q.tried), calls)
	}
}

func TestConditionsWithoutArguments(t *testing.T) {
	p := mustCompile(t, Role{Name: "r", Allow: []Grant{{Permission: "tools.execute", If: `server == "s" || args.x == 1`}}})
	rs, broken := p.RolesOf(nil, nil, nil), errors.New("broken")
	asked := Question{Permission: mcp.ToolsExecute, Server: "s", Kind: KindName, Object: "t"}
	if d := p.Judge(rs, asked); d.Reason != ConditionFailed || d.Err == nil {
		t.Errorf("no arguments: %+v", d)
	}
	asked.Arguments = func() (map[string]any, error) { return nil, broken }
	if d := p.Judge(rs, asked); d.Reason != ConditionFailed || !errors.Is(d.Err, broken) {
		t.Errorf("broken arguments: %+v", d)
	}
	asked.Arguments = func() (map[string]any, error) { return nil, nil }
	if d := p.Judge(rs, asked); !d.Allowed {
		t.Errorf("an empty call: %+v", d)
	}
	asked.Kind = KindNone
	if d := p.Judge(rs, asked); d.Reason != NoRule {
		t.Errorf("all tools: %+v", d)
	}
	if d := p.Judge(RoleSet{}, asked); d != (Decision{Reason: NoRule}) {
		t.Errorf("no policy: %+v", d)
	}
	var none *Policy
	if none.ScopesForQuestion(nil, nil, nil, asked) != nil || none.Judge(rs, asked).Allowed {
		t.Error("a nil policy allows nothing")
	}
}

// A client must not be able to make a condition expensive.
func TestConditionCostIsBounded(t *testing.T) {
	var list, lists []any
	for i := range 2000 {
		list = append(list, float64(i))
		lists = append(lists, []any{float64(i), map[string]any{"k": "v"}})
	}
	args := map[string]any{"list": list, "lists": lists, "text": strings.Repeat("a", 4<<20), "short": strings.Repeat("a", 10<<10), "medium": strings.Repeat("a", 17<<10), "map": map[string]any{"k": strings.Repeat("a", 1<<20)}}
	for condition, want := range map[string]Reason{
		`args.list.all(a, args.list.all(b, args.list.all(c, a + b + c >= 0)))`: ConditionFailed,
		`args.text.contains("b") || true`:                                      ConditionFailed,
		`args.text.matches("(a*)*b") == false`:                                 ConditionFailed,
		`args.list.all(a, args.text + args.text != "")`:                        ConditionFailed,
		`args.list.all(a, size(args.text) > 0)`:                                ConditionFailed,
		`args.list.all(a, args.lists == args.lists)`:                           ConditionFailed,
		`args.list.all(a, !([a] in args.lists))`:                               ConditionFailed,
		`args.list.all(a, bytes(args.text) != b"")`:                            ConditionFailed,
		`args.text + args.text != ""`:                                          ConditionFailed,
		`args.medium.matches("^a*$")`:                                          ConditionFailed,
		`args.map == args.map`:                                                 ConditionFailed,
		`args.list.all(a, a >= 0)`:                                             Granted,
		`5 in args.list && size(args.lists) == 2000`:                           Granted,
		`args.short.matches("^a*$") && size(args.short) == 10240`:              Granted,
		`args.short + "b" == args.short + "b"`:                                 Granted,
		`has(args.text) && args.list[3] == 3`:                                  Granted,
	} {
		p := mustCompile(t, Role{Name: "r", Allow: []Grant{{Permission: "tools.execute", If: condition}}})
		calls := 0
		d := p.Judge(p.RolesOf(nil, nil, nil), calling("t", args, &calls))
		if d.Reason != want || want == ConditionFailed && !strings.Contains(d.Err.Error(), "cost") {
			t.Errorf("%s: %+v", condition, d)
		}
	}
}

func TestConditionErrors(t *testing.T) {
	tests := []struct{ permission, condition, want string }{
		{"tools.execute", `arg.x == 1`, "line 1, column 1: undeclared reference to 'arg'"},
		{"tools.execute", "args.x == 1 &&\n  tools == 2", "line 2, column 3: undeclared reference to 'tools'"},
		{"tools.execute", `args.x ==`, "Syntax error"},
		{"tools.execute", `server.name == "x"`, "type 'string' does not support field selection"},
		{"tools.execute", `server == 1`, "no matching overload"},
		{"prompts.execute", `args.x`, "args.x == true"},
		{"prompts.execute", `"x"`, "of type string"},
		{"tools.execute", `now() == 1`, "undeclared reference to 'now'"},
		{"tools.execute", `args.x.matches(args.y)`, "write the pattern of matches out"},
		{"tools.execute", `args.x.matches("(")`, "error parsing regexp"},
		{"tools.execute", `args.x.matches("((a{100}){100}){9}")`, "regex"},
		{"tools.execute", strings.Repeat(" ", maxCondition) + "true", "4096 bytes"},
		{"tools.execute", "\"\xff\" == tool", "UTF-8"},
		{"tools.execute", strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "recursion"},
		{"tools.read", `args.x == 1`, "tools.read cannot have a condition"},
		{"*", `args.x == 1`, "* cannot have a condition"},
		{"resources.read", `args.x == 1`, "only tools.execute and prompts.execute"},
	}
	for _, tt := range tests {
		for _, deny := range []bool{false, true} {
			grants := []Grant{{Permission: "tools.read"}, {Permission: tt.permission, If: tt.condition}}
			role := Role{Name: "r", Allow: grants}
			if deny {
				role = Role{Name: "r", Deny: grants}
			}
			_, err := Compile([]Role{role})
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Reason, tt.want) || e.Grant != 1 || e.Deny != deny || e.Object != -1 {
				t.Errorf("%.40q: %v", tt.condition, err)
			}
			if deny && err != nil && !strings.Contains(err.Error(), `role "r": deny 2: `) {
				t.Errorf("the place is missing: %v", err)
			}
		}
	}
}
