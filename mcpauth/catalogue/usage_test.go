package catalogue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// TestUsage: what two nodes have counted is added up, day by day.
func TestUsage(t *testing.T) {
	eachStore(t, func(t *testing.T, one, two *node) {
		people(one)
		dave := one.in("dave@example.com")
		made := one.make(dave, simple("ci"))
		now := time.Now()
		nodes := []*Usage{NewUsage(one.store), NewUsage(two.store)}
		use := func(status int, took time.Duration, ago int) Use {
			return Use{ID: made.ID, Method: "POST", Path: "/mcp", Status: status, Took: took, At: now.Add(-time.Duration(ago) * 24 * time.Hour)}
		}
		// Both write at the same time.
		for round := range 5 {
			var flushing sync.WaitGroup
			for i, u := range nodes {
				flushing.Go(func() {
					u.Note(use(200, 10*time.Millisecond, 0))
					u.Note(use(403, 20*time.Millisecond, 0))
					u.Note(use(502, 0, i))
					if err := u.Flush(t.Context()); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			flushing.Wait()
		}
		old := use(200, time.Second, 40)
		old.Path = "/servers/crm/mcp"
		nodes[0].Note(old)
		if err := nodes[0].Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for days, want := range map[int]Statistics{
			1: {
				TotalRequests: 25, SuccessfulRequests: 10, BlockedRequests: 10, SuccessRate: 0.4, AverageResponseTimeMS: 15,
				TopEndpoints: []EndpointUse{{"POST /mcp", 25}},
			},
			30: {
				TotalRequests: 30, SuccessfulRequests: 10, BlockedRequests: 10, SuccessRate: 0.3333, AverageResponseTimeMS: 15,
				TopEndpoints: []EndpointUse{{"POST /mcp", 30}},
			},
			90: {
				TotalRequests: 31, SuccessfulRequests: 11, BlockedRequests: 10, SuccessRate: 0.3548, AverageResponseTimeMS: 61.9048,
				TopEndpoints: []EndpointUse{{"POST /mcp", 30}, {"POST /servers/crm/mcp", 1}},
			},
		} {
			want.TokenID, want.PeriodDays = made.ID, days
			got, err := two.cat.Usage(t.Context(), dave, made.ID, days)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("in %d days: got %+v, expected %+v: %v", days, got, want, err)
			}
		}
		for _, days := range []int{-1, 0, 91} {
			_, err := two.cat.Usage(t.Context(), dave, made.ID, days)
			want(t, err, "days_invalid")
		}
		found, err := two.cat.Get(t.Context(), dave, made.ID)
		if err != nil || now.Sub(found.LastUsed).Abs() > time.Minute {
			t.Errorf("used at %v: %v", found.LastUsed, err)
		}
		// When it was used last is written seldom.
		later := use(200, 0, 0)
		later.At = found.LastUsed.Add(lastUsedEvery - time.Second)
		nodes[1].Note(later)
		later.At = found.LastUsed.Add(lastUsedEvery)
		for want, at := range map[time.Duration]time.Time{0: {}, lastUsedEvery: later.At} {
			if !at.IsZero() {
				nodes[1].Note(later)
			}
			if err := nodes[1].Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			again, err := one.cat.Get(t.Context(), dave, made.ID)
			if err != nil || at.IsZero() && !again.LastUsed.Equal(found.LastUsed) && !again.LastUsed.Equal(later.At) || !at.IsZero() && again.LastUsed.Sub(found.LastUsed) != want {
				t.Errorf("used at %v: %v", again.LastUsed, err)
			}
		}
	})
}

// TestUsageBounds: whoever makes up paths or tokens fills nothing.
func TestUsageBounds(t *testing.T) {
	store := embeddedStore(t)
	u := NewUsage(store)
	now := time.Now()
	for i := range 3 * maxEndpoints {
		u.Note(Use{ID: "A", Method: "POST", Path: "/" + strings.Repeat("ä\xff", 500) + fmt.Sprint(i), Status: 200, At: now})
		u.Note(Use{ID: "A", Method: "POST", Path: fmt.Sprintf("/%d", i), Status: 200, At: now})
	}
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry, err := daily.Get(t.Context(), store, "A", dayOf(now))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entry.Data.Endpoints); n > maxEndpoints+1 || n < maxEndpoints || entry.Data.Total != 6*maxEndpoints || entry.Data.Endpoints[otherEndpoints] == 0 {
		t.Errorf("%d endpoints: %+v", n, entry.Data)
	}
	for i := range maxCounted + 5 {
		u.Note(Use{ID: fmt.Sprint(i), Status: 200, At: now})
	}
	if len(u.counted) != maxCounted || u.lost != 5 {
		t.Errorf("%d are counted, %d lost", len(u.counted), u.lost)
	}
}

// TestUsageStoreDown: what could not be written is written later, and when all is over.
func TestUsageStoreDown(t *testing.T) {
	half := &halfway{Store: embeddedStore(t), on: true}
	u := NewUsage(half)
	now := time.Now()
	for range 3 {
		u.Note(Use{ID: "A", Status: 200, At: now})
		u.Note(Use{ID: "B", Status: 200, At: now})
		if err := u.Flush(t.Context()); !errors.Is(err, state.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	half.on = false
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u.Run(ctx, func() *zap.Logger { return zap.NewNop() })
	for _, id := range []string{"A", "B"} {
		if entry, err := daily.Get(t.Context(), half, id, dayOf(now)); err != nil || entry.Data.Total != 3 {
			t.Errorf("got %+v %v", entry.Data, err)
		}
	}
}
