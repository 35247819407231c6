// Package mirror keeps records of a store in memory while they are in use, so that
// they can be asked for without waiting for the store, and hears when they change.
//
// What is in memory is trusted as long as the store tells of changes. When it does not,
// the record is read each time; and when it cannot be read either, nothing is known.
package mirror

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

const (
	// Grace is for how long nothing may be heard from the store before it is taken
	// to be cut off. It is that of revocations.
	Grace = time.Second
	// patience is for how long what has changed is still trusted, while it is read
	// again in the background. A write of the node itself is a change, too.
	patience = 500 * time.Millisecond
	// readTimeout bounds what is done in the background, retryEvery is how soon that
	// is tried again.
	readTimeout, retryEvery = 5 * time.Second, 250 * time.Millisecond
	// attempts is how often a record is read anew that changes while it is read.
	attempts = 8
)

const never = math.MinInt64

// Mirrored is what is kept for a record. It embeds an Item.
type Mirrored interface {
	item() *Item
	// Change gives it what the record is now. An error is for one that is about something
	// else, or nothing that is known: what is kept has ended then. It may not wait, or
	// call the mirror.
	Change(r state.Record) error
	// Ended is called once, when the record has ceased to exist or is being removed.
	// It may not wait for the store.
	Ended()
}

// Item is a record's place in a mirror.
type Item struct {
	key string
	// suspect is since when the record is known to have changed, 0 if it is not.
	suspect atomic.Int64
	gone    atomic.Bool
}

func (i *Item) item() *Item { return i }

// Key is that of the record. It is empty before the item is in a mirror.
func (i *Item) Key() string { return i.key }

// Gone reports whether the record is known to have ended.
func (i *Item) Gone() bool { return i.gone.Load() }

// Mirror is the records of a table that are in use. It is safe for concurrent use.
type Mirror[E Mirrored] struct {
	store  state.Store
	prefix string
	// form makes what is kept for a record that was read for the first time.
	form func(state.Record) (E, error)

	// begin is what times count from, current up to when all changes are known, and
	// stale how long that may be ago.
	begin          time.Time
	current, stale atomic.Int64
	alone          atomic.Bool

	mu    sync.Mutex
	items map[string]E
	// reads are those under way, changed the keys to be read again, and ending those
	// to be removed, with what goes with them.
	reads   map[*reading]struct{}
	changed map[string]struct{}
	ending  map[string][]string
	wake    chan struct{}
}

// reading is what is found out about a key while others may change it.
type reading struct {
	key string
	// stale is whether it has changed since.
	stale bool
}

// New returns the mirror of a table, which knows nothing before Run.
func New[E Mirrored](store state.Store, table string, form func(state.Record) (E, error)) *Mirror[E] {
	m := &Mirror[E]{
		store: store, prefix: state.Prefix(table), form: form, begin: steady.Now(),
		items: make(map[string]E), reads: make(map[*reading]struct{}),
		changed: make(map[string]struct{}), ending: make(map[string][]string), wake: make(chan struct{}, 1),
	}
	m.current.Store(never)
	m.SetAllowStale(0)
	return m
}

// SetAllowStale says for how long what is in memory is trusted although the store is
// cut off. 0 is not at all, after the Grace.
func (m *Mirror[E]) SetAllowStale(allow time.Duration) { m.stale.Store(int64(max(allow, Grace))) }

// Alone reports whether nobody else writes to the store.
func (m *Mirror[E]) Alone() bool { return m.alone.Load() }

// Trusts reports whether what is in memory can be relied on. It neither waits nor
// allocates.
func (m *Mirror[E]) Trusts(e E, now time.Time) bool {
	i, at := e.item(), int64(now.Sub(m.begin))
	since := i.suspect.Load()
	return !i.gone.Load() && m.fresh(at) && (since == 0 || at-since < int64(patience))
}

func (m *Mirror[E]) fresh(at int64) bool {
	current := m.current.Load()
	return current != never && (m.alone.Load() || at-current <= m.stale.Load())
}

// Get returns what is kept for a record, and reads it unless that can be relied on. The
// error is an ErrNotFound, an ErrUnavailable, or one of what makes the record up.
func (m *Mirror[E]) Get(ctx context.Context, key string) (e E, err error) {
	m.mu.Lock()
	e, known := m.items[key]
	_, ending := m.ending[key]
	m.mu.Unlock()
	switch {
	case ending:
		return e, state.ErrNotFound
	case known && m.Trusts(e, steady.Now()):
		return e, nil
	}
	return m.Read(ctx, key)
}

// Known returns what is kept for a record, if it is.
func (m *Mirror[E]) Known(key string) (E, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.items[key]
	return e, ok
}

// Read is Get that reads in any case.
func (m *Mirror[E]) Read(ctx context.Context, key string) (e E, err error) {
	for range attempts {
		reads := m.enter(key)
		records, err := m.store.Read(ctx, key)
		if err != nil {
			m.leave(reads)
			return e, err
		}
		e, stale, err := m.settle(reads[0], records[0], true)
		if err != nil || !stale {
			return e, err
		}
	}
	return e, state.Unavailable(errors.New("the record changes all the time"))
}

