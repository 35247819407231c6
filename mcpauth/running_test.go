package mcpauth

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// TestRunning: a call that was let in by one configuration is judged by another as if
// it came now.
func TestRunning(t *testing.T) {
	without := func(role int) map[string]any {
		roles := []any{
			map[string]any{
				"name": "reader", "when": []any{map[string]any{"claim": "roles", "values": []string{"reader"}}},
				"allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes/list"}}},
			},
			map[string]any{"name": "other", "allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes/other"}}}},
		}
		return map[string]any{"roles": roles[role:]}
	}
	both := func(change, more map[string]any) map[string]any {
		maps.Copy(change, more)
		return change
	}
	otherSecret := map[string]any{"issuers": []any{map[string]any{
		"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": "another-" + gateSecret},
	}}}
	for name, tc := range map[string]struct {
		before, after map[string]any
		vouched       bool
		body, path    string
		several, old  bool
		allowed       bool
	}{
		"the same":                             {body: callList, allowed: true},
		"without a body":                       {allowed: true},
		"no newer one":                         {after: without(1), body: callList, old: true, allowed: true},
		"the role is gone":                     {after: without(1), body: callList},
		"the server may still be used":         {after: without(1), allowed: true},
		"nothing is allowed":                   {after: map[string]any{"roles": nil}},
		"the token is not good any more":       {after: otherSecret, body: callList},
		"another server there":                 {after: map[string]any{"servers": []string{"notes", "tickets"}}, path: "/servers/notes/mcp", allowed: true},
		"the endpoint is gone":                 {after: map[string]any{"servers": []string{"notes", "tickets"}}, path: "/mcp"},
		"the server is gone":                   {after: map[string]any{"servers": []string{"tickets"}}, path: "/servers/notes/mcp"},
		"the server is for a team now":         {after: map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "x"}}}, body: callList},
		"several judge":                        {body: callList, several: true},
		"a user of the proxy":                  {before: trusting(believed), after: trusting(believed), vouched: true, body: callList, allowed: true},
		"a user of a proxy that is gone":       {before: trusting(believed), vouched: true, body: callList},
		"a user of a proxy that is not":        {before: trusting(believed), after: trusting(elsewhere), vouched: true, body: callList},
		"a user of the proxy without the role": {before: trusting(believed), after: both(trusting(believed), without(1)), vouched: true, body: callList},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.path == "" {
				tc.path = "/servers/notes/mcp"
			}
			before, after := provisioned(t, gateConfig(tc.before)), provisioned(t, gateConfig(tc.after))
			r := prepared(httptest.NewRequest(http.MethodPost, tc.path, nil))
			r.RemoteAddr = "127.0.0.1:1"
			if tc.vouched {
				r.Header.Set("X-Authenticated-User", "alice")
				r.Header.Set("X-Authenticated-Groups", "reader")
			} else {
				r.Header.Set("Authorization", "Bearer "+tokenOf(t, "reader", nil))
			}
			e := before.endpoints[tc.path]
			c := &Call{
				handler: before, generation: before.generation, endpoint: e, Server: "notes", Version: mcp.V20251125, logger: before.logger,
				incoming: r, authorization: r.Header["Authorization"],
			}
			var refusal *Refusal
			if c.Principal, refusal = before.authenticate(r, e, time.Now()); refusal != nil {
				t.Fatal(refusal.Reason)
			}
			if tc.body != "" {
				var err error
				if c.Messages, _, err = jsonrpc.Read([]byte(tc.body)); err != nil {
					t.Fatal(err)
				}
			}
			if refusal := c.judge(); refusal != nil {
				t.Fatal(refusal.Reason)
			}
			conceal(r.Header)

			app := &App{
				shared: &shared{}, handlers: []*Handler{after}, generation: before.generation + 1,
				store: &sharedStore{revocations: after.revocations},
			}
			before.running = &app.shared.running
			if !c.refresh() || c.handler != before {
				t.Fatal("nothing runs yet")
			}
			if tc.several {
				app.handlers = append(app.handlers, provisioned(t, gateConfig(nil)))
			}
			if tc.old {
				app.generation = before.generation
			}
			app.run()
			if got := c.refresh(); got != tc.allowed {
				t.Errorf("allowed: %v", got)
			}
			if renewed := c.handler == after && c.Principal.policy == after.policy; tc.allowed && renewed == tc.old {
				t.Errorf("judged by the running configuration: %v", renewed)
			}
			if again := c.refresh(); again != tc.allowed {
				t.Errorf("and then: %v", again)
			}
		})
	}
}

// TestEnd: when the gateway is taken out of the configuration, no call would be allowed;
// a configuration that is rejected, or was replaced, leaves those that run alone.
func TestEnd(t *testing.T) {
	h := provisioned(t, gateConfig(nil))
	state := &shared{}
	h.running = &state.running
	store := &sharedStore{revocations: h.revocations}
	first := &App{shared: state, store: store, handlers: []*Handler{h}, generation: state.generations.Add(1)}
	second := &App{shared: state, store: store, handlers: []*Handler{h}, generation: state.generations.Add(1)}
	rejected := &App{shared: state, store: store, generation: state.generations.Add(1)}
	first.run()
	second.run()
	for _, a := range []*App{first, rejected} {
		if a.end(); state.running.Load().handlers[h.endpoints["/mcp"].id] != h {
			t.Error("nothing runs any more")
		}
	}
	second.end()
	c := &Call{handler: h, generation: second.generation, endpoint: h.endpoints["/mcp"]}
	if c.refresh() {
		t.Error("something runs")
	}
	if (&Call{}).refresh() != true {
		t.Error("a call that nobody let in is judged")
	}
}
