package integration

import (
	"fmt"
	"strings"
	"testing"
)

const (
	modernVersion = "2026-07-28"
	legacyVersion = "2025-11-25"
)

// cell is a client at a server, and what the two can do in the version they
// agree on.
type cell struct {
	client  string
	legacy  bool // the client is told not to try 2026-07-28
	server  string
	version string

	asks    bool // the server can ask the client (elicitation, sampling)
	follows bool // the client learns of changes and gets log messages
	resumes bool // a broken stream can be resumed
	cancels bool // a cancellation reaches the server
	session bool // there is a session
}

func (c cell) String() string {
	client := c.client
	if c.legacy {
		client += "-legacy"
	}
	return client + "/" + c.server
}

// matrix is every client at every server, but for
//   - a client told not to try 2026-07-28 at a server that does not speak it
//     (go-stateful, ts1): the client would fall back to that exchange by itself;
//   - the TypeScript SDK 1.x client so told: it knows no later version.
//
// Of what the cells do, these are left out:
//   - resumption in 2026-07-28: the version has none;
//   - whatever needs a session for a client of an earlier version at
//     go-stateless, which has none: requests of the server, subscriptions, log
//     levels, resumption, and cancellation, which comes as another request.
func matrix() []cell {
	var cells []cell
	for _, client := range []string{"go", "ts1", "ts2"} {
		for _, legacy := range []bool{false, true} {
			for _, server := range serverNames {
				serverModern := server == "go-stateless" || server == "ts2"
				if legacy && (client == "ts1" || !serverModern) {
					continue
				}
				c := cell{client: client, legacy: legacy, server: server, version: legacyVersion}
				if serverModern && !legacy && client != "ts1" {
					c.version = modernVersion
				}
				c.session = c.version == legacyVersion && server != "go-stateless"
				c.resumes = c.session
				c.asks = c.session || c.version == modernVersion
				c.follows, c.cancels = c.asks, c.asks
				cells = append(cells, c)
			}
		}
	}
	return cells
}

// TestDirect runs the matrix without anything between client and server: the
// control for what of a failure is the SDKs' or the tests' own.
func TestDirect(t *testing.T) { runMatrix(t, must(t, directFront)) }

// TestReverseProxy runs the matrix through Caddy's own reverse_proxy.
func TestReverseProxy(t *testing.T) { runMatrix(t, must(t, proxyFront)) }

// TestGatewayWithProvider runs the matrix through the gateway with tokens of an
// OpenID provider, for each of two roles.
func TestGatewayWithProvider(t *testing.T) { runMatrix(t, must(t, oidcFront)) }

// TestGatewayWithKeyFile runs the matrix through the gateway with tokens that
// are checked against a PEM key.
func TestGatewayWithKeyFile(t *testing.T) { runMatrix(t, must(t, pemFront)) }

func runMatrix(t *testing.T, f *front) {
	if f.caddy != nil {
		// Registered first, so that it runs when all the parallel tests are done.
		t.Cleanup(func() { f.caddy.check(t) })
	}
	for _, c := range matrix() {
		everybody := []principal{{}}
		if f.secured() {
			everybody = []principal{fullService, restrictedService}
		}
		for _, who := range everybody {
			t.Run(strings.TrimSuffix(c.String()+"/"+who.role, "/"), func(t *testing.T) {
				t.Parallel()
				server := must(t, servers[c.server])
				v := f.visit(t, c, server)
				if f.secured() {
					v.Token = f.mustToken(t, who, server)
				}
				outcomes := clients[c.client](t.Context(), t, v)
				f.verify(t, c, server, v, who, outcomes)
			})
		}
	}
}

// visit is a run of the cell through the front. Each has its own tag, and claims
// to be somebody else.
func (f *front) visit(t *testing.T, c cell, server *mcpServer) visit {
	return visit{
		URL: f.url(server), Tag: t.Name(), Legacy: c.legacy,
		Asks: c.asks, Follows: c.follows, Resumes: c.resumes,
		Headers: map[string]string{tagHeader: t.Name(), "X-Mcp-Subject": "root", "X-Mcp-Roles": "full"},
	}
}

// verify compares a run with what it should have been, on both sides.
func (f *front) verify(t *testing.T, c cell, server *mcpServer, v visit, who principal, outcomes map[string]outcome) {
	restricted := who.role == "restricted"
	want := c.expected(v.Tag, restricted)
	for step, expected := range want {
		got, ok := outcomes[step]
		if !ok {
			t.Errorf("%s: the client did not get to it", step)
		} else if !expected.matches(got) {
			t.Errorf("%s:\n got %s\nwant %s", step, got, expected)
		}
	}
	for step, got := range outcomes {
		if _, ok := want[step]; !ok {
			t.Errorf("%s: unexpected step: %s", step, got)
		}
	}
	if restricted {
		sameRefusal(t, outcomes["admin"], outcomes["unknown"])
	}
	if c.cancels {
		server.log.awaitCancelled(t, v.Tag+" cancel")
	}
	requests := server.log.of(v.Tag)
	if len(requests) == 0 {
		t.Fatal("the server received nothing")
	}
	if c.session {
		server.log.awaitClosed(t, sessionOf(t, requests))
	}
	for _, r := range requests {
		f.checkIdentity(t, r, who)
	}
	if restricted {
		// Those without a tag are nobody's, or somebody's who took the tag off.
		for _, r := range append(requests, server.log.of("")...) {
			checkAllowed(t, r)
		}
	}
}

// sessionOf is the session of the run as the server knows it.
func sessionOf(t *testing.T, requests []received) string {
	t.Helper()
	for _, r := range requests {
		if id := r.header("Mcp-Session-Id"); id != "" {
			return id
		}
	}
	t.Error("the server received no session id")
	return ""
}

// checkAllowed fails the test when a request that the restricted role may not
// make has reached the server.
func checkAllowed(t *testing.T, r received) {
	t.Helper()
	for _, hidden := range []string{`"admin"`, "no_such_tool", "test://hidden", `"secret"`} {
		if strings.Contains(r.Body, hidden) {
			t.Errorf("the server received what the role may not ask for: %s", r.Body)
		}
	}
}

// checkIdentity fails the test when a request does not say who makes it, as the
// gateway knows them, or has the credential of the client.
func (f *front) checkIdentity(t *testing.T, r received, who principal) {
	t.Helper()
	if !f.secured() {
		if got := r.header("X-Mcp-Subject"); got != "root" {
			t.Errorf("without the gateway X-Mcp-Subject is %q, want the client's own", got)
		}
		return
	}
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if r.header(name) != "" {
			t.Errorf("the server received %s", name)
		}
	}
	for name, want := range map[string]string{
		"X-Mcp-Subject": who.subject, "X-Mcp-Client-Id": who.clientID, "X-Mcp-Issuer": f.issuer, "X-Mcp-Roles": who.role,
	} {
		if got := r.header(name); got != want {
			t.Errorf("%s is %q, want %q, in %s %s", name, got, want, r.Method, r.Body)
		}
	}
}

// sameRefusal fails the test unless a hidden tool and one that does not exist
// are refused in the same words.
func sameRefusal(t *testing.T, hidden, unknown outcome) {
	t.Helper()
	if hidden.Err == nil || unknown.Err == nil {
		return // already reported
	}
	as := strings.ReplaceAll(hidden.String(), "admin", "no_such_tool")
	if as != fmt.Sprint(unknown) {
		t.Errorf("a hidden tool is refused as %q, one that does not exist as %q", hidden, unknown)
	}
}
