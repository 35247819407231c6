package reload

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// files are all that Caddy keeps, with their contents; but for the store that runs, in
// which there is something to write all the time, such as when sessions were used.
func (p *process) files() string {
	p.t.Helper()
	var all []string
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "admin.sock" {
			return err
		}
		if d.IsDir() || d.Name() == "state.db" {
			all = append(all, path)
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // below the test's own folder
		all = append(all, fmt.Sprintf("%s %x", path, sha256.Sum256(text)))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// moving are the metrics that change by themselves, and how long the store took: a
// rejected configuration may have tried to open one, and the running one is writing now
// and then what it knows of sessions.
var moving = regexp.MustCompile(`(?m)^caddy_mcp_(revocation_age|revocation_lag|signing_key_age)_seconds .*\n|^caddy_mcp_store_duration_\w+\{.*\n|^caddy_mcp_store_errors_total\{operation="open".*\n`)

// counted are the gateway's metrics, as the site shows them.
func (p *process) counted() string {
	p.t.Helper()
	var lines []string
	for line := range strings.Lines(p.scrape()) {
		if strings.HasPrefix(line, "caddy_mcp_") {
			lines = append(lines, line)
		}
	}
	return moving.ReplaceAllString(strings.Join(lines, ""), "")
}

// differ fails the test for each line that was there before and is not now, or the other
// way round.
func differ(t *testing.T, what, before, now string) {
	t.Helper()
	was, is := strings.Split(before, "\n"), strings.Split(now, "\n")
	for _, line := range was {
		if !slices.Contains(is, line) {
			t.Errorf("%s before: %s", what, line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			t.Errorf("%s now: %s", what, line)
		}
	}
}

// TestRejected: whatever is wrong with a configuration, and whenever that is found, it
// changes nothing: no request, no session, stream, limit, count, key, account or file.
func TestRejected(t *testing.T) {
	p := prepare(t)
	t.Setenv("RELOAD_TEST_PASSWORD", "correct-Horse-battery-17-staple")
	const role = `role callers {
			allow servers.use main
			allow tools.execute main/any
		}`
	accounts := func(name string) string {
		return `accounts {
			administrator ` + name + `@example.com {
				password {env.RELOAD_TEST_PASSWORD}
			}
		}`
	}
	store := "store embedded " + p.dir + "/state.db\n\t\ttokens " + p.url() + "\n\t\t" + accounts("admin") + "\n\t\tmax_sessions_per_principal 50\n\t\t"
	p.start(p.caddyfile("", store, role))

	p.eventually("that the account is made, and the key", func() bool {
		text := p.log.String()
		return strings.Contains(text, `"signing_key_create"`) && strings.Contains(text, `"user_create"`)
	})

	wire := wires["http/1.1, a connection each"]
	var clients []*client
	var streams []*stream
	for i := range 5 {
		c := p.join("alice", wire)
		if i%2 == 1 {
			c = p.join("bob", wires["http/2"])
		}
		clients, streams = append(clients, c), append(streams, c.listen("", 0))
	}
	revoked := p.join("revoked", wire)
	p.revoke(`{"by":"subject","value":"revoked"}`)
	limited := &client{p: p, http: clients[0].http}
	limited.token = p.tokenOf("limited", map[string]any{"scopes": map[string]any{"usage_limits": map[string]any{"requests_per_day": 30}}})
	used := 0

	// bad has the gateway let in everybody, with few sessions, elsewhere; more is what is
	// wrong with it.
	elsewhere := "store embedded " + p.dir + "/elsewhere.db\n\t\ttokens https://other.example.com\n\t\t" + accounts("mallory")
	bad := func(global, gateway, site string) string {
		return p.caddyfile(global, gateway+"\n\t\tmax_sessions 1\n\t\tsession_lifetime 1s\n\t\tmax_tasks 1\n\t\tallow_stale 1h\n\t\tstream_drain 1ms", everything+site)
	}
	// inJSON changes what the Caddyfile does not let through.
	inJSON := func(change func(app map[string]any)) string {
		text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(bad("", elsewhere, "")), map[string]any{"filename": "Caddyfile"})
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(text, &config); err != nil {
			t.Fatal(err)
		}
		change(config["apps"].(map[string]any)["mcp_gateway"].(map[string]any))
		if text, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	damaged := filepath.Join(p.dir, "damaged.db")
	if err := os.WriteFile(damaged, []byte(strings.Repeat("nothing ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	onTaken := func(text string) string { return text + "\nhttp://" + taken.Addr().String() + " {\n\trespond ok\n}\n" }
	const secretSite = "\n\t\tissuer https://second.test {\n\t\t\tkey_file /none/key.pem\n\t\t}"
	const proxySite = "\n\t\tserver second https://127.0.0.1:1/mcp {\n\t\t\ttransport http {\n\t\t\t\ttls_trust_pool file /none/ca.pem\n\t\t\t}\n\t\t}"
	for name, tc := range map[string]struct {
		text, kind, want string
		times            int
	}{
		"Caddyfile":                  {bad("", "no_such_option", ""), "text/caddyfile", "unrecognized", 1},
		"JSON":                       {`{"apps":`, "application/json", "400", 1},
		"unknown field":              {inJSON(func(app map[string]any) { app["no_such_field"] = 1 }), "application/json", "no_such_field", 1},
		"unknown app":                {strings.Replace(inJSON(func(map[string]any) {}), `"apps":{`, `"apps":{"no_such_app":{},`, 1), "application/json", "no_such_app", 1},
		"Validate of the app":        {inJSON(func(app map[string]any) { app["sessions"] = map[string]any{"max": -1} }), "application/json", "must be positive", 1},
		"Provision of the app":       {inJSON(func(app map[string]any) { app["environment"] = "{env.RELOAD_TEST_NOBODY_HAS_SET}" }), "application/json", "environment", 1},
		"a key of the gateway's own": {inJSON(func(app map[string]any) { app["tokens"].(map[string]any)["key_files"] = []string{"/none/key.pem"} }), "application/json", "/none/key.pem", 1},
		"a declared account":         {bad("", strings.Replace(elsewhere, "{env.RELOAD_TEST_PASSWORD}", "short", 1), ""), "text/caddyfile", "password", 1},
		"Provision of a handler":     {bad("", elsewhere, secretSite), "text/caddyfile", "/none/key.pem", 1},
		"Provision of a proxy":       {bad("", elsewhere, proxySite), "text/caddyfile", "/none/ca.pem", 1},
		"Provision of another app":   {strings.Replace(inJSON(func(map[string]any) {}), `"apps":{`, `"apps":{"pki":{"certificate_authorities":{"local":{"root":{"certificate":"/none"}}}},`, 1), "application/json", "/none", 1},
		"Start, on a port that is taken, with another store": {onTaken(bad("", elsewhere, "")), "text/caddyfile", "address already in use", 8},
		"Start, on a port that is taken, with this store":    {onTaken(bad("", store, "")), "text/caddyfile", "address already in use", 8},
		"Start, with a damaged store":                        {bad("", "store embedded "+damaged, ""), "text/caddyfile", "cannot be read", 4},
	} {
		t.Run(name, func(t *testing.T) {
			before, count, config := p.files(), p.counted(), p.ask("/config/")
			users, keys := p.ask("/mcp_gateway/users"), p.ask("/mcp_gateway/keys")
			goroutines := p.metric(p.ask("/metrics"), "go_goroutines")
			for range tc.times {
				if err := p.load(tc.text, tc.kind); err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("it was not rejected for %q: %v", tc.want, err)
				}
			}
			differ(t, "file", before, p.files())
			differ(t, "metric", count, p.counted())
			if now := p.ask("/mcp_gateway/users"); now != users {
				t.Errorf("the users are %s", now)
			}
			if now := p.ask("/mcp_gateway/keys"); now != keys {
				t.Errorf("the keys are %s", now)
			}
			if now := p.ask("/config/"); now != config {
				t.Errorf("the configuration is %s", now)
			}
			p.eventually("that no goroutine is left of it", func() bool {
				return p.metric(p.ask("/metrics"), "go_goroutines") <= goroutines+3 // connections that are just being closed
			})
			for i, c := range clients {
				if status, answer := c.send(http.MethodPost, callAny); status != http.StatusOK || !strings.Contains(answer, "done") {
					t.Errorf("session %d: %d %s", i, status, answer)
				}
				if status, answer := c.send(http.MethodPost, strings.Replace(callAny, "any", "more", 1)); !strings.Contains(answer, "not_found") {
					t.Errorf("what only the rejected configuration allows: %d %s", status, answer)
				}
			}
			if status, answer := revoked.send(http.MethodPost, callAny); status != http.StatusUnauthorized || !strings.Contains(answer, "token_revoked") {
				t.Errorf("a revoked token: %d %s", status, answer)
			}
			p.up.send()
			p.eventually("an event in every stream", func() bool {
				for i, s := range streams {
					if !s.running() {
						t.Fatalf("stream %d has ended: %v", i, s.end)
					}
					if s.got.Load() < int64(p.up.sentTo(clients[i])) {
						return false
					}
				}
				return true
			})
			if used++; used <= 30 {
				if status, answer := limited.send(http.MethodPost, initializeAny); status != http.StatusOK {
					t.Errorf("use %d: %d %s", used, status, answer)
				}
			}
		})
	}
	for ; used < 30; used++ {
		if status, answer := limited.send(http.MethodPost, initializeAny); status != http.StatusOK {
			t.Errorf("use %d: %d %s", used, status, answer)
		}
	}
	if status, answer := limited.send(http.MethodPost, initializeAny); status != http.StatusTooManyRequests {
		t.Errorf("one use too many: %d %s", status, answer)
	}
}

const (
	callAny       = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"any"}}`
	initializeAny = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
)
