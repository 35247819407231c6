package mcpauth

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

// explained is the configuration that the explanations are about.
var explained = map[string]any{
	"servers":    []string{"notes", "crm"},
	"visibility": map[string]any{"crm": map[string]any{"level": "team", "team": "sales"}},
	"issuers": []any{map[string]any{
		"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret},
		"token_scope": map[string]any{"scope_permissions": true},
	}},
	"roles": []any{
		map[string]any{
			"name": "reader",
			"allow": []any{
				map[string]any{"permission": "tools.execute", "objects": []string{"notes/read", "notes/a b"}, "at": "Caddyfile:3"},
				map[string]any{"permission": "tools.execute", "objects": []string{"notes/ask"}, "if": "args.n < 5"},
				map[string]any{"permission": "resources.subscribe", "objects": []string{"notes/file:///a/**"}, "at": "Caddyfile:5"},
			},
			"deny": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes/drop_*"}, "at": "Caddyfile:6"}},
		},
		map[string]any{
			"name":    "guest",
			"when":    []any{map[string]any{"claim": "groups", "values": []string{"guests"}}},
			"extends": []string{"viewer"},
		},
		map[string]any{
			"name":  "writer",
			"when":  []any{map[string]any{"claim": "scope", "values": []string{"notes:write"}}},
			"allow": []any{map[string]any{"permission": "*", "objects": []string{"notes"}, "at": "Caddyfile:9"}},
		},
	},
}

