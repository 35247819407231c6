package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// TestClientCredentials has the client of each SDK find out by itself where
// tokens come from: it is refused, reads the resource metadata and the metadata
// of the issuer, and gets a token with its own credentials.
func TestClientCredentials(t *testing.T) {
	f := must(t, oidcFront)
	t.Cleanup(func() { f.caddy.check(t) })
	for _, c := range matrix() {
		// Every client once at a server of its own SDK, in each version it speaks.
		if !strings.HasPrefix(c.server, c.client) || c.legacy {
			continue
		}
		for _, who := range []principal{fullService, restrictedService} {
			t.Run(c.String()+"/"+who.role, func(t *testing.T) {
				t.Parallel()
				server := must(t, servers[c.server])
				v := f.visit(t, c, server)
				v.OAuth = &clientCredentials{ID: who.clientID, Secret: who.clientID + "-secret", Issuer: f.issuer}
				handler, err := extauth.NewClientCredentialsHandler(&extauth.ClientCredentialsHandlerConfig{
					Credentials: v.OAuth.forGo(),
					HTTPClient:  &http.Client{Transport: tlsTransport},
				})
				if err != nil {
					t.Fatal(err)
				}
				v.handler = handler
				f.verify(t, c, server, v, who, clients[c.client](t.Context(), t, v))
			})
		}
	}
}

func (c *clientCredentials) forGo() *oauthex.ClientCredentials {
	secret := &oauthex.ClientSecretAuth{ClientSecret: c.Secret}
	return &oauthex.ClientCredentials{ClientID: c.ID, ClientSecretAuth: secret, Issuer: c.Issuer}
}

// TestAuthorizationCode has users log in at the provider.
func TestAuthorizationCode(t *testing.T) {
	f := must(t, oidcFront)
	t.Cleanup(func() { f.caddy.check(t) })
	for _, who := range []principal{alice, bob} {
		t.Run(who.subject, func(t *testing.T) {
			t.Parallel()
			server := must(t, servers["ts1"])
			c := matrix()[2] // the Go client at ts1
			if c.client != "go" || c.server != "ts1" {
				t.Fatalf("the cell is %s", c)
			}
			v := f.visit(t, c, server)
			app := &clientCredentials{ID: who.clientID, Secret: "app-secret", Issuer: f.issuer}
			handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
				PreregisteredClient: app.forGo(),
				RedirectURL:         redirectURL,
				AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
					return logIn(ctx, args.URL, who.subject)
				},
				Client: &http.Client{Transport: tlsTransport},
			})
			if err != nil {
				t.Fatal(err)
			}
			v.handler = handler
			f.verify(t, c, server, v, who, clients[c.client](t.Context(), t, v))
		})
	}
}

var errRedirected = errors.New("redirected to the client")

// logIn is a browser that follows the provider's redirects until one leads back
// to the client.
func logIn(ctx context.Context, authorizationURL, user string) (*auth.AuthorizationResult, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	var result *auth.AuthorizationResult
	browser := &http.Client{Jar: jar, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(next.URL.String(), redirectURL) {
			return nil
		}
		answer := next.URL.Query()
		if answer.Get("error") != "" {
			return fmt.Errorf("the provider refuses: %s", answer.Get("error_description"))
		}
		result = &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}
		return errRedirected
	}}
	target := authorizationURL + "&login_hint=" + url.QueryEscape(user)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := browser.Do(req)
	if !errors.Is(err, errRedirected) {
		if err == nil {
			resp.Body.Close()
			err = fmt.Errorf("the provider answers %s and does not redirect", resp.Status)
		}
		return nil, err
	}
	resp.Body.Close()
	return result, nil
}

// TestRefusedTokens presents what is no good token: nothing reaches the server,
// and the refusal leads to the metadata of the server that was asked.
func TestRefusedTokens(t *testing.T) {
	for name, part := range map[string]func() (*front, error){"provider": oidcFront, "key file": pemFront} {
		f := must(t, part)
		server := must(t, servers["ts1"])
		other := must(t, servers["ts2"])
		good := f.mustToken(t, fullService, server)
		parts := strings.Split(good, ".")
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := signToken(key, f.issuer, fullService, f.url(server))
		if err != nil {
			t.Fatal(err)
		}
		unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + "."
		for kind, token := range map[string]string{
			"no token":                     "",
			"not a token":                  "secret",
			"for another server":           f.mustToken(t, fullService, other),
			"other claims":                 parts[0] + "." + strings.Split(forged, ".")[1] + "." + parts[2],
			"signed by somebody else":      forged,
			"signed by nobody, as it says": unsigned,
			"cut off":                      good[:len(good)-4],
			"followed by a second one":     good + ", " + good,
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				resp := f.post(t, server, token, "", initialize)
				if resp.status != http.StatusUnauthorized && (kind != "followed by a second one" || resp.status != http.StatusBadRequest) {
					t.Errorf("answered with %d: %s", resp.status, resp.body)
				}
				challenge, err := oauthex.ParseWWWAuthenticate(resp.header.Values("WWW-Authenticate"))
				if err != nil || len(challenge) != 1 {
					t.Fatalf("challenge %v: %v", challenge, err)
				}
				if hasError := challenge[0].Params["error"] != ""; hasError != (token != "") {
					t.Errorf("the challenge is %v", challenge[0].Params)
				}
				metadata := challenge[0].Params["resource_metadata"]
				client := &http.Client{Transport: tlsTransport}
				found, err := oauthex.GetProtectedResourceMetadata(t.Context(), metadata, f.url(server), client)
				if err != nil {
					t.Fatal(err)
				}
				if len(found.AuthorizationServers) != 1 || found.AuthorizationServers[0] != f.issuer {
					t.Errorf("issuers %v, want %s", found.AuthorizationServers, f.issuer)
				}
				if got := server.log.of(t.Name()); len(got) != 0 {
					t.Errorf("the server received %v", got)
				}
			})
		}
		f.caddy.check(t)
	}
}

