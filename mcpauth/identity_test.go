package mcpauth

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// trusting has a header believed from peers.
func trusting(peers ...string) map[string]any {
	return map[string]any{"trusted_header": map[string]any{
		"header": "x-authenticated-user", "from": peers,
		"claims": map[string]any{
			"roles": map[string]any{"from": "X-Authenticated-Groups"},
			"teams": map[string]any{"from": "X-Authenticated-Teams", "separator": " "},
		},
	}}
}

const (
	believed  = "127.0.0.0/8" // where tests come from
	elsewhere = "192.0.2.0/24"
)

// arrival is a request as it went on from mcp_auth.
type arrival struct {
	header    http.Header
	principal *Principal
	shown     string
}

// receiving is a gate whose server keeps what it was sent.
func receiving(t *testing.T, change map[string]any, before ...caddyhttp.MiddlewareHandler) (*gate, *[]arrival) {
	t.Helper()
	var all []arrival
	h := provisioned(t, gateConfig(change))
	server := func(w http.ResponseWriter, r *http.Request) error {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		shown := repl.ReplaceAll("{http.auth.user.id} {http.auth.user.roles} {http.auth.user.email}", "")
		all = append(all, arrival{r.Header.Clone(), CallOf(r).Principal, shown})
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		return err
	}
	g := gateOf(t, h, server)
	g.before = before
	return g, &all
}

