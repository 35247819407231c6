// Package steady tells the time by which things expire, also while somebody moves the
// system's clock.
//
// The system's clock can be set back, and then what has expired would be good again. So
// there is a second one, which nobody can set: it was right, as far as anybody knows,
// when the process began, and has been going since. What must not be had too long ends
// by the clock that is ahead ([Now]); what must not be forgotten too soon is forgotten
// by the one that is behind ([Earliest]). If the clock was wrong when the process began,
// and has been set back since, it takes a restart to believe it.
package steady

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Now is the later of what the system's clock says and what it would say if nobody had
// set it since the process began. It never goes back. To another time of this package or
// of [time.Now], the difference is what has really passed.
func Now() time.Time { return process.Load().now() }

// Earliest is the earlier of the two.
func Earliest() time.Time { return process.Load().earliest() }

// tolerance is how far the clock may be set back without anybody being told: what
// protocols do that keep it right.
const tolerance = time.Minute

// Ready returns an error while the system's clock is behind what it would say if nobody
// had set it.
func Ready(time.Time) error { return process.Load().ready() }

var process atomic.Pointer[clock]

func init() { process.Store(&clock{begin: time.Now(), read: time.Now}) }

// Move is for tests: it sets the system's clock, as this package sees it, forward or, by
// less than nothing, back. Undo puts it right again.
func Move(by time.Duration) (undo func()) {
	before := process.Load()
	process.Store(&clock{
		begin:  before.begin,
		read:   func() time.Time { return time.Now().Add(by) },
		steady: func() time.Duration { return time.Since(before.begin) },
	})
	return func() { process.Store(before) }
}

// clock is made of the moment in which it began, by both clocks.
type clock struct {
	begin time.Time
	// read returns what the system's clock says, and by its monotonic reading how much
	// time has passed.
	read func() time.Time
	// steady tells in tests how much time has passed; else read does.
	steady func() time.Duration
}

func (c *clock) both() (wall, steady time.Time) {
	wall = c.read()
	if c.steady != nil {
		return wall, c.begin.Add(c.steady())
	}
	return wall, c.begin.Add(wall.Sub(c.begin))
}

// before compares what the clocks say. Their monotonic readings are the same.
func before(a, b time.Time) bool { return a.Round(0).Before(b.Round(0)) }

func (c *clock) now() time.Time {
	wall, steady := c.both()
	if before(wall, steady) {
		return steady
	}
	return wall
}

func (c *clock) earliest() time.Time {
	wall, steady := c.both()
	if before(steady, wall) {
		return steady
	}
	return wall
}

func (c *clock) ready() error {
	wall, steady := c.both()
	if behind := steady.Round(0).Sub(wall.Round(0)); behind > tolerance {
		return fmt.Errorf("the system's clock was set back by %s; what has expired by then stays expired; if the clock is right now, restart the gateway", behind.Round(time.Second))
	}
	return nil
}
