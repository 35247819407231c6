package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// streams are the event streams that are open, whatever configuration opened them.
//
// Most of them only listen: they wait for what a server may have to say. Such a stream
// can be ended at any time, and its client opens another one. The others answer a call.
// To end one may lose the answer, and in MCP 2026-07-28 it cancels the call; they are
// soon over by themselves.
type streams struct {
	mu   sync.Mutex
	open map[*answer]struct{}
	// running is the generation of the configuration that runs, over the time in which
	// the streams of older ones end; 0 if they do not.
	running uint64
	over    time.Duration
	// closed is whether no more may begin that listen.
	closed bool
}

var (
	// errDrained ends a stream that an older configuration has opened.
	errDrained = fmt.Errorf("%w: the configuration was replaced", ErrStreamOver)
	// errStopping ends a stream when the gateway is about to end.
	errStopping = fmt.Errorf("%w: the gateway is stopping", ErrStreamOver)
)

// enter notes that a stream has begun. It has to leave.
func (s *streams) enter(a *answer) {
	s.mu.Lock()
	closed := s.closed && a.listens
	if s.open == nil {
		s.open = make(map[*answer]struct{})
	}
	s.open[a] = struct{}{}
	if s.old(a) {
		// The old listener may accept a last connection after the reload.
		s.endAfter(a, spread(1, s.over)[0])
	}
	s.mu.Unlock()
	if closed {
		a.end(errStopping)
	}
}

// leave notes that it is over.
func (s *streams) leave(a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, a)
	if a.drain != nil {
		a.drain.Stop()
	}
}

// drain ends the streams that listen and were opened before a generation, one after the
// other in the given time, unless that is 0. If all clients came back at once, that would be as much as
// they are. A stream whose end is set already keeps it: many reloads do not put it off.
func (s *streams) drain(generation uint64, over time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.over, s.closed = generation, over, false
	var old []*answer
	for a := range s.open {
		if s.old(a) {
			old = append(old, a)
		}
	}
	for i, at := range spread(len(old), over) {
		s.endAfter(old[i], at)
	}
}

// old reports whether the end of a stream has to be set.
func (s *streams) old(a *answer) bool {
	return s.over > 0 && a.listens && a.generation < s.running && a.drain == nil
}

func (s *streams) endAfter(a *answer, d time.Duration) {
	a.drain = time.AfterFunc(d, func() { a.end(errDrained) })
}

// spread returns n moments of some time, one in each n-th of it and in any order: who is
// first is left to chance, and several gateways that are reloaded together do not move
// in step.
func spread(n int, over time.Duration) []time.Duration {
	moments := make([]time.Duration, n)
	for i, part := range rand.Perm(n) { // #nosec G404 -- no secret
		moments[i] = time.Duration((float64(part) + rand.Float64()) * float64(over) / float64(n)) // #nosec G404 -- no secret
	}
	return moments
}

// end ends the streams for which something is so, at once.
func (s *streams) end(cause error, so func(*answer) bool) {
	s.mu.Lock()
	var ended []*answer
	for a := range s.open {
		if so(a) {
			ended = append(ended, a)
		}
	}
	s.mu.Unlock()
	for _, a := range ended {
		a.end(cause) // which may take locks of others
	}
}

// close ends the streams that listen, and those that are yet to come.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errStopping, func(a *answer) bool { return a.listens })
}

// callGrace is how long calls that are answered in a stream may go on when the gateway
// stops and Caddy has no grace_period, in which case it waits for ever. It is less than
// the ten seconds after which others kill what has not ended.
const callGrace = 5 * time.Second

// ending ends all streams if no other configuration has taken over, so that they end as
// streams do before Caddy gives up waiting for them, or waits for ever. Caddy has told
// that it is about to stop, and yet goes on to serve for its shutdown_delay.
func (a *App) ending() error {
	if now := a.shared.running.Load(); now == nil || now.generation != a.generation {
		return nil
	}
	delay, grace := time.Duration(0), callGrace
	loaded, err := a.ctx.AppIfConfigured("http")
	switch web, ok := loaded.(*caddyhttp.App); {
	case err == nil && ok:
		delay = time.Duration(web.ShutdownDelay)
		if web.GracePeriod > 0 {
			grace = before(time.Duration(web.GracePeriod))
		}
	case err != nil && !errors.Is(err, caddy.ErrNotConfigured):
		return err
	}
	open := &a.shared.streams
	if delay == 0 {
		open.close()
	} else {
		time.AfterFunc(delay, open.close)
	}
	time.AfterFunc(delay+grace, func() { open.end(errStopping, func(*answer) bool { return true }) })
	return nil
}

// before is when streams have to end so that a grace period is not over before net/http
// has noticed. That looks each half second, and more often in the beginning.
func before(grace time.Duration) time.Duration {
	return max(grace-700*time.Millisecond, grace/3)
}

// listens reports whether the stream that answers a call is one in which the server
// tells what changes, and answers nothing else.
func (c *Call) listens() bool {
	return len(c.Messages) == 0 || c.Is("subscriptions/listen")
}

// endedBy is why a stream has ended: the gateway's reason, the client that went away, or
// nil for the server.
func (a *answer) endedBy() error {
	if cause := a.ended.Load(); cause != nil {
		return *cause
	}
	if a.call.incoming != nil && a.call.incoming.Context().Err() != nil {
		return context.Canceled
	}
	return nil
}