func TestTrustedHeader(t *testing.T) {
	alice := []string{"X-Authenticated-User: alice", "X-Authenticated-Groups: sales, reader"}
	team := map[string]any{"visibility": map[string]any{"notes": map[string]any{"level": "team", "team": "support"}}}
	for name, tc := range map[string]struct {
		peers  string
		change map[string]any
		header []string
		token  bool
		status int
		reason string
		// issuer and subject of the principal, if there is one.
		issuer, subject string
	}{
		"a peer":                            {peers: believed, header: alice, status: 200, issuer: "trusted_header", subject: "alice"},
		"a peer says nothing":               {peers: believed, status: 401, reason: "token_missing"},
		"a peer passes a token on":          {peers: believed, token: true, status: 200, issuer: gateIssuer, subject: "somebody"},
		"a peer passes a token and a user":  {peers: believed, header: alice, token: true, status: 400, reason: "credentials_several"},
		"the same of somebody else":         {peers: elsewhere, header: alice, token: true, status: 200, issuer: gateIssuer, subject: "somebody"},
		"somebody else":                     {peers: elsewhere, header: alice, status: 401, reason: "token_missing"},
		"somebody else, malformed":          {peers: elsewhere, header: []string{"X-Authenticated-User: ", "X-Authenticated-User: a"}, status: 401, reason: "token_missing"},
		"two users":                         {peers: believed, header: append(alice, "X-Authenticated-User: root"), status: 400, reason: "identity_malformed"},
		"the same user twice":               {peers: believed, header: append(alice, "x-authenticated-user: alice"), status: 400, reason: "identity_malformed"},
		"two lines of a claim":              {peers: believed, header: append(alice, "X-Authenticated-Groups: admin"), status: 400, reason: "identity_malformed"},
		"an empty user":                     {peers: believed, header: []string{"X-Authenticated-User: "}, status: 400, reason: "identity_malformed"},
		"an empty user and a token":         {peers: believed, header: []string{"X-Authenticated-User: "}, token: true, status: 400, reason: "credentials_several"},
		"a user that is no text":            {peers: believed, header: []string{"X-Authenticated-User: \xff"}, status: 400, reason: "identity_malformed"},
		"a user with a control character":   {peers: believed, header: []string{"X-Authenticated-User: a\u0085b"}, status: 400, reason: "identity_malformed"},
		"a claim that is no text":           {peers: believed, header: []string{"X-Authenticated-User: a", "X-Authenticated-Groups: \xff"}, status: 400, reason: "identity_malformed"},
		"a twin with an underscore":         {peers: believed, header: []string{"X_Authenticated_User: alice", "X_Authenticated_Groups: reader"}, status: 401, reason: "token_missing"},
		"a claim's twin with an underscore": {peers: believed, header: []string{"X-Authenticated-User: alice", "X_Authenticated_Groups: reader"}, status: 403, reason: "forbidden"},
		"claims without a user":             {peers: believed, header: alice[1:], status: 401, reason: "token_missing"},
		"claims without a user, and a token": {
			peers: believed, header: []string{"X-Authenticated-Groups: admin"}, token: true, status: 200, issuer: gateIssuer, subject: "somebody",
		},
		"no groups":                     {peers: believed, header: alice[:1], status: 403, reason: "forbidden"},
		"empty groups":                  {peers: believed, header: []string{"X-Authenticated-User: alice", "X-Authenticated-Groups: , ,"}, status: 403, reason: "forbidden"},
		"groups that are not separated": {peers: believed, header: []string{"X-Authenticated-User: alice", "X-Authenticated-Groups: sales reader"}, status: 403, reason: "forbidden"},
		"no team":                       {peers: believed, change: team, header: alice, status: 403, reason: "forbidden_scope"},
		"another team":                  {peers: believed, change: team, header: append(alice, "X-Authenticated-Teams: sales"), status: 403, reason: "forbidden_scope"},
		"empty teams":                   {peers: believed, change: team, header: append(alice, "X-Authenticated-Teams: "), status: 403, reason: "forbidden_scope"},
		"the team": {
			peers: believed, change: team, header: append(alice, "X-Authenticated-Teams: sales support"), status: 200, issuer: "trusted_header", subject: "alice",
		},
		"an administrator by header": {
			peers: believed, change: team, header: append(alice, "Is-Admin: true", "X-Authenticated-Is-Admin: true", "X-Is-Admin: true"), status: 403, reason: "forbidden_scope",
		},
		"an identity of the gateway": {peers: believed, header: []string{"X-Mcp-Subject: alice", "X-Mcp-Roles: admin"}, status: 401, reason: "token_missing"},
		"Basic of the proxy's own":   {peers: believed, header: append(alice, "Authorization: Basic YTpi"), status: 200, issuer: "trusted_header", subject: "alice"},
		"an empty Bearer":            {peers: believed, header: append(alice, "Authorization: Bearer "), status: 200, issuer: "trusted_header", subject: "alice"},
		"a Bearer that is none":      {peers: believed, header: append(alice, "Authorization: Bearer x"), status: 400, reason: "credentials_several"},
		"two Authorization headers":  {peers: believed, header: append(alice, "Authorization: Basic YTpi", "Authorization: Bearer x"), status: 400, reason: "token_several"},
		"Connection names the user": {
			peers: believed, header: append(alice, "Connection: X-Authenticated-User, X-Authenticated-Groups"), status: 200, issuer: "trusted_header", subject: "alice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := trusting(tc.peers)
			maps.Copy(change, tc.change)
			g, received := receiving(t, change)
			token := ""
			if tc.token {
				token = tokenOf(t, "reader", nil)
			}
			r := g.post(t, token, callList)
			for _, line := range tc.header {
				name, value, _ := strings.Cut(line, ": ")
				// The client's own library is not to mend anything.
				r.Header[name] = append(r.Header[name], value)
			}
			resp, body := g.raw(t, r)
			if got := reasonOf(body); resp.StatusCode != tc.status || got != tc.reason {
				t.Fatalf("status %d, reason %q, want %d %q: %s", resp.StatusCode, got, tc.status, tc.reason, body)
			}
			if tc.status == 401 && resp.Header.Get("WWW-Authenticate") != `Bearer resource_metadata="http://127.0.0.1/.well-known/oauth-protected-resource/mcp"` {
				t.Errorf("challenge %s", resp.Header["Www-Authenticate"])
			}
			if tc.issuer == "" {
				if len(*received) > 0 {
					t.Fatalf("the server received %v", (*received)[0].header)
				}
				return
			}
			if len(*received) != 1 {
				t.Fatalf("the server received %d requests", len(*received))
			}
			got := (*received)[0]
			if got.principal.Issuer != tc.issuer || got.principal.Subject != tc.subject || !slices.Equal(got.principal.Roles, []string{"reader"}) {
				t.Errorf("the principal is %s of %s with the roles %v", got.principal.Subject, got.principal.Issuer, got.principal.Roles)
			}
			for name := range got.header {
				if strings.Contains(strings.ToLower(hyphens.Replace(name)), "x-authenticated-user") || strings.HasPrefix(name, "X-Authenticated-Groups") || name == "Authorization" {
					t.Errorf("the header %s went on", name)
				}
			}
			if want := tc.subject + " reader "; got.shown != want {
				t.Errorf("the placeholders show %q, want %q", got.shown, want)
			}
			identity := got.principal.Identity
			if identity.Get("X-Mcp-Subject") != tc.subject || identity.Get("X-Mcp-Issuer") != tc.issuer || identity.Get("X-Mcp-Roles") != "reader" || identity["X-Mcp-Client-Id"] != nil {
				t.Errorf("the server is told %v", identity)
			}
			owner := got.principal.Owner()
			if owner.Issuer != tc.issuer || owner.Subject != tc.subject || owner.ClientID != "" {
				t.Errorf("sessions are owned by %+v", owner)
			}
		})
	}
}

