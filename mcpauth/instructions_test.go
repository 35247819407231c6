package mcpauth

import (
	"net/http"
	"strings"
	"testing"
)

const (
	askInitialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`
	askDiscover   = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
)

// TestInstructions: by default they are for those who see everything.
func TestInstructions(t *testing.T) {
	role := func(name string, permissions ...string) map[string]any {
		var allow []any
		for _, permission := range permissions {
			allow = append(allow, map[string]any{"permission": permission})
		}
		return map[string]any{"name": name, "when": []any{map[string]any{"claim": "roles", "values": []string{name}}}, "allow": allow}
	}
	roles := []any{
		role("admin", "*"),
		role("seer", "tools.read", "prompts.read", "resources.read"),
		role("no_tools", "prompts.read", "resources.read"),
		role("no_prompts", "tools.read", "resources.read"),
		role("no_resources", "tools.read", "prompts.read"),
		role("reader", "tools.execute"),
	}
	text := map[string]any{"mode": "text", "text": `Ask "first".`}
	const (
		given = `"capabilities":{} , "instructions" : "drop_all is for admins", "x":1`
		gone  = `"capabilities":{}, "x":1`
		told  = `"capabilities":{} , "instructions" : "Ask \"first\".", "x":1`
		none  = `"capabilities":{}, "x":1`
		added = `"instructions":"Ask \"first\".","capabilities":{}, "x":1`
	)
	for name, tc := range map[string]struct {
		option        map[string]any
		role          string
		answer, wants string
	}{
		"default, who sees everything":       {nil, "admin", given, given},
		"default, who sees but may not call": {nil, "seer", given, given},
		"default, no tools":                  {nil, "no_tools", given, gone},
		"default, no prompts":                {nil, "no_prompts", given, gone},
		"default, no resources":              {nil, "no_resources", given, gone},
		"default, only tools":                {nil, "reader", given, gone},
		"default, none there":                {nil, "reader", none, none},
		"pass":                               {map[string]any{"notes": map[string]any{"mode": "pass"}}, "reader", given, given},
		"drop":                               {map[string]any{"notes": map[string]any{"mode": "drop"}}, "admin", given, gone},
		"drop everywhere":                    {map[string]any{"*": map[string]any{"mode": "drop"}}, "admin", given, gone},
		"pass here, drop elsewhere":          {map[string]any{"*": map[string]any{"mode": "drop"}, "notes": map[string]any{"mode": "pass"}}, "reader", given, given},
		"text":                               {map[string]any{"notes": text}, "admin", given, told},
		"text, who sees little":              {map[string]any{"notes": text}, "reader", given, told},
		"text, none there":                   {map[string]any{"notes": text}, "reader", none, added},
	} {
		for _, asked := range []string{askInitialize, askDiscover} {
			for _, media := range []string{"application/json", "text/event-stream"} {
				modern := asked == askDiscover
				t.Run(name+" in "+media+map[bool]string{true: ", modern"}[modern], func(t *testing.T) {
					answer := func(members string) string { return `{"jsonrpc":"2.0","id":1,"result":{` + members + `}}` }
					wants := answer(tc.wants)
					// What was made for one principal is not for another.
					if modern && tc.option == nil && tc.wants == gone && tc.answer == given {
						wants = answer(strings.Replace(given, `"instructions" : "drop_all is for admins"`, `"cacheScope":"private"`, 1))
					}
					server := says(media, answer(tc.answer))
					if media == "text/event-stream" {
						server, wants = says(media, "data: "+answer(tc.answer)+"\n\n"), "data: "+wants+"\n\n"
					}
					g := newGate(t, map[string]any{"roles": roles, "instructions": tc.option}, server)
					r := g.post(t, tokenOf(t, tc.role, nil), asked)
					if modern {
						r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
						r.Header.Set("Mcp-Method", "server/discover")
					}
					if _, body := g.do(t, r); body != wants {
						t.Errorf("received\n%s, not\n%s", body, wants)
					}
				})
			}
		}
	}
}

// TestInstructionsElsewhere: a response is judged by what it holds, but nothing is put
// into the answer to something else.
func TestInstructionsElsewhere(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","instructions":"drop_all"}}`
	get := func(option any, answer string) string {
		g := newGate(t, map[string]any{"instructions": option}, says("text/event-stream", "data: "+answer+"\n\n"))
		r := g.post(t, tokenOf(t, "reader", nil), "")
		r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
		_, body := g.do(t, r)
		return body
	}
	if body := get(nil, answer); strings.Contains(body, "drop") || !strings.Contains(body, `"protocolVersion":"2025-06-18"}`) {
		t.Errorf("sent again on a GET: %s", body)
	}
	text := map[string]any{"notes": map[string]any{"mode": "text", "text": "told"}}
	if body := get(text, answer); strings.Contains(body, "drop") || !strings.Contains(body, "told") {
		t.Errorf("sent again on a GET: %s", body)
	}
	const other = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	if body := get(text, other); body != "data: "+other+"\n\n" {
		t.Errorf("another answer on a GET: %s", body)
	}
	for _, server := range []string{other, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`, `{"jsonrpc":"2.0","id":1,"result":"x"}`} {
		for _, asked := range []string{askCall, askInitialize} {
			g := newGate(t, map[string]any{"instructions": text}, says("text/event-stream", "data: "+server+"\n\n"))
			_, body := g.do(t, g.post(t, tokenOf(t, "reader", nil), asked))
			if told := asked == askInitialize && server == other; body == "data: "+server+"\n\n" == told || strings.Contains(body, "told") != told {
				t.Errorf("%s answered with %s: %s", asked, server, body)
			}
		}
	}
}
