package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

const (
	// saveEvery is how often the store is told which sessions were used, unless they
	// may idle for a short time only.
	saveEvery = 30 * time.Second
	// saveTimeout bounds how long that may take.
	saveTimeout = 10 * time.Second
	// parters is how many servers are told at once that a session is over.
	parters = 4
)

// Run follows the store, and tells it which sessions are in use, until the context ends.
// What is not told by then is told before it returns.
func (t *Sessions) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { t.rows.Run(ctx) })
	for range parters {
		running.Go(func() { t.partAll(ctx) })
	}
	tick := time.NewTimer(t.pause())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
			defer cancel()
			_ = t.saveAll(last) // nobody is there any more to be told
			return
		case <-t.wake:
			t.saveMu.Lock()
			soon := t.saving
			t.saving = make(map[*Session]struct{})
			t.saveMu.Unlock()
			_ = t.write(ctx, soon) // the next time, then
		case <-tick.C:
			t.sweep()
			_ = t.saveAll(ctx)
			tick.Reset(t.pause())
		}
	}
}

// pause is the time after which the store is told again. Even the last use before it
// prolongs a session in good time.
func (t *Sessions) pause() time.Duration {
	return max(min(t.limitsNow().Idle/4, saveEvery), 10*time.Millisecond)
}

// save has the record of one session written soon.
func (t *Sessions) save(s *Session) {
	if t == nil {
		return
	}
	t.saveMu.Lock()
	t.saving[s] = struct{}{}
	t.saveMu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// sweep forgets the sessions whose time is up. The store ends them by itself.
func (t *Sessions) sweep() {
	now, over := steady.Now(), []*Session(nil)
	t.mu.RLock()
	for e := t.used.Back(); e != nil; e = e.Prev() {
		s := e.Value.(*Session)
		if now.Sub(s.Created) >= t.limits.Life || s.idle(now, t.limits) && s.expired(now) {
			over = append(over, s)
		}
	}
	limits := t.limits
	t.mu.RUnlock()
	for _, s := range over {
		metric.SessionEnded(string(s.overBecause(now, limits)))
		t.rows.Dropped(s.Key())
	}
}

func (s *Session) expired(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.Before(s.expires)
}

func (t *Sessions) saveAll(ctx context.Context) error {
	all := make(map[*Session]struct{})
	t.mu.RLock()
	for e := t.used.Front(); e != nil; e = e.Next() {
		all[e.Value.(*Session)] = struct{}{}
	}
	t.mu.RUnlock()
	return t.write(ctx, all)
}

// written is what is being written of a session.
type written struct {
	session         *Session
	data            record
	change          state.Change
	messages, bytes int64
}

// write tells the store of those sessions of which it does not know all. A record that
// was changed elsewhere is read again first; one that has ended stays so.
func (t *Sessions) write(ctx context.Context, sessions map[*Session]struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	limits := t.limitsNow()
	var batch []*written
	for s := range sessions {
		if w := s.due(steady.Now(), limits); w != nil {
			batch = append(batch, w)
		}
		if len(batch) == state.MaxChanges {
			if err := t.apply(ctx, batch, limits); err != nil {
				return err
			}
			batch = nil
		}
	}
	return t.apply(ctx, batch, limits)
}

func (t *Sessions) apply(ctx context.Context, batch []*written, limits Limits) error {
	for len(batch) > 0 {
		changes := make([]state.Change, len(batch))
		for i, w := range batch {
			changes[i] = w.change
		}
		version, err := t.store.Apply(ctx, changes...)
		var conflict *state.ConflictError
		switch {
		case err == nil:
			for _, w := range batch {
				w.session.wrote(w, version)
			}
			return nil
		case !errors.As(err, &conflict):
			return err
		}
		var left []*written
		for _, w := range batch {
			if w.change.Key != conflict.Key {
				left = append(left, w)
				continue
			}
			s, err := t.rows.Read(ctx, conflict.Key)
			switch {
			case errors.Is(err, state.ErrNotFound):
			case err != nil:
				return err
			default:
				if again := s.due(steady.Now(), limits); again != nil {
					left = append(left, again)
				}
			}
		}
		batch = left
	}
	return nil
}

// due is what the store has to be told of the session, nil for nothing. One that runs
// and is otherwise as the store knows it is told of only in time to go on.
func (s *Session) due(now time.Time, limits Limits) *written {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.Gone() || s.at == state.Absent {
		return nil
	}
	w := &written{session: s, data: s.stored, messages: s.messages.Load(), bytes: s.bytes.Load()}
	used := s.lastUsed.Load() / int64(time.Millisecond)
	if s.uses.Load() > 0 && s.expires.Sub(now) < limits.Idle/2 {
		used = now.UnixMilli()
	}
	w.data.Used = max(w.data.Used, used)
	w.data.Version = string(s.Negotiated())
	w.data.Messages += w.messages
	w.data.Bytes += w.bytes
	w.data.setEvents(s.lastEvents())
	same := w.data.Used == s.stored.Used && w.data.Version == s.stored.Version && w.messages == 0 && w.bytes == 0 &&
		string(w.data.Events) == string(s.stored.Events)
	expires := w.data.expires(limits)
	if same || !now.Before(expires) {
		return nil
	}
	r := state.Record{Key: s.Key(), Version: s.at}
	change, err := records.Replace(state.Entry[record]{Record: r}, w.data)
	if err != nil {
		return nil
	}
	w.change = change.Until(expires)
	return w
}

// wrote notes that it was told.
func (s *Session) wrote(w *written, version state.Version) {
	s.messages.Add(-w.messages)
	s.bytes.Add(-w.bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored, s.at, s.expires = w.data, version, w.change.Expires
}

// partAll tells servers of partings.
func (t *Sessions) partAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-t.partings:
			t.mu.RLock()
			leave := t.leave
			t.mu.RUnlock()
			if leave != nil {
				leave(p)
			}
		}
	}
}
