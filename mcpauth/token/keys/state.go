package keys

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

// firstRetry is how soon a second attempt may follow when there are no keys yet.
const firstRetry = time.Second

// remoteKey is what makes two sources the same one: whose keys, from where, and
// whether they are looked for by the rules of development.
type remoteKey struct {
	issuer, url string
	development bool
}

// fetcher gets the keys of one origin and says how many of them it could not use.
type fetcher func(ctx context.Context, client *http.Client) (keys []token.Key, skipped int, err error)

// remoteState is what generations of the configuration share: the keys, and when
// they were last asked for. Intervals and loggers belong to a generation and
// come with each call.
type remoteState struct {
	fetch  fetcher
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	known  atomic.Pointer[keySet]

	mu        sync.Mutex
	attempted time.Time
	failures  int
	err       error
	inflight  chan struct{} // closed when the running attempt has ended
}

// keySet is the outcome of one successful fetch and never changes.
type keySet struct {
	all       []token.Key
	anonymous []token.Key            // those that verify tokens of any kid
	byID      map[string][]token.Key // the others by their kid, each with the anonymous ones
	fetched   time.Time
	jitter    float64
	epoch     uint64
}

func newRemoteState(fetch fetcher) *remoteState {
	// The state has its own context: an attempt to fetch serves all requests
	// and all generations, so none of them may end it.
	ctx, cancel := context.WithCancel(context.Background())
	return &remoteState{fetch: fetch, client: metadata.NewClient(), ctx: ctx, cancel: cancel}
}

// Destruct ends an attempt that may be running when the last generation goes.
func (s *remoteState) Destruct() error {
	s.cancel()
	return nil
}

// refresh sees to it that an attempt to fetch is running, unless the last one
// was too recent. It returns a channel that is closed when the attempt has
// ended, or nil when there is none. At most one runs at any time.
func (s *remoteState) refresh(r *Remote, now time.Time) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inflight != nil {
		return s.inflight
	}
	if !s.attempted.IsZero() && now.Sub(s.attempted) < s.pause(time.Duration(r.MinRefreshInterval)) {
		return nil
	}
	s.attempted = now
	done := make(chan struct{})
	s.inflight = done
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Timeout))
		defer cancel()
		keys, skipped, err := s.fetch(ctx, s.client)
		s.settle(r.logger, now, keys, skipped, err)
		close(done)
	}()
	return done
}

// pause is the least time between two attempts. It starts short where there are
// no keys at all, because then nobody can use the gateway.
func (s *remoteState) pause(least time.Duration) time.Duration {
	if s.known.Load() == nil && s.failures < 16 {
		return min(least, firstRetry<<max(s.failures-1, 0))
	}
	return least
}

// settle records how an attempt that began at now has ended.
func (s *remoteState) settle(logger *zap.Logger, now time.Time, keys []token.Key, skipped int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inflight, s.err = nil, err
	known := s.known.Load()
	if err != nil {
		s.failures++
		if s.ctx.Err() != nil {
			return
		}
		fields := []zap.Field{zap.Error(err), zap.Int("failures", s.failures)}
		if known != nil {
			fields = append(fields, zap.Duration("keys_age", now.Sub(known.fetched)))
		}
		logger.Warn("fetching the issuer's keys failed", fields...)
		return
	}
	s.failures = 0
	next := newKeySet(keys, now)
	if known != nil {
		next.epoch = known.epoch
		lost := func(old token.Key) bool { return !slices.ContainsFunc(keys, old.Equal) }
		if slices.ContainsFunc(known.all, lost) {
			next.epoch++
		}
	}
	s.known.Store(next)
	switch {
	case len(keys) == 0:
		// An issuer that withdraws its last key is believed.
		logger.Warn("the issuer publishes no usable key", zap.Int("unusable", skipped))
	case known == nil || known.epoch != next.epoch || len(known.all) != len(keys):
		logger.Info("the issuer's keys have changed", zap.Int("keys", len(keys)), zap.Int("unusable", skipped))
	}
}

// failure says why there are no keys.
func (s *remoteState) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return errors.New("the issuer's keys have not been fetched yet")
}

func newKeySet(keys []token.Key, fetched time.Time) *keySet {
	set := &keySet{all: keys, byID: make(map[string][]token.Key), fetched: fetched, jitter: 0.9 + 0.2*rand.Float64()}
	for _, key := range keys {
		if key.ID() == "" {
			set.anonymous = append(set.anonymous, key)
		} else {
			set.byID[key.ID()] = append(set.byID[key.ID()], key)
		}
	}
	for id := range set.byID {
		set.byID[id] = append(set.byID[id], set.anonymous...)
	}
	return set
}

// find returns the keys that may have signed a token with this kid.
func (set *keySet) find(kid string) []token.Key {
	if kid == "" {
		return set.all
	}
	if keys, ok := set.byID[kid]; ok {
		return keys
	}
	return set.anonymous
}
