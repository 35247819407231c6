package tasks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

const (
	// sweepEvery is how often tasks are forgotten whose time is up.
	sweepEvery = time.Minute
	// renewTimeout bounds how long it may take to tell the store when tasks expire.
	renewTimeout = 10 * time.Second
)

// Renew notes that the server has told of the owner's task, and for how long it may
// be remembered: that can change while it runs, and some servers count from its end. The
// store is told in the background.
func (t *Tasks) Renew(server, id string, owner state.Owner, ttl time.Duration) {
	if e, known := t.rows.Known(keyOf(server, id)); known && e.task.Owner == owner && !t.over(e, steady.Now()) {
		t.renew(e, ttl)
	}
}

// renew sets when a task expires. So that not every question is a write, the store is
// told only when that moves by a good part of the time.
func (t *Tasks) renew(e *entry, ttl time.Duration) {
	now := steady.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e.expires = e.until(ttl, now, t.limits)
	if e.stored.Sub(now) >= e.expires.Sub(now)*3/4 {
		return // it can only be known for too long, which the server does not mind
	}
	t.renewed[e] = struct{}{}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// until is when the time of a task is up.
func (e *entry) until(ttl time.Duration, now time.Time, limits Limits) time.Time {
	life := e.task.Created.Add(limits.Life)
	if at := now.Add(ttl).Truncate(time.Millisecond); ttl > 0 && at.Before(life) {
		return at
	}
	return life
}

// Run follows the store, and tells it when tasks expire, until the context ends.
func (t *Tasks) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { t.rows.Run(ctx) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.tell(context.WithoutCancel(ctx))
			return
		case <-t.wake:
			t.tell(ctx)
		case <-tick.C:
			t.sweep(steady.Now())
		}
	}
}

// tell tells the store of what was renewed. What could not be told is told when it is
// renewed the next time.
func (t *Tasks) tell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	t.mu.Lock()
	renewed := t.renewed
	t.renewed = make(map[*entry]struct{})
	t.mu.Unlock()
	for e := range renewed {
		err := t.extend(ctx, e)
		if errors.Is(err, state.ErrConflict) {
			if _, err = t.rows.Read(ctx, e.Key()); err == nil {
				err = t.extend(ctx, e)
			}
		}
		if errors.Is(err, state.ErrUnavailable) {
			return
		}
	}
}

// extend has the record of a task expire when the task does.
func (t *Tasks) extend(ctx context.Context, e *entry) error {
	t.mu.Lock()
	r, expires, gone := state.Record{Key: e.Key(), Version: e.at}, e.expires, e.Gone() || e.at == state.Absent
	t.mu.Unlock()
	if gone || !steady.Now().Before(expires) {
		return nil
	}
	change, err := records.Replace(state.Entry[record]{Record: r}, newRecord(&e.task))
	if err != nil {
		return err
	}
	version, err := t.store.Apply(ctx, change.Until(expires))
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.at, e.stored = version, expires
	return nil
}

// sweep forgets the tasks whose time is up. The store ends them by itself.
func (t *Tasks) sweep(now time.Time) {
	var over []*entry
	t.mu.Lock()
	for at := t.used.Front(); at != nil; at = at.Next() {
		if e := at.Value.(*entry); !now.Before(e.expires) && !now.Before(e.stored) {
			over = append(over, e)
		}
	}
	t.mu.Unlock()
	for _, e := range over {
		t.rows.Dropped(e.Key())
	}
}
