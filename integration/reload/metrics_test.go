package reload

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// scrape is what the site shows at /metrics.
func (p *process) scrape() string {
	p.t.Helper()
	c := &client{p: p, http: &http.Client{Transport: wires["http/1.1, a connection each"]()}}
	for {
		resp, err := c.http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", p.metrics))
		if err != nil {
			if closedBy(err) != "" {
				continue
			}
			p.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			p.t.Fatalf("%d %s %v", resp.StatusCode, text, err)
		}
		return string(text)
	}
}

// wants compares metrics with what they have to be, there and on the admin endpoint.
func (p *process) wants(want map[string]int) {
	p.t.Helper()
	for where, text := range map[string]string{"site": p.scrape(), "admin endpoint": p.ask("/metrics")} {
		for name, value := range want {
			if got := p.metric(text, strings.NewReplacer("{", `\{`, "}", `\}`).Replace(name)); got != value {
				p.t.Errorf("%s: %s is %d, not %d", where, name, got, value)
			}
		}
	}
}

// send sends a message and returns the answer's status and the reason in it.
func (c *client) send(method, body string) (status int, answer string) {
	c.p.t.Helper()
	resp, err := c.surely(c.p.t.Context(), method, body, nil)
	if err != nil {
		c.p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.p.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestMetrics: what happens is counted, under names that nobody but the gateway chooses,
// and a reload neither loses nor doubles it; nor does one that is rejected.
func TestMetrics(t *testing.T) {
	p := prepare(t)
	const roles = `role callers {
			allow servers.use main
			allow tools.execute main/any
		}`
	config := func(gateway, site string) string {
		return p.caddyfile("", "tokens "+p.url()+"\n\t\t"+gateway, roles+site)
	}
	p.start(config("", ""))
	wire := wires["http/1.1, a connection each"]
	alice, bob := p.join("recognisable-alice", wire), p.join("recognisable-bob", wire)
	call := func(c *client, method, name, reason string) {
		t.Helper()
		status, answer := c.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"name":"`+name+`"}}`)
		if status >= 500 || !strings.Contains(answer, reason) {
			t.Errorf("%s %s: %d %s", method, name, status, answer)
		}
	}
	for range 3 {
		call(bob, "tools/call", "any", "done")
	}
	call(bob, "tools/call", "recognisable-tool", "not_found")
	call(bob, "recognisable/method", "any", "unknown_method")
	nobody := &client{p: p, http: bob.http, token: "recognisable-token"}
	call(nobody, "tools/call", "any", "token_")
	stream := alice.listen("", 0)
	p.wants(map[string]int{
		`caddy_mcp_streams{kind="listen"}`: 1, `caddy_mcp_streams{kind="call"}`: 0, "caddy_mcp_streams_old": 0,
		"caddy_mcp_configurations": 1, "caddy_mcp_configurations_total": 1, "caddy_mcp_sessions": 2, "caddy_mcp_sessions_begun_total": 2,
		"caddy_mcp_revocations": 0, "caddy_mcp_revocation_stale": 0, "caddy_mcp_revocation_watches": 3,
	})
	p.revoke(`{"by":"subject","value":"recognisable-alice"}`)
	<-stream.ended
	call(alice, "tools/call", "any", "token_revoked")
	if status, answer := bob.send(http.MethodDelete, ""); status >= 300 {
		t.Fatalf("%d %s", status, answer)
	}
	call(bob, "tools/call", "any", "session_unknown")
	counted := map[string]int{
		`caddy_mcp_requests_total{decision="allowed",method="initialize",server="main"}`: 2,
		`caddy_mcp_requests_total{decision="allowed",method="tools/call",server="main"}`: 4,
		`caddy_mcp_requests_total{decision="allowed",method="GET",server="main"}`:        1,
		`caddy_mcp_requests_total{decision="allowed",method="DELETE",server="main"}`:     1,
		`caddy_mcp_requests_total{decision="refused",method="tools/call",server="main"}`: 1,
		`caddy_mcp_requests_total{decision="refused",method="other",server="main"}`:      1,
		`caddy_mcp_requests_total{decision="refused",method="unread",server="main"}`:     2,
		`caddy_mcp_refusals_total{reason="not_found"}`:                                   1,
		`caddy_mcp_refusals_total{reason="unknown_method"}`:                              1,
		`caddy_mcp_refusals_total{reason="token_revoked"}`:                               1,
		`caddy_mcp_refusals_total{reason="session_unknown"}`:                             1,
		`caddy_mcp_streams_ended_total{cause="token_revoked"}`:                           1,
		`caddy_mcp_sessions_ended_total{cause="token_revoked"}`:                          1,
		`caddy_mcp_sessions_ended_total{cause="client"}`:                                 1,
		`caddy_mcp_store_errors_total{operation="revoke"}`:                               0,
		`caddy_mcp_store_duration_seconds_count{operation="revoke"}`:                     1,
		"caddy_mcp_sessions_begun_total":                                                 2,
		"caddy_mcp_sessions":                                                             0,
		"caddy_mcp_revocations":                                                          1,
		"caddy_mcp_revocation_watches":                                                   0,
		`caddy_mcp_streams{kind="listen"}`:                                               0,
	}
	p.wants(counted)
	p.reload(config("max_sessions 7", ""))
	p.reload(config("max_sessions 8", ""))
	p.wants(counted)
	p.wants(map[string]int{"caddy_mcp_configurations_total": 3, "caddy_mcp_configurations": 1})
	if err := p.load(config("max_sessions 9", "\n\t\tserver second http://"+p.up.address+" {\n\t\t\ttransport http {\n\t\t\t\ttls_trust_pool file /none\n\t\t\t}\n\t\t}"), "text/caddyfile"); err == nil {
		t.Fatal("a configuration with a file that is not there was accepted")
	}
	if before := p.metric(p.scrape(), "caddy_mcp_configurations_total"); before != 3 {
		t.Errorf("%d configurations after one that was rejected", before)
	}
	p.reload(config("", ""))
	p.wants(counted)

	text := p.scrape()
	for _, secret := range []string{"recognisable", "eyJ", alice.session, bob.session, issuer} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the metrics", secret)
		}
	}
	for name, kind := range map[string]string{
		"requests_total": "counter", "refusals_total": "counter", "streams": "gauge", "streams_old": "gauge", "streams_ended_total": "counter",
		"configurations": "gauge", "configurations_total": "counter", "sessions": "gauge", "sessions_begun_total": "counter",
		"sessions_ended_total": "counter", "revocations": "gauge", "revocation_age_seconds": "gauge", "revocation_lag_seconds": "gauge",
		"revocation_stale": "gauge", "revocation_watches": "gauge", "store_duration_seconds": "histogram", "store_errors_total": "counter",
		"signing_key_age_seconds": "gauge",
	} {
		line := "# TYPE caddy_mcp_" + name + " " + kind + "\n"
		if strings.Count(text, line) != 1 || !strings.Contains(text, "\ncaddy_mcp_"+name) {
			t.Errorf("%q is there %d times", line, strings.Count(text, line))
		}
		text = strings.Replace(text, line, "", 1)
	}
	if strings.Contains(text, "# TYPE caddy_mcp_") {
		t.Errorf("there are others: %s", text)
	}
}
