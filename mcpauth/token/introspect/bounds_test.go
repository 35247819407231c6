package introspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// outcome is a word for what became of a question.
func outcome(answer *Answer, err error) string {
	var down *UnavailableError
	switch {
	case err == nil && answer != nil:
		return "active"
	case errors.Is(err, ErrInactive):
		return "inactive"
	case errors.As(err, &down):
		return "unavailable"
	}
	return "?"
}

// TestCache goes on with time, while the issuer changes its mind. The issuer is believed
// for as long as is configured, and not a moment longer.
func TestCache(t *testing.T) {
	for name, tc := range map[string]struct {
		cache time.Duration
		steps []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}
	}{
		"active, then revoked": {0, []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}{
			{0, active, "active", 1},
			{29 * time.Second, inactive, "active", 1},
			{31 * time.Second, inactive, "inactive", 2},
			{32 * time.Second, active, "inactive", 2},
			{37 * time.Second, active, "active", 3},
		}},
		"for a second": {time.Second, []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}{
			{0, active, "active", 1},
			{900 * time.Millisecond, inactive, "active", 1},
			{2 * time.Second, inactive, "inactive", 2},
			{2900 * time.Millisecond, active, "inactive", 2},
			{4 * time.Second, active, "active", 3},
		}},
		"active, then down": {0, []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}{
			{0, active, "active", 1},
			{29 * time.Second, "", "active", 1},
			{31 * time.Second, "", "unavailable", 2},
			{32 * time.Second, active, "active", 3},
		}},
		"active, then garbage": {0, []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}{
			{0, active, "active", 1},
			{31 * time.Second, "garbage", "unavailable", 2},
			{31500 * time.Millisecond, active, "unavailable", 2},
			{33 * time.Second, active, "active", 3},
		}},
		"the clock goes back by itself": {0, []struct {
			after time.Duration
			says  string
			want  string
			asked int
		}{
			{time.Hour, active, "active", 1},
			{time.Hour + 31*time.Second, inactive, "inactive", 2},
			{0, active, "inactive", 2},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			iss := newIssuer(t, nil)
			c := newTestClient(t, iss, func(config *Config) { config.Cache = caddy.Duration(tc.cache) })
			start := time.Now()
			for i, step := range tc.steps {
				iss.set(says(step.says))
				if step.says == "" {
					iss.set(fails(500))
				}
				got := outcome(c.Ask(t.Context(), "opaque", start.Add(step.after)))
				if got != step.want || iss.count() != step.asked {
					t.Errorf("step %d, after %s: %s after %d questions, want %s after %d", i, step.after, got, iss.count(), step.want, step.asked)
				}
			}
		})
	}
}

// gated has every answer wait for the gate, and tells of each that does.
func gated(gate chan struct{}, text string) (answer func(http.ResponseWriter, *http.Request), arrived chan string) {
	arrived = make(chan string, 100_000)
	return func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.PostForm.Get("token")
		<-gate
		says(text)(w, r)
	}, arrived
}

// TestOneQuestionForAToken: however many ask at once, the issuer is asked once, and who
// leaves does not end the question for the others.
func TestOneQuestionForAToken(t *testing.T) {
	gate := make(chan struct{})
	answer, arrived := gated(gate, active)
	iss := newIssuer(t, answer)
	c := newTestClient(t, iss, nil)
	now := time.Now()
	leaving, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if got := outcome(c.Ask(leaving, "opaque", now)); got != "unavailable" {
			t.Errorf("who left was told %s", got)
		}
	})
	<-arrived
	leave()
	for range 1000 {
		all.Go(func() {
			if got := outcome(c.Ask(t.Context(), "opaque", now)); got != "active" {
				t.Errorf("one was told %s", got)
			}
		})
	}
	close(gate)
	all.Wait()
	if n := iss.count(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestGarbage sends 10,000 different tokens that are none, from 50 clients, in what is one
// second to the gateway: the issuer is asked no more often than it may be. A token that
// was good before is asked about all the same, in the middle of it.
func TestGarbage(t *testing.T) {
	iss := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("token") == "good" {
			says(active)(w, r)
			return
		}
		says(inactive)(w, r)
	})
	c := newTestClient(t, iss, nil)
	now := time.Now()
	if got := outcome(c.Ask(t.Context(), "good", now)); got != "active" {
		t.Fatal(got)
	}
	later := now.Add(time.Minute)
	var mu sync.Mutex
	told := map[string]int{}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range 200 {
				got := outcome(c.Ask(t.Context(), fmt.Sprintf("garbage-%d-%d", i, j), later))
				mu.Lock()
				told[got]++
				mu.Unlock()
			}
		})
	}
	if got := outcome(c.Ask(t.Context(), "good", later)); got != "active" {
		t.Errorf("the good token is %s", got)
	}
	all.Wait()
	if n := iss.count(); n > defaultMaxRate+2 || told["inactive"] != n-2 || told["inactive"]+told["unavailable"] != 10_000 {
		t.Errorf("%d questions, %v", n, told)
	}
	t.Logf("10,000 tokens: %v, %d questions", told, iss.count())
	if c.refusals.Len() > maxRefusals || c.answers.Len() != 1 {
		t.Errorf("%d refusals and %d answers are remembered", c.refusals.Len(), c.answers.Len())
	}
}

