package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// front is a way to the servers.
type front struct {
	caddy *caddyProcess // nil: straight to the server
	base  string        // the public URL
	// issuer is the issuer of tokens. token is nil where no tokens are needed;
	// else it gives one for somebody and an audience.
	issuer string
	token  func(who principal, audience string) (string, error)
}

// url is where a server is found through the front.
func (f *front) url(s *mcpServer) string {
	if f.caddy == nil {
		return s.url
	}
	return f.base + "/servers/" + s.name + "/mcp"
}

// secured says whether the gateway is in the way.
func (f *front) secured() bool { return f.token != nil }

// principal is somebody the issuers know, with the role that the gateway gives
// to the group of the same name.
type principal struct {
	subject  string
	clientID string
	role     string // none: ""
}

var (
	fullService       = principal{"full-service", "full-service", "full"}
	restrictedService = principal{"restricted-service", "restricted-service", "restricted"}
	noGroupService    = principal{"no-group-service", "no-group-service", ""}
	alice             = principal{"alice", "app", "full"}
	bob               = principal{"bob", "app", "restricted"}
)

func (p principal) groups() []string {
	if p.role == "" {
		return []string{}
	}
	return []string{p.role}
}

// redirectURL is where the provider sends users back to. Nobody listens there:
// the tests read the code off the redirect.
const redirectURL = "http://127.0.0.1:1/callback"

var directFront = func() (*front, error) { return &front{}, nil }

var proxyFront = sync.OnceValues(func() (*front, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	site, err := proxySite()
	if err != nil {
		return nil, err
	}
	caddy, err := startCaddy("proxy", caddyfile(port, site))
	return &front{caddy: caddy, base: baseURL(port)}, err
})

// oidcFront is the gateway with keys and issuer found by discovery.
var oidcFront = sync.OnceValues(func() (*front, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f := &front{base: baseURL(port)}
	resources := []string{f.base}
	for _, name := range serverNames {
		resources = append(resources, f.base+"/servers/"+name+"/mcp")
	}
	config := map[string]any{"resources": resources, "redirect": redirectURL}
	if f.issuer, err = startNodeServer("oidc.mjs", "OIDC_CONFIG", config, func([]byte) {}); err != nil {
		return nil, err
	}
	f.token = func(who principal, audience string) (string, error) {
		return clientCredentialsToken(f.issuer, who, audience)
	}
	site, err := gatewaySite(port, "issuer "+f.issuer)
	if err != nil {
		return nil, err
	}
	f.caddy, err = startCaddy("oidc", caddyfile(port, site))
	return f, err
})

// pemFront is the gateway with a PEM public key and an issuer that has no server.
var pemFront = sync.OnceValues(func() (*front, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f := &front{base: baseURL(port), issuer: "https://issuer.test"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(world.dir, "issuer.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	f.token = func(who principal, audience string) (string, error) { return signToken(key, f.issuer, who, audience) }
	site, err := gatewaySite(port, fmt.Sprintf("issuer %s {\n\tkey_file %s\n\talgorithms ES256\n}", f.issuer, file))
	if err != nil {
		return nil, err
	}
	f.caddy, err = startCaddy("pem", caddyfile(port, site))
	return f, err
})

func baseURL(port int) string { return fmt.Sprintf("https://localhost:%d", port) }

// clientCredentialsToken gets a token of a service from the provider.
func clientCredentialsToken(issuer string, who principal, audience string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {audience}}
	req, err := http.NewRequest(http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(who.clientID, who.clientID+"-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
		Error string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", fmt.Errorf("the provider gives %s no token for %s: %s", who.subject, audience, answer.Error)
	}
	return answer.Token, nil
}

// signToken signs what the provider would have put into a token.
func signToken(key *ecdsa.PrivateKey, issuer string, who principal, audience string) (string, error) {
	options := (&jose.SignerOptions{}).WithType("at+jwt")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims := jwt.Claims{
		Issuer: issuer, Subject: who.subject, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	}
	more := map[string]any{"groups": who.groups(), "client_id": who.clientID, "scope": "mcp:read mcp:write"}
	return jwt.Signed(signer).Claims(claims).Claims(more).Serialize()
}

// mustToken is a token for a server through the front.
func (f *front) mustToken(t *testing.T, who principal, s *mcpServer) string {
	t.Helper()
	token, err := f.token(who, f.url(s))
	if err != nil {
		t.Fatal(err)
	}
	return token
}
