package integration

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// believed is for how long the gateway believes the provider in these tests.
const believed = time.Second

// opaqueFront is the gateway with a provider whose tokens only the provider can read.
var opaqueFront = sync.OnceValues(func() (*front, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f := &front{base: baseURL(port)}
	resources := []string{f.base}
	for _, name := range serverNames {
		resources = append(resources, f.base+"/servers/"+name+"/mcp")
	}
	config := map[string]any{"resources": resources, "redirect": redirectURL, "opaque": true}
	if f.issuer, err = startNodeServer("oidc.mjs", "OIDC_CONFIG", config, func([]byte) {}); err != nil {
		return nil, err
	}
	f.token = func(who principal, audience string) (string, error) {
		return clientCredentialsToken(f.issuer, who, audience)
	}
	if err := os.Setenv("INTEGRATION_INTROSPECTION_SECRET", "gateway secret: 100%"); err != nil {
		return nil, err
	}
	site, err := gatewaySite(port, fmt.Sprintf(`issuer %s {
	jti optional
	introspect {
		client_id gateway
		client_secret {env.INTEGRATION_INTROSPECTION_SECRET}
		cache %s
	}
}`, f.issuer, believed))
	if err != nil {
		return nil, err
	}
	f.caddy, err = startCaddy("opaque", caddyfile(port, site))
	return f, err
})

// form sends a form to the provider as a client of it.
func form(ctx context.Context, address, id, secret string, values url.Values) (int, map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(values.Encode()))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // there may be none
	return resp.StatusCode, answer, nil
}

// userTokens are the tokens of a user who has logged in.
func (f *front) userTokens(t *testing.T, user, resource string) (access, refresh string) {
	t.Helper()
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {redirectURL}, "resource": {resource}, "state": {"s"},
		"scope": {"openid offline_access mcp:read mcp:write"}, "prompt": {"consent"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	result, err := logIn(t.Context(), f.issuer+"/auth?"+query.Encode(), user)
	if err != nil {
		t.Fatal(err)
	}
	_, answer, err := form(t.Context(), f.issuer+"/token", "app", "app-secret", url.Values{
		"grant_type": {"authorization_code"}, "code": {result.Code}, "redirect_uri": {redirectURL}, "code_verifier": {verifier}, "resource": {resource},
	})
	if err != nil {
		t.Fatal(err)
	}
	access, _ = answer["access_token"].(string)
	refresh, _ = answer["refresh_token"].(string)
	if access == "" || refresh == "" || strings.Contains(access, ".") {
		t.Fatalf("the provider gives %v", answer)
	}
	return access, refresh
}

// revokeAt has a client take a token back at the provider (RFC 7009).
func (f *front) revokeAt(t *testing.T, id, secret, token string) {
	t.Helper()
	status, answer, err := form(t.Context(), f.issuer+"/token/revocation", id, secret, url.Values{"token": {token}})
	if err != nil || status != http.StatusOK {
		t.Fatalf("revoking: %d %v %v", status, answer, err)
	}
}

const echoCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"}}}`

// TestOpaqueTokens: a user and a service with opaque tokens of a real provider may what
// their groups may; what is no access token for this server reaches nobody.
func TestOpaqueTokens(t *testing.T) {
	f := must(t, opaqueFront)
	t.Cleanup(func() { f.caddy.check(t) })
	server := must(t, servers["go-stateless"])
	other := must(t, servers["ts2"])
	access, refresh := f.userTokens(t, "alice", f.url(server))
	for name, token := range map[string]string{"user": access, "service": f.mustToken(t, restrictedService, server)} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				resp := f.post(t, server, token, "", echoCall)
				if resp.status != http.StatusOK || !strings.Contains(resp.body, `"result"`) {
					t.Fatalf("%d %s", resp.status, resp.body)
				}
			}
		})
	}
	for name, token := range map[string]string{
		"refresh token":      refresh,
		"for another server": f.mustToken(t, fullService, other),
		"never issued":       rand.Text(),
		"cut off":            access[:len(access)-1],
	} {
		t.Run(name, func(t *testing.T) {
			resp := f.post(t, server, token, "", echoCall)
			if resp.status != http.StatusUnauthorized || !strings.Contains(resp.header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("%d %s", resp.status, resp.body)
			}
			if got := server.log.of(t.Name()); len(got) != 0 {
				t.Errorf("the server received %v", got)
			}
		})
	}
	t.Run("nobody's role", func(t *testing.T) {
		resp := f.post(t, server, f.mustToken(t, noGroupService, server), "", echoCall)
		if strings.Contains(resp.body, `"result"`) || len(server.log.of(t.Name())) != 0 {
			t.Errorf("%d %s; the server received %v", resp.status, resp.body, server.log.of(t.Name()))
		}
	})
}

// TestRevokedAtTheProvider: when a user's token is taken back at the provider, the gateway
// refuses it from when its answer is over on, and an open stream ends as one does.
func TestRevokedAtTheProvider(t *testing.T) {
	f := must(t, opaqueFront)
	t.Cleanup(func() { f.caddy.check(t) })
	server := must(t, servers["go-stateful"])
	token, _ := f.userTokens(t, "alice", f.url(server))
	opened := f.post(t, server, token, "", initialize)
	session := opened.header.Get("Mcp-Session-Id")
	if opened.status != http.StatusOK || session == "" {
		t.Fatalf("initialize: %d %s", opened.status, opened.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url(server), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Accept": "text/event-stream", "Authorization": "Bearer " + token, "Mcp-Session-Id": session, "Mcp-Protocol-Version": legacyVersion,
	} {
		req.Header.Set(name, value)
	}
	stream, err := tlsTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("the stream: %d", stream.StatusCode)
	}
	f.revokeAt(t, "app", "app-secret", token)
	revoked := time.Now()
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			t.Errorf("the client received %q", lines.Text())
		}
	}
	if lines.Err() != nil {
		t.Errorf("the stream did not end as one does: %v", lines.Err())
	}
	t.Logf("the stream ended %s after the token was revoked at the provider", time.Since(revoked).Round(time.Millisecond))
	before := len(server.log.of(t.Name()))
	resp := f.post(t, server, token, session, ping)
	if resp.status != http.StatusUnauthorized || !strings.Contains(resp.body, "token_inactive") {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	t.Logf("%s %v", resp.header.Get("WWW-Authenticate"), resp.body)
	if got := server.log.of(t.Name()); len(got) != before {
		t.Errorf("the server received %v", got[before:])
	}
}
