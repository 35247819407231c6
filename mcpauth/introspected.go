package mcpauth

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// A token that only its issuer can read is good for as long as the issuer says so, and
// has to be asked about again and again. Requests do so by themselves: the token is not
// found in the cache any more. A stream has to be reminded.

var (
	// errTokenInactive ends a stream whose token the issuer does not know any more.
	errTokenInactive = fmt.Errorf("%w: the issuer does not let the access token pass any more", ErrStreamOver)
	// errIssuerDown ends a stream whose token's issuer cannot be asked.
	errIssuerDown = fmt.Errorf("%w: the issuer of the access token cannot be asked about it", ErrStreamOver)
)

// renewTimeout bounds how long it may take to find out whether a token is still good.
const renewTimeout = 10 * time.Second

// renewal asks again about the token of a stream, whenever the last answer is over.
type renewal struct {
	ctx      context.Context
	handler  *Handler
	endpoint *endpoint
	raw      string
	end      func(cause error)

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// renew begins that for a stream, if its token needs it.
func (a *answer) renew() {
	c := a.call
	if c.handler == nil || c.Principal.FreshUntil().IsZero() {
		return
	}
	a.renewal = &renewal{ctx: c.incoming.Context(), handler: c.handler, endpoint: c.endpoint, raw: c.token(), end: a.end}
	a.renewal.wait(c.Principal)
}

// wait waits until the last answer is over, or the token's time is up.
func (r *renewal) wait(p *Principal) {
	fresh, now := p.FreshUntil(), steady.Now()
	if fresh.IsZero() {
		return // by now, keys are enough
	}
	left := min(fresh.Sub(now), p.Deadline().Sub(now))
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.timer = time.AfterFunc(left, r.ask)
	}
}

func (r *renewal) ask() {
	ctx, cancel := context.WithTimeout(r.ctx, renewTimeout)
	defer cancel()
	h, e := r.handler.now(r.endpoint)
	if h == nil {
		r.end(errRefusedNow)
		return
	}
	p, refusal := h.holder(ctx, r.raw, e, steady.Now())
	switch {
	case refusal == nil:
		r.wait(p)
	case refusal.Status == http.StatusServiceUnavailable:
		r.end(errIssuerDown)
	default:
		r.end(errTokenInactive)
	}
}

func (r *renewal) stop() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

// overdue reports whether the principal has to be found out anew: the token's time is
// up, or its issuer has to be asked again.
func (p *Principal) overdue(now time.Time) bool {
	deadline := p.Deadline()
	return !deadline.IsZero() && !now.Before(deadline) || p.Stale(now)
}

// seconds is a duration as the header Retry-After has it, rounded up, so that who waits
// that long is not too early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
