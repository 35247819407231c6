package state

import (
	"errors"
	"testing"
	"time"
)

// TestFreshness: what is known is relied on for as long as the store was heard of not long
// ago, or as nobody else writes to it.
func TestFreshness(t *testing.T) {
	begin := time.Now()
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	f := NewFreshness(begin)
	stale := func(when string, now time.Duration, want bool) {
		t.Helper()
		if got := f.IsStale(at(now)); got != want || (f.Ready(at(now)) == nil) == want {
			t.Errorf("%s: stale %v, %v", when, got, f.Ready(at(now)))
		}
	}
	stale("nothing was told", 0, true)
	if _, loaded := f.Age(begin); loaded {
		t.Error("loaded before anything was told")
	}
	f.Told(Update{Reset: true})
	stale("nothing is current", 0, true)
	f.Told(Update{Current: at(0)})
	<-f.Known()
	stale("at once", 0, false)
	stale("after the grace", Grace, false)
	stale("later", Grace+1, true)
	f.Told(Update{Current: at(-time.Second)})
	stale("what was told late takes nothing back", Grace, false)
	if age, loaded := f.Age(at(time.Minute)); !loaded || age != time.Minute {
		t.Errorf("age %s", age)
	}
	f.SetAllowStale(time.Minute)
	stale("allowed", time.Minute, false)
	stale("not any more", time.Minute+1, true)
	f.SetAllowStale(0)
	broken := errors.New("broken")
	if cut, back := f.Told(Update{Err: broken}); !cut || back || !errors.Is(f.Err(), broken) {
		t.Errorf("cut %v, back %v, %v", cut, back, f.Err())
	}
	if !errors.Is(f.Ready(at(time.Hour)), broken) {
		t.Error("it does not say why")
	}
	if cut, back := f.Told(Update{Current: at(time.Hour), Alone: true}); cut || !back || f.Err() != nil {
		t.Errorf("cut %v, back %v, %v", cut, back, f.Err())
	}
	stale("alone", 1000*time.Hour, false)
	f.Told(Update{Current: at(2 * time.Hour)})
	stale("not alone", 1000*time.Hour, true)
	if n := testing.AllocsPerRun(100, func() { f.IsStale(begin) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
