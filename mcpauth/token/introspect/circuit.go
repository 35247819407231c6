package introspect

import (
	"errors"
	"sync"
	"time"
)

// An issuer that has failed so often in a row is left alone for a while, which begins
// with firstPause and doubles with each failure after that.
const (
	tolerated  = 3
	firstPause = time.Second
	maxPause   = 10 * time.Second
)

// circuit keeps requests from waiting for an issuer that is down.
type circuit struct {
	mu       sync.Mutex
	failures int
	until    time.Time
	cause    error
}

// wait returns for how long the issuer is still to be left alone, and why.
func (c *circuit) wait(now time.Time) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left(now), c.cause
}

func (c *circuit) left(now time.Time) time.Duration {
	if c.failures < tolerated {
		return 0
	}
	return max(c.until.Sub(now), 0)
}

// try is wait for somebody who asks at once if they may. When the pause is over, one of
// them may try, and the others have to wait for how that ends, for as long as it may
// take.
func (c *circuit) try(now time.Time, timeout time.Duration) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.left(now); left > 0 {
		return left, c.cause
	}
	if c.failures >= tolerated {
		c.until = now.Add(timeout)
	}
	return 0, nil
}

// settle records how a question ended.
func (c *circuit) settle(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures, c.cause, c.until = 0, nil, time.Time{}
		return
	}
	c.failures, c.cause = c.failures+1, err
	if over := c.failures - tolerated; over >= 0 {
		c.until = now.Add(min(firstPause<<min(over, 8), maxPause))
	}
}

// state is nil when the issuer has answered the last time.
func (c *circuit) state() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// UnavailableError says that the issuer could not be asked, or gave no answer that
// counts. It speaks neither for nor against the token.
type UnavailableError struct {
	// RetryAfter is when it may be different.
	RetryAfter time.Duration
	cause      error
}

// Error holds nothing of a token or a secret.
func (e *UnavailableError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.cause }

func unavailable(after time.Duration, cause error) *UnavailableError {
	if cause == nil {
		cause = errors.New("the issuer does not answer")
	}
	return &UnavailableError{RetryAfter: max(after, time.Second), cause: cause}
}
