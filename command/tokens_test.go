package command_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// tokenLines look after a token of anna's, whose id is {id}, on the command line. Reason
// is that of the next request with it: nothing is behind the gateway.
var tokenLines = []struct{ line, prints, reason string }{
	{"caddy mcp token list --user anna@example.com", `^ID +NAME +USER EMAIL +TEAM ID +RESOURCE SCOPES +ACTIVE +REVOKED +EXPIRES +LAST USED\n{id} +ci +anna@example.com +- +tools.read servers.use +yes +no +2.*\nexit 0$`, "upstream_unreachable"},
	{"caddy mcp token list --user nobody@example.com", `no such user\nexit 2$`, ""},
	{"caddy mcp token list --after {id} --json", `^\{"tokens":\[\]\}\nexit 0$`, ""},
	{"caddy mcp token create anna@example.com ci", `already exists.*\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com", `it takes EMAIL and NAME\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com x --days 0", `must be 1 at least\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com x --days many", `invalid argument.*\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com x --scope - --server notes < scope", `in a file, or in.*\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com x --scope - < password", `not a JSON object\nexit 2$`, ""},
	{"caddy mcp token create anna@example.com x --scope - --json < scope", `"usage_limits":\{"requests_per_hour":5\}.*\nexit 0$`, ""},
	{"caddy mcp token show {id}", `\n{id} +ci `, ""},
	{"caddy mcp token show nobody", `Token not found\nexit 2$`, ""},
	{"caddy mcp token show {id} --json", `"tags":\["build","nightly"\]`, ""},
	{"caddy mcp token set {id} --active=false", `\n{id} +ci .* no +no `, "token_inactive"},
	{"caddy mcp token set {id} --active --name build --ip 192.0.2.0/24 --permission tools.read --server notes", `\n{id} +build .* yes +no `, "forbidden_scope"},
	{"caddy mcp token set {id} --permission tools.read --server notes", `exit 0$`, "upstream_unreachable"},
	{"caddy mcp token set {id} --permission tools.execute", `was made for less.*\nexit 2$`, "upstream_unreachable"},
	{"caddy mcp token set {id}", `needs something to change.*\nexit 2$`, ""},
	{"caddy mcp token usage {id}", `^TOTAL REQUESTS +SUCCESSFUL REQUESTS +BLOCKED REQUESTS +SUCCESS RATE +AVERAGE RESPONSE TIME MS\n\d+ .*\nexit 0$`, ""},
	{"caddy mcp token usage {id} --days 91", `days must be a number.*\nexit 2$`, ""},
	{"caddy mcp token revoke {id} --reason 'it leaked'", `^exit 0$`, "token_revoked"},
	{"caddy mcp token revoke {id}", `^exit 0$`, "token_revoked"},
	{"caddy mcp token revoke nobody", `Token not found\nexit 2$`, ""},
	{"caddy mcp token show {id} --json", `"revocation_reason":"it leaked"`, ""},
	{"caddy mcp session list", `^SESSION ID +USER +NAME +CONNECTED +LAST ACTIVITY +MESSAGE COUNT\nexit 0$`, ""},
	{"caddy mcp session list --user nobody@example.com", `no such user\nexit 2$`, ""},
	{"caddy mcp session list --user ana --issuer https://login.example.com --json", `^\{"sessions":\[\],"total":0\}\nexit 0$`, ""},
	{"caddy mcp session list --issuer https://login.example.com", `issuer is nothing without user\nexit 2$`, ""},
	{"caddy mcp session end nobody", `no such session\nexit 2$`, ""},
}

// administerTokens makes a token for anna, whose role is reader, and looks after it.
func administerTokens(t *testing.T, w *world, gateway string, run func(line string) string) {
	t.Helper()
	w.write(t, "scope", `{"usage_limits":{"requests_per_hour":5}}`)
	printed := run("caddy mcp token create anna@example.com ci --days 7 --permission tools.read --server notes --tag build,nightly")
	found := regexp.MustCompile(`^(eyJ[\w-]+\.[\w-]+\.[\w-]+)\nID +NAME .*\n([A-Z2-7]{26}) +ci +anna@example.com .*\nexit 0\n$`).FindStringSubmatch(printed)
	if found == nil {
		t.Fatalf("a token is made:\n%s", printed)
	}
	token, id := found[1], found[2]
	// From now on it is nowhere.
	w.secrets = append(w.secrets, strings.Split(token, ".")[2])
	for _, tc := range tokenLines {
		line, prints := strings.ReplaceAll(tc.line, "{id}", id), strings.ReplaceAll(tc.prints, "{id}", id)
		if printed := run(line); !regexp.MustCompile(prints).MatchString(strings.TrimSuffix(printed, "\n")) {
			t.Errorf("%s:\n%s\nis not\n%s", line, printed, prints)
		}
		if tc.reason == "" {
			continue
		}
		if reason := reasonFor(t, gateway, token); reason != tc.reason {
			t.Errorf("%s: then a request is answered with %s, not %s", line, reason, tc.reason)
		}
	}
}

// reasonFor is why a request with a token is refused.
func reasonFor(t *testing.T, gateway, token string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gateway+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error struct{ Data struct{ Reason string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Error.Data.Reason
}
