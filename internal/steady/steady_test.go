package steady

import (
	"strings"
	"testing"
	"time"
)

// TestMoved sets the system's clock while time goes on.
func TestMoved(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return begin.Add(time.Duration(minutes) * time.Minute) }
	for name, steps := range map[string][]struct {
		passed, wall, now, earliest int // minutes
		told                        string
	}{
		"nobody sets it":                      {{0, 0, 0, 0, ""}, {60, 60, 60, 60, ""}},
		"set back":                            {{10, 10, 10, 10, ""}, {11, -49, 11, -49, "set back by 1h0m0s"}, {30, -30, 30, -30, "set back by 1h0m0s"}},
		"set back a little":                   {{10, 9, 10, 9, ""}},
		"set back before the beginning":       {{1, -525_600, 1, -525_600, "restart the gateway"}},
		"set forward":                         {{10, 70, 70, 10, ""}, {20, 80, 80, 20, ""}},
		"set forward by mistake and back":     {{10, 70, 70, 10, ""}, {20, 20, 20, 20, ""}},
		"set forward, and back by too much":   {{10, 70, 70, 10, ""}, {20, -10, 20, -10, "set back by 30m0s"}},
		"was behind at the beginning":         {{10, 130, 130, 10, ""}, {20, 140, 140, 20, ""}},
		"the machine slept, so less has gone": {{10, 490, 490, 10, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			var passed, wall int
			c := &clock{
				begin:  begin,
				read:   func() time.Time { return at(wall) },
				steady: func() time.Duration { return time.Duration(passed) * time.Minute },
			}
			for _, step := range steps {
				passed, wall = step.passed, step.wall
				if got := c.now(); !got.Equal(at(step.now)) {
					t.Errorf("after %d minutes, with the clock at %d: now is %s, want %s", step.passed, step.wall, got, at(step.now))
				}
				if got := c.earliest(); !got.Equal(at(step.earliest)) {
					t.Errorf("after %d minutes, with the clock at %d: earliest is %s, want %s", step.passed, step.wall, got, at(step.earliest))
				}
				err := c.ready()
				if (err == nil) != (step.told == "") || err != nil && !strings.Contains(err.Error(), step.told) {
					t.Errorf("after %d minutes, with the clock at %d: %v, want %q", step.passed, step.wall, err, step.told)
				}
			}
		})
	}
}

// TestBothClocks: the process's clock says what the system's does, and its times can be
// compared with those of time.Now by what has passed.
func TestBothClocks(t *testing.T) {
	for name, tell := range map[string]func() time.Time{"Now": Now, "Earliest": Earliest} {
		before := time.Now()
		told := tell()
		after := time.Now()
		if told.Sub(before) < 0 || after.Sub(told) < 0 {
			t.Errorf("%s is %s, between %s and %s", name, told, before, after)
		}
		if !strings.Contains(told.String(), " m=") {
			t.Errorf("%s has no monotonic reading", name)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { Now() }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