// Every spelling of the headers is taken out of what goes on, whoever sends them.
func TestTrustedHeaderIsForgotten(t *testing.T) {
	for _, peers := range []string{believed, elsewhere} {
		g, received := receiving(t, trusting(peers))
		r := g.post(t, tokenOf(t, "reader", nil), callList)
		for _, name := range []string{
			"X_Authenticated_User", "X-Authenticated_User", "x_authenticated_user", "X.Authenticated.User", "X_AUTHENTICATED-GROUPS", "X-Authenticated-Groups",
			"X-Authenticated-Teams", "x-authenticated_teams",
		} {
			r.Header[name] = []string{"root"}
		}
		r.Header.Set("X-Kept", "kept")
		if resp, body := g.raw(t, r); resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %s", resp.StatusCode, body)
		}
		if got := (*received)[0].header; got.Get("X-Kept") != "kept" || strings.Contains(fmt.Sprint(got), "root") {
			t.Errorf("what went on: %v", got)
		}
	}
}

// The peer is the other end of the connection, in every spelling of its address, and
// not what a header makes of the client's address.
func TestTrustedPeers(t *testing.T) {
	h := provisioned(t, gateConfig(trusting("10.1.2.3", "192.168.0.0/16", "fd00::/8", "::ffff:172.16.0.0/108")))
	for remote, want := range map[string]bool{
		"10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "192.168.255.1:1": true, "[fd00::1]:1": true, "[fd12::1%eth0]:1": true, "172.16.5.5:1": true,
		"10.1.2.4:80": false, "11.1.2.3:80": false, "192.169.0.1:1": false, "[fe80::1]:1": false, "172.32.0.1:1": false, "127.0.0.1:1": false,
		"@": false, "": false, "10.1.2.3": false, "10.1.2.3:": false, "localhost:80": false, "10.1.2.3:80, 1.1.1.1:80": false, "/run/proxy.sock": false,
	} {
		r := prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
		r.RemoteAddr = remote
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "10.1.2.3")
		r.Header.Set("X-Forwarded-For", "10.1.2.3")
		if got := h.trusted.believes(r); got != want {
			t.Errorf("%q is believed: %v", remote, got)
		}
	}
}

// Without an issuer there is no token to ask for.
func TestNoIssuer(t *testing.T) {
	change := trusting(elsewhere)
	change["issuers"] = nil
	g, received := receiving(t, change)
	for _, token := range []string{"", "garbage", tokenOf(t, "reader", nil)} {
		resp, body := g.do(t, g.post(t, token, callList))
		if resp.StatusCode != http.StatusUnauthorized || reasonOf(body) != "identity_missing" {
			t.Errorf("status %d: %s", resp.StatusCode, body)
		}
		if got := resp.Header.Get("WWW-Authenticate"); got != `Bearer realm="http://127.0.0.1"` {
			t.Errorf("challenge %s", got)
		}
	}
	if len(*received) > 0 {
		t.Errorf("the server received %v", *received)
	}
	// Nor is a wider scope to be had, where tokens are none.
	change = trusting(believed)
	g, _ = receiving(t, change)
	r := g.post(t, "", strings.Replace(callList, "list", "save", 1))
	r.Header.Set("X-Authenticated-User", "alice")
	r.Header.Set("X-Authenticated-Groups", "reader")
	if resp, body := g.do(t, r); reasonOf(body) != "not_found" || resp.Header["Www-Authenticate"] != nil {
		t.Errorf("status %d, %v: %s", resp.StatusCode, resp.Header, body)
	}
}

// Nobody's time is up who has no token.
func TestStreamWithoutToken(t *testing.T) {
	change := trusting(believed)
	read := make(chan struct{})
	g := newGate(t, change, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		select {
		case <-read:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		if err := r.Context().Err(); err != nil {
			return err
		}
		_, err := io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
		return err
	})
	r := g.post(t, "", callList)
	r.Header.Set("X-Authenticated-User", "alice")
	r.Header.Set("X-Authenticated-Groups", "reader")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), "progress") {
		t.Fatalf("%q, %v", lines.Text(), lines.Err())
	}
	close(read)
	rest := ""
	for lines.Scan() {
		rest += lines.Text()
	}
	if err := <-g.errs; err != nil || !strings.Contains(rest, `"result":{}`) {
		t.Errorf("%v, then %q, %v", err, rest, lines.Err())
	}
}

