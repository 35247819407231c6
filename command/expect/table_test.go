package expect

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy_test.yaml")
	const text = `# a comment
config: conf/Caddyfile
public_url: https://mcp.example.com
principals:
  ana: &ana {groups: [data-team], level: 3}
  like ana: *ana
  nobody: {}
expect:
  - principal: ana
    method: tools/call
    object: warehouse/query/x
    args: {limit: 10, at: 2026-01-01}
    allowed: true
    rule: allow *
    scopes: [b, a]
    client_ip: 10.0.0.1
    time: 2026-01-31T12:00:00+02:00
  - {principal: nobody, method: completion/complete, object: warehouse/x, ref: prompt, protocol: 2025-06-18, allowed: false, layer: roles, reason: "", role: ""}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if table.Config != filepath.Join(dir, "conf", "Caddyfile") || table.PublicURL != "https://mcp.example.com" || len(table.Expectations) != 2 {
		t.Fatalf("%+v", table)
	}
	want := map[string]any{"groups": []any{"data-team"}, "level": 3.0}
	if !reflect.DeepEqual(table.Principals["ana"], want) || !reflect.DeepEqual(table.Principals["like ana"], want) || table.Principals["nobody"] == nil {
		t.Errorf("%v", table.Principals)
	}
	first, second := table.Expectations[0], table.Expectations[1]
	if first.Line != 9 || !first.Allowed || first.Server() != "warehouse" || first.Question.Object != "query/x" || *first.Rule != "allow *" || first.Layer != nil ||
		string(first.Question.Arguments) != `{"limit":10,"at":"2026-01-01"}` || first.At.ClientIP.String() != "10.0.0.1" || first.At.Now.UTC().Hour() != 10 || len(*first.Scopes) != 2 {
		t.Errorf("%+v", first)
	}
	if second.Line != 18 || second.Allowed || second.Question.Reference != "prompt" || second.Question.Version != "2025-06-18" || *second.Layer != "roles" || *second.Reason != "" ||
		second.Question.Arguments != nil || !second.At.Now.IsZero() || second.Scopes != nil {
		t.Errorf("%+v", second)
	}
}

func TestReadErrors(t *testing.T) {
	const good = "principals: {a: {}}\nexpect:\n- {principal: a, method: ping, allowed: true}\n"
	if _, err := parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	entry := func(text string) string { return "principals: {a: {}}\nexpect:\n- {" + text + "}\n" }
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"only a comment", "# x\n", "the file is empty"},
		{"no YAML", "a: [", "line 1"},
		{"two documents", good + "---\n" + good, "there is more than one document in the file"},
		{"nothing expected", "principals: {a: {}}\n", "nothing is expected; write a list under expect"},
		{"an empty list", "expect: []\n", "nothing is expected"},
		{"an unknown member", good + "expects: []\n", "field expects not found"},
		{"a member twice", good + "expect: []\n", `mapping key "expect" already defined`},
		{"an unknown member of an expectation", entry("principal: a, method: ping, allowed: true, permitted: false"), "field permitted not found"},
		{"a member of an expectation twice", entry("principal: a, method: ping, allowed: true, allowed: false"), `mapping key "allowed" already defined`},
		{"a principal twice", "principals:\n  a: {}\n  a: {}\n", `mapping key "a" already defined`},
		{"a claim twice", "principals: {a: {x: 1, x: 2}}\n", `line 1: "x" is there twice`},
		{"no claims", "principals: {a: }\nexpect:\n- {principal: a, method: ping, allowed: true}\n", "principal a has no claims; write {} for none"},
		{"claims that are a list", "principals: {a: [x]}\nexpect:\n- {principal: a, method: ping, allowed: true}\n", "principal a has no claims"},
		{"no principal", entry("method: ping, allowed: true"), "line 3: principal is missing"},
		{"an unknown principal", entry("principal: b, method: ping, allowed: true"), `line 3: there is no principal "b"; there are a`},
		{"no method", entry("principal: a, allowed: true"), "line 3: method is missing"},
		{"no allowed", entry("principal: a, method: ping"), "line 3: allowed is missing: write true or false"},
		{"allowed null", entry("principal: a, method: ping, allowed: "), "line 3: allowed is missing"},
		{"allowed that is text", entry("principal: a, method: ping, allowed: maybe"), "line 3: cannot unmarshal"},
		{"no address", entry("principal: a, method: ping, allowed: true, client_ip: x"), `line 3: client_ip "x" is not an address`},
		{"no time", entry("principal: a, method: ping, allowed: true, time: noon"), `line 3: time "noon" is not like`},
		{"not JSON", entry("principal: a, method: tools/call, args: {a: .inf}, allowed: true"), "line 3: JSON has no such number"},
	} {
		if _, err := parse([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.yaml")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestValue(t *testing.T) {
	for _, tc := range []struct{ yaml, want string }{
		{`{a: 1, b: -2.5, c: 1e3, d: 0x1f, e: 0o17, f: 1_000, g: .5, h: +3}`, `{"a":1,"b":-2.5,"c":1e3,"d":31,"e":15,"f":1000,"g":0.5,"h":3}`},
		{`{big: 9007199254740993, huge: 123456789012345678901234567890, exact: 1.0}`, `{"big":9007199254740993,"huge":123456789012345678901234567890,"exact":1.0}`},
		{`[yes, no, on, true, False, null, ~, "true", 2026-01-01, 2026-01-01T00:00:00Z]`, `["yes","no","on",true,false,null,null,"true","2026-01-01","2026-01-01T00:00:00Z"]`},
		{"|\n a\n \"b\"\n", `"a\n\"b\"\n"`},
		{`{"": {1: a, true: b}}`, `{"":{"1":"a","true":"b"}}`},
		{`[&x [1], *x]`, `[[1],[1]]`},
	} {
		var v value
		if err := yaml.Unmarshal([]byte(tc.yaml), &v); err != nil || string(v.text) != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.yaml, v.text, err, tc.want)
		}
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 8 {
		a := string(rune('a' + i))
		b := string(rune('b' + i))
		bomb += b + ": &" + b + " [" + strings.Repeat("*"+a+", ", 10) + "]\n"
	}
	for _, tc := range []struct{ yaml, want string }{
		{`{[a]: 1}`, "a name must be text"},
		{"a: &a {x: 1}\nb: {<<: *a}", "a name must be text"},
		{`{a: !!binary aGk=}`, "JSON has nothing like"},
		{`{a: .nan}`, "JSON has no such number"},
		{bomb, "too large"},
		{"&a [*a]", "contains itself"},
	} {
		var v value
		if err := yaml.Unmarshal([]byte(tc.yaml), &v); err == nil || !strings.Contains(err.Error(), tc.want) && !strings.Contains(err.Error(), "too large") {
			t.Errorf("%.40s: %.80s, %v; want %s", tc.yaml, v.text, err, tc.want)
		}
	}
}

// FuzzParse: whatever is in the file, it is read or refused.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"principals: {a: {}}\nexpect:\n- {principal: a, method: ping, allowed: true}\n",
		"principals: {a: &a [*a]}\n", "a: &a {<<: *a}", "expect: [&x {}, *x]\nprincipals: &p {a: *p}\n", "- - - -", "%YAML 1.1\n---\nexpect: !!set {a}\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := parse(text)
		if err == nil && len(table.Expectations) == 0 {
			t.Error("nothing is expected, and that is no mistake")
		}
	})
}
