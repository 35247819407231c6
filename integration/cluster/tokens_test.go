//go:build unix

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

const (
	audience = "https://mcp.example.com"
	issuer   = "https://login.example.com"
	// promise is how soon after it was acknowledged a revocation is known everywhere, or
	// a node that does not know it knows that much.
	promise = time.Second
	// patience is how long a test waits for what has no other bound.
	patience = 30 * time.Second
)

// token is one that requests are sent with, and what is known about it.
type token struct {
	id, raw string
	// why is the reason of its refusal by everyone at any time; empty for a good one.
	why string

	mu sync.Mutex
	// asked is when somebody began to revoke it, acknowledged when that was answered.
	asked, acknowledged time.Time
}

// begun notes that it is going to be revoked.
func (tk *token) begun() {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	if tk.asked.IsZero() {
		tk.asked = time.Now()
	}
}

// done notes that it is revoked.
func (tk *token) done() {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	if tk.acknowledged.IsZero() {
		tk.acknowledged = time.Now()
	}
}

// passes reports whether a request with it may be let through that was sent then, when
// revocations may take so long to be known.
func (tk *token) passes(sent time.Time, bound time.Duration) bool {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	return tk.why == "" && (tk.acknowledged.IsZero() || !sent.After(tk.acknowledged.Add(bound)))
}

// refused reports whether that may be the reason of a refusal that came then.
func (tk *token) refused(reason string, came time.Time) bool {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	if tk.why != "" {
		return reason == tk.why
	}
	return reason == "token_revoked" && !tk.asked.IsZero() && came.After(tk.asked)
}

// mint makes tokens.
type mint struct{ key, other *ecdsa.PrivateKey }

// newMint writes the key that tokens are checked with into the folder, as key.pem.pub.
func newMint(t *testing.T, dir string) *mint {
	t.Helper()
	m := new(mint)
	for _, key := range []**ecdsa.PrivateKey{&m.key, &m.other} {
		var err error
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if err := launch.WriteKey(filepath.Join(dir, "key.pem"), m.key); err != nil {
		t.Fatal(err)
	}
	return m
}

// token makes one. What is wrong with it is named by the reason that it is refused for.
func (m *mint) token(t *testing.T, why string) *token {
	t.Helper()
	now := time.Now()
	tk := &token{id: rand.Text(), why: why}
	claims := jwt.Claims{
		Issuer: issuer, Subject: "s-" + tk.id, Audience: jwt.Audience{audience}, ID: tk.id,
		IssuedAt: jwt.NewNumericDate(now.Add(-2 * time.Hour)), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}
	key := m.key
	switch why {
	case "token_expired":
		claims.Expiry = jwt.NewNumericDate(now.Add(-time.Hour))
	case "token_signature":
		key = m.other
	case "token_issuer":
		claims.Issuer = "https://other.example.com"
	case "token_audience":
		claims.Audience = jwt.Audience{"https://other.example.com"}
	}
	var err error
	if tk.raw, err = launch.Sign(jose.ES256, key, claims); err != nil {
		t.Fatal(err)
	}
	return tk
}

// again makes another token of whoever has one.
func (m *mint) again(t *testing.T, of *token) *token {
	t.Helper()
	now := time.Now()
	tk := &token{id: rand.Text()}
	var err error
	if tk.raw, err = launch.Sign(jose.ES256, m.key, jwt.Claims{
		Issuer: issuer, Subject: "s-" + of.id, Audience: jwt.Audience{audience}, ID: tk.id,
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}); err != nil {
		t.Fatal(err)
	}
	return tk
}

// good makes some that nothing is wrong with.
func (m *mint) good(t *testing.T, n int) []*token {
	t.Helper()
	all := make([]*token, n)
	for i := range all {
		all[i] = m.token(t, "")
	}
	return all
}

// bad makes one of each that nobody may ever be let through with.
func (m *mint) bad(t *testing.T) (all []*token) {
	t.Helper()
	for _, why := range []string{"token_expired", "token_signature", "token_issuer", "token_audience"} {
		all = append(all, m.token(t, why))
	}
	return all
}
