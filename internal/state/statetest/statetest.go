// Package statetest is what every store has to pass.
package statetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Maker makes stores for the tests.
type Maker struct {
	// New returns what opens stores on the same data, of which there is none at
	// first. The test ends them.
	New func(t *testing.T) (open func() state.Store)
	// Shared says that several may be open on the same data. Of others, the one
	// before is closed before the next is opened.
	Shared bool
	// SetNow sets the clock that Take counts by.
	SetNow func(s state.Store, now func() time.Time)
}

// Run runs the tests, each with data of its own.
func Run(t *testing.T, maker Maker) {
	for name, test := range map[string]func(*testing.T, Maker){
		"Records":        testRecords,
		"Versions":       testVersions,
		"Atomic":         testAtomic,
		"Require":        testRequire,
		"Values":         testValues,
		"Keys":           testKeys,
		"Bounds":         testBounds,
		"Scan":           testScan,
		"ScanLarge":      testScanLarge,
		"Expiry":         testExpiry,
		"Increments":     testIncrements,
		"Unique":         testUnique,
		"RandomRecords":  testRandomRecords,
		"Take":           testTake,
		"TakeAtomic":     testTakeAtomic,
		"TakeRandom":     testTakeRandom,
		"TakeOutlives":   testTakeOutlives,
		"Revoke":         testRevoke,
		"RevokeJoins":    testRevokeJoins,
		"RevokeBounds":   testRevokeBounds,
		"FollowMany":     testFollowMany,
		"Watch":          testWatch,
		"WatchExpiry":    testWatchExpiry,
		"Reopened":       testReopened,
		"Contexts":       testContexts,
		"Closed":         testClosed,
		"OtherNode":      testOtherNode,
		"FollowOnReopen": testFollowOnReopen,
	} {
		t.Run(name, func(t *testing.T) { test(t, maker) })
	}
}

// patience is how long a test waits for what should come soon.
const patience = 20 * time.Second

func (m Maker) store(t *testing.T) state.Store {
	t.Helper()
	return m.New(t)()
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until something is so that nobody tells.
func Eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// Told collects what a feed tells.
type Told struct {
	mu      sync.Mutex
	change  chan struct{}
	updates []state.Update
}

// Collect runs a feed until the test ends.
func Collect(t *testing.T, feed func(context.Context, func(state.Update))) *Told {
	t.Helper()
	told := &Told{change: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		feed(ctx, func(u state.Update) {
			told.mu.Lock()
			defer told.mu.Unlock()
			told.updates = append(told.updates, u)
			close(told.change)
			told.change = make(chan struct{})
		})
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return told
}

// Wait waits until something is so of what was told, all in one.
func (c *Told) Wait(t *testing.T, what string, so func(all state.Update) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		all, change := c.all(), c.change
		c.mu.Unlock()
		if so(all) {
			return
		}
		select {
		case <-change:
		case <-deadline:
			t.Fatalf("not told in time: %s; told %d revocations, %q, reset %v, current %s, error %v",
				what, len(all.Revocations), all.Keys, all.Reset, all.Current, all.Err)
		}
	}
}

// Forget has Wait look only at what comes from now on.
func (c *Told) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates = nil
}

func (c *Told) all() (all state.Update) {
	for _, u := range c.updates {
		all.Revocations = append(all.Revocations, u.Revocations...)
		all.Keys = append(all.Keys, u.Keys...)
		all.Reset = all.Reset || u.Reset
		if !u.Current.IsZero() {
			all.Current = u.Current
		}
		if u.Err != nil {
			all.Err = u.Err
		}
	}
	return all
}

// Current waits until all is told that happened before now.
func (c *Told) Current(t *testing.T) {
	t.Helper()
	now := time.Now()
	c.Wait(t, "that it is current", func(all state.Update) bool { return all.Current.After(now) })
}

func mustApply(t *testing.T, s state.Store, changes ...state.Change) state.Version {
	t.Helper()
	v, err := s.Apply(background(t), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustGet(t *testing.T, s state.Store, key string) state.Record {
	t.Helper()
	r, err := state.Get(background(t), s, key)
	if err != nil {
		t.Fatalf("%q: %v", key, err)
	}
	return r
}

func absent(t *testing.T, s state.Store, key string) bool {
	t.Helper()
	records, err := s.Read(background(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return !records[0].Exists()
}
