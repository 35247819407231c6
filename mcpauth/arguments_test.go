package mcpauth

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// TestArgumentRules sends calls whose arguments decide. What is refused must not
// reach the server.
func TestArgumentRules(t *testing.T) {
	config := map[string]any{"roles": []any{map[string]any{
		"name": "analyst",
		"allow": []any{
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/query"}, "if": `args.schema in ["public", "sales"] && claims.sub == "somebody"`},
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/count"}, "if": `args.limit <= 100`},
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/free"}},
		},
		"deny": []any{
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/free"}, "if": `args.path.startsWith("/etc")`},
			map[string]any{"permission": "tools.execute", "objects": []string{"notes/never"}},
		},
	}}}
	for name, tc := range map[string]struct {
		tool, arguments string
		allowed         bool
	}{
		"a value that is allowed":         {"query", `{"schema":"sales","sql":"select"}`, true},
		"an escaped value":                {"query", `{"sch\u0065ma":"s\u0061les"}`, true},
		"another value":                   {"query", `{"schema":"payroll"}`, false},
		"no such argument":                {"query", `{"sql":"select"}`, false},
		"no arguments":                    {"query", ``, false},
		"an argument of another type":     {"query", `{"schema":["sales"]}`, false},
		"a name in another case":          {"query", `{"Schema":"sales"}`, false},
		"the name in two cases":           {"query", `{"schema":"sales","Schema":"payroll"}`, false},
		"deeper in two cases":             {"query", `{"schema":"sales","a":[{"b":1,"B":2}]}`, false},
		"a number in bounds":              {"count", `{"limit":100}`, true},
		"a number beyond":                 {"count", `{"limit":101}`, false},
		"a number that is rounded":        {"count", `{"limit":-9007199254740993}`, false},
		"a deny that does not hold":       {"free", `{"path":"/tmp"}`, true},
		"a deny that holds":               {"free", `{"path":"/etc/passwd"}`, false},
		"a deny that cannot be evaluated": {"free", `{}`, false},
		"denied without condition":        {"never", `{}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			received := make(chan string, 1)
			g := newGate(t, config, func(w http.ResponseWriter, r *http.Request) error {
				body, err := io.ReadAll(r.Body)
				received <- string(body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
				return err
			})
			body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tc.tool + `"`
			if tc.arguments != "" {
				body += `,"arguments":` + tc.arguments
			}
			body += `}}`
			r, err := http.NewRequest(http.MethodPost, g.URL+"/mcp", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+tokenOf(t, "analyst", nil))
			r.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			if got := reasonOf(string(answer)); (got == "") != tc.allowed || got != "" && got != "not_found" {
				t.Errorf("reason %q: %s", got, answer)
			}
			select {
			case got := <-received:
				if !tc.allowed {
					t.Errorf("the server received %s", got)
				} else if got != body {
					t.Errorf("the server received %s, not %s", got, body)
				}
			default:
				if tc.allowed {
					t.Error("the server received nothing")
				}
			}
		})
	}
}

// TestNarrow: the schema of a listed tool names the values that the caller may send,
// and is otherwise as the server wrote it.
func TestNarrow(t *testing.T) {
	compiled, err := policy.Compile([]policy.Role{{Name: "a", Allow: []policy.Grant{
		{Permission: "tools.execute", Objects: []string{"s/one"}, If: `args.x == "b" && args.n == 1`},
		{Permission: "tools.execute", Objects: []string{"s/two"}, If: `args.x in ["c", "a"]`},
		{Permission: "tools.execute", Objects: []string{"s/free"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	call := &Call{Server: "s", Principal: &Principal{policy: compiled, set: compiled.RolesOf(nil, nil, nil)}}
	for name, tc := range map[string]struct{ tool, in, want string }{
		"one value": {
			"one",
			`{"name":"one","inputSchema":{"$schema":"x", "properties":{"y":{"type":"string"},"x":{"type":"string","title":"X"}},"required":["x"]},"z":1}`,
			`{"name":"one","inputSchema":{"$schema":"x","properties":{"y":{"type":"string"},"x":{"type":"string","title":"X","const":"b"}},"required":["x"]},"z":1}`,
		},
		"several values": {
			"two",
			`{"inputSchema":{"properties":{"x":{"type":"string"}}}}`,
			`{"inputSchema":{"properties":{"x":{"type":"string","enum":["a","c"]}}}}`,
		},
		"fewer of those there are": {
			"two",
			`{"inputSchema":{"properties":{"x":{"enum":["\u0061","b"],"type":"string"}}}}`,
			`{"inputSchema":{"properties":{"x":{"type":"string","const":"a"}}}}`,
		},
		"none of those there are": {
			"two",
			`{"inputSchema":{"properties":{"x":{"const":"z"}}}}`,
			`{"inputSchema":{"properties":{"x":{"enum":[]}}}}`,
		},
		"an argument that the schema does not have": {
			"two", `{"inputSchema":{"properties":{}}}`, `{"inputSchema":{"properties":{}}}`,
		},
		"no schema":       {"two", `{"name":"two"}`, `{"name":"two"}`},
		"no object":       {"two", `{"inputSchema":true}`, `{"inputSchema":true}`},
		"a tool as it is": {"free", `{ "inputSchema" : {"properties":{"x":{}}}}`, `{ "inputSchema" : {"properties":{"x":{}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(call.narrowTool(1, tc.tool, []byte(tc.in))); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
