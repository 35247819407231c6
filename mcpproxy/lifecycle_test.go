package mcpproxy_test

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestReloadKeepsSessions: a session outlives the configuration it was made under,
// and a configuration that is rejected changes nothing.
func TestReloadKeepsSessions(t *testing.T) {
	upstream := newMCPServer(t, "one")
	w := newWorld(t, upstream)
	w.app = object{"sessions": object{"max": 3}}
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	session, name := w.begin(t, token)
	first := table(t)

	for range 3 {
		w.mustLoad(t)
		w.echo(t, token, session, name)
	}
	if table(t) != first {
		t.Error("the table of sessions was replaced")
	}

	// Rejected when a handler is provisioned, after the app may have been; with
	// limits that would end the session.
	good := w.servers
	w.servers, w.app = []any{object{"name": "a"}}, object{"sessions": object{"max": 1, "idle_timeout": 1}}
	if err := w.load(t); err == nil || !strings.Contains(err.Error(), "proxy is missing") {
		t.Fatalf("the bad configuration: %v", err)
	}
	if table(t) != first {
		t.Error("the rejected configuration is in force")
	}
	w.echo(t, token, session, name)
	second, _ := w.begin(t, token)
	w.echo(t, token, session, name)
	w.echo(t, token, second, name)
	if n := table(t).Len(); n != 2 {
		t.Errorf("%d sessions, expected both", n)
	}

	// Rejected when it is started: another listens there. Apps start in any order.
	w.servers = good
	mine := w.address
	w.address = newMCPServer(t, "taken").Listener.Addr().String()
	for range 8 {
		if err := w.load(t); err == nil {
			t.Fatal("a configuration with an address that is taken was accepted")
		}
	}
	w.address = mine
	w.echo(t, token, session, name)
	w.echo(t, token, second, name)

	// A good one with other limits comes into force.
	w.app = object{"sessions": object{"max": 1}}
	w.mustLoad(t)
	if n := table(t).Len(); n != 1 {
		t.Errorf("%d sessions, and the limit is 1 now", n)
	}
	w.echo(t, token, second, name)
	if resp, body := w.send(t, http.MethodPost, token, session, callEcho); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the session that was one too many: %d %s", resp.StatusCode, body)
	}
}

// TestReloadsLeaveNothingBehind compares the goroutines before and after many
// reloads.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	upstream := newMCPServer(t, "one")
	w := newWorld(t)
	// A transport that is not named keeps its idle connections for two minutes.
	w.servers = []any{object{"name": "a", "proxy": proxyTo(object{"transport": object{"protocol": "http"}}, upstream)}}
	token := tokenFor(t, "alice")
	w.mustLoad(t)
	session, name := w.begin(t, token)
	for range 3 { // what is made once is made now
		w.mustLoad(t)
		w.echo(t, token, session, name)
	}
	// fewest is the least number of goroutines until it is at most enough, or the
	// time is over.
	fewest := func(enough int, over time.Duration) int {
		deadline := time.After(over)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		least := runtime.NumGoroutine()
		for least > enough {
			select {
			case <-tick.C:
				least = min(least, runtime.NumGoroutine())
			case <-deadline:
				return least
			}
		}
		return least
	}
	before := fewest(0, time.Second)
	for range 50 {
		w.mustLoad(t)
		w.echo(t, token, session, name)
	}
	const slack = 5 // connections that are just being closed
	if after := fewest(before+slack, 20*time.Second); after > before+slack {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before 50 reloads, %d after:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
}

// TestLogs: neither tokens nor secrets are in the log, whatever happens, at debug
// level and with access logs on.
func TestLogs(t *testing.T) {
	upstream := newMCPServer(t, "one")
	w := newWorld(t, upstream)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	session, name := w.begin(t, token)
	w.echo(t, token, session, name)
	foreign := tokenFor(t, "mallory")
	w.send(t, http.MethodPost, foreign, session, callEcho)
	forged := token[:strings.LastIndexByte(token, '.')+1] + "recognisablerecognisablerecognisable1234567"
	w.send(t, http.MethodPost, forged, session, callEcho)
	w.send(t, http.MethodPost, "recognisable-opaque-token", session, callEcho)
	w.send(t, http.MethodPost, token, session, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"`)
	w.send(t, http.MethodPut, token, session, callEcho)
	upstream.CloseClientConnections()
	w.send(t, http.MethodDelete, token, session, "")
	w.send(t, http.MethodPost, token, session, callEcho)
	last, _ := w.begin(t, token)
	upstream.Close()
	if resp, body := w.send(t, http.MethodPost, token, last, callEcho); resp.StatusCode != http.StatusBadGateway || reasonOf(body) != "upstream_unreachable" {
		t.Errorf("an upstream that is down: %d %s", resp.StatusCode, body)
	}
	w.servers = []any{object{"name": "a"}}
	if err := w.load(t); err == nil {
		t.Error("the bad configuration was accepted")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}

	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"handled request", "upstream roundtrip", "refused"} {
		if !strings.Contains(string(log), line) {
			t.Errorf("the log has no line of %q, so this test tests nothing", line)
		}
	}
	payload := strings.Split(token, ".")[1]
	for what, text := range map[string]string{
		"a token": token, "a token's payload": payload, "a signature": strings.Split(token, ".")[2],
		"the foreign token": foreign, "the beginning of any token": "eyJ",
		"the secret": worldSecret, "something recognisable": "recognisable",
	} {
		if line := lineWith(string(log), text); line != "" {
			t.Errorf("%s is in the log: %s", what, line)
		}
	}
}

func lineWith(log, text string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// TestTokenInQuery: a token in the URL is refused, and not written to the log.
func TestTokenInQuery(t *testing.T) {
	upstream := newMCPServer(t, "one")
	w := newWorld(t, upstream)
	w.mustLoad(t)
	token := tokenFor(t, "alice")
	resp, err := w.client.Post("http://"+w.address+"/mcp?access_token="+token, "application/json", strings.NewReader(callEcho))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusBadRequest || reasonOf(string(body)) != "token_in_query" {
		t.Errorf("%d %s %v", resp.StatusCode, body, err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	if line := lineWith(string(log), token); line != "" {
		t.Errorf("the token is in the log: %s", line)
	}
	if upstream.requests() != 0 {
		t.Error("the request reached the server")
	}
}
