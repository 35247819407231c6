package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// start is when the tests begin; they move time on by what they pass as now.
var start = time.Now()

// issuer is an authorization server on this machine.
type issuer struct {
	*httptest.Server
	fetches atomic.Int32 // of the JWK Set

	mu       sync.Mutex
	keys     map[string]crypto.PublicKey
	body     string        // instead of the JWK Set
	status   int           // instead of 200
	gate     chan struct{} // if set, answers wait until it is closed
	arrived  chan struct{} // gets a value for each waiting request
	metadata map[string]string
	asked    []string
}

func newIssuer(tb testing.TB, kids ...string) *issuer {
	tb.Helper()
	iss := &issuer{keys: map[string]crypto.PublicKey{}, metadata: map[string]string{}, arrived: make(chan struct{}, 100)}
	for _, kid := range kids {
		iss.keys[kid] = newPublic()
	}
	iss.Server = httptest.NewServer(iss)
	tb.Cleanup(iss.Close)
	return iss
}

func newPublic() crypto.PublicKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key.Public()
}

func (iss *issuer) change(f func()) {
	iss.mu.Lock()
	defer iss.mu.Unlock()
	f()
}

func (iss *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	iss.mu.Lock()
	status, body, gate := iss.status, iss.body, iss.gate
	if r.URL.Path == "/jwks" {
		iss.fetches.Add(1)
		if body == "" {
			body = keySetText(iss.keys)
		}
	} else {
		iss.asked = append(iss.asked, r.URL.Path)
		var ok bool
		if body, ok = iss.metadata[r.URL.Path]; !ok {
			status = http.StatusNotFound
		}
	}
	iss.mu.Unlock()
	if gate != nil {
		iss.arrived <- struct{}{}
		<-gate
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	_, _ = w.Write([]byte(body))
}

func keySetText(keys map[string]crypto.PublicKey) string {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for kid, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: kid, Use: "sig"})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// generation is one configuration's key source, with the log it writes.
type generation struct {
	*Remote
	logs *observer.ObservedLogs
	end  func() // as when Caddy lets go of the configuration
}

// load provisions a source as Caddy does, and binds it to the issuer.
func load(tb testing.TB, source string, config any, bind string) (*generation, error) {
	tb.Helper()
	return loadIn(tb, "", source, config, bind)
}

func loadIn(tb testing.TB, environment token.Environment, source string, config any, bind string) (*generation, error) {
	tb.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: tb.Context()})
	tb.Cleanup(cancel)
	module, err := token.WithEnvironment(ctx, environment).LoadModuleByID("mcp_gateway.key_sources."+source, text)
	if err != nil {
		cancel()
		return nil, err
	}
	gen := &generation{end: cancel}
	switch module := module.(type) {
	case *JWKS:
		gen.Remote = &module.Remote
	case *Discovery:
		gen.Remote = &module.Remote
		if err := module.BindIssuer(bind); err != nil {
			cancel()
			return nil, err
		}
	}
	core, logs := observer.New(zap.InfoLevel)
	gen.logger, gen.logs = zap.New(core), logs
	return gen, nil
}

func mustLoad(tb testing.TB, iss *issuer) *generation {
	tb.Helper()
	gen, err := load(tb, "jwks", map[string]string{"url": iss.URL + "/jwks"}, "")
	if err != nil {
		tb.Fatal(err)
	}
	return gen
}

// settled waits until no attempt to fetch is running.
func (g *generation) settled() {
	g.state.mu.Lock()
	inflight := g.state.inflight
	g.state.mu.Unlock()
	if inflight != nil {
		<-inflight
	}
}

func (g *generation) count(tb testing.TB, kid string, after time.Duration) int {
	tb.Helper()
	keys, _, err := g.Keys(tb.Context(), kid, start.Add(after))
	if err != nil {
		tb.Fatalf("keys for %q: %v", kid, err)
	}
	return len(keys)
}

func wantFetches(tb testing.TB, iss *issuer, want int32) {
	tb.Helper()
	if got := iss.fetches.Load(); got != want {
		tb.Fatalf("the keys were fetched %d times, want %d", got, want)
	}
}

// errorText is the text of err, or "" for none.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
