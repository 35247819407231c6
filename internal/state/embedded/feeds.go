package embedded

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

const (
	// tellEvery is how often Watch and Follow say that they are current.
	tellEvery = 200 * time.Millisecond
	// maxPending bounds what waits for one that is slow. Then it begins anew.
	maxPending = 100_000
)

// feeds are those who are told of what is written.
type feeds struct {
	mu  sync.Mutex
	all map[*feed]struct{}
}

// feed is what waits for one of them.
type feed struct {
	// records says whether it is about the records with a prefix, or else about the
	// revocations.
	records bool
	prefix  string
	wake    chan struct{}

	// The lock of feeds guards these.
	revocations []state.Revocation
	keys        []string
	missed      bool
}

func (fs *feeds) add(f *feed) *feed {
	f.wake = make(chan struct{}, 1)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.all == nil {
		fs.all = make(map[*feed]struct{})
	}
	fs.all[f] = struct{}{}
	return f
}

func (fs *feeds) remove(f *feed) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.all, f)
}

func (fs *feeds) revoked(revocations []state.Revocation) {
	fs.each(func(f *feed) {
		if !f.records {
			f.revocations = append(f.revocations, revocations...)
		}
	})
}

func (fs *feeds) changed(keys []string) {
	fs.each(func(f *feed) {
		if !f.records {
			return
		}
		for _, key := range keys {
			if strings.HasPrefix(key, f.prefix) {
				f.keys = append(f.keys, key)
			}
		}
	})
}

func (fs *feeds) each(add func(*feed)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		add(f)
		if len(f.keys) > maxPending || len(f.revocations) > maxPending {
			f.keys, f.revocations, f.missed = nil, nil, true
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// take returns what waits.
func (fs *feeds) take(f *feed) (update state.Update, missed bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	update, missed = state.Update{Revocations: f.revocations, Keys: f.keys}, f.missed
	f.revocations, f.keys, f.missed = nil, nil, false
	return update, missed
}

// Watch tells which records have changed.
func (s *Store) Watch(ctx context.Context, prefix string, told func(state.Update)) {
	s.follow(ctx, &feed{records: true, prefix: prefix}, told, func() error {
		told(state.Update{Reset: true})
		return nil
	})
}

// Follow tells of the revocations.
func (s *Store) Follow(ctx context.Context, told func(state.Update)) {
	s.follow(ctx, new(feed), told, func() error { return s.allRevocations(ctx, told) })
}

// follow tells everything by begin, and then what comes. Nobody but us writes, so that
// from then on all is known, even if the file were lost.
func (s *Store) follow(ctx context.Context, f *feed, told func(state.Update), begin func() error) {
	s.feeds.add(f)
	defer s.feeds.remove(f)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	anew, cut := true, false
	for ctx.Err() == nil {
		// What was answered before now waits already.
		now := time.Now()
		update, missed := s.feeds.take(f)
		if anew = anew || missed; anew {
			err := begin()
			if ctx.Err() != nil {
				return
			}
			if err != nil && !cut {
				told(state.Update{Err: err})
			}
			anew, cut = err != nil, err != nil
		}
		if !anew {
			update.Current, update.Alone = now, true
		}
		if !anew || len(update.Revocations) > 0 {
			told(update)
		}
		select {
		case <-f.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
