package live

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// staleEvery is how often we look whether the store is cut off, so that those who watch
// are told.
const staleEvery = 100 * time.Millisecond

// Watch is somebody who wants to know when facts may have changed, such as a stream.
type Watch struct {
	cache *Cache
	nodes []*node
	told  func()
}

// Watch has told called once, from a goroutine of its own, when one of the facts may have
// changed, or must not be relied on any more. It returns nil when that is so already.
// Otherwise the watch has to be closed.
func (c *Cache) Watch(told func(), facts ...fact) *Watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fresh.IsStale(steady.Now()) {
		return nil
	}
	w := &Watch{cache: c, told: told}
	for _, f := range facts {
		n := f.base()
		if n.gone.Load() {
			return nil
		}
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		if n.watches == nil {
			n.watches = make(map[*Watch]struct{})
		}
		n.watches[w] = struct{}{}
		if n.place != nil {
			c.idle.Remove(n.place)
			n.place = nil
		}
	}
	c.watches[w] = struct{}{}
	return w
}

// Close ends the watch. Told may be called yet if that has begun.
func (w *Watch) Close() {
	if w == nil {
		return
	}
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	w.cache.unwatch(w)
}

// tell ends a watch, and says so.
func (c *Cache) tell(w *Watch) {
	if c.unwatch(w) {
		go w.told()
	}
}

func (c *Cache) unwatch(w *Watch) bool {
	if _, there := c.watches[w]; !there {
		return false
	}
	delete(c.watches, w)
	for _, n := range w.nodes {
		delete(n.watches, w)
		if len(n.watches) == 0 && !n.gone.Load() {
			c.rest(n)
		}
	}
	return true
}

// Watches is how many there are.
func (c *Cache) Watches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.watches)
}

// Run follows the store until the context ends. What happens to the connection is logged
// by what logger returns then.
func (c *Cache) Run(ctx context.Context, logger func() *zap.Logger) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.look(ctx) })
	c.store.Watch(ctx, "", func(u state.Update) {
		if u.Reset {
			c.reset()
		}
		c.Changed(u.Keys...)
		cut, back := c.fresh.Told(u)
		if cut {
			logger().Error("the store of accounts and tokens is cut off; the gateway's own tokens are denied, unless allow_stale says otherwise, until it is back", zap.Error(u.Err))
		}
		if back {
			logger().Info("the store of accounts and tokens is back")
		}
	})
}

// look tells those who watch when the store is cut off.
func (c *Cache) look(ctx context.Context) {
	tick := time.NewTicker(staleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.fresh.IsStale(steady.Now()) {
				c.tellAll()
			}
		}
	}
}

func (c *Cache) tellAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watches {
		c.tell(w)
	}
}

// Store returns the store of the cache. What is changed by it, this node knows before
// Apply returns; the others know when the store has told them.
func (c *Cache) Store() state.Store { return store{c.store, c} }

type store struct {
	state.Store
	cache *Cache
}

// Apply makes changes. After an error, too, some of them may have been made.
func (s store) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	version, err := s.Store.Apply(ctx, changes...)
	for _, change := range changes {
		if change.Op != state.OpCheck {
			s.cache.Changed(change.Key)
		}
	}
	return version, err
}

// Interface guard
var _ state.Store = store{}
