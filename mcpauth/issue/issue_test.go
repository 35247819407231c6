package issue

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

const name = "https://mcp.example.com"

func opened(t *testing.T, module state.Module) state.Store {
	t.Helper()
	if err := module.(caddy.Provisioner).Provision(caddy.Context{Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	store := module.NewStore()
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func embeddedStore(t *testing.T) state.Store {
	return opened(t, &embedded.Embedded{Path: filepath.Join(t.TempDir(), "state.db")})
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func issuer(t *testing.T, store state.Store, config Config) (*Issuer, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	config.Name = name
	i, err := New(store, config, "production", zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return i, logs
}

// verify judges a token as mcp_auth does.
func verify(t *testing.T, i *Issuer, raw string) (*token.Claims, error) {
	t.Helper()
	iss, err := token.NewIssuer(i.Name(), i.Audiences(), i)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier([]*token.Issuer{iss}, 0)
	if err != nil {
		t.Fatal(err)
	}
	verifier.Environment = "production"
	return verifier.Verify(t.Context(), raw, i.now(), nil)
}

func session(t *testing.T, i *Issuer, s Session) Token {
	t.Helper()
	made, err := i.Session(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func wantReason(t *testing.T, err error, reason token.Reason) {
	t.Helper()
	if got := token.ReasonOf(err); err == nil || got != reason {
		t.Errorf("got %v, expected %s", err, reason)
	}
}

func TestSession(t *testing.T) {
	i, _ := issuer(t, embeddedStore(t), Config{})
	for _, tc := range []struct {
		name     string
		session  Session
		expected string
	}{
		{
			"user",
			Session{ID: "s1", Subject: "u1", Email: "a@example.com", FullName: "A", Teams: []string{"t1", "t2"}, Roles: []string{"r1"}},
			`{"aud":["https://mcp.example.com"],"email":"a@example.com","env":"production","is_admin":false,"iss":"https://mcp.example.com","name":"A","roles":["r1"],"sid":"s1","sub":"u1","teams":["t1","t2"],"token_use":"session"}`,
		},
		{
			"of no team",
			Session{ID: "s1", Subject: "u1", Email: "a@example.com"},
			`{"aud":["https://mcp.example.com"],"email":"a@example.com","env":"production","is_admin":false,"iss":"https://mcp.example.com","sid":"s1","sub":"u1","teams":[],"token_use":"session"}`,
		},
		{
			"administrator",
			Session{ID: "s1", Subject: "u1", Email: "a@example.com", Admin: true, Teams: []string{"t1"}},
			`{"aud":["https://mcp.example.com"],"email":"a@example.com","env":"production","is_admin":true,"iss":"https://mcp.example.com","sid":"s1","sub":"u1","token_use":"session"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			made := session(t, i, tc.session)
			claims, err := verify(t, i, made.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if claims.TokenID != made.ID || !claims.Expires.Equal(made.Expires) || !claims.IssuedAt.Equal(made.Issued) || made.Expires.Sub(made.Issued) != 20*time.Minute {
				t.Errorf("told %+v, the claims are %v", made, claims.All())
			}
			rest := map[string]any{}
			for name, value := range claims.All() {
				if name != "jti" && name != "iat" && name != "exp" {
					rest[name] = value
				}
			}
			if got, _ := json.Marshal(rest); string(got) != tc.expected {
				t.Errorf("got      %s\nexpected %s", got, tc.expected)
			}
		})
	}
}

func TestAPI(t *testing.T) {
	i, _ := issuer(t, embeddedStore(t), Config{})
	in := func(d time.Duration) time.Time { return i.now().Add(d) }
	made, err := i.API(t.Context(), API{
		Subject: "u1", Email: "a@example.com", FullName: "A", Admin: true, Expires: in(time.Hour),
		Scopes: jsontext.Value(`{"server_id":null,"permissions":["tools.read"],"usage_limits":{"requests_per_hour":5}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := verify(t, i, made.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if teams, there := claims.Lookup("teams"); teams != nil || !there {
		t.Errorf("teams are %v, %v", teams, there)
	}
	if use, _ := claims.Lookup("token_use"); use != "api" {
		t.Errorf("token_use is %v", use)
	}
	if !claims.Scope.Permits(scope.Of(mcp.ToolsRead)) || claims.Scope.Permits(scope.Of(mcp.ToolsExecute)) {
		t.Error("the permissions are others")
	}
	if made, err = i.API(t.Context(), API{ID: "j1", Subject: "u1", Team: "t1", Expires: in(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if claims, err = verify(t, i, made.Raw); err != nil || claims.TokenID != "j1" || !claims.Scope.Sees(scope.Team, "t1", "", "u1") || claims.Scope.Sees(scope.Team, "t2", "", "u1") {
		t.Errorf("got %v", err)
	}
	for name, a := range map[string]API{
		"over":                 {Subject: "u1", Expires: in(-time.Second)},
		"never over":           {Subject: "u1"},
		"too long":             {Subject: "u1", Expires: in(91 * 24 * time.Hour)},
		"nobody's":             {Expires: in(time.Hour)},
		"scopes that are none": {Subject: "u1", Expires: in(time.Hour), Scopes: jsontext.Value(`{`)},
	} {
		if _, err := i.API(t.Context(), a); err == nil {
			t.Errorf("a token that is %s was made", name)
		}
	}
}

func TestTokensEnd(t *testing.T) {
	i, _ := issuer(t, embeddedStore(t), Config{})
	now := &clock{now: time.Now()}
	i.now = now.Now
	made := session(t, i, Session{Subject: "u1"})
	now.add(20 * time.Minute)
	_, err := verify(t, i, made.Raw)
	wantReason(t, err, token.Expired)
}

// TestRotation: a new key is published before it signs, and the old one verifies until
// all of its tokens are over. Its private half is gone before.
func TestRotation(t *testing.T) {
	store := embeddedStore(t)
	i, logs := issuer(t, store, Config{})
	now := &clock{now: time.Now()}
	i.now = now.Now
	long, err := i.API(t.Context(), API{Subject: "u1", Expires: now.Now().Add(90 * 24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	first := i.List()[0]
	added, err := i.Rotate(t.Context(), "test", PublishAhead)
	if err != nil {
		t.Fatal(err)
	}
	if kid := kidOf(t, session(t, i, Session{Subject: "u1"}).Raw); kid != first.ID {
		t.Error("the new key signs at once")
	}
	wantKids(t, i, first.ID, added.ID)
	now.add(PublishAhead)
	made := session(t, i, Session{Subject: "u1"})
	if kid := kidOf(t, made.Raw); kid != added.ID {
		t.Error("the new key does not sign")
	}
	if err := i.load(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	entry, err := records.Get(t.Context(), store, recordKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range entry.Data.Keys {
		if (len(s.Private) > 0) != (s.id() == added.ID) {
			t.Errorf("the private half of %s: %d bytes", s.id(), len(s.Private))
		}
	}
	for _, raw := range []string{long.Raw, made.Raw} {
		if _, err := verify(t, i, raw); err != nil {
			t.Error(err)
		}
	}
	now.add(90*24*time.Hour - PublishAhead - time.Second)
	if _, err := verify(t, i, long.Raw); err != nil {
		t.Error("the longest token of the old key is not good until its end:", err)
	}
	now.add(PublishAhead + clockSkew + time.Minute)
	if err := i.load(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	wantKids(t, i, added.ID)
	session(t, i, Session{Subject: "u1"})
	session(t, i, Session{Subject: "u1"})
	if n := logs.FilterMessageSnippet("older than 90 days").Len(); n != 1 {
		t.Errorf("the log warns %d times of the old key", n)
	}
}

// TestWithdraw: no token of a withdrawn key is good, on any node, and one that is
// remembered as verified is asked for again.
func TestWithdraw(t *testing.T) {
	server := redistest.Start(t)
	node := func() *Issuer {
		i, _ := issuer(t, opened(t, &redis.Redis{Addresses: []string{server.Addr}}), Config{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			i.Run(ctx)
			close(done)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		return i
	}
	a, b := node(), node()
	made := session(t, a, Session{Subject: "u1"})
	claims, err := verify(t, b, made.Raw)
	if err != nil {
		t.Fatal(err)
	}
	// A key that another node has just made is found at once.
	added, err := a.Rotate(t.Context(), "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	statetest.Eventually(t, "the other node knows the new key", func() bool {
		_, err := verify(t, b, session(t, a, Session{Subject: "u1"}).Raw)
		return err == nil
	})
	if !claims.Current() {
		t.Error("a new key ends what the old one has signed")
	}
	if err := a.Withdraw(t.Context(), "test", kidOf(t, made.Raw)); err != nil {
		t.Fatal(err)
	}
	_, err = verify(t, a, made.Raw)
	wantReason(t, err, token.UnknownKey)
	statetest.Eventually(t, "the other node refuses it", func() bool {
		_, err := verify(t, b, made.Raw)
		return token.ReasonOf(err) == token.UnknownKey && !claims.Current()
	})
	if err := a.Withdraw(t.Context(), "test", added.ID); err != nil {
		t.Fatal(err)
	}
	if kid := kidOf(t, session(t, a, Session{Subject: "u1"}).Raw); kid == added.ID {
		t.Error("the withdrawn key signs")
	}
	if err := a.Withdraw(t.Context(), "test", "x"); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestFirstKeyConcurrently: all nodes agree on the first key.
func TestFirstKeyConcurrently(t *testing.T) {
	server := redistest.Start(t)
	var running sync.WaitGroup
	kids := make(chan string, 8)
	for range 8 {
		i, _ := issuer(t, opened(t, &redis.Redis{Addresses: []string{server.Addr}}), Config{})
		running.Go(func() {
			made, err := i.Session(t.Context(), Session{Subject: "u1"})
			if err != nil {
				t.Error(err)
				return
			}
			kids <- kidOf(t, made.Raw)
		})
	}
	running.Wait()
	close(kids)
	first := <-kids
	for kid := range kids {
		if kid != first {
			t.Error("two nodes sign with two keys")
		}
	}
}

func TestStoreDown(t *testing.T) {
	i, _ := issuer(t, embeddedStore(t), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Session(ctx, Session{Subject: "u1"}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if i.Ready(time.Now()) == nil {
		t.Error("it is ready")
	}
	session(t, i, Session{Subject: "u1"})
	if _, err := i.Session(ctx, Session{Subject: "u1"}); err != nil {
		t.Errorf("with keys at hand: %v", err)
	}
	if err := i.Ready(time.Now()); err != nil {
		t.Error(err)
	}
}

func writeKey(t *testing.T, material any) string {
	t.Helper()
	kind := "PRIVATE KEY"
	var der []byte
	var err error
	if public, ok := material.(ed25519.PublicKey); ok {
		kind = "PUBLIC KEY"
		der, err = x509.MarshalPKIXPublicKey(public)
	} else {
		der, err = x509.MarshalPKCS8PrivateKey(material)
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeyFiles(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	edFile, publicFile := writeKey(t, private), writeKey(t, public)
	ecFile, rsaFile, oddFile := writeKey(t, p384), writeKey(t, rsa2048), writeKey(t, p224)

	old, _ := issuer(t, nil, Config{KeyFiles: []string{edFile}})
	made := session(t, old, Session{Subject: "u1"})
	for _, files := range [][]string{{edFile}, {ecFile, edFile}, {rsaFile, publicFile}} {
		i, _ := issuer(t, nil, Config{KeyFiles: files})
		if _, err := verify(t, i, made.Raw); err != nil {
			t.Error(err)
		}
		if _, err := verify(t, i, session(t, i, Session{Subject: "u1"}).Raw); err != nil {
			t.Error(err)
		}
		if kid := kidOf(t, session(t, i, Session{Subject: "u1"}).Raw); kid != i.List()[0].ID {
			t.Error("the first file does not sign")
		}
	}
	i, _ := issuer(t, nil, Config{KeyFiles: []string{ecFile}})
	_, err := verify(t, i, made.Raw)
	wantReason(t, err, token.WrongAlgorithm)
	if _, err := i.Rotate(t.Context(), "test", 0); !errors.Is(err, ErrKeyFiles) {
		t.Errorf("got %v", err)
	}

	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][]string{
		"public": {publicFile}, "twice": {edFile, publicFile}, "odd curve": {oddFile}, "no PEM": {text}, "missing": {text + "x"},
	} {
		_, err := New(nil, Config{Name: name, KeyFiles: files}, "", zap.NewNop())
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	store := embeddedStore(t)
	for _, c := range []Config{
		{},
		{Name: name, SessionLife: caddy.Duration(time.Minute)},
		{Name: name, SessionLife: caddy.Duration(48 * time.Hour)},
		{Name: name, MaxLife: caddy.Duration(time.Minute)},
	} {
		if _, err := New(store, c, "", zap.NewNop()); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if _, err := New(nil, Config{Name: name}, "", zap.NewNop()); err == nil {
		t.Error("an issuer without a place for its keys was accepted")
	}
}

func kidOf(t *testing.T, raw string) string {
	t.Helper()
	text, _, _ := strings.Cut(raw, ".")
	header, err := decode(text)
	if err != nil {
		t.Error(err)
	}
	if header["typ"] != "JWT" {
		t.Errorf("the header is %v", header)
	}
	return header["kid"]
}

// wantKids looks at the JWK Set, which has nothing private.
func wantKids(t *testing.T, i *Issuer, kids ...string) {
	t.Helper()
	document, err := i.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != len(kids) {
		t.Fatalf("published %s", document)
	}
	for n, k := range set.Keys {
		if k["kid"] != kids[n] || k["use"] != "sig" || k["alg"] != "ES256" || k["kty"] != "EC" || k["d"] != "" || len(k) != 7 {
			t.Errorf("published %v", k)
		}
	}
}

func decode(text string) (map[string]string, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	header := map[string]string{}
	return header, json.Unmarshal(b, &header)
}
