package statetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// start is in the middle of an hour and of a day.
var start = time.Unix(1_800_001_234, 0)

func testTake(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	now := start
	maker.SetNow(s, func() time.Time { return now })
	take := func(n int, windows ...state.Window) time.Duration {
		t.Helper()
		wait, err := s.Take(ctx, "use/1", n, windows...)
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	hour, day := state.PerHour(3), state.PerDay(5)
	if wait := take(0, hour, day); wait != 0 {
		t.Errorf("wait %s before the first", wait)
	}
	for i := range 3 {
		if wait := take(1, hour, day); wait != 0 {
			t.Fatalf("use %d has to wait %s", i, wait)
		}
	}
	first := take(1, hour, day)
	if first <= 0 || first > time.Hour+5*time.Minute {
		t.Errorf("one too many waits %s", first)
	}
	if wait := take(0, hour, day); wait != first {
		t.Errorf("to ask takes: %s, then %s", first, wait)
	}
	if wait := take(0, state.PerHour(4), day); wait != 0 {
		t.Errorf("a higher limit: wait %s", wait)
	}
	if wait, err := s.Take(ctx, "use/2", 3, hour, day); wait != 0 || err != nil {
		t.Errorf("another key waits %s: %v", wait, err)
	}
	now = now.Add(first)
	if wait := take(1, hour, day); wait != 0 {
		t.Errorf("still waits %s after the wait", wait)
	}
	if wait := take(2, hour, day); wait == 0 {
		t.Error("two were taken where there is room for one")
	}
	if wait := take(1, hour, day); wait != 0 {
		t.Errorf("a refused use was counted: wait %s", wait)
	}
	if wait := take(1, hour, day); wait <= time.Hour {
		t.Errorf("the limit of the day is reached, and the wait is %s", wait)
	}
	if wait := take(1, state.Window{Period: time.Hour, Step: 5 * time.Minute}); wait != 0 {
		t.Errorf("without a limit: wait %s", wait)
	}
	now = now.Add(25 * time.Hour)
	if wait := take(3, hour, day); wait != 0 {
		t.Errorf("wait %s after a day", wait)
	}
	if wait := take(6, hour, day); wait != 25*time.Hour {
		t.Errorf("more than there is ever room for waits %s", wait)
	}
	// A clock that goes back gives nothing back.
	now = now.Add(-48 * time.Hour)
	if wait := take(1, hour, day); wait == 0 {
		t.Error("a clock that goes back makes room")
	}
	for name, bad := range map[string]state.Window{
		"no step":         {Period: time.Hour, Limit: 1},
		"part of a step":  {Period: time.Hour, Step: 7 * time.Minute, Limit: 1},
		"too fine":        {Period: time.Hour, Step: time.Second, Limit: 1},
		"part of seconds": {Period: time.Second, Step: time.Second / 2, Limit: 1},
		"negative":        {Period: time.Hour, Step: time.Hour, Limit: -1},
	} {
		if _, err := s.Take(ctx, "use/1", 1, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, call := range map[string]func() (time.Duration, error){
		"no window":  func() (time.Duration, error) { return s.Take(ctx, "k", 1) },
		"no key":     func() (time.Duration, error) { return s.Take(ctx, "", 1, hour) },
		"negative":   func() (time.Duration, error) { return s.Take(ctx, "k", -1, hour) },
		"same twice": func() (time.Duration, error) { return s.Take(ctx, "k", 1, hour, state.PerHour(9)) },
	} {
		if _, err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// testTakeAtomic: of uses at the same time no more pass than there is room for.
func testTakeAtomic(t *testing.T, maker Maker) {
	open := maker.New(t)
	stores := []state.Store{open()}
	if maker.Shared {
		stores = append(stores, open())
	}
	ctx := background(t)
	var passed atomic.Int64
	var running sync.WaitGroup
	for worker := range 8 {
		running.Go(func() {
			for range 20 {
				wait, err := stores[worker%len(stores)].Take(ctx, "hot", 1, state.PerHour(100), state.PerDay(37))
				if err != nil {
					t.Error(err)
				} else if wait == 0 {
					passed.Add(1)
				}
			}
		})
	}
	running.Wait()
	if passed.Load() != 37 {
		t.Errorf("%d of 160 passed, and the limit is 37", passed.Load())
	}
}

// testTakeRandom compares a store with state.Counter, whose own test says that it
// counts right.
func testTakeRandom(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	now := start
	maker.SetNow(s, func() time.Time { return now })
	var model [3]state.Counter
	for step := range 800 {
		switch random.IntN(10) {
		case 0:
			now = now.Add(time.Duration(random.IntN(4*3600)) * time.Second)
		case 1:
			now = now.Add(-time.Duration(random.IntN(600)) * time.Second)
		default:
			now = now.Add(time.Duration(random.IntN(300)) * time.Second)
		}
		windows := []state.Window{state.PerHour(1 + random.IntN(8)), state.PerDay(random.IntN(40)), {Period: 15 * time.Minute, Step: time.Minute, Limit: random.IntN(5)}}
		windows = windows[random.IntN(3):]
		which, n := random.IntN(len(model)), random.IntN(4)
		got, err := s.Take(ctx, fmt.Sprint("random/", which), n, windows...)
		if err != nil {
			t.Fatal(err)
		}
		if want := model[which].Take(n, windows, now); got.Round(time.Second) != want.Round(time.Second) {
			t.Fatalf("seed %d, step %d at %d: %d in %+v waits %s, want %s", seed, step, now.Unix(), n, windows, got, want)
		}
	}
}

func testTakeOutlives(t *testing.T, maker Maker) {
	open := maker.New(t)
	s := open()
	for range 5 {
		if wait, err := s.Take(background(t), "kept", 1, state.PerHour(5)); wait != 0 || err != nil {
			t.Fatal(wait, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if wait, err := open().Take(background(t), "kept", 1, state.PerHour(5)); wait == 0 || err != nil {
		t.Errorf("a closed store forgot what was counted: wait %s, %v", wait, err)
	}
}
