package soundness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Bugs that comparable gateways have shipped, by the peer that had them.
func TestPeers(t *testing.T) {
	// refused fails the test unless a change of the configuration is refused.
	refused := func(t *testing.T, change func(string) string) {
		t.Helper()
		recordTest(t)
		text := caddyfile("")
		changed := change(text)
		if changed == text {
			t.Fatal("nothing was changed")
		}
		if err := load(changed); err == nil {
			t.Error("the configuration was accepted")
			if err := load(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(old, by string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, by, 1) }
	}

	t.Run("ContextForge: an empty list of permissions allowed everything", func(t *testing.T) {
		refused(t, replace("allow tools.execute nowhere/ok\n", "\n"))
		up := watch(t)
		for _, groups := range []any{nil, []string{}, "", []string{""}, []string{"empty"}} {
			r := sendH1(t, bearing(t, alice.token(t, claims{"groups": groups, "permissions": []string{}, "scopes": claims{"permissions": []string{}}})))
			notAllowed.check(t, r)
		}
		up.nothing(t)
		// One who has the role, but a token with an empty list, or with what is none.
		for _, list := range []any{[]string{}, []any{}, nil, "", claims{}} {
			r := sendH1(t, bearing(t, alice.token(t, claims{"scopes": claims{"permissions": list}})))
			if r.status != http.StatusForbidden && r.status != http.StatusUnauthorized {
				t.Errorf("%v: status %d, %q", list, r.status, r.body)
			}
		}
		up.nothing(t)
		sendH1(t, bearing(t, alice.token(t, claims{"scopes": claims{"permissions": []string{"tools.execute"}}}))).ok(t)
		up.one(t)
	})
	t.Run("ContextForge: a claim of the token made an administrator", func(t *testing.T) {
		up := watch(t)
		for _, c := range []claims{
			{"is_admin": true, "admin": true, "teams": nil, "token_use": "session", "role": "full", "roles": []string{"full"}},
			{"is_admin": true, "token_use": "session"},
			{"user": claims{"is_admin": true}, "token_use": "session", "teams": nil},
			{"is_admin": "true", "token_use": "session", "teams": []string{}},
			{"scopes": claims{"permissions": []string{"*"}}, "is_admin": true},
			{"roles": []string{"platform_admin"}, "groups": []string{"viewer", "platform_admin"}},
		} {
			r := sendH1(t, post(t, alice, callTool("admin")).without("Authorization").with("Authorization: Bearer "+viewer.token(t, c)))
			if r.status != http.StatusUnauthorized {
				notFound.check(t, r)
			}
		}
		up.nothing(t)
	})
	t.Run("ContextForge: a token of one environment was good in another", func(t *testing.T) {
		up := watch(t)
		staging := alice.token(t, aud("https://staging.example.com"))
		invalid("token_audience").check(t, sendH1(t, bearing(t, staging)))
		up.nothing(t)
	})
	t.Run("ContextForge: the limit of an answer did not hold for resources", func(t *testing.T) {
		for _, contentType := range []string{"application/json", "text/event-stream"} {
			up := watch(t)
			body := result("1", `{"contents":[{"uri":"file:///pub/a","text":"`+strings.Repeat("x", 1<<20)+`"}]}`)
			if contentType != "application/json" {
				body = event(body)
			}
			up.replyWith(contentType, body)
			r := stream(t, h1, post(t, alice, call("1", "resources/read", `{"uri":"file:///pub/a"}`))).rest(t)
			if len(r.body) > 256<<10 || strings.Contains(string(r.body), "xxx") {
				t.Errorf("%s: the client received %d bytes", contentType, len(r.body))
			}
		}
	})
	t.Run("ContextForge: log lines could be forged", func(t *testing.T) {
		up := watch(t)
		sendH1(t, post(t, alice, callTool(`x\u2028{"level":"info","msg":"FORGED"}`)))
		sendH1(t, post(t, alice, callTool("y\\n{\"msg\":\"FORGED\"}")))
		sendH1(t, bearing(t, alice.token(t, claims{"sub": "z\n{\"msg\":\"FORGED\"}"})))
		up.nothing(t)
		text, err := os.ReadFile(filepath.Join(world.dir, "caddy.log"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("a line of the log is no entry: %.200q", line)
			}
			if entry["msg"] == "FORGED" {
				t.Errorf("a forged entry: %s", line)
			}
		}
	})
	t.Run("ContextForge: redirects of an issuer led elsewhere", func(t *testing.T) {
		up := watch(t)
		before := world.jwks.lured.Load()
		own := "http://" + world.jwks.address
		for _, issuer := range append([]string{"https://moved.test"}, confusing(own)...) {
			r := sendH1(t, bearing(t, alice.token(t, claims{"iss": issuer})))
			want{503, 40100, "keys_unavailable"}.check(t, r)
			if strings.Contains(string(r.body)+fmt.Sprint(r.header), "localhost") {
				t.Errorf("%s: the answer tells where it led: %s", issuer, r.body)
			}
		}
		if lured := world.jwks.lured.Load() - before; lured != 0 {
			t.Errorf("what another host or another issuer has was asked for %d times", lured)
		}
		up.nothing(t)
		// The same issuer, when it tells the truth.
		who := alice
		who.issuer = own + "/honest"
		sendH1(t, bearing(t, sign(t, jose.RS256, keyring.rsa, "known", who.claims()))).ok(t)
		up.one(t)
	})
	t.Run("ContextForge: where an issuer is was taken from requests", func(t *testing.T) {
		up := watch(t)
		before := world.jwks.lured.Load()
		lure := "http://" + world.jwks.address + "/elsewhere"
		for _, header := range []string{
			`{"alg":"RS256","kid":"` + lure + `"}`, `{"alg":"RS256","jku":"` + lure + `"}`, `{"alg":"RS256","x5u":"` + lure + `","kid":"known"}`,
		} {
			r := sendH1(t, bearing(t, forge(header, toJSON(t, alice.claims(claims{"iss": "https://jwks.test"})), rs256(keyring.foreign))))
			if r.status != http.StatusUnauthorized {
				t.Errorf("%s: status %d, %q", header, r.status, r.body)
			}
		}
		for _, issuer := range []string{lure, "http://169.254.169.254/", "file:///etc/passwd", "https://rsa.test@" + world.jwks.address} {
			invalid("token_issuer").check(t, sendH1(t, bearing(t, alice.token(t, claims{"iss": issuer}))))
		}
		if lured := world.jwks.lured.Load() - before; lured != 0 {
			t.Errorf("the gateway asked %d times", lured)
		}
		up.nothing(t)
	})
	t.Run("ContextForge: addresses of an issuer that cannot be its own were accepted", func(t *testing.T) {
		for _, address := range []string{
			"http://10.0.0.1/keys", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "https://user:password@issuer.example/keys", "gopher://x/", "keys",
		} {
			refused(t, replace("jwks_url http://"+world.jwks.address+"/keys", "jwks_url "+address))
		}
	})
	t.Run("agentgateway: tokens were optional", func(t *testing.T) {
		up := watch(t)
		for _, m := range []message{
			post(t, alice, initialize(v25)), post(t, alice, call("1", "ping", "")), post(t, alice, call("1", "tools/list", "")),
			post(t, alice, modern("server/discover", ""), modernHeaders("server/discover", "")...), post(t, alice, "[]"), get(t, alice), del(t, alice),
		} {
			invalid("token_missing").check(t, sendH1(t, m.without("Authorization")))
		}
		up.nothing(t)
	})
	t.Run("agentgateway: a required jti was not asked for", func(t *testing.T) {
		up := watch(t)
		for _, jti := range []any{nil, ""} {
			invalid("token_missing_jti").check(t, sendH1(t, bearing(t, alice.token(t, claims{"jti": jti}))))
		}
		invalid("token_claims").check(t, sendH1(t, bearing(t, alice.token(t, claims{"jti": 7}))))
		up.nothing(t)
	})
	t.Run("agentgateway, Envoy, ToolHive: an unknown kid", func(t *testing.T) {
		up := watch(t)
		who := alice
		who.issuer = "https://jwks.test"
		r := sendH1(t, bearing(t, sign(t, jose.RS256, keyring.rsa, "unknown", who.claims())))
		invalid("token_key_unknown").check(t, r)
		up.nothing(t)
	})
	t.Run("ToolHive: a batch smuggled calls past the filter", func(t *testing.T) {
		up := watch(t)
		batch := "[" + callTool("ok") + "," + strings.Replace(callTool("admin"), `"id":1`, `"id":2`, 1) + "]"
		want{403, -32602, "not_found"}.check(t, sendH1(t, post(t, alice, batch)))
		id := session(t, alice, "2025-03-26")
		up.forget()
		want{403, -32602, "not_found"}.check(t, sendH1(t, post(t, alice, batch, inSession(id, "2025-03-26")...)))
		up.nothing(t)
	})
	t.Run("ToolHive: a mislabelled answer slipped past the filter", func(t *testing.T) {
		answer := result("1", results["tools/list"])
		for _, contentType := range []string{"", "text/plain", "text/event-stream", "application/octet-stream", "application/json"} {
			for _, body := range []string{answer, "\ufeff" + answer, "\n\n" + answer + "\n\n", event(answer), "\ufeff" + event(answer)} {
				up := watch(t)
				up.replyWith(contentType, body)
				sendH1(t, post(t, viewer, call("1", "tools/list", ""))).unleaked(t)
				up.one(t)
			}
		}
	})
	t.Run("Docker: authentication was off in containers", func(t *testing.T) {
		for _, gone := range []string{"import issuers", "public_url https://localhost:" + fmt.Sprint(world.secure)} {
			refused(t, replace(gone, ""))
		}
		t.Setenv("DOCKER_MCP_IN_CONTAINER", "1")
		up := watch(t)
		invalid("token_missing").check(t, sendH1(t, post(t, alice, callTool("ok")).without("Authorization")))
		up.nothing(t)
	})
	t.Run("Docker: names in another case", func(t *testing.T) {
		up := watch(t)
		for _, body := range []string{
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","NAME":"admin"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"admin"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","PARAMS":{"name":"admin"}}`,
		} {
			caseVariant.check(t, sendH1(t, post(t, alice, body)))
		}
		up.nothing(t)
	})
	t.Run("Microsoft: identity headers for development were left on", func(t *testing.T) {
		up := watch(t)
		m := post(t, alice, callTool("ok"), "X-Dev-User: root", "X-Dev-Roles: full", "X-User-Id: root", "X-Mcp-Subject: root", "X-Mcp-Roles: full", "X-Ms-Client-Principal-Name: root")
		invalid("token_missing").check(t, sendH1(t, m.without("Authorization")))
		up.nothing(t)
		sendH1(t, m).ok(t)
		got := up.one(t)
		if strings.Contains(fmt.Sprint(got.header), "root") || got.header.Get("X-Mcp-Roles") != "a" {
			t.Errorf("the server received %v", got.header)
		}
	})
	t.Run("Kuadrant: a header with a fixed key went around authorization", func(t *testing.T) {
		up := watch(t)
		m := post(t, alice, initialize(v25), "mcp-init-host: "+world.up.address, "router-key: secret-api-key", "x-mcp-servername: main", "x-mcp-authorized: {}",
			"x-mcp-virtualserver: main", "x-mcp-method: initialize", "x-mcp-toolname: admin", "mcp-session-id: x")
		invalid("token_missing").check(t, sendH1(t, m.without("Authorization")))
		up.nothing(t)
		sendH1(t, m.without("mcp-session-id")).ok(t)
		for name := range up.one(t).header {
			if strings.HasPrefix(name, "X-Mcp-") && !strings.Contains("X-Mcp-Subject X-Mcp-Issuer X-Mcp-Client-Id X-Mcp-Roles", name) || name == "Mcp-Init-Host" || name == "Router-Key" {
				t.Errorf("the server received %s", name)
			}
		}
	})
	t.Run("Kuadrant: what was hidden could be called", func(t *testing.T) {
		up := watch(t)
		sendH1(t, post(t, viewer, call("1", "tools/list", ""))).only(t, "tools", lists[0].kept)
		up.forget()
		notFound.check(t, sendH1(t, post(t, viewer, callTool("admin"))))
		up.nothing(t)
	})
	t.Run("Kong: lists told of denied tools, and paths went up", func(t *testing.T) {
		up := watch(t)
		for _, l := range lists {
			sendH1(t, post(t, viewer, call("1", l.method, ""))).only(t, l.member, l.kept)
		}
		up.forget()
		m := post(t, viewer, callTool("ok"))
		for _, path := range []string{"/servers/main/mcp/../../other/mcp", "/servers/..%2fmain/mcp", "/mcp/..;/admin"} {
			m.path = path
			noEndpoint.check(t, sendH1(t, m))
		}
		up.nothing(t)
	})
	t.Run("harper: new sessions went around a limit", func(t *testing.T) {
		up := watch(t)
		limited := alice.token(t, claims{"scopes": claims{"usage_limits": claims{"requests_per_hour": 4}}})
		as := func(m message) message { return m.without("Authorization").with("Authorization: Bearer " + limited) }
		status := make(map[int]int)
		for range 4 {
			r := sendH1(t, as(post(t, alice, initialize(v25))))
			status[r.status]++
			r = sendH1(t, as(post(t, alice, callTool("ok"), inSession(r.header.Get("Mcp-Session-Id"), v25)...)))
			status[r.status]++
		}
		if status[http.StatusOK] != 4 || status[http.StatusTooManyRequests] != 4 {
			t.Errorf("statuses %v", status)
		}
		if got := len(up.all()); got != 4 {
			t.Errorf("the server received %d requests", got)
		}
	})
	t.Run("sigbit: metadata named another resource", func(t *testing.T) {
		const wellKnown = "/.well-known/oauth-protected-resource"
		own := fmt.Sprintf("https://localhost:%d", world.secure)
		for _, w := range wires {
			up := watch(t)
			for path, resource := range map[string]string{"": own, "/mcp": own + "/mcp", "/servers/main/mcp": own + "/servers/main/mcp"} {
				for _, host := range []string{fmt.Sprintf("localhost:%d", world.secure), "evil.example"} {
					m := message{port: world.secure, method: "GET", path: wellKnown + path, host: host, header: []string{
						"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "Forwarded: host=evil.example", "X-Original-Host: evil.example",
					}}
					r := w.send(t, m)
					var document struct {
						Resource             string   `json:"resource"`
						AuthorizationServers []string `json:"authorization_servers"`
					}
					if err := json.Unmarshal(r.body, &document); err != nil || document.Resource != resource || len(document.AuthorizationServers) == 0 || strings.Contains(string(r.body), "evil") {
						t.Errorf("%s at %s: %d %s", path, host, r.status, r.body)
					}
				}
			}
			m := post(t, alice, callTool("ok"), "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http").without("Authorization")
			if challenge := w.send(t, m).header.Get("Www-Authenticate"); !strings.Contains(challenge, `resource_metadata="`+own+wellKnown+`/mcp"`) {
				t.Errorf("challenge %s", challenge)
			}
			up.nothing(t)
		}
	})
}

func toJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// peerBugs are the bugs that peers have shipped (peers.md section 5.1): each with the
// test that shows that we do not have it, or why it cannot be one of ours.
var peerBugs = []struct{ bug, test, why string }{
	{"ContextForge: an empty permission list meant everything", "TestPeers/ContextForge: an empty list of permissions allowed everything", ""},
	{"ContextForge: revocation failed open", "TestRevoked/E7 the token is revoked during the stream, by id/" + v25 + "/h1", ""},
	{"ContextForge #5239: a session token went around what administrators may", "TestPeers/ContextForge: a claim of the token made an administrator", ""},
	{"ContextForge: tokens were valid across environments, by their audience", "TestPeers/ContextForge: a token of one environment was good in another", ""},
	{"ContextForge: tokens were valid across environments, by env and key", "TestEnvironments/ContextForge: tokens were valid across environments", ""},
	{"ContextForge #5619: the guard of output lengths did not see resources", "TestPeers/ContextForge: the limit of an answer did not hold for resources", ""},
	{"ContextForge #5441: log injection (CWE-117)", "TestPeers/ContextForge: log lines could be forged", ""},
	{"ContextForge #5601, #5410: SSRF by redirects", "TestPeers/ContextForge: redirects of an issuer led elsewhere", ""},
	{"ContextForge #5601, #5410: SSRF by URLs of OAuth configuration", "TestPeers/ContextForge: where an issuer is was taken from requests", ""},
	{"ContextForge #5601, #5410: SSRF by addresses inside", "TestPeers/ContextForge: addresses of an issuer that cannot be its own were accepted", ""},
	{"ContextForge #5601, #5410: DNS rebinding of OAuth URLs", "", "no URL that is fetched comes from a client; issuers are named in the configuration, https is checked against their names, and http is for this machine only. Rebinding of the gateway's own name is B23 and B24"},
	{"agentgateway: JWTs were optional by default", "TestPeers/agentgateway: tokens were optional", ""},
	{"agentgateway: a required jti was ignored", "TestPeers/agentgateway: a required jti was not asked for", ""},
	{"agentgateway, Envoy, ToolHive: an unknown kid", "TestPeers/agentgateway, Envoy, ToolHive: an unknown kid", ""},
	{"agentgateway, Envoy, ToolHive: a flood of unknown kids", "TestKeys/G6 a flood of unknown keys", ""},
	{"ToolHive #5745: batches smuggled calls", "TestPeers/ToolHive: a batch smuggled calls past the filter", ""},
	{"ToolHive: a byte order mark, no Content-Type, JSON labelled as an event stream", "TestPeers/ToolHive: a mislabelled answer slipped past the filter", ""},
	{"Docker #243: authentication was off in containers", "TestPeers/Docker: authentication was off in containers", ""},
	{"Docker #418, GHSA-q382-vc8q-7jhj: keys in another case", "TestPeers/Docker: names in another case", ""},
	{"Microsoft: identity headers for development were left on", "TestPeers/Microsoft: identity headers for development were left on", ""},
	{"Kuadrant GHSA-g53w: a fixed key went around authorization", "TestPeers/Kuadrant: a header with a fixed key went around authorization", ""},
	{"Kuadrant: a virtual server hid and did not block", "TestPeers/Kuadrant: what was hidden could be called", ""},
	{"Kong: tools/list told of denied tools, and paths went up", "TestPeers/Kong: lists told of denied tools, and paths went up", ""},
	{"harper: new sessions went around a limiter", "TestPeers/harper: new sessions went around a limit", ""},
	{"sigbit #177: metadata named another resource", "TestPeers/sigbit: metadata named another resource", ""},
	{"Envoy: PBKDF2 for each session", "", "nothing is derived for a session: its id is random, and looked up"},
}

// checkPeers looks, after all tests, whether those that the list of bugs names have run.
func checkPeers() error {
	if partial() {
		return nil
	}
	var missing []error
	for _, bug := range peerBugs {
		if bug.test != "" && !ran.tests[strings.ReplaceAll(bug.test, " ", "_")] {
			missing = append(missing, fmt.Errorf("the test %q for %q was not run", bug.test, bug.bug))
		}
	}
	return errors.Join(missing...)
}

// Every bug has a test or a reason, and every test of TestPeers a bug.
func TestPeerBugs(t *testing.T) {
	named := make(map[string]bool)
	for _, bug := range peerBugs {
		if (bug.test == "") == (bug.why == "") {
			t.Errorf("%s has neither a test nor a reason, or both", bug.bug)
		}
		named[bug.test] = true
	}
	source, err := os.ReadFile("peers_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`t\.Run\("([A-Za-z, ]+: [^"]+)"`).FindAllSubmatch(source, -1) {
		if !named["TestPeers/"+string(found[1])] {
			t.Errorf("%s is the test of no bug", found[1])
		}
	}
}
