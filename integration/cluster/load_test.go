//go:build unix

package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	workers = 4
	// pace is how often each of them sends. More would only show how fast this
	// machine is.
	pace = 8 * time.Millisecond
)

// load is requests with all kinds of tokens, to all nodes.
type load struct {
	w      *world
	nodes  []*node
	tokens []*token

	cancel  context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	answers []*answer
	came    chan struct{} // closed and made anew by each answer
}

// load starts it with tokens, and with those that are never good.
func (w *world) load(t *testing.T, tokens []*token, nodes ...*node) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{w: w, nodes: nodes, tokens: append(slices.Clone(tokens), w.bad(t)...), cancel: cancel, came: make(chan struct{})}
	for worker := range workers {
		l.running.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				// What was sent is waited for, also in the end.
				l.add(l.nodes[(worker+i)%len(nodes)].call(context.Background(), l.tokens[rand.IntN(len(l.tokens))], fmt.Sprintf("%d-%d", worker, i)))
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		l.running.Wait()
	})
	return l
}

func (l *load) add(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
	close(l.came)
	l.came = make(chan struct{})
}

// await waits until n answers of a kind have come to requests that are sent from now on.
func (l *load) await(t *testing.T, what string, n int, is func(*answer) bool) {
	t.Helper()
	now, deadline := time.Now(), time.After(patience)
	for looked, found := 0, 0; ; {
		l.mu.Lock()
		for ; looked < len(l.answers); looked++ {
			if a := l.answers[looked]; a.sent.After(now) && is(a) {
				found++
			}
		}
		came := l.came
		l.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-came:
		case <-deadline:
			t.Fatalf("did not come: %s; only %s", what, l.counts())
		}
	}
}

// served is an answer of a node that let a request through; of any node without one.
func served(n *node) func(*answer) bool {
	return func(a *answer) bool { return (n == nil || a.node == n) && a.status == 200 && a.reason == "" }
}

// unknown is a refusal of a node because it does not know what was revoked.
func unknown(n *node) func(*answer) bool {
	return func(a *answer) bool { return a.node == n && a.status == 503 && a.reason == "revocation_unknown" }
}

// counts is how many answers there were of each kind.
func (l *load) counts() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, a := range l.answers {
		counts[a.String()]++
	}
	lines := []string{fmt.Sprintf("%d answers:", len(l.answers))}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%6d  %s", counts[kind], kind))
	}
	return strings.Join(lines, "\n")
}

// end ends the load, and looks at each answer, and at each request that the server has
// received.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.running.Wait()
	t.Log(l.counts())
	received := l.w.up.all()
	letThrough, known := 0, map[string]bool{}
	for _, a := range l.answers {
		known[a.nonce] = true
		n := received[a.nonce]
		switch {
		case n > 1:
			t.Errorf("the server received %s %d times", a.nonce, n)
		case n == 1 && !a.token.passes(a.sent, a.node.bound):
			t.Errorf("the server received %s, which was sent with a token that is %s (%s)", a.nonce, a.token.state(a.sent), a)
		}
		switch {
		case a.err != nil:
			if !a.node.excused(a.sent, a.came) {
				t.Errorf("%s did not answer: %v", a.node.name, a.err)
			}
		case served(nil)(a):
			letThrough++
			if n != 1 || !a.token.passes(a.sent, a.node.bound) {
				t.Errorf("%s answered, with a token that is %s; the server received it %d times", a, a.token.state(a.sent), n)
			}
		case n != 0:
			t.Errorf("%s, and the server received it", a)
		case unknown(a.node)(a):
		case a.status != 401 || !a.token.refused(a.reason, a.came):
			t.Errorf("%s is the answer to a token that is %s", a, a.token.state(a.sent))
		}
	}
	for nonce := range received {
		if !known[nonce] && strings.Count(nonce, "-") == 1 {
			t.Errorf("the server received %s, which nobody sent", nonce)
		}
	}
	if letThrough == 0 {
		t.Error("nothing was let through at all")
	}
	l.w.up.mu.Lock()
	defer l.w.up.mu.Unlock()
	clear(l.w.up.received)
}

// state is what is known of a token.
func (tk *token) state(at time.Time) string {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	switch {
	case tk.why != "":
		return tk.why
	case tk.asked.IsZero():
		return "good"
	case tk.acknowledged.IsZero():
		return "perhaps revoked"
	}
	return fmt.Sprintf("revoked since %s", at.Sub(tk.acknowledged))
}
