package main

import (
	"bytes"
	"os"
	"regexp"
	"runtime"
	"testing"
	"time"
)

// TestBench runs the whole benchmark, briefly: it fails when a target gives a wrong answer.
func TestBench(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), options{rounds: 1, duration: 200 * time.Millisecond, generator: "go"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		`(?s)tools/call in 16 sessions\n.*direct .*plain .*secured .*tools/call without a session\n.*direct .*plain .*secured `,
		`\nsecured/plain: \d+\.\d\d\n$`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("the output lacks %s:\n%s", want, out.String())
		}
	}
}

func TestMedian(t *testing.T) {
	self := func(f float64) float64 { return f }
	if got := median([]float64{3, 1, 2}, self); got != 2 {
		t.Errorf("odd: got %v, want 2", got)
	}
	if got := median([]float64{4, 1, 2, 3}, self); got != 2.5 {
		t.Errorf("even: got %v, want 2.5", got)
	}
}

func TestCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, known := cpuTime(os.Getpid()); known {
			t.Error("there is no /proc here, yet a time")
		}
		return
	}
	before, known := cpuTime(os.Getpid())
	if !known {
		t.Fatal("unknown")
	}
	// Burn until the clock ticks; a wrong field would never.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if after, _ := cpuTime(os.Getpid()); after > before {
			return
		}
	}
	t.Errorf("ten seconds of work did not show; still %s", before)
}
