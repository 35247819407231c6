package embedded

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// The bucket counters has state.Counter in JSON, by key. What is counted is in memory
// first and written once a second: a wait for the disk before each request would be
// too much, and what a crash forgets are the uses of one second.
const (
	flushEvery = time.Second
	// maxCounters is how many are kept in memory at hand, maxUnwritten how many wait
	// to be written when the disk does not take them.
	maxCounters  = 100_000
	maxUnwritten = 200_000
)

var errUnwritten = errors.New("too many counters could not be written")

type counters struct {
	mu sync.Mutex
	// recent are in memory. Of those, and maybe of others, the file does not have
	// unwritten and writing as they are; the latter is on its way.
	recent             *simplelru.LRU[string, *state.Counter]
	unwritten, writing map[string]*state.Counter
	// swept is the key up to which those that are over were looked for.
	swept []byte
}

// Take counts uses.
func (s *Store) Take(ctx context.Context, key string, n int, windows ...state.Window) (time.Duration, error) {
	if err := state.CheckWindows(key, n, windows); err != nil {
		return 0, err
	}
	if _, err := s.open(n > 0); err != nil {
		return 0, err
	}
	c := &s.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recent == nil {
		var err error
		if c.recent, err = simplelru.NewLRU[string, *state.Counter](maxCounters, nil); err != nil {
			return 0, err
		}
		c.unwritten = make(map[string]*state.Counter)
	}
	if len(c.unwritten) >= maxUnwritten {
		return 0, state.Unavailable(errUnwritten)
	}
	counter, ok := c.recent.Get(key)
	if !ok {
		if counter, ok = c.unwritten[key]; !ok {
			counter, ok = c.writing[key]
		}
		if !ok {
			var err error
			if counter, err = s.readCounter(ctx, key); err != nil {
				return 0, err
			}
		}
		c.recent.Add(key, counter)
	}
	wait := counter.Take(n, windows, s.now())
	if wait == 0 && n > 0 {
		c.unwritten[key] = counter
	}
	return wait, nil
}

func (s *Store) readCounter(ctx context.Context, key string) (*state.Counter, error) {
	counter := new(state.Counter)
	return counter, s.view(ctx, func(tx *bolt.Tx) error {
		stored := tx.Bucket(countersBucket).Get([]byte(key))
		if stored == nil {
			return nil
		}
		if err := json.Unmarshal(stored, counter); err != nil {
			return state.ErrDamaged
		}
		return nil
	})
}

func (s *Store) flushAtTimes(f *openFile) {
	defer s.running.Done()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			_ = s.flush(f) // what was not written is tried again
		}
	}
}

// flush writes what was counted, and removes some of the counters that are over. It
// is its own transaction, so that it can be the last one when the store is closed.
func (s *Store) flush(f *openFile) error {
	c := &s.counters
	c.mu.Lock()
	if len(c.unwritten) == 0 {
		c.mu.Unlock()
		return nil
	}
	encoded := make(map[string][]byte, len(c.unwritten))
	for key, counter := range c.unwritten {
		value, err := json.Marshal(counter)
		if err != nil {
			c.mu.Unlock()
			return err
		}
		encoded[key] = value
	}
	c.writing, c.unwritten = c.unwritten, make(map[string]*state.Counter)
	c.mu.Unlock()

	op := &operation{run: func(tx *bolt.Tx) error {
		bucket := tx.Bucket(countersBucket)
		for key, value := range encoded {
			if err := bucket.Put([]byte(key), value); err != nil {
				return failed{err}
			}
		}
		return c.sweep(bucket, s.now())
	}}
	err := f.failure()
	if err == nil {
		err = s.transact(f, []*operation{op})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		maps.Copy(c.unwritten, c.writing)
	}
	c.writing = nil
	return err
}

// sweep looks at some of the counters in turn, and removes those that are over.
func (c *counters) sweep(bucket *bolt.Bucket, now time.Time) error {
	var gone [][]byte
	cursor := bucket.Cursor()
	k, v := cursor.Seek(c.swept)
	for seen := 0; k != nil && seen < sweepMost; seen++ {
		var counter state.Counter
		if err := json.Unmarshal(v, &counter); err != nil || !counter.Over().After(now) {
			gone = append(gone, append([]byte(nil), k...))
		}
		k, v = cursor.Next()
	}
	c.swept = append([]byte(nil), k...)
	for _, k := range gone {
		if err := bucket.Delete(k); err != nil {
			return failed{err}
		}
	}
	return nil
}