// GetAll is Get for up to MaxChanges keys, of which those that are not known are read at
// once. What does not exist is the zero value.
func (m *Mirror[E]) GetAll(ctx context.Context, keys []string) ([]E, error) {
	found := make([]E, len(keys))
	var missing []string
	var at []int
	for i, key := range keys {
		e, known := m.Known(key)
		if known && m.Trusts(e, steady.Now()) {
			found[i] = e
		} else {
			missing, at = append(missing, key), append(at, i)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	reads := m.enter(missing...)
	records, err := m.store.Read(ctx, missing...)
	if err != nil {
		m.leave(reads)
		return nil, err
	}
	for i, r := range records {
		e, stale, err := m.settle(reads[i], r, true)
		if stale {
			e, err = m.Read(ctx, r.Key)
		}
		switch {
		case err == nil:
			found[at[i]] = e
		case !errors.Is(err, state.ErrNotFound):
			m.leave(reads)
			return nil, err
		}
	}
	return found, nil
}

// enter begins to find out about keys.
func (m *Mirror[E]) enter(keys ...string) []*reading {
	reads := make([]*reading, len(keys))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, key := range keys {
		reads[i] = &reading{key: key}
		m.reads[reads[i]] = struct{}{}
	}
	return reads
}

func (m *Mirror[E]) leave(reads []*reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range reads {
		delete(m.reads, r)
	}
}

// settle takes a record that was read. Of what changed while it was read nothing is
// made: it is stale.
func (m *Mirror[E]) settle(reading *reading, r state.Record, insert bool) (e E, stale bool, err error) {
	m.mu.Lock()
	delete(m.reads, reading)
	e, known := m.items[r.Key]
	_, ending := m.ending[r.Key]
	switch {
	case ending || !r.Exists() && !reading.stale:
		delete(m.items, r.Key)
		m.mu.Unlock()
		if known {
			m.end(e)
		}
		var none E
		return none, false, state.ErrNotFound
	case reading.stale:
		stale = true
	case known:
		if err = e.Change(r); err == nil {
			e.item().suspect.Store(0)
			break
		}
		// It is another one by now, of the same key.
		delete(m.items, r.Key)
		former := e
		if e, err = m.form(r); err == nil && insert {
			m.insert(r.Key, e)
		}
		m.mu.Unlock()
		m.end(former)
		return e, false, err
	case insert:
		if e, err = m.form(r); err == nil {
			m.insert(r.Key, e)
		}
	}
	m.mu.Unlock()
	return e, stale, err
}

func (m *Mirror[E]) insert(key string, e E) {
	i := e.item()
	i.key = key
	m.items[key] = e
}

// end tells that one has ended which is in the mirror no more.
func (m *Mirror[E]) end(e E) {
	if !e.item().gone.Swap(true) {
		e.Ended()
	}
}

// Create makes changes, one of which is that a record is made, and keeps e for it.
func (m *Mirror[E]) Create(ctx context.Context, key string, e E, changes ...state.Change) (state.Version, error) {
	if err := m.remove(ctx, key); err != nil { // one of that key before
		return 0, err
	}
	reads := m.enter(key)
	version, err := m.store.Apply(ctx, changes...)
	if err != nil {
		m.leave(reads)
		return 0, err
	}
	m.mu.Lock()
	delete(m.reads, reads[0])
	m.insert(key, e)
	if reads[0].stale { // which this change alone makes it, too
		m.suspect(key, e)
	}
	m.mu.Unlock()
	return version, nil
}

// Forget drops what is kept for a record, which goes on to exist.
func (m *Mirror[E]) Forget(e E) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := e.item()
	i.gone.Store(true)
	delete(m.items, i.key)
	delete(m.changed, i.key)
}

// Dropped ends what is kept for records that were removed just now.
func (m *Mirror[E]) Dropped(keys ...string) {
	for _, key := range keys {
		m.drop(key)
	}
}

func (m *Mirror[E]) drop(key string) {
	m.mu.Lock()
	e, known := m.items[key]
	delete(m.items, key)
	for r := range m.reads {
		r.stale = r.stale || r.key == key
	}
	m.mu.Unlock()
	if known {
		m.end(e)
	}
}

// Remove removes a record, and what goes with it. It has ended here when Remove
// returns; if the store could not be told, which is the error, it is told later.
func (m *Mirror[E]) Remove(ctx context.Context, key string, others ...string) error {
	m.mu.Lock()
	m.ending[key] = others
	m.mu.Unlock()
	m.drop(key)
	if err := m.remove(ctx, key); err != nil {
		m.signal()
		return err
	}
	return nil
}

// End is Remove that does not wait for the store.
func (m *Mirror[E]) End(key string, others ...string) {
	m.mu.Lock()
	m.ending[key] = others
	m.mu.Unlock()
	m.drop(key)
	m.signal()
}

func (m *Mirror[E]) remove(ctx context.Context, key string) error {
	m.mu.Lock()
	others, ending := m.ending[key]
	m.mu.Unlock()
	if !ending {
		return nil
	}
	changes := []state.Change{state.Remove(key)}
	for _, other := range others {
		changes = append(changes, state.Remove(other))
	}
	if _, err := m.store.Apply(ctx, changes...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ending, key)
	for r := range m.reads {
		r.stale = r.stale || r.key == key
	}
	return nil
}

// Interface guard
var _ interface{ item() *Item } = (*Item)(nil)
