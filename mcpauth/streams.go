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
	// closed is whether no more of them may begin.
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
	closed := s.closed
	if s.open == nil {
		s.open = make(map[*answer]struct{})
	}
	s.open[a] = struct{}{}
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
// other in the given time. If all clients came back at once, that would be as much as
// they are. A stream whose end is set already keeps it: many reloads do not put it off.
func (s *streams) drain(generation uint64, over time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*answer
	for a := range s.open {
		if a.listens && a.generation < generation && a.drain == nil {
			old = append(old, a)
		}
	}
	for i, at := range spread(len(old), over) {
		old[i].drain = time.AfterFunc(at, func() { old[i].end(errDrained) })
	}
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
			grace = time.Duration(web.GracePeriod) / 10 * 9
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
