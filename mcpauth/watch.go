package mcpauth

import (
	"sync"

	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// Watch notices when the token of a call is revoked, for as long as something of it
// lasts that outlives the call, such as a session. After a reload it looks at the store
// of the configuration that runs then, whichever began it.
type Watch struct {
	all   *watches
	token revocation.Token
	ended func(revocation.Verdict)
	// strict is whether it is the end, too, when nobody knows any more what was revoked.
	strict bool

	mu sync.Mutex
	// set is what is looked at; watch is nil before that begins.
	set   *revocation.Set
	watch *revocation.Watch
	// over is whether nobody wants to know any more, blind whether the store was cut
	// off, so that the token is watched again only when it is asked for.
	over, blind bool
}

// Watch has ended called, once and while no lock is held, when the call's token is
// revoked. It begins with Renew, and has to be closed.
func (c *Call) Watch(ended func()) *Watch {
	return c.newWatch(func(revocation.Verdict) { ended() })
}

func (c *Call) newWatch(ended func(revocation.Verdict)) *Watch {
	w := &Watch{all: c.handler.watches, token: *c.Principal.revocableAt(steady.Now()), ended: ended}
	w.all.enter(w, c.handler)
	return w
}

// Renew goes on watching, if that ended because the store was cut off.
func (w *Watch) Renew() {
	if verdict := w.renew(); verdict.Revoked() {
		go w.ended(verdict)
	}
}

// renew does not call ended: its caller knows the verdict.
func (w *Watch) renew() revocation.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.watch != nil && !w.blind {
		return revocation.Valid
	}
	return w.begin()
}

// begin looks at the set. If there is nothing to look for any more, it is over.
func (w *Watch) begin() revocation.Verdict {
	set := w.set
	watch, verdict := set.Watch(&w.token, steady.Now(), func(v revocation.Verdict) {
		// It may not wait, and to end something may take locks of others.
		go w.told(set, v)
	})
	w.watch, w.blind = watch, verdict != revocation.Valid
	w.over = w.final(verdict)
	return verdict
}

func (w *Watch) final(v revocation.Verdict) bool {
	return v.Revoked() || w.strict && v != revocation.Valid
}

// told is what a set has to say. One that is not looked at any more has nothing to.
func (w *Watch) told(by *revocation.Set, v revocation.Verdict) {
	w.mu.Lock()
	ends := !w.over && w.set == by && w.final(v)
	w.blind = w.blind || w.set == by
	w.over = w.over || ends
	w.mu.Unlock()
	if ends {
		w.ended(v)
	}
}

// move goes on with another set.
func (w *Watch) move(to *revocation.Set) {
	w.mu.Lock()
	if w.over || w.set == to {
		w.mu.Unlock()
		return
	}
	begun := w.watch != nil || w.blind
	w.watch.Close()
	w.set = to
	verdict := revocation.Valid
	if begun {
		verdict = w.begin()
	}
	ends := w.over
	w.mu.Unlock()
	if ends {
		w.ended(verdict)
	}
}

// Close ends the watch. Ended may be called yet if that has begun.
func (w *Watch) Close() {
	w.all.leave(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.watch.Close()
}

// watches are all of them.
type watches struct {
	mu  sync.Mutex
	all map[*Watch]struct{}
	// running is the set of the configuration that runs, which is of that generation.
	running    *revocation.Set
	generation uint64
	// idle are the streams that have to notice, too, when the configuration that runs
	// knows the holders from another store.
	idle map[*abiding]struct{}
}

// enter has a watch follow the set of the configuration that runs, or that of the
// handler, if it is of a newer one that is just being started.
func (ws *watches) enter(w *Watch, h *Handler) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.set = h.revocations
	if ws.running != nil && ws.generation > h.generation {
		w.set = ws.running
	}
	if ws.all == nil {
		ws.all = make(map[*Watch]struct{})
	}
	ws.all[w] = struct{}{}
}

func (ws *watches) leave(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

// follow has all watches look at the set of a configuration that runs from now on. One
// whose token is revoked there ends.
func (ws *watches) follow(set *revocation.Set, generation uint64) {
	ws.mu.Lock()
	ws.running, ws.generation = set, generation
	all := ws.list()
	ws.mu.Unlock()
	for _, w := range all {
		w.move(set)
	}
}

// abandon takes all watches off a set, which is not the one of the configuration that
// runs.
func (ws *watches) abandon(set *revocation.Set) {
	ws.mu.Lock()
	to, all := ws.running, ws.list()
	ws.mu.Unlock()
	if to == nil || to == set {
		return
	}
	for _, w := range all {
		if w.at(set) {
			w.move(to)
		}
	}
}

func (ws *watches) list() []*Watch {
	all := make([]*Watch, 0, len(ws.all))
	for w := range ws.all {
		all = append(all, w)
	}
	return all
}

func (w *Watch) at(set *revocation.Set) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.set == set
}
