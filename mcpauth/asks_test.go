package mcpauth

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestInputRequests: what a server asks the client for inside a result of 2026-07-28
// needs the same permission as the request that it was before (row F8), in JSON and in
// an event stream.
func TestInputRequests(t *testing.T) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask","_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	config := map[string]any{"roles": []any{
		map[string]any{
			"name": "plain", "when": []any{map[string]any{"claim": "roles", "values": []string{"plain"}}},
			"allow": []any{map[string]any{"permission": "tools.execute"}},
		},
		map[string]any{
			"name": "asked", "when": []any{map[string]any{"claim": "roles", "values": []string{"asked"}}},
			"allow": []any{map[string]any{"permission": "tools.execute"}, map[string]any{"permission": "client.elicitation"}},
		},
	}}
	asking := func(requests string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":` + requests + `,"requestState":"s"}}`
	}
	elicit := asking(`{"a":{"method":"elicitation/create","params":{"message":"password?"}}}`)
	for name, tc := range map[string]struct {
		role, answer string
		status       int
		reason       string
	}{
		"not allowed":                    {"plain", elicit, 200, "input_forbidden"},
		"not allowed, escaped":           {"plain", asking(`{"a":{"m\u0065thod":"elicitation\/create"}}`), 200, "input_forbidden"},
		"allowed":                        {"asked", elicit, 200, ""},
		"one of two is not":              {"asked", asking(`{"a":{"method":"elicitation/create"},"b":{"method":"sampling/createMessage"}}`), 200, "input_forbidden"},
		"a method that is none of these": {"asked", asking(`{"a":{"method":"tools/call"}}`), 200, "input_forbidden"},
		"none at all":                    {"plain", asking(`{}`), 200, ""},
		"no object":                      {"asked", asking(`["method"]`), 502, "answer_malformed"},
		"twice":                          {"asked", asking(`{"a":{"method":"elicitation/create","Method":"sampling/createMessage"}}`), 502, "answer_malformed"},
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
				r, err := http.NewRequest(http.MethodPost, g.URL+"/mcp", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+tokenOf(t, tc.role, nil))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
				r.Header.Set("Mcp-Method", "tools/call")
				r.Header.Set("Mcp-Name", "ask")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				got := strings.TrimSpace(strings.TrimPrefix(string(text), "data: "))
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
