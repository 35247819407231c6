package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// chunk is how many bodies are given to the readers at a time.
	chunk = 512
	// leastCompared is how many bodies must have been let through and compared in a
	// run, however long it takes.
	leastCompared = 2000
	// leastShare is the share of the bodies that must be let through, in percent: of
	// bodies that are all refused, nothing is learned. leastRead is the share of those
	// that each reader must be able to read.
	leastShare, leastRead = 20, 2
	// mostFound is how many differences are reported before the test gives up.
	mostFound = 5
)

// run is what a run of a test has to show.
type run struct {
	begun                 time.Time
	lasts                 time.Duration
	made, compared, found int
	// refused is how many bodies were refused, by reason; read is how many of the
	// others each reader has read.
	refused, read map[string]int
}

func newRun(lasts time.Duration) *run {
	return &run{begun: time.Now(), lasts: lasts, refused: map[string]int{}, read: map[string]int{}}
}

// made is a chunk of bodies that were let through, with what came of them.
type made[T any] struct {
	bodies  [][]byte
	passed  []T
	refused map[string]int
}

// chunks makes bodies until the time is over and enough have been let through. The nth
// chunk depends on the seed alone.
func chunks[T comparable](t testing.TB, r *run, one func(*generator) (body []byte, passed T, reason string)) func(func(made[T]) bool) {
	next, enough := make(chan made[T], 1), make(chan struct{})
	t.Cleanup(func() { close(enough) })
	go func() {
		var none T
		for n := uint64(0); ; n++ {
			c := made[T]{refused: map[string]int{}}
			g := newGenerator(*seed, n)
			for range chunk {
				body, passed, reason := one(g)
				if passed == none {
					c.refused[reason]++
					continue
				}
				c.bodies, c.passed = append(c.bodies, body), append(c.passed, passed)
			}
			select {
			case next <- c:
			case <-enough:
				return
			}
		}
	}()
	return func(yield func(made[T]) bool) {
		for time.Since(r.begun) < r.lasts || r.compared < leastCompared {
			c := <-next
			r.made += chunk
			r.compared += len(c.passed)
			for reason, n := range c.refused {
				r.refused[reason] += n
			}
			if !yield(c) {
				return
			}
		}
	}
}

// count counts whether a reader has read a body.
func (r *run) count(reader string, read bool) {
	if read {
		r.read[reader]++
	} else {
		r.read[reader] += 0
	}
}

// report tells of a body that some reader does not see as the gateway does, and the file
// that keeps it.
func (r *run) report(t *testing.T, target string, body, shrunk []byte, what string) {
	t.Helper()
	t.Errorf("%s\nin %q\nKeep it as a file of testdata/fuzz/%s:\ngo test fuzz v1\n[]byte(%q)\nIt was found as %q (-seed %d)",
		what, shrunk, target, shrunk, body, *seed)
	if r.found++; r.found == mostFound {
		t.Fatal("and so on")
	}
}

// log tells what was done, and fails if it was too little to mean anything.
func (r *run) log(t *testing.T) {
	t.Helper()
	lines := func(counts map[string]int, format string) string {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, format, counts[name], name)
		}
		return b.String()
	}
	t.Logf("-seed %d: %d bodies made, %d let through and compared, %.0f a second%s\nrefused:%s",
		*seed, r.made, r.compared, float64(r.compared)/time.Since(r.begun).Seconds(),
		lines(r.read, "\n%8d read by %s"), lines(r.refused, "\n%8d %s"))
	if r.compared*100 < r.made*leastShare {
		t.Errorf("only %d of %d bodies were let through", r.compared, r.made)
	}
	for name, n := range r.read {
		if n*100 < r.compared*leastRead {
			t.Errorf("%s has read only %d of %d bodies", name, n, r.compared)
		}
	}
}
