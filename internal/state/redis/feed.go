package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// A feed has Redis push the names of keys that change (CLIENT TRACKING in broadcast
// mode), and reads what they hold. Its connection is used for nothing else. When that
// breaks, pushes may have been lost, and so all is read anew before the feed is
// current again.
//
// That a connection is alive does not say that pushes come through it: it may lead to
// a server that is not the master any more. So a beat is written by the way that all
// else is written, five times a second, and only its push, which comes after those of
// all changes before it, makes the feed current.
//
// In a cluster there is one connection to each master, and the feed is as current as
// the least of them.
const (
	beatEvery = 200 * time.Millisecond
	// beatTimeout is how long a beat may take before the connection is given up.
	beatTimeout = 2 * time.Second
	// beatLife is how long a beat is in Redis at most.
	beatLife = time.Minute
	// retryEvery is how soon a connection is tried again.
	retryEvery = 250 * time.Millisecond
	// nodesEvery is how often we look which masters a cluster has.
	nodesEvery = time.Second
	// pollEvery is how often all is read where pushes are not permitted, and
	// pollFor how long before they are tried again.
	pollEvery = 500 * time.Millisecond
	pollFor   = time.Minute
	// maxTags bounds the search for keys that each master of a cluster has: of the
	// 16384 slots there is one with nearly every tag.
	maxTags = 100_000
)

// feed is one Watch or Follow.
type feed struct {
	store *Store
	// prefixes are those of the keys that it is about.
	prefixes []string
	// load tells of all that a server has, fetch of keys that have changed.
	load  func(ctx context.Context, node *goredis.Client, tell func(state.Update)) (then, error)
	fetch func(ctx context.Context, node *goredis.Client, keys []string, tell func(state.Update)) error
	told  func(state.Update)

	mu sync.Mutex
	// current is how current each source is, and zero for one that is cut off.
	current map[source]time.Time
	cut     bool
}

// then is what remains to be done after all was read, beside all else. It is tried
// again after an error.
type then func(context.Context) error

// source is a master, with the tag of keys that it has. Outside a cluster both are
// empty: it is whatever the master is.
type source struct{ address, tag string }

// Watch tells which records have changed.
func (s *Store) Watch(ctx context.Context, prefix string, told func(state.Update)) {
	s.follow(ctx, &feed{
		store:    s,
		prefixes: []string{s.recordPrefix() + prefix},
		load: func(_ context.Context, _ *goredis.Client, tell func(state.Update)) (then, error) {
			tell(state.Update{Reset: true})
			return func(context.Context) error { return nil }, nil
		},
		fetch: func(_ context.Context, _ *goredis.Client, keys []string, tell func(state.Update)) error {
			if len(keys) == 0 {
				return nil
			}
			names := make([]string, len(keys))
			for i, key := range keys {
				names[i] = key[len(s.recordPrefix()):]
			}
			tell(state.Update{Keys: names})
			return nil
		},
		told: told,
	})
}

// follow runs a feed until the context or the store ends.
func (s *Store) follow(ctx context.Context, f *feed) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	f.current = make(map[source]time.Time)
	if !s.Cluster {
		f.run(ctx, source{})
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	followed := map[source]context.CancelFunc{}
	tick := time.NewTicker(nodesEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if masters, err := s.masters(ctx); err != nil {
			f.lost(source{}, err)
		} else {
			f.keep(masters)
			for from, stop := range followed {
				if !slices.Contains(masters, from) {
					stop()
					delete(followed, from)
				}
			}
			for _, from := range masters {
				if followed[from] == nil {
					sourceCtx, stop := context.WithCancel(ctx)
					followed[from] = stop
					running.Go(func() { f.run(sourceCtx, from) })
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// masters returns those of a cluster, each with a tag of its own.
func (s *Store) masters(ctx context.Context) ([]source, error) {
	cluster, ok := s.client.(*goredis.ClusterClient)
	if !ok {
		return nil, errors.New("this is not a cluster")
	}
	cluster.ReloadState(ctx)
	missing := map[string]bool{}
	var mu sync.Mutex
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		missing[node.Options().Addr] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	var masters []source
	for i := 0; len(missing) > 0; i++ {
		if i == maxTags {
			return nil, errors.New("the cluster has a master that none of our keys belongs to")
		}
		tag := strconv.Itoa(i)
		node, err := cluster.MasterForKey(ctx, s.beatKey(tag, ""))
		if err != nil {
			return nil, err
		}
		if address := node.Options().Addr; missing[address] {
			delete(missing, address)
			masters = append(masters, source{address, tag})
		}
	}
	return masters, nil
}

// tell passes an update on.
func (f *feed) tell(u state.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told(u)
}

// keep forgets the sources that there are not any more, and waits for new ones.
func (f *feed) keep(masters []source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.current, func(from source, _ time.Time) bool { return !slices.Contains(masters, from) })
	for _, from := range masters {
		if _, there := f.current[from]; !there {
			f.current[from] = time.Time{}
		}
	}
}

// reached says that all that happened on a source before that moment was told.
func (f *feed) reached(from source, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.current[from]; !there && f.store.Cluster {
		return // it is not a master any more
	}
	f.current[from] = at
	for _, other := range f.current {
		if other.Before(at) {
			at = other
		}
	}
	if !at.IsZero() {
		f.cut = false
		f.told(state.Update{Current: at})
	}
}

// lost says that a source is cut off.
func (f *feed) lost(from source, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.current[from]; there {
		f.current[from] = time.Time{}
	}
	if !f.cut {
		f.cut = true
		f.told(state.Update{Err: state.Unavailable(err)})
	}
}

// run follows one server until the context ends.
func (f *feed) run(ctx context.Context, from source) {
	for ctx.Err() == nil {
		err := f.connect(ctx, from)
		if errors.Is(err, errUntracked) {
			f.store.warn("redis does not push changes to us, so all revocations are read twice a second; permit client|tracking", err)
			err = f.poll(ctx, from)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.lost(from, err)
		}
		pause(ctx, retryEvery)
	}
}

// errUntracked is for a Redis that does not push.
var errUntracked = errors.New("redis does not push changes")

// poll reads all again and again.
func (f *feed) poll(ctx context.Context, from source) error {
	key := f.store.beatKey(from.tag, "poll")
	until := time.Now().Add(pollFor)
	for ctx.Err() == nil && time.Now().Before(until) {
		started := time.Now()
		node, err := f.store.node(ctx, key)
		if err != nil {
			return err
		}
		// A server that is not the master any more would take no write.
		if err := f.store.beat(ctx, key, new(bool)); err != nil {
			return err
		}
		then, err := f.load(ctx, node, f.tell)
		if err != nil {
			return err
		}
		f.reached(from, started)
		_ = then(ctx) // if it failed, there is more to be done the next time
		pause(ctx, pollEvery)
	}
	return nil
}

// pause waits, or less when the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// warn writes a warning into the log, once for each.
func (s *Store) warn(message string, err error) {
	if _, before := s.warned.LoadOrStore(message, true); !before {
		caddy.Log().Named("mcp_gateway.stores.redis").Warn(message, zap.Error(err))
	}
}

// without takes a key out.
func without(keys []string, key string) (others []string, had bool) {
	others = slices.DeleteFunc(keys, func(k string) bool { return k == key })
	return others, len(others) < len(keys)
}