func TestExplain(t *testing.T) {
	h := provisioned(t, gateConfig(explained))
	const all = `"scope":"mcp:all"`
	for _, tc := range []struct {
		name, claims, server string
		q                    Question
		want                 string
	}{
		{"granted", all, "notes", Question{Method: "tools/call", Object: "read"}, `{"allowed":true,"permission":"tools.execute","rule":{"role":"reader","at":"Caddyfile:3","text":"allow tools.execute notes/read \"notes/a b\""}}`},
		{"no rule", all, "notes", Question{Method: "prompts/get", Object: "read"}, `{"allowed":false,"permission":"prompts.execute","layer":"roles","reason":"no_rule","detail":"no rule allows prompts.execute","scopes":["notes:write"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"no rule, no scope", all, "notes", Question{Method: "tools/call", Object: "drop_all"}, `{"allowed":false,"permission":"tools.execute","layer":"roles","reason":"denied","detail":"a rule denies it","rule":{"role":"reader","at":"Caddyfile:6","text":"deny tools.execute notes/drop_*"},"answer":{"status":200,"code":-32602,"reason":"not_found"}}`},
		{"condition", all, "notes", Question{Method: "tools/call", Object: "ask", Arguments: []byte(`{"n":4}`)}, `{"allowed":true,"permission":"tools.execute","rule":{"role":"reader","text":"allow tools.execute notes/ask if args.n < 5"}}`},
		{"condition does not hold", all, "notes", Question{Method: "tools/call", Object: "ask", Arguments: []byte(`{"n":6}`)}, `{"allowed":false,"permission":"tools.execute","layer":"roles","reason":"condition_false","detail":"the condition of the rule does not hold","rule":{"role":"reader","text":"allow tools.execute notes/ask if args.n < 5"},"scopes":["notes:write"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"condition fails", all + `,"scp":"mcp:all"`, "notes", Question{Method: "tools/call", Object: "ask", Arguments: []byte(`{"n":[]}`)}, `{"allowed":false,"permission":"tools.execute","layer":"roles","reason":"condition_failed","detail":"the condition of the rule cannot be evaluated: no such overload: _<_","rule":{"role":"reader","text":"allow tools.execute notes/ask if args.n < 5"},"scopes":["notes:write"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"ambiguous arguments", all, "notes", Question{Method: "tools/call", Object: "ask", Arguments: []byte(`{"n":1,"N":9}`)}, `{"allowed":false,"permission":"tools.execute","layer":"roles","reason":"condition_failed","detail":"the condition of the rule cannot be evaluated: the arguments are ambiguous","rule":{"role":"reader","text":"allow tools.execute notes/ask if args.n < 5"},"scopes":["notes:write"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"inherited", all + `,"groups":["guests"],"teams":["sales"]`, "crm", Question{Method: "tools/call", Object: "x"}, `{"allowed":true,"permission":"tools.execute","rule":{"role":"guest","from":"viewer","at":"built-in","text":"allow tools.execute"}}`},
		{"visibility", all, "crm", Question{Method: "tools/call", Object: "x"}, `{"allowed":false,"layer":"visibility","reason":"scope_visibility","detail":"the token does not see the server","hides":{"object":"crm","text":"visibility crm team sales"},"answer":{"status":403,"code":40300,"reason":"forbidden_scope"}}`},
		{"OAuth scope", `"scope":"mcp:tools.read"`, "notes", Question{Method: "tools/call", Object: "read"}, `{"allowed":false,"permission":"tools.execute","layer":"token_scope","reason":"scope_oauth","detail":"the token's OAuth scopes do not give tools.execute","scopes":["mcp:tools.execute"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"both kinds of scopes", `"scope":["mcp:tools.read"]`, "notes", Question{Method: "logging/setLevel"}, `{"allowed":false,"permission":"logging.write","layer":"token_scope","reason":"scope_oauth","detail":"the token's OAuth scopes do not give logging.write","scopes":["mcp:logging.write","notes:write"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"several permissions", `"scp":"mcp:tools.read notes:write"`, "notes", Question{Method: "completion/complete", Object: "p"}, `{"allowed":false,"permission":"prompts.execute","layer":"token_scope","reason":"scope_oauth","detail":"the token's OAuth scopes do not give prompts.execute","scopes":["mcp:completions.use","mcp:prompts.execute"],"answer":{"status":403,"code":40300,"reason":"insufficient_scope"}}`},
		{"the token's permissions", all + `,"scopes":{"permissions":["tools.read"]}`, "notes", Question{Method: "tools/call", Object: "read"}, `{"allowed":false,"permission":"tools.execute","layer":"token_scope","reason":"scope_permission","detail":"the token's own permissions lack tools.execute","answer":{"status":200,"code":-32602,"reason":"not_found"}}`},
		{"the token's address", all + `,"scopes":{"ip_restrictions":["10.0.0.0/8"]}`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token_scope","reason":"scope_address","detail":"the token is for certain client addresses, and none was given","answer":{"status":403,"code":40300,"reason":"forbidden_scope"}}`},
		{"the token's time", all + `,"scopes":{"time_restrictions":{"days":["Monday"]}}`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token_scope","reason":"scope_time","detail":"the token is not for this time","answer":{"status":403,"code":40300,"reason":"forbidden_time"}}`},
		{"the token's server", all + `,"scopes":{"server_id":"crm"}`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token_scope","reason":"scope_server","detail":"the token is for another server","answer":{"status":403,"code":40300,"reason":"forbidden_scope"}}`},
		{"the token", `"exp":1`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token","reason":"token_expired","detail":"the access token has expired","answer":{"status":401,"code":40100,"reason":"token_expired"}}`},
		{"the token's restrictions", `"scopes":{"ip":[]}`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token","reason":"token_scope","detail":"the access token's restrictions are of the wrong form: scopes has an unknown member","answer":{"status":401,"code":40100,"reason":"token_scope"}}`},
		{"the issuer", `"iss":"https://other.example"`, "notes", Question{Method: "ping"}, `{"allowed":false,"layer":"token","reason":"token_issuer","detail":"the access token is from an issuer that is not accepted","answer":{"status":401,"code":40100,"reason":"token_issuer"}}`},
		{"the message", all, "notes", Question{Method: "tools/call", Object: "read", Arguments: []byte(`{"n":{"a":1,"a":2}}`)}, `{"allowed":false,"layer":"message","reason":"json_duplicate_name","detail":"an object has the same member twice","answer":{"status":400,"code":-32600,"reason":"json_duplicate_name"}}`},
		{"listed", all, "notes", Question{Method: "tools/list", Object: "ask"}, `{"allowed":true,"permission":"tools.read","rule":{"role":"reader","text":"allow tools.execute notes/ask if args.n < 5"}}`},
		{"not listed", all, "notes", Question{Method: "prompts/list", Object: "ask"}, `{"allowed":false,"permission":"prompts.read","layer":"roles","reason":"no_rule","detail":"no rule allows prompts.read","scopes":["notes:write"]}`},
		{"a list", all, "notes", Question{Method: "prompts/list"}, `{"allowed":true,"permission":"servers.use","rule":{"role":"reader","at":"Caddyfile:3","text":"allow tools.execute notes/read \"notes/a b\""}}`},
		{"followed", all, "notes", Question{Method: "subscriptions/listen", Object: "file:///a/b"}, `{"allowed":true,"permission":"resources.subscribe","rule":{"role":"reader","at":"Caddyfile:5","text":"allow resources.subscribe notes/file:///a/**"}}`},
		{"not followed", all, "notes", Question{Method: "subscriptions/listen", Object: "file:///b"}, `{"allowed":false,"permission":"resources.subscribe","layer":"roles","reason":"no_rule","detail":"no rule allows resources.subscribe","scopes":["notes:write"]}`},
		{"asked by the server", all, "notes", Question{Method: "elicitation/create"}, `{"allowed":false,"permission":"client.elicitation","layer":"roles","reason":"no_rule","detail":"no rule allows client.elicitation","scopes":["notes:write"]}`},
		{"told by the server", all, "notes", Question{Method: "notifications/tools/list_changed"}, `{"allowed":true,"permission":"servers.use","rule":{"role":"reader","at":"Caddyfile:3","text":"allow tools.execute notes/read \"notes/a b\""}}`},
		{"dropped", all, "notes", Question{Method: "notifications/roots/list_changed"}, `{"allowed":false,"permission":"client.roots","layer":"roles","reason":"no_rule","detail":"no rule allows client.roots","scopes":["notes:write"],"answer":{"status":202,"code":-32601,"reason":"notification_ignored"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var claims map[string]any
			if err := json.Unmarshal([]byte("{"+tc.claims+"}"), &claims); err != nil {
				t.Fatal(err)
			}
			at := Circumstances{Now: time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)} // a Tuesday
			i, err := h.InquireClaims(claims, tc.server, at)
			if err != nil {
				t.Fatal(err)
			}
			x, err := i.Explain(tc.q)
			if err != nil {
				t.Fatal(err)
			}
			if x.Method != tc.q.Method || x.Server != tc.server || x.Object != tc.q.Object || (x.Layer == LayerToken) != (x.Subject == "") {
				t.Errorf("%+v", x)
			}
			x.Method, x.Server, x.Object, x.Issuer, x.Subject, x.Roles = "", "", "", "", "", nil
			got, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer(`"method":"","server":"",`, "", `\u003c`, "<").Replace(string(got))
			text = strings.Replace(text, `,"method":"","server":""`, "", 1)
			if text != tc.want {
				t.Errorf("%s\nwant\n%s", text, tc.want)
			}
		})
	}
}

func TestExplainErrors(t *testing.T) {
	h := provisioned(t, gateConfig(explained))
	i, err := h.InquireClaims(nil, "notes", Circumstances{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		q    Question
		want string
	}{
		{"a method that is none", Question{Method: "tool/call", Object: "x"}, `there is no method "tool/call"; write`},
		{"of another revision", Question{Method: "ping", Version: "2026-07-28"}, `there is no method "ping" in 2026-07-28`},
		{"no revision", Question{Method: "ping", Version: "2020-01-01"}, `protocol version "2020-01-01" is not carried`},
		{"no tool", Question{Method: "tools/call"}, "tools/call is about a tool: write server/tool"},
		{"no URI", Question{Method: "resources/read"}, "resources/read is about a URI: write server/URI"},
		{"nothing to complete", Question{Method: "completion/complete"}, "completion/complete is about a prompt or URI: write server/prompt-or-URI"},
		{"an object too many", Question{Method: "ping", Object: "x"}, "ping is about a server as a whole"},
		{"arguments of a resource", Question{Method: "resources/read", Object: "x:y", Arguments: []byte(`{}`)}, "resources/read has no arguments"},
		{"arguments that are a list", Question{Method: "tools/call", Object: "x", Arguments: []byte(`[1]`)}, "the arguments are not a JSON object"},
		{"arguments that are no JSON", Question{Method: "tools/call", Object: "x", Arguments: []byte(`{"a"}`)}, "the arguments are not a JSON object"},
		{"arguments that add a member", Question{Method: "tools/call", Object: "x", Arguments: []byte(`{},"name":"read"`)}, "there is more than one JSON object in the arguments"},
		{"two arguments", Question{Method: "tools/call", Object: "x", Arguments: []byte(`{} {}`)}, "there is more than one JSON object in the arguments"},
		{"a reference of a tool", Question{Method: "tools/call", Object: "x", Reference: "prompt"}, "tools/call has no reference"},
		{"a reference to a tool", Question{Method: "completion/complete", Object: "x", Reference: "tool"}, `a reference is to a prompt or a resource, not to a "tool"`},
		{"no UTF-8", Question{Method: "tools/call", Object: "x\xff"}, "the question is not valid UTF-8"},
	} {
		if x, err := i.Explain(tc.q); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v; want %s", tc.name, x, err, tc.want)
		}
	}
	if _, err := h.InquireClaims(nil, "elsewhere", Circumstances{}); err == nil || err.Error() != `there is no server "elsewhere"; the servers are notes, crm` {
		t.Errorf("another server: %v", err)
	}
}

// TestInquiryLeavesNoTrace: what is asked is not counted, and shared principals stay as they are.
func TestInquiryLeavesNoTrace(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // what is counted is kept
	h := provisioned(t, gateConfig(nil))
	raw := tokenOf(t, "reader", map[string]any{"jti": "counted", "scopes": map[string]any{"usage_limits": map[string]any{"requests_per_hour": 1}}})
	for range 3 {
		i, err := h.InquireToken(t.Context(), raw, "notes", Circumstances{Now: time.Now(), ClientIP: netip.MustParseAddr("127.0.0.1")})
		if err != nil {
			t.Fatal(err)
		}
		if x, err := i.Explain(Question{Method: "tools/call", Object: "read"}); err != nil || !x.Allowed {
			t.Errorf("%+v, %v", x, err)
		}
	}
	a := ask{q: Question{Method: "tools/call", Object: "read"}, version: oldVersion, message: `"method":"tools/call","params":{"name":"read"}`}
	for _, want := range []bool{true, false} {
		if allowed, _, reason := a.live(t, h, "notes", &credential{raw: raw}); allowed != want {
			t.Errorf("the gate: %v %s", allowed, reason)
		}
	}
	// The principal that requests share is not the one that was asked about.
	if p, ok := h.tokens.Get(raw, "notes", time.Now()); !ok || p.asked != nil {
		t.Errorf("%+v %v", p, ok)
	}
}

// FuzzCompose: whatever the object and the arguments are, the message is about that
// object and no other.
func FuzzCompose(f *testing.F) {
	for _, seed := range [][2]string{
		{"read", `{}`}, {"read", `{},"name":"drop_all"`}, {"read", ` {"a":[1,{"b":2}]} `}, {"read", `{"a":1,"a":2}`}, {"read\"", `{"\ud800":1}`}, {"r\x00", `{}}`}, {"é", `{} {}`}, {"x", "\ufeff{}"},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, object string, args []byte) {
		for _, q := range []Question{
			{Method: "tools/call", Object: object, Arguments: args},
			{Method: "prompts/get", Object: object, Arguments: args, Version: "2025-06-18"},
		} {
			a, err := q.compose()
			if err != nil {
				continue
			}
			messages, batch, err := jsonrpc.Read(a.body)
			if err != nil {
				continue // the gate refuses it, as it would from a client
			}
			if batch || messages[0].Method != q.Method || messages[0].Params.Name.Value != object || (len(args) > 0) != (messages[0].Params.Arguments != nil) {
				t.Errorf("%q %q: %s", object, args, a.body)
			}
		}
	})
}
