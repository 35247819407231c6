package mirror

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Run follows the store until the context ends. What is to be removed by then is removed
// before it returns, if the store can be told.
func (m *Mirror[E]) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { m.store.Watch(ctx, m.prefix, m.told) })
	again := time.NewTimer(retryEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			m.removeAll(context.WithoutCancel(ctx))
			return
		case <-m.wake:
		case <-again.C:
		}
		if !m.catchUp(ctx) {
			again.Reset(retryEvery)
		}
	}
}

func (m *Mirror[E]) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// told takes what the store tells.
func (m *Mirror[E]) told(u state.Update) {
	m.mu.Lock()
	if u.Reset {
		for key, e := range m.items {
			m.suspect(key, e)
		}
		for r := range m.reads {
			r.stale = true
		}
	}
	for _, key := range u.Keys {
		if e, known := m.items[key]; known {
			m.suspect(key, e)
		}
	}
	if len(u.Keys) > 0 && len(m.reads) > 0 {
		changed := make(map[string]struct{}, len(u.Keys))
		for _, key := range u.Keys {
			changed[key] = struct{}{}
		}
		for r := range m.reads {
			if _, ok := changed[r.key]; ok {
				r.stale = true
			}
		}
	}
	m.mu.Unlock()
	if !u.Current.IsZero() {
		m.alone.Store(u.Alone)
		m.current.Store(max(m.current.Load(), int64(u.Current.Sub(m.begin))))
	}
}

// suspect has a record read again.
func (m *Mirror[E]) suspect(key string, e E) {
	e.item().suspect.CompareAndSwap(0, max(int64(time.Since(m.begin)), 1))
	m.changed[key] = struct{}{}
	m.signal()
}

// catchUp reads what has changed and removes what is to be removed. It reports false
// if that has to be tried again.
func (m *Mirror[E]) catchUp(ctx context.Context) bool {
	if !m.removeAll(ctx) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		keys := m.next()
		if len(keys) == 0 {
			return true
		}
		reads := m.enter(keys...)
		records, err := m.store.Read(ctx, keys...)
		if err != nil {
			m.leave(reads)
			m.mu.Lock()
			for _, key := range keys {
				m.changed[key] = struct{}{}
			}
			m.mu.Unlock()
			return false
		}
		for i, r := range records {
			_, _, _ = m.settle(reads[i], r, false) // what has ended is no error here
		}
	}
}

// removeAll removes what is to be removed, and reports false if that failed.
func (m *Mirror[E]) removeAll(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	m.mu.Lock()
	keys := slices.Collect(maps.Keys(m.ending))
	m.mu.Unlock()
	for _, key := range keys {
		if err := m.remove(ctx, key); err != nil {
			return false
		}
	}
	return true
}

// next takes keys to be read again.
func (m *Mirror[E]) next() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.changed {
		delete(m.changed, key)
		if _, known := m.items[key]; known {
			keys = append(keys, key)
		}
		if len(keys) == state.MaxChanges {
			break
		}
	}
	return keys
}
