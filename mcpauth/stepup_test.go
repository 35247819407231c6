package mcpauth

import (
	"fmt"
	"maps"
	"math/rand"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// modernCall is a request of 2026-07-28 for the gate.
func (g *gate) modernCall(t *testing.T, token, method, name, params string) *http.Request {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, method, params)
	r := g.post(t, token, body)
	r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", method)
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	return r
}

// TestStepUp: a challenge has all scopes that the call lacks, and no more; a client of
// 2026-07-28 is not told again what the call does not need.
func TestStepUp(t *testing.T) {
	role := func(name string, when []any, allow ...string) map[string]any {
		grants := []any{}
		for _, text := range allow {
			permission, object, _ := strings.Cut(text, " ")
			grant := map[string]any{"permission": permission}
			if object != "" {
				grant["objects"] = []string{object}
			}
			grants = append(grants, grant)
		}
		return map[string]any{"name": name, "when": when, "allow": grants}
	}
	scoped := func(alternatives ...[]string) []any {
		when := []any{}
		for _, values := range alternatives {
			when = append(when, map[string]any{"claim": "scope", "values": values})
		}
		return when
	}
	roles := map[string]any{"roles": []any{
		role("reader", scoped([]string{"read"}), "tools.execute notes/list", "prompts.execute notes/open"),
		role("writer", scoped([]string{"write", "zall"}, []string{"read", "zall"}), "tools.execute notes/save"),
		role("eraser", scoped([]string{"erase"}), "tools.execute notes/erase"),
		role("helper", scoped([]string{"help"}), "completions.use notes"),
		role("boss", append(scoped([]string{"boss"}), map[string]any{"claim": "roles", "values": []string{"admin"}}), "tools.execute notes/boss"),
	}}
	bounded := func(scopeMap map[string][]string, roles ...any) map[string]any {
		return map[string]any{"roles": roles, "issuers": []any{map[string]any{
			"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret},
			"token_scope": map[string]any{"scope_permissions": true, "scope_map": scopeMap},
		}}}
	}
	all := role("all", nil, "*")
	call := func(name string) string { return `"name":"` + name + `"` }
	const complete = `"ref":{"type":"ref/prompt","name":"open"},"argument":{"name":"x","value":""}`
	for name, tc := range map[string]struct {
		config         map[string]any
		held           string
		claims         map[string]any
		method, params string
		// What is told in a legacy revision and in 2026-07-28; "" for a refusal
		// that no scope would change, with that reason.
		legacy, modern, reason string
	}{
		"one is missing":                     {roles, "read", nil, "tools/call", call("save"), "read write", "read write", ""},
		"one that has no need of the others": {roles, "read", nil, "tools/call", call("erase"), "read erase", "erase", ""},
		"all are missing":                    {roles, "", nil, "tools/call", call("save"), "zall", "zall", ""},
		"those that mean nothing here":       {roles, "openid read profile", nil, "tools/call", call("save"), "openid read profile write", "read write", ""},
		"offline_access":                     {roles, "offline_access read", nil, "tools/call", call("save"), "read write", "read write", ""},
		"two permissions for one request":    {roles, "", nil, "completion/complete", complete, "help read", "help read", ""},
		"the second of two permissions":      {roles, "erase read", nil, "completion/complete", complete, "erase read help", "read help", ""},
		"a role that is lacked for more":     {roles, "read", nil, "tools/call", call("boss"), "", "", "not_found"},
		"a role that is had but for a scope": {roles, "read", map[string]any{"roles": "admin"}, "tools/call", call("boss"), "read boss", "boss", ""},
		"what does not exist":                {roles, "read", nil, "tools/call", call("nothing"), "", "", "not_found"},
		"OAuth scopes: one is missing":       {bounded(nil, all), "mcp:tools.read", nil, "tools/call", call("x"), "mcp:tools.read mcp:tools.execute", "mcp:tools.execute", ""},
		"OAuth scopes: none is there":        {bounded(nil, all), "", nil, "tools/call", call("x"), "mcp:tools.execute", "mcp:tools.execute", ""},
		"OAuth scopes: two are missing":      {bounded(nil, all), "", nil, "completion/complete", complete, "mcp:completions.use mcp:prompts.execute", "mcp:completions.use mcp:prompts.execute", ""},
		"OAuth scopes: one for two": {
			bounded(map[string][]string{"a": {"prompts.execute"}, "b": {"completions.use"}, "c": {"prompts.execute", "completions.use"}}, all), "", nil,
			"completion/complete", complete, "c", "c", "",
		},
		"OAuth scopes and roles: one for both": {bounded(nil, role("w", scoped([]string{"mcp:write"}), "*")), "", nil, "tools/call", call("x"), "mcp:write", "mcp:write", ""},
		"OAuth scopes and roles: one for each": {bounded(nil, role("w", scoped([]string{"crm"}), "*")), "openid", nil, "tools/call", call("x"), "openid crm mcp:tools.execute", "crm mcp:tools.execute", ""},
		"OAuth scopes, and no role":            {bounded(nil, role("w", nil, "tools.execute notes/y")), "", nil, "tools/call", call("x"), "", "", "forbidden"},
		"OAuth scopes, and a claim that bounds": {
			bounded(nil, all), "mcp:read",
			map[string]any{"scopes": map[string]any{"permissions": []string{"tools.read"}}},
			"tools/call", call("x"), "", "", "not_found",
		},
		"OAuth scopes that the issuer does not have": {
			bounded(map[string][]string{"mcp:tools.execute": {}, "mcp:tools": {}, "mcp:write": {}, "mcp:all": {}}, all), "mcp:read", nil,
			"tools/call", call("x"), "", "", "not_found",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, tc.config, says("application/json", `{"jsonrpc":"2.0","id":1,"result":{}}`))
			ask := func(modern bool, scope string) (*http.Response, string) {
				claims := map[string]any{"scope": scope, "roles": nil}
				maps.Copy(claims, tc.claims)
				bearer := tokenOf(t, "", claims)
				if !modern {
					return g.do(t, g.post(t, bearer, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, tc.method, tc.params)))
				}
				object := ""
				if tc.method == "tools/call" {
					object = strings.Trim(strings.TrimPrefix(tc.params, `"name":`), `"`)
				}
				return g.do(t, g.modernCall(t, bearer, tc.method, object, tc.params))
			}
			for modern, want := range map[bool]string{false: tc.legacy, true: tc.modern} {
				resp, body := ask(modern, tc.held)
				if want == "" {
					// With no scope at all the server is out of reach, and that has no name.
					if reason := reasonOf(body); reason != tc.reason || resp.Header.Get("WWW-Authenticate") != "" {
						t.Errorf("modern %v: %d, reason %q, %v", modern, resp.StatusCode, reason, resp.Header)
					}
					continue
				}
				if resp.StatusCode != http.StatusForbidden || reasonOf(body) != "insufficient_scope" {
					t.Errorf("modern %v: %d %s", modern, resp.StatusCode, body)
					continue
				}
				params := challengeOf(t, resp)
				if params["scope"] != want || params["error"] != "insufficient_scope" {
					t.Errorf("modern %v: challenge %v, want the scopes %s", modern, params, want)
				}
				if resp, body := ask(modern, params["scope"]); resp.StatusCode != http.StatusOK || reasonOf(body) != "" {
					t.Errorf("modern %v: and with these scopes: %d %s", modern, resp.StatusCode, body)
				}
			}
		})
	}
}

