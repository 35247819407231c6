package session

import (
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// watch notices when the token that began a session is revoked.
type watch struct {
	set     *revocation.Set
	token   revocation.Token
	revoked func()

	mu    sync.Mutex
	watch *revocation.Watch
	// over is whether nobody wants to know any more, blind whether the store was cut
	// off, so that the token is watched again only when the session is used.
	over, blind bool
}

// newWatch has revoked called, once and from a goroutine of its own, when the token is
// revoked. It begins with renew, and has to be closed.
func newWatch(set *revocation.Set, token revocation.Token, revoked func()) *watch {
	return &watch{set: set, token: token, revoked: revoked}
}

// renew goes on watching, if that has not begun or ended because the store was cut off.
func (w *watch) renew(now time.Time) revocation.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.watch != nil && !w.blind {
		return revocation.Valid
	}
	w.blind = false
	watch, verdict := w.set.Watch(&w.token, now, w.told)
	w.watch = watch
	if verdict != revocation.Valid {
		w.blind = true
		w.tell(verdict)
	}
	return verdict
}

func (w *watch) told(v revocation.Verdict) {
	go func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.blind = true
		w.tell(v)
	}()
}

func (w *watch) tell(v revocation.Verdict) {
	if v.Revoked() && !w.over {
		w.over = true
		go w.revoked()
	}
}

// close ends the watch. Revoked may be called yet if that has begun.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.watch.Close()
}
