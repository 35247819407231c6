package mcpauth

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestInputRequests: what a server asks the client for inside a result of 2026-07-28
// needs the same permission as the request that it was before, and a client that
// declares it (row F8), in JSON and in an event stream.
func TestInputRequests(t *testing.T) {
	const all = `{"elicitation":{},"sampling":{},"roots":{}}`
	config := map[string]any{"roles": []any{
		map[string]any{
			"name": "plain", "when": []any{map[string]any{"claim": "roles", "values": []string{"plain"}}},
			"allow": []any{map[string]any{"permission": "tools.execute"}},
		},
		map[string]any{
			"name": "asked", "when": []any{map[string]any{"claim": "roles", "values": []string{"asked"}}},
			"allow": []any{map[string]any{"permission": "tools.execute"}, map[string]any{"permission": "client.elicitation"}},
		},
		map[string]any{
			"name": "admin", "when": []any{map[string]any{"claim": "roles", "values": []string{"admin"}}},
			"allow": []any{map[string]any{"permission": "*"}},
		},
	}}
	asking := func(requests string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":` + requests + `,"requestState":"s"}}`
	}
	elicit := asking(`{"a":{"method":"elicitation/create","params":{"message":"password?"}}}`)
	for name, tc := range map[string]struct {
		role, declared, answer string
		status                 int
		reason                 string
	}{
		"not allowed":                    {"plain", all, elicit, 200, "input_forbidden"},
		"not allowed, escaped":           {"plain", all, asking(`{"a":{"m\u0065thod":"elicitation\/create"}}`), 200, "input_forbidden"},
		"allowed":                        {"asked", all, elicit, 200, ""},
		"allowed, and the only one":      {"asked", `{"elicitation":{"form":{}}}`, elicit, 200, ""},
		"not declared":                   {"asked", `{}`, elicit, 200, "input_forbidden"},
		"another is declared":            {"asked", `{"sampling":{},"roots":{}}`, elicit, 200, "input_forbidden"},
		"declared as none":               {"asked", `{"elicitation":null}`, elicit, 200, "input_forbidden"},
		"declared elsewhere":             {"asked", `{"experimental":{"elicitation":{}}}`, elicit, 200, "input_forbidden"},
		"sampling by who may everything": {"admin", `{"elicitation":{}}`, asking(`{"a":{"method":"sampling/createMessage"}}`), 200, "input_forbidden"},
		"all by who may everything":      {"admin", all, asking(`{"a":{"method":"sampling/createMessage"},"b":{"method":"roots/list"},"c":{"method":"elicitation/create"}}`), 200, ""},
		"one of two is not":              {"asked", all, asking(`{"a":{"method":"elicitation/create"},"b":{"method":"sampling/createMessage"}}`), 200, "input_forbidden"},
		"a method that is none of these": {"asked", all, asking(`{"a":{"method":"tools/call"}}`), 200, "input_forbidden"},
		"within the result of a task":    {"plain", all, strings.Replace(asking(`{"a":{"method":"roots/list"}}`), `"inputRequests"`, `"result":{"inputRequests":{"a":{"method":"elicitation/create"}}},"inputRequests"`, 1), 200, "input_forbidden"},
		"none at all":                    {"plain", `{}`, asking(`{}`), 200, ""},
		"no object":                      {"asked", all, asking(`["method"]`), 502, "answer_malformed"},
		"twice":                          {"asked", all, asking(`{"a":{"method":"elicitation/create","Method":"sampling/createMessage"}}`), 502, "answer_malformed"},
	} {
		for _, media := range []string{"application/json", "text/event-stream"} {
			if tc.status == 502 && media != "application/json" {
				continue // ends the stream, which answer_test shows
			}
			t.Run(name+"/"+media, func(t *testing.T) {
				g := newGate(t, config, func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Content-Type", media)
					answer := tc.answer
					if media == "text/event-stream" {
						answer = "data: " + answer + "\n\n"
					}
					_, err := io.WriteString(w, answer)
					return err
				})
				resp, text := g.do(t, g.modern(t, tokenOf(t, tc.role, nil), "tools/call", "name", "ask", tc.declared))
				got := strings.TrimSpace(strings.TrimPrefix(text, "data: "))
				if resp.StatusCode != tc.status || reasonOf(got) != tc.reason {
					t.Errorf("status %d, reason %q, want %d %q: %s", resp.StatusCode, reasonOf(got), tc.status, tc.reason, got)
				}
				if (got == tc.answer) != (tc.reason == "") {
					t.Errorf("the client got %s", got)
				}
			})
		}
	}
}
