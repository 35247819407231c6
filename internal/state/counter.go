package state

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Window is a time in which uses are counted. It slides in steps: a use counts from
// when it was made until the end of the period, and then for less than one step more.
// So there are never more uses than the limit in any period, wherever it begins.
type Window struct {
	// Period is how long a use counts, Step what it is rounded to. The period has to
	// be a whole number of steps, at most MaxSteps, and a step one of seconds. Uses
	// are counted apart by the two.
	Period, Step time.Duration
	// Limit is how many uses there may be; 0 for any number. They are counted anyhow.
	Limit int
}

const (
	// MaxSteps bounds how finely a period is divided.
	MaxSteps = 120
	// MaxWindows bounds the windows of one call.
	MaxWindows = 4
)

// PerHour allows so many uses in any hour.
func PerHour(limit int) Window { return Window{time.Hour, 5 * time.Minute, limit} }

// PerDay allows so many uses in any day.
func PerDay(limit int) Window { return Window{24 * time.Hour, time.Hour, limit} }

// CheckWindows refuses what no store takes. Implementations call it.
func CheckWindows(key string, n int, windows []Window) error {
	if err := CheckKeys(key); err != nil {
		return err
	}
	if n < 0 || n > 1_000_000 || len(windows) == 0 || len(windows) > MaxWindows {
		return fmt.Errorf("%d uses in %d windows; there may be 0 to 1000000 in 1 to %d", n, len(windows), MaxWindows)
	}
	for i, w := range windows {
		if w.Step < time.Second || w.Step%time.Second != 0 || w.Period < w.Step || w.Period%w.Step != 0 || w.Period/w.Step > MaxSteps {
			return fmt.Errorf("a window of %s in steps of %s; it must be 1 to %d steps of whole seconds", w.Period, w.Step, MaxSteps)
		}
		if w.Limit < 0 {
			return errors.New("the limit of a window is negative")
		}
		for _, other := range windows[:i] {
			if other.Period == w.Period && other.Step == w.Step {
				return errors.New("two windows of the same period and step; make one of them")
			}
		}
	}
	return nil
}

// Steps is how many steps of a window are remembered.
func (w Window) Steps() int64 { return int64(w.Period/w.Step) + 1 }

// Seconds is the length of a step.
func (w Window) Seconds() int64 { return int64(w.Step / time.Second) }

// Counter counts the uses under one key. Its size does not depend on how many there
// are. It says how Take counts, whatever the store; it is not safe for concurrent use.
type Counter struct {
	Windows []CounterWindow `json:"w"`
}

// CounterWindow has the uses of one window, by step.
type CounterWindow struct {
	// Period and Step are in seconds.
	Period int64 `json:"p"`
	Step   int64 `json:"s"`
	// At is the newest step, as a number of steps since 1970, and Uses[At%len(Uses)]
	// what was counted in it.
	At   int64   `json:"at"`
	Uses []int64 `json:"u"`
}

// Take counts n uses at a moment if there is room for them, as [Store] Take does.
func (c *Counter) Take(n int, windows []Window, now time.Time) (wait time.Duration) {
	for _, w := range windows {
		// To ask whether there is room for none is to ask for one.
		wait = max(wait, c.wait(w, int64(max(n, 1)), now))
	}
	if wait > 0 || n == 0 {
		return wait
	}
	for _, w := range windows {
		c.count(w, int64(n), now)
	}
	return 0
}

// Over is when nothing of it counts any more.
func (c *Counter) Over() time.Time {
	var last int64
	for i := range c.Windows {
		last = max(last, c.Windows[i].over())
	}
	return time.Unix(last, 0)
}

func (c *CounterWindow) over() int64 { return (c.At + int64(len(c.Uses))) * c.Step }

// find returns what was counted in a window, or nil.
func (c *Counter) find(w Window) *CounterWindow {
	for i := range c.Windows {
		counted := &c.Windows[i]
		if counted.Period == int64(w.Period/time.Second) && counted.Step == w.Seconds() && int64(len(counted.Uses)) == w.Steps() {
			return counted
		}
	}
	return nil
}

// wait is how long it is until there is room, which is when enough of the oldest
// steps are over. For more than there ever is room for, that is a whole period.
func (c *Counter) wait(w Window, n int64, now time.Time) time.Duration {
	room := int64(w.Limit) - n
	switch {
	case w.Limit == 0:
		return 0
	case room < 0:
		return w.Period + w.Step
	}
	counted := c.find(w)
	if counted == nil {
		return 0
	}
	size := w.Steps()
	oldest := max(counted.At, now.Unix()/w.Seconds()) - size + 1
	var sum int64
	for step := max(oldest, 0); step <= counted.At; step++ {
		sum += counted.Uses[step%size]
	}
	for step := max(oldest, 0); sum > room; step++ {
		sum -= counted.Uses[step%size]
		if sum <= room {
			return max(time.Unix((step+size)*counted.Step, 0).Sub(now), time.Second)
		}
	}
	return 0
}

// count forgets the steps that are over and counts in the newest one. A clock that
// goes back changes nothing: what was counted stays, and what comes is counted in the
// newest step.
func (c *Counter) count(w Window, n int64, now time.Time) {
	at, size := now.Unix()/w.Seconds(), w.Steps()
	counted := c.find(w)
	if counted == nil {
		// Limits that are not asked for any more are not kept for ever.
		c.Windows = slices.DeleteFunc(c.Windows, func(old CounterWindow) bool { return old.over() <= now.Unix() })
		if len(c.Windows) >= 2*MaxWindows {
			c.Windows = slices.Delete(c.Windows, 0, 1)
		}
		c.Windows = append(c.Windows, CounterWindow{int64(w.Period / time.Second), w.Seconds(), at, make([]int64, size)})
		counted = &c.Windows[len(c.Windows)-1]
	}
	for over := range min(at-counted.At, size) {
		counted.Uses[(counted.At+1+over)%size] = 0
	}
	counted.At = max(counted.At, at)
	counted.Uses[counted.At%size] += n
}
