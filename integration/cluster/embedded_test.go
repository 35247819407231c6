//go:build unix

package cluster

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledAtRandom kills a gateway that has its state in a file, at random points while
// it revokes and serves. Each time it starts again, and all that it has ever acknowledged
// is refused by its first answers.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	const rounds = 25
	w := newWorld(t)
	n := w.node(t, "store embedded "+filepath.Join(w.dir, "state.db"))
	n.start(t)
	tokens := w.good(t, 2000)
	l := w.load(t, tokens[:400], n)
	used, acknowledged := 0, 0
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var revoking sync.WaitGroup
		const each = 2
		for i := range each {
			// Each takes its own tokens, until the gateway is gone.
			mine := tokens[used+i*30 : used+(i+1)*30]
			revoking.Go(func() {
				for _, tk := range mine {
					if n.revoke(ctx, tk) != nil {
						return
					}
				}
			})
		}
		used += each * 30
		l.await(t, "some answers", 1+rand.IntN(30), func(*answer) bool { return true })
		n.kill(t)
		cancel()
		revoking.Wait()
		n.start(t)
		acknowledged = 0
		for _, tk := range tokens[:used] {
			if tk.acknowledged.IsZero() {
				continue
			}
			acknowledged++
			if a := n.call(t.Context(), tk, ""); a.status != 401 || a.reason != "token_revoked" {
				t.Errorf("round %d: a token that is %s is answered with %s %v", round, tk.state(time.Now()), a, a.err)
			}
		}
	}
	t.Logf("%d rounds, %d acknowledged revocations", rounds, acknowledged)
	if acknowledged < rounds {
		t.Errorf("only %d revocations were acknowledged", acknowledged)
	}
	l.end(t)
}

// TestDamagedFile: a gateway does not start with a damaged file, and says why and what to
// do. With the file as it was, it does, and what was revoked is.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "state.db")
	n := w.node(t, "store embedded "+path)
	n.start(t)
	revoked := w.good(t, 50)
	for _, tk := range revoked {
		n.mustRevoke(t, tk)
	}
	n.kill(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), whole...)
	for i := range flipped[4096+100 : 4096+140] {
		flipped[i+4096+16] ^= 0xff
	}
	for name, content := range map[string][]byte{
		"empty": {}, "truncated": whole[:len(whole)/2], "truncated to a page": whole[:4096], "flipped": flipped, "zeros": make([]byte, len(whole)),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		n.launch(t)
		select {
		case <-n.process.Done():
		case <-time.After(patience):
			t.Fatalf("%s: it runs", name)
		}
		for _, want := range []string{path, "revoked tokens would be good again", "restore it from a backup"} {
			if log := n.log(t); !strings.Contains(log, want) {
				t.Errorf("%s: the log does not say %q:\n%s", name, want, log)
			}
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	for _, tk := range revoked {
		if a := n.call(t.Context(), tk, ""); a.reason != "token_revoked" {
			t.Errorf("with the file as it was: %s", a)
		}
	}
}
