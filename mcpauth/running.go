package mcpauth

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/live"
)

// An event stream may outlive the configuration under which it began: Caddy lets what
// is open go on after a reload, by default for ever. What was taken away by the reload
// must not be had through such a stream. So each of its events is judged by the
// configuration that runs then, and if the request would be refused by now, the stream
// ends. Everything else is over soon, and ends as it began.

// running is the configuration that runs. It is shared by all of them.
type running struct {
	// generation is larger than that of any configuration that ran before.
	generation uint64
	// handlers are by the id of the endpoint that they judge for; nil if more than one
	// does.
	handlers map[string]*Handler
	// live is what it knows of those who hold the gateway's own tokens.
	live *live.Cache
}

// run makes this configuration the one that runs.
func (a *App) run() {
	now := &running{generation: a.generation, handlers: make(map[string]*Handler), live: a.store.live}
	for _, h := range a.handlers {
		for _, e := range h.endpoints {
			if other, taken := now.handlers[e.id]; taken && other != h {
				now.handlers[e.id] = nil
			} else {
				now.handlers[e.id] = h
			}
		}
	}
	a.shared.running.Store(now)
	a.shared.watches.follow(a.store.revocations, a.generation)
	a.shared.watches.reconsider()
}

// end leaves nothing running, if no other configuration has taken over. What a
// configuration has let in that never ran, because another app could not be started, is
// over, if it only listens: the client comes back to the one that runs. That judges the
// calls.
func (a *App) end() {
	if now := a.shared.running.Load(); a.generation > 0 && (now == nil || now.generation < a.generation) {
		a.rejected.Store(true)
		a.shared.streams.end(errDrained, func(open *answer) bool { return open.listens && open.generation == a.generation })
		a.shared.watches.abandon(a.store.revocations)
		a.shared.watches.reconsider()
	}
	if now := a.shared.running.Load(); now != nil && now.generation == a.generation {
		a.shared.running.CompareAndSwap(now, &running{generation: a.shared.generations.Add(1)})
	}
}

// errRefusedNow ends a stream whose request would be refused now.
var errRefusedNow = fmt.Errorf("%w: the request would be refused by the configuration that runs", ErrStreamOver)

// refresh has the call judged by the configuration that runs now, if that is another one
// or the token has to be looked at again. It reports false if the call would be refused.
func (c *Call) refresh() bool {
	if c.handler == nil {
		return true
	}
	now := c.handler.running.Load()
	if now == nil || now.generation <= c.generation && !c.handler.rejected.Load() {
		fresh := !c.Principal.overdue(steady.Now()) && c.Principal.standing.current(steady.Now())
		return fresh || c.handler.rejudge(c)
	}
	if h := now.handlers[c.endpoint.id]; h == nil || !h.rejudge(c) {
		return false
	}
	c.generation = now.generation
	return true
}

// rejudge judges a call that another handler has let in.
func (h *Handler) rejudge(c *Call) bool {
	now := steady.Now()
	e := h.same(c.endpoint)
	if e == nil {
		return false // such as /mcp, when there is a second server
	}
	p := h.reidentify(c, e, now)
	if p == nil || h.checkRevoked(p, e, now) != nil {
		return false // the store of revocations may be another now, too
	}
	before := *c
	c.handler, c.endpoint, c.Principal, c.tasks = h, e, p, h.tasks
	allowed := c.reach(c.incoming, now) == nil && c.mayServer(mcp.ServersUse)
	for i := range c.Messages {
		allowed = allowed && c.judgeMessage(&c.Messages[i]) == nil
	}
	if !allowed {
		*c = before
	}
	return allowed
}

// same returns the handler's endpoint that is the same as one of another configuration,
// or nil.
func (h *Handler) same(e *endpoint) *endpoint {
	for _, each := range h.endpoints {
		if each.id == e.id && each.metadata == e.metadata {
			return each
		}
	}
	return nil
}

// now returns who judges now for an endpoint of the handler, and which endpoint that is
// there: nil if nobody does.
func (h *Handler) now(e *endpoint) (*Handler, *endpoint) {
	if now := h.running.Load(); now != nil && now.generation > h.generation {
		if h = now.handlers[e.id]; h == nil {
			return nil, nil
		}
	}
	if e = h.same(e); e == nil {
		return nil, nil
	}
	return h, e
}

// token is the text of the token that the call came with, empty if there is none.
func (c *Call) token() string {
	raw, refusal := bearer(&http.Request{Header: http.Header{"Authorization": c.authorization}, URL: c.incoming.URL})
	if refusal != nil {
		return ""
	}
	return raw
}

// reidentify finds out who a call is from, as if it came now: nil if nobody would be
// let in with that credential.
func (h *Handler) reidentify(c *Call, e *endpoint, now time.Time) *Principal {
	if c.Principal.vouched {
		if !reflect.DeepEqual(h.Authenticated, c.handler.Authenticated) || !reflect.DeepEqual(h.TrustedHeader, c.handler.TrustedHeader) {
			return nil
		}
		p := h.newPrincipal(c.Principal.Claims, e.server)
		p.vouched = true
		return p
	}
	ctx, cancel := context.WithTimeout(c.incoming.Context(), 10*time.Second)
	defer cancel()
	raw := c.token()
	if raw == "" || len(h.Issuers) == 0 {
		return nil
	}
	p, _ := h.holder(ctx, raw, e, now)
	return p
}
