//go:build unix

package model

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
)

var (
	seeds = flag.Int("seeds", 3, "how many runs there are on two nodes; on one, a third of that")
	seed  = flag.Uint64("seed", 0, "the seed of the first run; 0 is any")
	steps = flag.Int("steps", 100, "how many operations a run has")
)

// walk is a run.
type walk struct {
	*world
	*rand.Rand
	t *testing.T
	m *model
	// seed is what it is made from, log what was done.
	seed uint64
	log  []string
	// at is the node where operations are made now, since when the last one was
	// answered.
	at    *node
	since time.Time
	// root is the administrator who makes changes, with a session that nobody touches.
	root *login
	// durable is whether uses are written before they are answered.
	durable bool

	sent, probes, again, names int
	late                       time.Duration
	answers, operations        map[string]int
}

// TestTwoNodes walks on two nodes that share a Redis, one of which is killed now and then.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	run(t, *seeds, func(t *testing.T) *walk {
		redis := redistest.Start(t)
		return &walk{world: newWorld(t, "redis "+redis.Addr, 2), durable: true}
	})
}

// TestOneNode walks on a node with a file, which is killed or stopped now and then.
func TestOneNode(t *testing.T) {
	t.Parallel()
	run(t, (*seeds+2)/3, func(t *testing.T) *walk {
		return &walk{world: newWorld(t, "embedded "+filepath.Join(t.TempDir(), "state.db"), 1)}
	})
}

func run(t *testing.T, runs int, begin func(*testing.T) *walk) {
	for i := range runs {
		s := *seed + uint64(i)
		if *seed == 0 {
			s = rand.Uint64N(1 << 32)
		}
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			w := begin(t)
			w.t, w.seed, w.Rand = t, s, rand.New(rand.NewPCG(s, 1))
			w.answers, w.operations = map[string]int{}, map[string]int{}
			w.run()
		})
	}
}

// failf ends the run, and tells how it came to that.
func (w *walk) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, after %d operations:\n%s\n\n%s", w.seed, len(w.log), strings.Join(w.log, "\n"), fmt.Sprintf(format, args...))
}

func pick[T any](w *walk, list ...T) T { return list[w.IntN(len(list))] }

func (w *walk) run() {
	w.at = w.nodes[0]
	w.begin()
	var all []operation
	for _, o := range operations {
		all = append(all, slices.Repeat([]operation{o}, o.weight)...)
	}
	for i := range *steps {
		if i%200 == 199 {
			w.refreshed(w.root, w.at.api(w.t, "POST", "/auth/refresh", "", object{"refresh_token": w.root.refresh}))
		}
		if w.IntN(8) == 0 {
			w.move()
		}
		o := pick(w, all...)
		about := w.user()
		// Not all of them stay away for long.
		switch {
		case !about.exists && w.IntN(3) > 0:
			o = operations[0]
		case about.barred && about.exists && w.IntN(3) == 0:
			o = operations[1]
		}
		done := o.do(w, about)
		if !done {
			continue
		}
		w.since = time.Now()
		w.operations[o.name]++
		for _, p := range w.some(about) {
			// The other node, too, before or after.
			order, other := w.IntN(3), w.nodes[w.IntN(len(w.nodes))]
			if order == 0 && other != w.at {
				w.soon(other, p)
			}
			w.now(w.at, p)
			if order == 1 && other != w.at {
				w.soon(other, p)
			}
		}
	}
	for range w.nodes {
		w.move()
	}
	w.report()
}

// note tells what is about to be done.
func (w *walk) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%3d on %s: ", len(w.log)+1, w.at.name)+fmt.Sprintf(format, args...))
}

// move goes on with another node, when that knows everything.
func (w *walk) move() {
	for _, n := range w.nodes {
		if n != w.at {
			for _, p := range w.all() {
				w.soon(n, p)
			}
			w.at = n
			return
		}
	}
	for _, p := range w.all() {
		w.now(w.at, p)
	}
}

// restart ends the node and starts it again.
func (w *walk) restart() {
	signal := syscall.SIGKILL
	if !w.durable && w.IntN(2) == 0 {
		signal = syscall.SIGTERM
	}
	w.note("restart after %s", signal)
	w.at.end(w.t, signal)
	if !w.durable && signal == syscall.SIGKILL {
		for _, c := range w.m.creds {
			c.least = 0 // uses of the last second are forgotten
		}
	}
	for _, n := range w.nodes {
		if n != w.at {
			for _, p := range w.some(w.user()) {
				w.soon(n, p)
			}
		}
	}
	w.at.start(w.t)
}

func (w *walk) report() {
	total := 0
	for _, n := range w.operations {
		total += n
	}
	lines := []string{fmt.Sprintf("seed %d: %d operations, %d probes, %d asked again, the other node agreed %s after a change at most", w.seed, total, w.probes, w.again, w.late.Round(time.Millisecond))}
	for _, counts := range []map[string]int{w.operations, w.answers} {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%s: %d", strings.TrimSpace(name), counts[name]))
		}
		lines = append(lines, strings.Join(parts, ", "))
	}
	w.t.Log(strings.Join(lines, "\n"))
	if w.answers["200 "] < w.probes/50 || w.answers["200 "] > w.probes*9/10 {
		w.t.Errorf("of %d probes %d were served: the walk asks too little", w.probes, w.answers["200 "])
	}
}
