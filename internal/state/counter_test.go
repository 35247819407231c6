package state

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestCounterNaive compares a counter with a list of all uses.
func TestCounterNaive(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	windows := []Window{PerHour(5), PerDay(20), {Period: 15 * time.Minute, Step: time.Minute, Limit: 3}}
	now := time.Unix(1_800_001_234, 0)
	var c Counter
	var uses []time.Time
	for step := range 5000 {
		now = now.Add(time.Duration(random.IntN(1200)) * time.Second)
		n := random.IntN(3)
		// A use counts until the step that began a period after its own is over.
		room := true
		for _, w := range windows {
			in := 0
			for _, use := range uses {
				if now.Unix()/w.Seconds()-use.Unix()/w.Seconds() < w.Steps() {
					in++
				}
			}
			room = room && in+max(n, 1) <= w.Limit
		}
		wait := c.Take(n, windows, now)
		if (wait == 0) != room {
			t.Fatalf("seed %d, step %d: wait %s, room %v", seed, step, wait, room)
		}
		if wait == 0 {
			for range n {
				uses = append(uses, now)
			}
			continue
		}
		before, after := c, c
		if before.Take(0, windows, now.Add(wait-time.Second)) == 0 && n <= 1 && wait > time.Second {
			t.Fatalf("seed %d, step %d: there is room a second before the wait of %s is over", seed, step, wait)
		}
		if after.Take(0, windows, now.Add(wait)) > 0 && n <= 1 {
			t.Fatalf("seed %d, step %d: there is no room after the wait of %s", seed, step, wait)
		}
	}
	// Whichever hour and day one looks at, there are no more than the limit.
	for i, first := range uses {
		for _, w := range windows {
			in := 0
			for _, use := range uses[i:] {
				if use.Sub(first) < w.Period {
					in++
				}
			}
			if in > w.Limit {
				t.Fatalf("seed %d: %d uses in %s, and the limit is %d", seed, in, w.Period, w.Limit)
			}
		}
	}
}

// TestCounterSize: what is counted takes the same room however many there are, and
// windows that are not asked for any more are given up.
func TestCounterSize(t *testing.T) {
	var c Counter
	now := time.Unix(1_800_000_000, 0)
	for i := range 100 {
		c.Take(1000, []Window{{Period: time.Duration(i+1) * time.Minute, Step: time.Minute}}, now)
	}
	if len(c.Windows) > 2*MaxWindows {
		t.Errorf("%d windows are kept", len(c.Windows))
	}
	last := c.Over()
	if want := now.Add(101 * time.Minute); !last.Equal(want) {
		t.Errorf("over at %s, want %s", last, want)
	}
	if c.Take(1, []Window{{Period: 100 * time.Minute, Step: time.Minute, Limit: 1}}, last) != 0 {
		t.Error("something counts after it is over")
	}
}
