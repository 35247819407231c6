package mcpauth

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"
)

// supposing is about teams, hidden objects and principals without a token.
var supposing = map[string]any{
	"teams": map[string]any{"sales": []string{"notes"}, "ops": []string{"notes/run_*"}},
	"visibility": map[string]any{
		"notes/secret_*":         map[string]any{"level": "team", "team": "ops", "at": "Caddyfile:4"},
		"notes/file:///home/a b": map[string]any{"level": "private", "owner": "ann"},
	},
	"authenticated":  map[string]any{"claims": map[string]any{"teams": map[string]any{"from": "{http.auth.user.teams}", "separator": ";"}}},
	"trusted_header": map[string]any{"header": "X-User", "from": []string{"127.0.0.1"}, "claims": map[string]any{"teams": map[string]any{"from": "X-Teams"}}},
	"roles": []any{
		map[string]any{
			"name": "member", "teams": []string{"*"},
			"allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes"}, "at": "Caddyfile:7"}},
		},
		map[string]any{
			"name": "guard", "teams": []string{"ops"},
			"deny": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes/run_all"}, "at": "Caddyfile:9"}},
		},
		map[string]any{"name": "reader", "allow": []any{map[string]any{"permission": "resources.read"}}},
	},
}

func TestExplainTeamsAndVouchers(t *testing.T) {
	h := provisioned(t, gateConfig(supposing))
	tool := func(name string) Question { return Question{Method: "tools/call", Object: name} }
	const missing = `"answer":{"status":200,"code":-32602,"reason":"not_found"}`
	for _, tc := range []struct {
		name, claims string
		q            Question
		want         string
	}{
		{"in a team", `"teams":["sales"]`, tool("x"), `"roles":["member","reader"],"team":"sales","permission":"tools.execute","rule":{"role":"member","teams":["*"],"at":"Caddyfile:7","text":"allow tools.execute notes"}}`},
		{"denied in a team", `"teams":["ops"]`, tool("run_all"), `"roles":["guard","member","reader"],"team":"ops","permission":"tools.execute","layer":"roles","reason":"denied","detail":"a rule denies it","rule":{"role":"guard","teams":["ops"],"at":"Caddyfile:9","text":"deny tools.execute notes/run_all"},` + missing + `}`},
		{"not in the team", `"teams":["ops"]`, tool("x"), `"roles":["guard","member","reader"],"permission":"tools.execute","layer":"roles","reason":"no_rule","detail":"no rule allows tools.execute",` + missing + `}`},
		{"hidden", `"teams":["sales"]`, tool("secret_x"), `"roles":["member","reader"],"permission":"tools.execute","layer":"visibility","reason":"hidden","detail":"the token does not see notes/secret_*","hides":{"object":"notes/secret_*","at":"Caddyfile:4","text":"visibility notes/secret_* team ops"},` + missing + `}`},
		{"hidden from a list", `"teams":["sales"],"sub":"bob"`, Question{Method: "resources/list", Object: "file:///home/a b"}, `"roles":["member","reader"],"permission":"resources.read","layer":"visibility","reason":"hidden","detail":"the token does not see notes/file:///home/a b","hides":{"object":"notes/file:///home/a b","text":"visibility \"notes/file:///home/a b\" private ann"}}`},
		{"a header", `"iss":"trusted_header","teams":["ops"]`, tool("run_x"), `"roles":["guard","member","reader"],"team":"ops","permission":"tools.execute","rule":{"role":"member","teams":["*"],"at":"Caddyfile:7","text":"allow tools.execute notes"}}`},
		{"hidden without a token", `"iss":"trusted_header"`, tool("secret_x"), `"roles":["reader"],"permission":"tools.execute","layer":"visibility","reason":"hidden","detail":"this principal does not see notes/secret_*","hides":{"object":"notes/secret_*","at":"Caddyfile:4","text":"visibility notes/secret_* team ops"},` + missing + `}`},
		{"a user", `"iss":"authenticated","teams":"ops;sales"`, tool("secret_x"), `"roles":["guard","member","reader"],"team":"ops","permission":"tools.execute","rule":{"role":"member","teams":["*"],"at":"Caddyfile:7","text":"allow tools.execute notes"}}`},
		{"what is not heard", `"iss":"authenticated","is_admin":true,"scope":"mcp:none","exp":1`, tool("x"), `"roles":["reader"],"permission":"tools.execute","layer":"roles","reason":"no_rule","detail":"no rule allows tools.execute",` + missing + `}`},
		{"nobody", `"iss":"authenticated","sub":""`, tool("x"), `"layer":"token","reason":"identity_malformed","detail":"what this request says of its sender is empty, said twice, or not text","answer":{"status":400,"code":40000,"reason":"identity_malformed"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := explain(t, h, tc.claims, tc.q)
			x.Method, x.Server, x.Object, x.Issuer, x.Subject = "", "", "", "", ""
			got, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			if _, rest, _ := strings.Cut(string(got), `"server":"",`); rest != tc.want {
				t.Errorf("%s\nwant\n%s", rest, tc.want)
			}
		})
	}
}

func explain(t *testing.T, h *Handler, claims string, q Question) *Explanation {
	t.Helper()
	var parsed map[string]any
	if err := json.Unmarshal([]byte("{"+claims+"}"), &parsed); err != nil {
		t.Fatal(err)
	}
	i, err := h.InquireClaims(parsed, "notes", Circumstances{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	x, err := i.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestSupposeSources: where a principal comes from must be clear, and is of the
// configuration.
func TestSupposeSources(t *testing.T) {
	plain := map[string]any{"roles": everything}
	user, header := map[string]any{}, map[string]any{"header": "X-User", "from": []string{"127.0.0.1"}}
	for _, tc := range []struct {
		name, claims string
		without      bool
		sources      map[string]any
		issuer       string
		reason       string
		err          string
	}{
		{"a token", ``, false, map[string]any{"authenticated": user}, gateIssuer, "", ""},
		{"a token to nobody", `"iss":"` + gateIssuer + `"`, true, map[string]any{"authenticated": user}, "", "identity_missing", ""},
		{"the only one", ``, true, map[string]any{"authenticated": user}, "authenticated", "", ""},
		{"the other only one", `"sub":"ann"`, true, map[string]any{"trusted_header": header}, "trusted_header", "", ""},
		{"not said which", ``, true, map[string]any{"authenticated": user, "trusted_header": header}, "", "", "say in the claim iss who vouches: authenticated or trusted_header"},
		{"not configured", `"iss":"trusted_header"`, false, nil, "", "token_missing", ""},
		{"not configured either", `"iss":"authenticated"`, true, map[string]any{"trusted_header": header}, "", "identity_missing", ""},
		{"no text", `"iss":"authenticated","sub":1`, false, map[string]any{"authenticated": user}, "", "", "claim sub: it is not text"},
		{"no list of texts", `"iss":"authenticated","g":[1]`, false, map[string]any{"authenticated": map[string]any{"claims": map[string]any{"g": map[string]any{"from": "{http.auth.user.g}"}}}}, "", "", "claim g: authenticated says text, or a list of texts"},
		{"no list", `"iss":"authenticated","g":true`, false, map[string]any{"authenticated": map[string]any{"claims": map[string]any{"g": map[string]any{"from": "{http.auth.user.g}"}}}}, "", "", "claim g: authenticated says text, or a list of texts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			change := map[string]any{}
			for _, more := range []map[string]any{plain, tc.sources} {
				maps.Copy(change, more)
			}
			if tc.without {
				change["issuers"] = []any{}
			}
			var claims map[string]any
			if err := json.Unmarshal([]byte("{"+tc.claims+"}"), &claims); err != nil {
				t.Fatal(err)
			}
			i, err := provisioned(t, gateConfig(change)).InquireClaims(claims, "notes", Circumstances{Now: time.Now()})
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("%v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			x, err := i.Explain(Question{Method: "ping"})
			if err != nil || x.Issuer != tc.issuer || x.Reason != tc.reason || x.Allowed != (tc.reason == "") {
				t.Errorf("%+v, %v", x, err)
			}
		})
	}
}
