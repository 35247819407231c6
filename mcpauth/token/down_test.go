package token_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// faulty is an issuer that publishes keys, until something goes wrong with it.
type faulty struct {
	*httptest.Server
	fetches atomic.Int32
	fault   atomic.Pointer[http.HandlerFunc]
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	key := publicJWK(&rsaKey().PublicKey)
	key["kid"] = "1"
	set := must(json.Marshal(object{"keys": []object{key}}))
	f := new(faulty)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.fetches.Add(1)
		if fault := f.fault.Load(); fault != nil {
			(*fault)(w, r)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(f.Close)
	return f
}

// verifier knows the issuer by its keys; it is short of patience.
func (f *faulty) verifier(t *testing.T) *token.Verifier {
	t.Helper()
	return newVerifier(t, &token.Issuer{Issuer: issuerA, KeysRaw: must(json.Marshal(object{
		"source": "jwks", "url": f.URL, "timeout": int64(100 * time.Millisecond),
	}))})
}

var faults = map[string]http.HandlerFunc{
	"5xx":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	"garbage":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>down</html>") },
	"half a set": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[{"kty":"RSA",`) },
	"keys twice": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[],"keys":[]}`) },
	"too large":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat(" ", 1<<20+1)) },
	"hanging":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"hanging body": func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
	"gone": func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	},
	"redirected": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost.evil.example/", http.StatusFound)
	},
}

// TestKeysFaults: an issuer of which no keys can be had makes nobody's token good or bad:
// before any are known, tokens cannot be judged; after that, the known ones are used. An
// expired token is refused in any case.
func TestKeysFaults(t *testing.T) {
	later := now.Add(time.Hour)
	good := signed("RS256", rsaKey(), goodClaims(object{"exp": later.Unix() + 60}), object{"kid": "1"})
	expired := signed("RS256", rsaKey(), goodClaims(object{"exp": now.Unix() - 1}), object{"kid": "1"})
	forged := signed("RS256", otherRSA(), goodClaims(nil), object{"kid": "1"})
	unknown := signed("RS256", otherRSA(), goodClaims(nil), object{"kid": "2"})
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.fault.Store(&fault)
			v := f.verifier(t)
			want := func(when, raw string, at time.Time, reason token.Reason) {
				t.Helper()
				claims, err := v.Verify(t.Context(), raw, at, []string{resource})
				if token.ReasonOf(err) != reason || (claims != nil) != (reason == "") {
					t.Errorf("%s: %v, want %q", when, err, reason)
				}
			}
			for _, raw := range []string{good, expired, forged, unknown} {
				want("from the start", raw, now, token.KeysUnavailable)
			}
			f.fault.Store(nil)
			want("when it is there", good, now.Add(time.Minute), "")
			f.fault.Store(&fault)
			want("afterwards", good, later, "")
			want("afterwards, expired", expired, later, token.Expired)
			want("afterwards, forged", forged, later, token.BadSignature)
			want("afterwards, of another key", unknown, later, token.UnknownKey)
		})
	}
}

// TestUnknownKeysAreCheap sends 10,000 tokens, each of another unknown key, within what is
// a second to the gateway: the issuer is asked once, and no signature is verified.
func TestUnknownKeysAreCheap(t *testing.T) {
	f := newFaulty(t)
	v := f.verifier(t)
	if _, err := v.Verify(t.Context(), signed("RS256", rsaKey(), goodClaims(nil), object{"kid": "1"}), now, []string{resource}); err != nil {
		t.Fatal(err)
	}
	known := f.fetches.Load()
	payload := encode(string(must(json.Marshal(goodClaims(nil)))))
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 500 {
				header := encode(fmt.Sprintf(`{"alg":"RS256","kid":"k-%d-%d"}`, i, j))
				_, err := v.Verify(t.Context(), header+"."+payload+"."+encode("no signature"), now.Add(time.Minute), []string{resource})
				if token.ReasonOf(err) != token.UnknownKey {
					t.Errorf("%v", err)
				}
			}
		})
	}
	all.Wait()
	if n := f.fetches.Load() - known; n != 1 {
		t.Errorf("10,000 tokens of unknown keys caused %d fetches", n)
	}
}
