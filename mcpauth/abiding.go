package mcpauth

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/live"
)

// abiding has a stream end when so much has changed of what the gateway knows of its
// holder that its request would be refused now, though nothing comes through the stream
// by which that would be noticed.
type abiding struct {
	// call is judged anew. It is not the stream's own, which another goroutine uses.
	call Call
	end  func(cause error)
	// all are the streams beside which it is told that another configuration runs.
	all *watches

	mu    sync.Mutex
	watch *live.Watch
	timer *time.Timer
	// judging is whether the call is being judged, over whether nobody wants to know
	// any more.
	judging, over bool
}

// abide begins to watch a stream.
func (a *answer) abide() {
	c := a.call
	if c.handler == nil || c.Principal.standing == nil {
		return
	}
	b := &abiding{call: *c, end: a.end, all: c.handler.watches, judging: true}
	b.call.incoming = apart(c.incoming)
	a.abiding = b
	b.all.join(b)
	if !b.wait() {
		go b.judge()
	}
}

// apart makes a request to be judged while the other is still being answered: other
// handlers may change that, and its variables, at any time.
func apart(r *http.Request) *http.Request {
	vars := make(map[string]any)
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		vars[caddyhttp.ClientIPVarKey] = ip
	}
	other := r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
	url := *r.URL
	other.URL, other.Header, other.Body = &url, nil, nil
	return other
}

// wait waits until something has changed since the call was judged last. It reports false
// if something has already.
func (b *abiding) wait() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	standing := b.call.Principal.standing
	if b.over || standing == nil { // by another configuration, it is somebody else's token
		return true
	}
	if b.elsewhere() {
		return false
	}
	if b.watch = standing.watch(b.changed); b.watch == nil {
		return false
	}
	b.judging = false
	if !standing.until.IsZero() {
		b.timer = time.AfterFunc(time.Until(standing.until), b.changed)
	}
	return true
}

// elsewhere reports whether the configuration that runs knows the holder from another
// store than the one that is watched.
func (b *abiding) elsewhere() bool {
	c := &b.call
	now := c.handler.running.Load()
	return now != nil && (now.generation > c.generation || c.handler.rejected.Load()) && now.live != c.Principal.standing.cache
}

// changed is told that something has changed. It may wait.
func (b *abiding) changed() {
	b.mu.Lock()
	if b.judging || b.over {
		b.mu.Unlock()
		return
	}
	b.judging = true
	b.stop()
	b.mu.Unlock()
	b.judge()
}

// judge judges the call until nothing has changed meanwhile. Nobody else does.
func (b *abiding) judge() {
	for {
		if !b.call.anew() {
			b.call.logger.Info("event stream ended: its holder would be refused now", zap.String("server", b.call.Server))
			b.end(errRefusedNow)
			return
		}
		if b.wait() {
			return
		}
	}
}

func (b *abiding) stop() {
	b.watch.Close()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// close ends it. The stream may be ended yet if that has begun.
func (b *abiding) close() {
	if b == nil {
		return
	}
	b.all.part(b)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.stop()
}

func (ws *watches) join(b *abiding) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.idle == nil {
		ws.idle = make(map[*abiding]struct{})
	}
	ws.idle[b] = struct{}{}
}

func (ws *watches) part(b *abiding) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.idle, b)
}

// reconsider has those streams judged whose holder is known from another store now. One
// that is being judged already finds that out by itself.
func (ws *watches) reconsider() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for b := range ws.idle {
		if b.moved() {
			go b.changed()
		}
	}
}

func (b *abiding) moved() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// While it is judged, the call is not to be looked at.
	return !b.judging && !b.over && b.call.Principal.standing != nil && b.elsewhere()
}

// anew has the call judged as if it came now, by the configuration that runs. It reports
// false if the call would be refused.
func (c *Call) anew() bool {
	h := c.handler
	if now := h.running.Load(); now != nil && (now.generation > c.generation || h.rejected.Load()) {
		if h = now.handlers[c.endpoint.id]; h == nil {
			return false
		}
		defer func() { c.generation = now.generation }()
	}
	return h.rejudge(c)
}
