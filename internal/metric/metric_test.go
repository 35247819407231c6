package metric

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// TestRequests: what clients say does not become a label.
func TestRequests(t *testing.T) {
	r := For("test-requests")
	if For("test-requests") != r {
		t.Error("a server has counters of two kinds")
	}
	before := testutil.CollectAndCount(requests)
	for i := range 1000 {
		r.Decided(fmt.Sprint("method-", i), false)
	}
	for range 3 {
		r.Decided("tools/call", true)
	}
	r.Decided("tools/call", false)
	if n := testutil.CollectAndCount(requests) - before; n != 3 {
		t.Errorf("%d counters, not 3", n)
	}
	for labels, want := range map[[2]string]float64{{"other", "refused"}: 1000, {"tools/call", "allowed"}: 3, {"tools/call", "refused"}: 1} {
		if got := testutil.ToFloat64(requests.WithLabelValues("test-requests", labels[0], labels[1])); got != want {
			t.Errorf("%v: %v, not %v", labels, got, want)
		}
	}
	for _, method := range append(mcp.ClientMethods(), Unread, Batch, Response, Get, Delete) {
		if _, known := slots[method]; !known {
			t.Errorf("%s is counted as another", method)
		}
	}
	if _, known := slots["sampling/createMessage"]; known {
		t.Error("what only a server sends is a client's")
	}
}

// TestNoAllocations: counting costs the request nothing but an addition.
func TestNoAllocations(t *testing.T) {
	r := For("test-allocations")
	if n := testing.AllocsPerRun(1000, func() {
		r.Decided("tools/call", true)
		r.Decided("what/ever", false)
		Refused("forbidden")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestReasons: only words become labels, and not any number of them.
func TestReasons(t *testing.T) {
	Refused("token_expired")
	before := testutil.ToFloat64(refusals.WithLabelValues(other))
	strange := []string{"", "Token", "tökén", "a b", "a\nb", strings.Repeat("a", maxReason+1)}
	for _, reason := range strange {
		Refused(reason)
	}
	if got := testutil.ToFloat64(refusals.WithLabelValues(other)) - before; got != float64(len(strange)) {
		t.Errorf("%v of %d are other", got, len(strange))
	}
	for i := range 10 * maxReasons {
		Refused(fmt.Sprint("made_up_", i))
	}
	if n := testutil.CollectAndCount(refusals); n > maxReasons+1 {
		t.Errorf("%d reasons", n)
	}
	if got := testutil.ToFloat64(refusals.WithLabelValues("token_expired")); got != 1 {
		t.Errorf("token_expired is counted %v times", got)
	}
}

// TestRegister: each configuration has a registry of its own, which shows what the one
// before has counted; to register twice is no error, and another thing of the same name
// is.
func TestRegister(t *testing.T) {
	more := prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_mcp_test", Help: "A test."})
	Configured()
	for range 3 {
		registry := prometheus.NewRegistry()
		for range 2 {
			if err := Register(registry, more); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := testutil.GatherAndCount(registry, "caddy_mcp_configurations_total", "caddy_mcp_test"); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
	}
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "caddy_mcp_sessions_begun_total", Help: "Something else."}))
	if Register(taken, more) == nil {
		t.Error("a name that is taken is no error")
	}
}

// broken is a store that answers with an error.
type broken struct {
	state.Store
	err error
}

func (b broken) Open(context.Context) error                              { return b.err }
func (b broken) Read(context.Context, ...string) ([]state.Record, error) { return nil, b.err }
func (b broken) Apply(context.Context, ...state.Change) (state.Version, error) {
	return 7, b.err
}

func (b broken) Scan(context.Context, string, string, int) ([]state.Record, string, error) {
	return nil, "next", b.err
}

func (b broken) Take(context.Context, string, int, ...state.Window) (time.Duration, error) {
	return time.Second, b.err
}
func (b broken) Revoke(context.Context, ...state.Revocation) error { return b.err }

// TestStore: a store that is not available is counted, one that says no is not; and what
// it answers comes through.
func TestStore(t *testing.T) {
	ctx := t.Context()
	for err, counted := range map[error]float64{
		nil: 0, state.ErrNotFound: 0, state.ErrConflict: 0, state.Unavailable(errors.New("no route")): 1,
	} {
		s := Store(broken{err: err})
		for name, call := range map[string]func() error{
			"open": func() error { return s.Open(ctx) },
			"read": func() error {
				_, err := s.Read(ctx, "a")
				return err
			},
			"scan": func() error {
				_, next, err := s.Scan(ctx, "a", "", 1)
				if next != "next" {
					t.Error("the answer is lost")
				}
				return err
			},
			"apply": func() error {
				version, err := s.Apply(ctx)
				if version != 7 {
					t.Error("the answer is lost")
				}
				return err
			},
			"take": func() error {
				wait, err := s.Take(ctx, "a", 1)
				if wait != time.Second {
					t.Error("the answer is lost")
				}
				return err
			},
			"revoke": func() error { return s.Revoke(ctx) },
		} {
			before := testutil.ToFloat64(storeErrors.WithLabelValues(name))
			if got := call(); !errors.Is(got, err) {
				t.Errorf("%s: %v, not %v", name, got, err)
			}
			if got := testutil.ToFloat64(storeErrors.WithLabelValues(name)) - before; got != counted {
				t.Errorf("%s with %v: %v failures", name, err, got)
			}
		}
	}
	if n := testutil.CollectAndCount(storeDuration); n != 6 {
		t.Errorf("%d operations are measured", n)
	}
}
