package metric

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// operation is one of the store's.
type operation struct {
	duration prometheus.Observer
	failed   prometheus.Counter
}

func newOperation(name string) operation {
	return operation{storeDuration.WithLabelValues(name), storeErrors.WithLabelValues(name)}
}

var (
	openOp   = newOperation("open")
	readOp   = newOperation("read")
	scanOp   = newOperation("scan")
	applyOp  = newOperation("apply")
	takeOp   = newOperation("take")
	revokeOp = newOperation("revoke")
)

// done notes how an operation went. That a record is not there, or was changed by
// somebody else, is an answer, and no failure of the store.
func (o operation) done(from time.Time, err error) {
	o.duration.Observe(time.Since(from).Seconds())
	if errors.Is(err, state.ErrUnavailable) {
		o.failed.Inc()
	}
}

// store measures another one.
type store struct{ state.Store }

// Store returns a store whose operations are measured. To Watch and to Follow is not one
// of them: it lasts.
func Store(s state.Store) state.Store { return store{s} }

// Open implements state.Store.
func (s store) Open(ctx context.Context) error {
	from := time.Now()
	err := s.Store.Open(ctx)
	openOp.done(from, err)
	return err
}

// Read implements state.Store.
func (s store) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	from := time.Now()
	records, err := s.Store.Read(ctx, keys...)
	readOp.done(from, err)
	return records, err
}

// Scan implements state.Store.
func (s store) Scan(ctx context.Context, prefix, after string, limit int) ([]state.Record, string, error) {
	from := time.Now()
	records, next, err := s.Store.Scan(ctx, prefix, after, limit)
	scanOp.done(from, err)
	return records, next, err
}

// Apply implements state.Store.
func (s store) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	from := time.Now()
	version, err := s.Store.Apply(ctx, changes...)
	applyOp.done(from, err)
	return version, err
}

// Take implements state.Store.
func (s store) Take(ctx context.Context, key string, n int, windows ...state.Window) (time.Duration, error) {
	from := time.Now()
	wait, err := s.Store.Take(ctx, key, n, windows...)
	takeOp.done(from, err)
	return wait, err
}

// Revoke implements state.Store.
func (s store) Revoke(ctx context.Context, revocations ...state.Revocation) error {
	from := time.Now()
	err := s.Store.Revoke(ctx, revocations...)
	revokeOp.done(from, err)
	return err
}

// Interface guard
var _ state.Store = store{}
