package scope

import (
	"math/rand"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newUsage(tb testing.TB, size int) *Usage {
	tb.Helper()
	u, err := NewUsage(size)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

var key = UsageKey("https://a", "1")

func TestUsage(t *testing.T) {
	u := newUsage(t, 0)
	limits := Limits{PerHour: 2, PerDay: 3}
	take := func(at time.Time, want bool, again time.Duration) {
		t.Helper()
		if ok, got := u.Take(key, limits, at); ok != want || got != again {
			t.Fatalf("at %v: %v, %v, want %v, %v", at, ok, got, want, again)
		}
	}
	take(noon, true, 0)
	take(noon.Add(10*time.Minute), true, 0)
	take(noon.Add(20*time.Minute), false, 45*time.Minute) // until 13:05
	take(noon.Add(time.Hour), false, 5*time.Minute)       // an hour and a step
	take(noon.Add(65*time.Minute-time.Millisecond), false, time.Second)
	take(noon.Add(65*time.Minute), true, 0)
	take(noon.Add(3*time.Hour), false, 22*time.Hour) // the day is full until 13:00 of the next
	take(noon.Add(25*time.Hour-time.Second), false, time.Second)
	take(noon.Add(25*time.Hour), true, 0)
}

// Refused requests do not count, and so do not keep a client out for ever.
func TestRefusedDoNotCount(t *testing.T) {
	u := newUsage(t, 0)
	for range 1000 {
		u.Take(key, Limits{PerHour: 5}, noon)
	}
	if ok, _ := u.Take(key, Limits{PerHour: 6}, noon); !ok {
		t.Error("refused requests were counted")
	}
	if ok, again := u.Take(key, Limits{PerHour: 1}, noon); ok || again != 65*time.Minute {
		t.Errorf("with a lower limit: %v, %v", ok, again)
	}
}

func TestUsageWithoutLimits(t *testing.T) {
	u := newUsage(t, 16)
	for range 1000 {
		if ok, again := u.Take(key, Limits{}, noon); !ok || again != 0 {
			t.Fatal("a token without limits is refused")
		}
	}
	for i := range u.shards {
		if u.shards[i].counters.Len() != 0 {
			t.Error("it takes room")
		}
	}
}

// Tokens are counted apart, those of two issuers with the same jti included.
func TestUsageKeys(t *testing.T) {
	u := newUsage(t, 0)
	for _, k := range []Key{UsageKey("a", "1"), UsageKey("a", "2"), UsageKey("b", "1"), UsageKey("", "a1"), UsageKey("a1", ""), UsageKey("", "")} {
		if ok, _ := u.Take(k, Limits{PerHour: 1}, noon); !ok {
			t.Error("two tokens share a counter")
		}
	}
}

// A clock that goes back, or is before 1970, gives nothing away.
func TestClock(t *testing.T) {
	u := newUsage(t, 0)
	limits := Limits{PerHour: 2, PerDay: 2}
	for _, at := range []time.Time{noon, noon.Add(-48 * time.Hour)} {
		if ok, _ := u.Take(key, limits, at); !ok {
			t.Error("refused")
		}
	}
	for _, back := range []time.Duration{hourStep, dayStep} {
		u := newUsage(t, 0)
		for _, at := range []time.Time{noon, noon.Add(-back)} {
			if ok, _ := u.Take(key, limits, at); !ok {
				t.Error("refused")
			}
		}
		if ok, _ := u.Take(key, limits, noon.Add(back)); ok {
			t.Errorf("%v back, and what was counted is forgotten", back)
		}
	}
	for _, at := range []time.Time{noon, noon.Add(-48 * time.Hour), {}} {
		if ok, again := u.Take(key, limits, at); ok || again <= 0 {
			t.Errorf("at %v: %v, %v", at, ok, again)
		}
	}
	for range 2 {
		if ok, _ := u.Take(UsageKey("", "0"), limits, time.Time{}); !ok {
			t.Error("refused")
		}
	}
	if ok, _ := u.Take(UsageKey("", "0"), limits, time.Time{}); ok {
		t.Error("not counted")
	}
}

// Never more than the limit within any hour and any day, never refused when the last
// hour and day, with a step more, have room, and never told a wrong time.
func TestUsageAgainstNaive(t *testing.T) {
	for seed := range int64(40) {
		r := rand.New(rand.NewSource(seed))
		u := newUsage(t, 0)
		limits := Limits{PerHour: uint32(r.Intn(6)), PerDay: uint32(r.Intn(30))}
		if limits.none() {
			continue
		}
		var passed []time.Time
		within := func(now time.Time, d time.Duration) uint32 {
			count := uint32(0)
			for _, at := range passed {
				if now.Sub(at) < d {
					count++
				}
			}
			return count
		}
		full := func(now time.Time, step time.Duration) bool {
			hourStep, dayStep := min(step, hourStep), min(step, dayStep)
			return limits.PerHour > 0 && within(now, time.Hour+hourStep) >= limits.PerHour ||
				limits.PerDay > 0 && within(now, 24*time.Hour+dayStep) >= limits.PerDay
		}
		now := noon
		for range 1500 {
			now = now.Add(time.Duration(r.Int63n(int64(15 * time.Minute))))
			if r.Intn(200) == 0 {
				now = now.Add(time.Duration(r.Int63n(int64(30 * time.Hour))))
			}
			ok, again := u.Take(key, limits, now)
			switch {
			case ok && full(now, 0):
				t.Fatalf("seed %d: %+v is exceeded", seed, limits)
			case !ok && !full(now, 24*time.Hour):
				t.Fatalf("seed %d: %+v has room", seed, limits)
			case ok != (again == 0):
				t.Fatalf("seed %d: %v, %v", seed, ok, again)
			}
			if ok {
				passed = append(passed, now)
				continue
			}
			if again > time.Second {
				if early, rest := u.Take(key, limits, now.Add(again-time.Millisecond)); early || rest > time.Second {
					t.Fatalf("seed %d: there was room before %v", seed, again)
				}
			}
			if r.Intn(4) == 0 {
				now = now.Add(again)
				if ok, _ := u.Take(key, limits, now); !ok {
					t.Fatalf("seed %d: no room after %v", seed, again)
				}
				passed = append(passed, now)
			}
		}
		if len(passed) == 0 {
			t.Fatal("nothing passed")
		}
	}
}

// W-07: the counter is atomic.
func TestUsageConcurrent(t *testing.T) {
	u := newUsage(t, 0)
	var passed [3]atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 300 {
				if ok, _ := u.Take(UsageKey("", strconv.Itoa(i%3)), Limits{PerHour: 50, PerDay: 40}, noon); ok {
					passed[i%3].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range passed {
		if got := passed[i].Load(); got != 40 {
			t.Errorf("%d requests passed", got)
		}
	}
}

// However many tokens there are, the memory is bounded, and the one in use is kept.
func TestUsageIsBounded(t *testing.T) {
	u := newUsage(t, 160)
	limits := Limits{PerDay: 100}
	count := 0
	for i := range 10_000 {
		u.Take(UsageKey("", strconv.Itoa(i)), limits, noon)
		if i%2 == 0 {
			if ok, _ := u.Take(key, limits, noon); ok {
				count++
			}
		}
	}
	total := 0
	for i := range u.shards {
		total += u.shards[i].counters.Len()
	}
	if total > 160 {
		t.Errorf("there are %d counters", total)
	}
	if count != 100 {
		t.Errorf("%d requests passed", count)
	}
	if _, err := NewUsage(-1); err == nil {
		t.Error("a negative size is accepted")
	}
}
