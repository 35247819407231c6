package revocation

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

const (
	// staleEvery is how often we look whether the store is cut off, so that the
	// streams of tokens that are Unknown end.
	staleEvery = 100 * time.Millisecond
	// purgeEvery is how often expired revocations are removed.
	purgeEvery = time.Minute
)

// Run follows the store until the context ends. What happens to the connection is
// logged by what logger returns then.
func (s *Set) Run(ctx context.Context, logger func() *zap.Logger) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.look(ctx) })
	s.store.Follow(ctx, func(u state.Update) { s.update(u, logger) })
}

// update takes what the store tells.
func (s *Set) update(u state.Update, logger func() *zap.Logger) {
	// By the clock that is behind: what is passed over now would be missing for ever.
	now := steady.Earliest()
	if len(u.Revocations) > 0 {
		if err := s.Add(now, u.Revocations...); err != nil {
			logger().Error("revocations cannot be kept", zap.Error(err))
		}
	}
	if !u.Current.IsZero() {
		s.lag.Store(int64(now.Sub(u.Current)))
	}
	cut, back := s.fresh.Told(u)
	if cut {
		logger().Error("the store of revocations is cut off; requests are denied, unless allow_stale says otherwise, until it is back", zap.Error(u.Err))
	}
	if back {
		logger().Info("the store of revocations is back, and all that was revoked is known", zap.Int("revocations", s.Status(now).Revocations))
	}
}

// look ends streams when the store is cut off, and removes what has expired.
func (s *Set) look(ctx context.Context) {
	stale, purge := time.NewTicker(staleEvery), time.NewTicker(purgeEvery)
	defer stale.Stop()
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stale.C:
			if s.isStale(time.Now()) {
				s.endAll(Unknown)
			}
		case <-purge.C:
			s.purge(steady.Earliest())
		}
	}
}

func (s *Set) purge(now time.Time) {
	for i := range s.tables {
		s.tables[i].purge(now)
	}
}

// Revoke revokes, on this node at once and in the store. When the store cannot take it,
// that is an error: the other nodes do not know, and neither will this one when it is
// started again.
func (s *Set) Revoke(ctx context.Context, revocations ...state.Revocation) error {
	return errors.Join(s.Add(steady.Earliest(), revocations...), s.store.Revoke(ctx, revocations...))
}
