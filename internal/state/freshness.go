package state

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// Grace is for how long nothing may be heard from the store before it is taken to be cut
// off. Stores are heard several times a second.
const Grace = time.Second

// Freshness decides whether what was heard from a store, by Watch or Follow, may still be
// relied on. It is safe for concurrent use, and neither waits nor allocates.
type Freshness struct {
	// begin is what the times below count from, in nanoseconds, by a clock that
	// nobody can put back. Current is up to when all is known, stale how long it may
	// be ago.
	begin          time.Time
	current, stale atomic.Int64
	// alone is whether nobody else writes to the store.
	alone atomic.Bool
	cause atomic.Pointer[error]
	known chan struct{}
}

// never is that of one that has heard nothing yet.
const never = math.MinInt64

// NewFreshness returns one that has heard nothing yet, at that moment.
func NewFreshness(begin time.Time) *Freshness {
	f := &Freshness{begin: begin, known: make(chan struct{})}
	f.current.Store(never)
	f.SetAllowStale(0)
	return f
}

// Known is closed when everything was told for the first time.
func (f *Freshness) Known() <-chan struct{} { return f.known }

// SetAllowStale says for how long what is known may be relied on although the store is
// cut off. 0 is not at all: not after the Grace.
func (f *Freshness) SetAllowStale(allow time.Duration) {
	f.stale.Store(int64(max(allow, Grace)))
}

// Told notes what an update says, after all else in it was taken in. It reports whether
// the store is cut off from now on, or is back.
func (f *Freshness) Told(u Update) (cut, back bool) {
	if u.Err != nil {
		f.cause.Store(&u.Err)
		cut = true
	}
	if u.Current.IsZero() {
		return cut, false
	}
	f.alone.Store(u.Alone)
	f.reached(u.Current)
	return cut, f.cause.Swap(nil) != nil
}

// reached notes that all is known that happened before a moment.
func (f *Freshness) reached(at time.Time) {
	now := int64(at.Sub(f.begin))
	for {
		current := f.current.Load()
		if current >= now {
			return
		}
		if f.current.CompareAndSwap(current, now) {
			if current == never {
				close(f.known)
			}
			return
		}
	}
}

// IsStale reports whether what is known must not be relied on.
func (f *Freshness) IsStale(now time.Time) bool {
	current := f.current.Load()
	return current == never || int64(now.Sub(f.begin))-current > f.stale.Load() && !f.alone.Load()
}

// Age is how long ago everything was known, at most; false if it never was.
func (f *Freshness) Age(now time.Time) (time.Duration, bool) {
	current := f.current.Load()
	if current == never {
		return 0, false
	}
	return max(now.Sub(f.begin)-time.Duration(current), 0), true
}

// Err says why the store is cut off, or nil.
func (f *Freshness) Err() error {
	if err := f.cause.Load(); err != nil {
		return *err
	}
	return nil
}

// Ready returns an error while what is known must not be relied on.
func (f *Freshness) Ready(now time.Time) error {
	if !f.IsStale(now) {
		return nil
	}
	if err := f.Err(); err != nil {
		return err
	}
	return errNothingTold
}

var errNothingTold = errors.New("the store has not told everything yet")