// TestNoRole has somebody with a good token and no role: they can call nothing.
func TestNoRole(t *testing.T) {
	f := must(t, pemFront)
	server := must(t, servers["go-stateless"])
	token := f.mustToken(t, noGroupService, server)
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"}}}`
	resp := f.post(t, server, token, "", body)
	if strings.Contains(resp.body, `"result"`) {
		t.Errorf("answered with %d: %s", resp.status, resp.body)
	}
	if got := server.log.of(t.Name()); len(got) != 0 {
		t.Errorf("the server received %v", got)
	}
}

// TestForeignSession has somebody use the session of another: it is unknown to
// them, and stays as it is.
func TestForeignSession(t *testing.T) {
	f := must(t, pemFront)
	for _, name := range []string{"go-stateful", "ts1", "ts2"} {
		t.Run(name, func(t *testing.T) {
			server := must(t, servers[name])
			owner, thief := f.mustToken(t, fullService, server), f.mustToken(t, restrictedService, server)
			opened := f.post(t, server, owner, "", initialize)
			session := opened.header.Get("Mcp-Session-Id")
			if opened.status != http.StatusOK || session == "" {
				t.Fatalf("initialize: %d, session %q: %s", opened.status, session, opened.body)
			}
			before := len(server.log.of(t.Name()))
			stolen := f.post(t, server, thief, session, ping)
			unknown := f.post(t, server, thief, "no-such-session", ping)
			if stolen.status != http.StatusNotFound || stolen.body != unknown.body {
				t.Errorf("a foreign session: %d %s\nan unknown one: %d %s", stolen.status, stolen.body, unknown.status, unknown.body)
			}
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				if resp := f.do(t, method, server, thief, session, ""); resp.status != http.StatusNotFound {
					t.Errorf("%s of a foreign session: %d %s", method, resp.status, resp.body)
				}
			}
			if resp := f.post(t, server, "", session, ping); resp.status != http.StatusUnauthorized {
				t.Errorf("a session without a token: %d %s", resp.status, resp.body)
			}
			if after := len(server.log.of(t.Name())); after != before {
				t.Errorf("%d requests of others reached the server", after-before)
			}
			if resp := f.post(t, server, owner, session, ping); resp.status != http.StatusOK {
				t.Errorf("the owner's session: %d %s", resp.status, resp.body)
			}
			if resp := f.do(t, http.MethodDelete, server, owner, session, ""); resp.status/100 != 2 {
				t.Errorf("DELETE by the owner: %d %s", resp.status, resp.body)
			}
			if resp := f.post(t, server, owner, session, ping); resp.status != http.StatusNotFound {
				t.Errorf("a session that has ended: %d %s", resp.status, resp.body)
			}
		})
	}
	f.caddy.check(t)
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`
	ping       = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
)

// response is an HTTP response that was read whole.
type response struct {
	status int
	header http.Header
	body   string
}

func (f *front) post(t *testing.T, s *mcpServer, token, session, body string) response {
	t.Helper()
	return f.do(t, http.MethodPost, s, token, session, body)
}

func (f *front) do(t *testing.T, method string, s *mcpServer, token, session, body string) response {
	t.Helper()
	// An answer that should have been a refusal may be a stream without an end.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, f.url(s), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set(tagHeader, t.Name())
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
		req.Header.Set("Mcp-Protocol-Version", legacyVersion)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := tlsTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var read bytes.Buffer
	if _, err := read.ReadFrom(resp.Body); err != nil {
		t.Errorf("%s answers %d, and then: %v", method, resp.StatusCode, err)
	}
	if !json.Valid(read.Bytes()) && resp.StatusCode >= 400 {
		t.Errorf("%s answers %d with what is not JSON: %q", method, resp.StatusCode, read.String())
	}
	return response{resp.StatusCode, resp.Header, read.String()}
}