// TestStepUpOfBatches: no single message's scopes are those of a batch, and what one of
// them can never have, none of the others has a use for.
func TestStepUpOfBatches(t *testing.T) {
	grant := func(name, scope, object string) map[string]any {
		return map[string]any{
			"name": name, "when": []any{map[string]any{"claim": "scope", "values": []string{scope}}},
			"allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{object}}},
		}
	}
	g := newGate(t, map[string]any{"roles": []any{grant("a", "a", "notes/x"), grant("b", "b", "notes/y")}}, says("application/json", "[]"))
	for calls, want := range map[string]string{"x y": "b a", "y x": "b a", "y y": "", "x": "b a", "x nothing": "none", "nothing x": "none"} {
		var messages []string
		for i, name := range strings.Fields(calls) {
			messages = append(messages, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q}}`, i, name))
		}
		r := g.post(t, tokenOf(t, "", map[string]any{"scope": "b", "roles": nil}), "["+strings.Join(messages, ",")+"]")
		r.Header.Del("Mcp-Protocol-Version")
		resp, body := g.do(t, r)
		switch want {
		case "":
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %s", calls, resp.StatusCode, body)
			}
		case "none":
			if resp.StatusCode != http.StatusForbidden || reasonOf(body) != "not_found" || resp.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s: %d %s %v", calls, resp.StatusCode, body, resp.Header)
			}
		default:
			if params := challengeOf(t, resp); reasonOf(body) != "insufficient_scope" || params["scope"] != want {
				t.Errorf("%s: %s %v, want %s", calls, body, params, want)
			}
		}
	}
}

// stepUpWorld is a policy and a principal made from a small vocabulary.
type stepUpWorld struct {
	*rand.Rand
	policy   *policy.Policy
	scopeMap *scope.ScopeMap
	config   scope.Config
}

// vocabulary are all the scopes that could make a difference.
var vocabulary = []string{"a", "b", "c", "mcp:tools.execute", "mcp:write"}

func (w *stepUpWorld) some(from ...string) []string {
	return slices.DeleteFunc(slices.Clone(from), func(string) bool { return w.Intn(3) > 0 })
}

func newStepUpWorld(t *testing.T, seed int64) *stepUpWorld {
	t.Helper()
	w := &stepUpWorld{Rand: rand.New(rand.NewSource(seed))}
	var roles []policy.Role
	for i := range w.Intn(5) + 1 {
		role := policy.Role{Name: string(rune('p' + i))}
		for range w.Intn(3) {
			if values := w.some(vocabulary...); len(values) > 0 {
				role.When = append(role.When, policy.Condition{Claim: "scope", Values: values})
			}
		}
		for range w.Intn(3) + 1 {
			permission := []string{"tools.execute", "prompts.execute", "completions.use", "resources.read", "*"}[w.Intn(5)]
			grant := policy.Grant{Permission: permission, Objects: []string{[]string{"s", "s/x", "s/y", "s/*"}[w.Intn(4)]}}
			if w.Intn(6) == 0 {
				role.Deny = append(role.Deny, policy.Grant{Permission: permission, Objects: []string{"s/x"}})
				continue
			}
			if permission == "tools.execute" && w.Intn(3) == 0 {
				grant.If = `args.n == 1`
			}
			role.Allow = append(role.Allow, grant)
		}
		roles = append(roles, role)
	}
	var err error
	if w.policy, err = policy.Compile(roles); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if w.Intn(2) == 0 {
		w.config.ScopePermissions = true
		if w.Intn(2) == 0 {
			w.config.ScopeMap = map[string][]string{"c": {"completions.*", "prompts.*"}, "a": {"tools.read"}}
		}
	}
	if err := w.config.Provision(); err != nil {
		t.Fatal(err)
	}
	w.scopeMap = w.config.Scopes()
	return w
}

// call is a call by somebody with these scopes.
func (w *stepUpWorld) call(t *testing.T, version mcp.Version, messages string, scopes []string) *Call {
	t.Helper()
	claims := &token.Claims{Scopes: scopes, ScopeMap: w.scopeMap}
	var err error
	if claims.Scope, err = scope.Parse(func(string) (any, bool) { return nil, false }, scopes, w.config); err != nil {
		t.Fatal(err)
	}
	p := &Principal{Claims: claims, policy: w.policy, set: w.policy.RolesOf(nil, scopes, nil)}
	c := &Call{Principal: p, Server: "s", Version: version, Body: []byte(messages), endpoint: &endpoint{server: "s", metadata: gateURL}}
	if c.Messages, c.Batch, err = jsonrpc.Read(c.Body); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStepUpIsSmallest asks at random: the scopes of a challenge allow the call, of
// those that were missing none is superfluous, in 2026-07-28 not even of the others,
// and there is no challenge only if nothing would help.
func TestStepUpIsSmallest(t *testing.T) {
	told, refused, several := 0, 0, 0
	for seed := range int64(4000) {
		w := newStepUpWorld(t, seed)
		held := w.some(append([]string{"openid"}, vocabulary...)...)
		version := []mcp.Version{mcp.V20250618, mcp.V20251125, mcp.V20260728}[w.Intn(3)]
		body := []string{
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"y","arguments":{"n":2}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"x"}}}`,
			`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}},{"jsonrpc":"2.0","id":2,"method":"prompts/get","params":{"name":"y"}}]`,
		}[w.Intn(6)]
		allowed := func(scopes ...string) bool { return w.call(t, version, body, scopes).judge() == nil }
		refusal := w.call(t, version, body, held).judge()
		if refusal == nil {
			continue
		}
		_, rest, challenged := strings.Cut(refusal.challenge, `scope="`)
		if !challenged {
			refused++
			for bits := range 1 << len(vocabulary) {
				wider := slices.Clone(held)
				for i, scope := range vocabulary {
					if bits>>i&1 == 1 {
						wider = append(wider, scope)
					}
				}
				if allowed(wider...) {
					t.Errorf("seed %d: with %v no scope is told, but %v would help", seed, held, wider)
				}
			}
			continue
		}
		text, _, _ := strings.Cut(rest, `"`)
		scopes := strings.Fields(text)
		told++
		var missing []string
		for _, scope := range scopes {
			if !slices.Contains(held, scope) {
				missing = append(missing, scope)
			}
		}
		if len(missing) > 1 {
			several++
		}
		if refusal.Reason != "insufficient_scope" || len(missing) == 0 || !allowed(scopes...) || !allowed(append(slices.Clone(held), missing...)...) {
			t.Errorf("seed %d: with %v, %v does not help", seed, held, scopes)
		}
		without := func(from []string, scope string) []string {
			return slices.DeleteFunc(slices.Clone(from), func(s string) bool { return s == scope })
		}
		for _, scope := range missing {
			if allowed(append(slices.Clone(held), without(missing, scope)...)...) {
				t.Errorf("seed %d: with %v, of %v %s is superfluous", seed, held, missing, scope)
			}
		}
		if !version.Modern() {
			for _, scope := range held {
				if !slices.Contains(scopes, scope) {
					t.Errorf("seed %d: %s would be lost with %v", seed, scope, scopes)
				}
			}
			continue
		}
		for _, scope := range scopes {
			if allowed(without(scopes, scope)...) {
				t.Errorf("seed %d: of %v %s is superfluous", seed, scopes, scope)
			}
		}
	}
	if told < 500 || refused < 300 || several < 100 {
		t.Errorf("told %d times, several scopes %d times, refused %d times: the generator asks too little", told, several, refused)
	}
}
