//go:build unix

package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestRestartedEmpty: Redis comes back without its data, under load. The nodes go on to
// refuse what was revoked, and write it back, so that a node that is started then refuses
// it by its first answer, too.
func TestRestartedEmpty(t *testing.T) {
	w := newWorld(t)
	redis := newRedis(t)
	one, other := w.node(t, store(redis.Addr)), w.node(t, store(redis.Addr))
	third := w.node(t, store(redis.Addr))
	one.start(t)
	other.start(t)
	tokens := w.good(t, 60)
	l := w.load(t, tokens, one, other)
	l.await(t, "answers of both nodes", 40, served(nil))
	for i, tk := range tokens[:30] {
		[]*node{one, other}[i%2].mustRevoke(t, tk)
	}
	redis.Stop()
	for _, n := range []*node{one, other} {
		l.await(t, n.name+" is cut off", 10, unknown(n))
	}
	// What is revoked while Redis is down is not acknowledged, and is still not lost.
	if err := one.revoke(t.Context(), tokens[30]); err == nil {
		t.Error("revoked without Redis")
	}
	if err := os.RemoveAll(filepath.Join(redis.Dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	redis.Start()
	admin := operator(t, redis.Addr)
	for _, tk := range tokens[:31] {
		statetest.Eventually(t, "that what was revoked is written back", func() bool {
			return admin.Exists(t.Context(), "token:revoked:"+tk.id).Val() == 1
		})
	}
	tokens[30].done()
	for _, n := range []*node{one, other} {
		l.await(t, n.name+" serves again", 40, served(n))
	}
	one.kill(t)
	other.kill(t)
	third.start(t)
	for _, tk := range tokens[:31] {
		if a := third.call(t.Context(), tk, ""); a.status != 401 || a.reason != "token_revoked" {
			t.Errorf("a node that is started then answers %s", a)
		}
	}
	if a := third.call(t.Context(), tokens[31], ""); !served(third)(a) {
		t.Errorf("a token that was not revoked: %s, %v", a, a.err)
	}
	l.end(t)
}

// TestAllowStale: inside the window that is configured, a node that is cut off serves on
// by what it knows; after it, it refuses. What was revoked elsewhere meanwhile bites when
// it is connected again, by its first answer that knows.
func TestAllowStale(t *testing.T) {
	const window = 4 * time.Second
	w := newWorld(t)
	redis := newRedis(t)
	to := newProxy(t, redis.Addr)
	one := w.node(t, store(redis.Addr))
	other := w.node(t, store(to.Addr)+"\n\t\tallow_stale "+window.String())
	other.bound = window
	one.start(t)
	other.start(t)
	tokens := w.good(t, 20)
	before, meanwhile := tokens[:5], tokens[5:10]
	l := w.load(t, tokens, one, other)
	l.await(t, "answers of both nodes", 40, served(nil))
	for _, tk := range before {
		one.mustRevoke(t, tk)
	}
	for _, tk := range before {
		refusedBy(t, other, tk, tk.acknowledged)
	}
	to.Cut()
	cut := time.Now()
	for _, tk := range meanwhile {
		one.mustRevoke(t, tk)
	}
	// What it knew it still knows, and what it does not know is served: that is what
	// the window means.
	for _, tk := range before {
		if a := other.call(t.Context(), tk, ""); a.reason != "token_revoked" {
			t.Errorf("in the window, a token that was revoked before it: %s", a)
		}
	}
	l.await(t, "a token that was revoked elsewhere is served in the window", 1, func(a *answer) bool {
		return served(other)(a) && slices.Contains(meanwhile, a.token)
	})
	l.await(t, "the end of the window", 40, unknown(other))
	to.Mend()
	l.await(t, "it serves again", 40, served(other))
	for _, tk := range meanwhile {
		if a := other.call(t.Context(), tk, ""); a.status != 401 || a.reason != "token_revoked" {
			t.Errorf("what was revoked meanwhile is answered with %s", a)
		}
	}
	l.end(t)

	// Until the window ends all are served, after it none until the node is back, and
	// then none that was revoked. The last that the node was told was a beat before the
	// cut, at most.
	var last, first time.Time
	for _, a := range l.answers {
		switch {
		case a.node != other || a.token.why != "" || a.sent.Before(cut):
		case unknown(other)(a) && first.IsZero():
			first = a.came
		case !served(other)(a):
		case first.IsZero() || a.sent.Before(first):
			last = a.sent
		case a.token.state(a.sent) != "good":
			t.Errorf("after the window, a token that is %s is served", a.token.state(a.sent))
		}
	}
	if last.Sub(cut) > window {
		t.Errorf("it served %s after it was cut off, and the window is %s", last.Sub(cut), window)
	}
	if first.Sub(cut) < window-promise {
		t.Errorf("it refused %s after it was cut off, and the window is %s", first.Sub(cut), window)
	}
	t.Logf("of a window of %s, the last was served after %s, the first refused after %s", window, last.Sub(cut), first.Sub(cut))
}