func TestIdentityProvisionErrors(t *testing.T) {
	authenticated := func(claims map[string]any) map[string]any {
		return map[string]any{"authenticated": map[string]any{"claims": claims}}
	}
	from := func(from string) map[string]any { return map[string]any{"groups": map[string]any{"from": from}} }
	header := func(header string, claims map[string]any, peers ...string) map[string]any {
		return map[string]any{"trusted_header": map[string]any{"header": header, "from": peers, "claims": claims}}
	}
	const good, peer = "X-Authenticated-User", "10.0.0.1"
	for _, tc := range []struct {
		name     string
		change   map[string]any
		expected string
	}{
		{"no source of identity", map[string]any{"issuers": nil}, "authenticated or trusted_header"},
		{"scopes without an issuer", map[string]any{"issuers": nil, "authenticated": map[string]any{}, "scopes_supported": []string{"a"}}, "scopes_supported"},
		{"a claim of a request header", authenticated(from("{http.request.header.X-Groups}")), "not what an authenticator has set"},
		{"a claim of a header and more", authenticated(from("{http.auth.user.groups}{http.request.header.X-Groups}")), "not what an authenticator has set"},
		{"a claim of text", authenticated(from("admin")), "not what an authenticator has set"},
		{"a claim of nothing", authenticated(from("")), "not what an authenticator has set"},
		{"a claim of the prefix", authenticated(from("{http.auth.user.}")), "not what an authenticator has set"},
		{"a claim of a candidate", authenticated(from("{http.auth.candidate.id}")), "not what an authenticator has set"},
		{"a claim without a name", authenticated(map[string]any{"": map[string]any{"from": "{http.auth.user.groups}"}}), "another name"},
		{"no header", header("", nil, peer), "must be a name"},
		{"a header with an underscore", header("X_User", nil, peer), "must be a name"},
		{"a header with a placeholder", header("{env.X}", nil, peer), "must be a name"},
		{"no peer", header(good, nil), "needs the peers"},
		{"every IPv4 peer", header(good, nil, peer, "0.0.0.0/0"), "everybody"},
		{"every IPv6 peer", header(good, nil, "::/0"), "everybody"},
		{"every IPv4 peer, mapped", header(good, nil, "::ffff:0.0.0.0/96"), "everybody"},
		{"a peer by name", header(good, nil, "proxy.internal"), "neither an address"},
		{"a peer with a port", header(good, nil, "10.0.0.1:80"), "neither an address"},
		{"a peer that is unset", header(good, nil, "{env.MCPAUTH_TEST_UNSET}"), "from"},
		{"a claim of a bad header", header(good, from("X Groups"), peer), "must be a name"},
		{"a claim of a placeholder", header(good, from("{http.request.header.X-Groups}"), peer), "must be a name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := load(t, "http.handlers.mcp_auth", gateConfig(tc.change)); err == nil || !strings.Contains(err.Error(), tc.expected) {
				t.Errorf("error %v, expected: %s", err, tc.expected)
			}
		})
	}
	for _, name := range reserved {
		for kind, change := range map[string]map[string]any{
			"authenticated":  authenticated(map[string]any{name: map[string]any{"from": "{http.auth.user.x}"}}),
			"trusted_header": header(good, map[string]any{name: map[string]any{"from": "X-Any"}}, peer),
		} {
			if _, err := load(t, "http.handlers.mcp_auth", gateConfig(change)); err == nil || !strings.Contains(err.Error(), "another name") {
				t.Errorf("%s sets the claim %s: %v", kind, name, err)
			}
		}
	}
	for _, name := range []string{"authorization", "Cookie", "Host", "content-type", "X-Forwarded-For", "Connection", "Mcp-Session-Id", "X-Mcp-Subject", "x-mcp-roles", "Origin", "Forwarded"} {
		if _, err := load(t, "http.handlers.mcp_auth", gateConfig(header(name, nil, peer))); err == nil {
			t.Errorf("the header %s is accepted", name)
		}
	}
	for _, name := range []string{"authenticated", "trusted_header"} {
		for _, change := range []map[string]any{{}, authenticated(nil), header(good, nil, peer)} {
			change["issuers"] = []any{map[string]any{"issuer": name, "keys": map[string]any{"source": "secret", "value": gateSecret}}}
			if _, err := load(t, "http.handlers.mcp_auth", gateConfig(change)); err == nil || !strings.Contains(err.Error(), "must not speak for them") {
				t.Errorf("an issuer named %s: %v", name, err)
			}
		}
	}
}
