package catalogue

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Use is a request that somebody has made with an API token.
type Use struct {
	// ID is the token's.
	ID string
	// Method and Path are those of the request, in HTTP.
	Method, Path string
	// Status is that of the answer; 0 for one that was cut off.
	Status int
	// Took is how long it was until the answer was over; zero for an event stream,
	// which says nothing about how long answers take.
	Took time.Duration
	// At is when it was made.
	At time.Time
}

// uses are the requests with one token on one day.
type uses struct {
	Total int64 `json:"total"`
	// Successful are those whose status was less than 400, Blocked those with 4xx.
	Successful int64 `json:"successful"`
	Blocked    int64 `json:"blocked"`
	// Timed is how many of them have a time, and Milliseconds the sum of these.
	Timed        int64   `json:"timed"`
	Milliseconds float64 `json:"milliseconds"`
	// Endpoints are how many there were of each.
	Endpoints map[string]int64 `json:"endpoints"`
}

var (
	daily    = state.Table[uses]{Name: state.TableTokenUse, Version: 1}
	lastUses = state.Table[time.Time]{Name: state.TableTokenUsed, Version: 1}
)

const (
	// MaxUsageDays is for how many days the uses of a token are known.
	MaxUsageDays = 90
	// flushEvery is how often they are written, lastUsedEvery how often when the last
	// one was.
	flushEvery    = 10 * time.Second
	lastUsedEvery = 5 * time.Minute
	flushTimeout  = 5 * time.Second
	// maxCounted bounds the tokens that are counted in memory, maxEndpoints the
	// endpoints that are told apart for one of them on one day.
	maxCounted   = 10_000
	maxEndpoints = 50
	maxEndpoint  = 255
	// otherEndpoints stands for those beyond.
	otherEndpoints = "other"
)

// Usage counts how API tokens are used. What was counted is written to the store every
// ten seconds, so that at most as much is lost when the process is killed; and it is
// only counted: what a token may be used for does not depend on it. It is safe for
// concurrent use.
type Usage struct {
	store state.Store

	mu      sync.Mutex
	counted map[counted]*pending
	// lost is how many uses there was no room for.
	lost int64
}

type counted struct{ id, day string }

type pending struct {
	uses
	last time.Time
}

// NewUsage returns what counts uses for a store.
func NewUsage(store state.Store) *Usage {
	return &Usage{store: store, counted: make(map[counted]*pending)}
}

// dayOf is the day of a moment, in UTC.
func dayOf(at time.Time) string { return at.UTC().Format("20060102") }

// Note counts a use. It never waits for the store.
func (u *Usage) Note(use Use) {
	key := counted{use.ID, dayOf(use.At)}
	endpoint := use.Method + " " + use.Path
	if len(endpoint) > maxEndpoint {
		endpoint = endpoint[:maxEndpoint]
	}
	endpoint = strings.ToValidUTF8(endpoint, "?")
	one := uses{Total: 1, Endpoints: map[string]int64{endpoint: 1}}
	switch {
	case use.Status >= 400 && use.Status < 500:
		one.Blocked = 1
	case use.Status > 0 && use.Status < 400:
		one.Successful = 1
	}
	if use.Took > 0 {
		one.Timed, one.Milliseconds = 1, float64(use.Took)/float64(time.Millisecond)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.add(key, &one, use.At)
}

// add adds uses to those that are to be written.
func (u *Usage) add(key counted, more *uses, last time.Time) {
	p := u.counted[key]
	if p == nil {
		if len(u.counted) >= maxCounted {
			u.lost += more.Total
			return
		}
		p = new(pending)
		u.counted[key] = p
	}
	p.join(more)
	if last.After(p.last) {
		p.last = last
	}
}

// join adds others.
func (u *uses) join(more *uses) {
	u.Total += more.Total
	u.Successful += more.Successful
	u.Blocked += more.Blocked
	u.Timed += more.Timed
	u.Milliseconds += more.Milliseconds
	if u.Endpoints == nil {
		u.Endpoints = make(map[string]int64, len(more.Endpoints))
	}
	for endpoint, n := range more.Endpoints {
		if _, known := u.Endpoints[endpoint]; !known && len(u.Endpoints) >= maxEndpoints {
			endpoint = otherEndpoints
		}
		u.Endpoints[endpoint] += n
	}
}

// Run writes what was counted from time to time, and once more when ctx is done.
func (u *Usage) Run(ctx context.Context, logger func() *zap.Logger) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		last := ctx.Err() != nil
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		err := u.Flush(flush)
		cancel()
		if err != nil {
			logger().Warn("the uses of API tokens can't be written", zap.Error(err))
		}
		if last {
			return
		}
	}
}

// Flush writes what was counted. What could not be written is written the next time.
func (u *Usage) Flush(ctx context.Context) error {
	u.mu.Lock()
	now, lost := u.counted, u.lost
	u.counted, u.lost = make(map[counted]*pending, len(now)), 0
	u.mu.Unlock()
	var failed error
	if lost > 0 {
		failed = errors.New("more API tokens were used at the same time than can be counted")
	}
	for key, p := range now {
		// Once the store does not answer, the rest need not wait for it, too.
		if failed == nil || !errors.Is(failed, state.ErrUnavailable) {
			err := u.write(ctx, key, p)
			if err == nil {
				continue
			}
			failed = errors.Join(failed, err)
			if !errors.Is(err, state.ErrUnavailable) && !errors.Is(err, state.ErrConflict) {
				continue // such as a damaged record: to try again would not help
			}
		}
		u.mu.Lock()
		u.add(key, &p.uses, p.last)
		u.mu.Unlock()
	}
	return failed
}

// write adds uses to those in the store. Other nodes do so, too.
func (u *Usage) write(ctx context.Context, key counted, p *pending) error {
	day, err := time.Parse("20060102", key.day)
	if err != nil {
		return err
	}
	over := day.Add((MaxUsageDays + 2) * 24 * time.Hour)
	for range maxAttempts {
		records, err := u.store.Read(ctx, daily.Key(key.id, key.day), lastUses.Key(key.id))
		if err != nil {
			return err
		}
		sum := state.Entry[uses]{Record: records[0]}
		if records[0].Exists() {
			if sum, err = daily.Decode(records[0]); err != nil {
				return err
			}
		}
		// Others may still have the map that was read.
		sum.Data.Endpoints = maps.Clone(sum.Data.Endpoints)
		sum.Data.join(&p.uses)
		put, err := daily.Replace(sum, sum.Data)
		if err != nil {
			return err
		}
		changes := []state.Change{put.Until(over)}
		last := state.Entry[time.Time]{Record: records[1]}
		if records[1].Exists() {
			if last, err = lastUses.Decode(records[1]); err != nil {
				return err
			}
		}
		if p.last.Sub(last.Data) >= lastUsedEvery {
			put, err := lastUses.Replace(last, p.last.UTC().Truncate(time.Second))
			if err != nil {
				return err
			}
			changes = append(changes, put.Until(p.last.Add((MaxUsageDays+2)*24*time.Hour)))
		}
		if _, err = u.store.Apply(ctx, changes...); !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return state.ErrConflict
}
