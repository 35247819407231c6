//go:build unix

package cluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// Needs uses that are counted in the store: the limits of a token hold for all nodes
// together.

// limited makes a token that is good for so many requests in an hour.
func (m *mint) limited(t *testing.T, perHour int) *token {
	t.Helper()
	tk := m.token(t, "")
	var err error
	tk.raw, err = launch.Sign(jose.ES256, m.key, map[string]any{
		"iss": issuer, "aud": audience, "sub": "s-" + tk.id, "jti": tk.id, "exp": 1 << 32,
		"scopes": map[string]any{"usage_limits": map[string]any{"requests_per_hour": perHour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// TestUsageCountsAcross: both nodes together let through as much as the token is good for,
// at the same time too, and no more after one was started again. Without Redis nobody can
// count, and nothing is let through.
func TestUsageCountsAcross(t *testing.T) {
	w := newWorld(t)
	redis := newRedis(t)
	one, other := w.node(t, store(redis.Addr)), w.node(t, store(redis.Addr))
	one.start(t)
	other.start(t)
	const limit, each = 25, 15
	tk := w.limited(t, limit)
	var running sync.WaitGroup
	var mu sync.Mutex
	counts, sent := map[string]int{}, 0
	calls := func(n *node, times int) {
		mu.Lock()
		sent++
		name := fmt.Sprint("uses", sent)
		mu.Unlock()
		running.Go(func() {
			for i := range times {
				a := n.call(t.Context(), tk, fmt.Sprintf("%s-%d", name, i))
				mu.Lock()
				counts[fmt.Sprint(a.status, " ", a.reason)]++
				mu.Unlock()
			}
		})
	}
	for _, n := range []*node{one, other} {
		calls(n, each)
		calls(n, each)
	}
	running.Wait()
	received := len(w.up.all())
	t.Log(counts)
	if counts["200 "] != limit || counts["429 usage_exceeded"] != 4*each-limit || received != limit {
		t.Errorf("of %d calls with a token for %d, the answers are %v, and the server received %d", 4*each, limit, counts, received)
	}
	one.kill(t)
	one.start(t)
	if a := one.call(t.Context(), tk, "after"); a.status != 429 {
		t.Errorf("after a restart: %s", a)
	}
	redis.Stop()
	fresh := w.limited(t, limit)
	for range 5 {
		if a := one.call(t.Context(), fresh, "uncounted"); a.status != 503 {
			t.Errorf("without Redis: %s", a)
		}
	}
	if now := len(w.up.all()); now != received {
		t.Errorf("the server received %d more", now-received)
	}
}