// TestStrangersLeaveRoom: questions about unknown tokens that hang take no place from
// tokens that are in use, and there are never more of them than may be.
func TestStrangersLeaveRoom(t *testing.T) {
	gate := make(chan struct{})
	hanging, arrived := gated(gate, inactive)
	iss := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("token") == "good" {
			says(active)(w, r)
			return
		}
		hanging(w, r)
	})
	c := newTestClient(t, iss, nil)
	now := time.Now()
	if got := outcome(c.Ask(t.Context(), "good", now)); got != "active" {
		t.Fatal(got)
	}
	later := now.Add(time.Minute)
	var all sync.WaitGroup
	for i := range 3 * maxStrangers {
		all.Go(func() { _, _ = c.Ask(t.Context(), fmt.Sprint("garbage-", i), later) })
	}
	for range maxStrangers {
		<-arrived
	}
	if got := outcome(c.Ask(t.Context(), "good", later)); got != "active" {
		t.Errorf("the good token is %s", got)
	}
	if len(c.strangers) != maxStrangers || len(arrived) != 0 {
		t.Errorf("%d strangers are asked about, %d more have arrived", len(c.strangers), len(arrived))
	}
	close(gate)
	all.Wait()
}

// TestIssuerDown: after a few failures nobody is kept waiting, the issuer is left alone,
// and asked by one alone when the pause is over.
func TestIssuerDown(t *testing.T) {
	iss := newIssuer(t, fails(503))
	c := newTestClient(t, iss, nil)
	start := time.Now()
	ask := func(i int, after time.Duration) (string, time.Duration) {
		answer, err := c.Ask(t.Context(), fmt.Sprint("token-", i), start.Add(after))
		if down, ok := errors.AsType[*UnavailableError](err); ok {
			return outcome(answer, err), down.RetryAfter
		}
		return outcome(answer, err), 0
	}
	for i := range 1000 {
		if got, wait := ask(i, 0); got != "unavailable" || wait < time.Second {
			t.Fatalf("%s, to be tried again after %s", got, wait)
		}
	}
	if n := iss.count(); n != tolerated {
		t.Errorf("an issuer that is down was asked %d times", n)
	}
	for i := range 100 {
		ask(i, 5*time.Second)
	}
	if n := iss.count(); n != tolerated+1 {
		t.Errorf("after the pause it was asked %d times", n-tolerated)
	}
	_, wait := ask(0, 5*time.Second)
	if wait < time.Second || wait > 3*time.Second {
		t.Errorf("the second pause is %s", wait)
	}
	iss.set(says(active))
	if got, _ := ask(0, time.Minute); got != "active" {
		t.Errorf("after it is back: %s", got)
	}
	for i := range 10 {
		if got, _ := ask(i, time.Minute); got != "active" {
			t.Errorf("after it is back: %s", got)
		}
	}
}

// TestPauses follows the pauses up to the longest.
func TestPauses(t *testing.T) {
	var c circuit
	now := time.Now()
	var pauses []string
	for range 10 {
		c.settle(now, errors.New("down"))
		left, _ := c.wait(now)
		pauses = append(pauses, left.String())
		now = now.Add(left)
	}
	if got := strings.Join(pauses, " "); got != "0s 0s 1s 2s 4s 8s 10s 10s 10s 10s" {
		t.Error(got)
	}
	left, _ := c.try(now, 5*time.Second)
	again, _ := c.try(now, 5*time.Second)
	if left != 0 || again != 5*time.Second {
		t.Errorf("one may try after %s, another after %s", left, again)
	}
}

// TestHanging: an issuer that takes the question and gives no answer, or one drop by
// drop, is given up when the time is over.
func TestHanging(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"drop by drop": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			iss := newIssuer(t, answer)
			c := newTestClient(t, iss, func(config *Config) { config.Timeout = caddy.Duration(50 * time.Millisecond) })
			for i := range 20 {
				if got := outcome(c.Ask(t.Context(), fmt.Sprint("token-", i), time.Now())); got != "unavailable" {
					t.Fatal(got)
				}
			}
			if n := iss.count(); n > tolerated+1 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// TestLateAnswer: an answer that comes when it is over already lets nobody in.
func TestLateAnswer(t *testing.T) {
	gate := make(chan struct{})
	answer, arrived := gated(gate, active)
	iss := newIssuer(t, answer)
	c := newTestClient(t, iss, func(config *Config) { config.Cache = 1 }) // a nanosecond
	result := make(chan string, 1)
	now := time.Now()
	go func() { result <- outcome(c.Ask(t.Context(), "opaque", now)) }()
	<-arrived
	joined := make(chan string, 1)
	go func() { joined <- outcome(c.Ask(t.Context(), "opaque", now.Add(time.Minute))) }()
	close(gate)
	if got := <-result; got != "active" {
		t.Errorf("who asked is told %s", got)
	}
	// Whether it came before the answer is up to the scheduler.
	switch got, n := <-joined, iss.count(); {
	case got == "unavailable" && n == 1, got == "active" && n == 2:
	default:
		t.Errorf("who came later is told %s after %d questions", got, n)
	}
}
