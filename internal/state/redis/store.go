package redis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// scanBytes bounds what one Scan returns, beside its limit.
const scanBytes = 4 << 20

var errClosed = errors.New("the connection to Redis was closed")

// Store is a state.Store in Redis.
type Store struct {
	*settings
	client goredis.UniversalClient
	// now is for tests: nil means that Take counts by the clock of Redis.
	now func() time.Time

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once
	warned  sync.Map
	// kept is what is written back when Redis has lost it.
	kept *kept
}

func newStore(s *settings) *Store {
	setLogger()
	store := &Store{settings: s, client: s.client(), kept: newKept(maxKept)}
	store.ctx, store.cancel = context.WithCancel(context.Background())
	return store
}

// Open begins to look after what has expired. It does not wait for Redis.
func (s *Store) Open(context.Context) error {
	s.running.Go(s.sweepAtTimes)
	return nil
}

// Close ends the connections.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		s.cancel()
		s.running.Wait()
		err = s.client.Close()
	})
	return err
}

// call bounds the time of a call. It must be ended by the function.
func (s *Store) call(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.ctx.Err() != nil {
		return nil, nil, state.Unavailable(errClosed)
	}
	if ctx.Err() != nil {
		return nil, nil, state.Unavailable(context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	return ctx, cancel, nil
}

// write runs a script that changes something, and sees to it that so many replicas have
// the change.
func (s *Store) write(ctx context.Context, script *goredis.Script, replicas int, keys []string, args ...any) (int64, error) {
	if replicas == 0 {
		return script.Run(ctx, s.client, keys, args...).Int64()
	}
	// WAIT is about what the same connection has written.
	node, err := s.node(ctx, keys[0])
	if err != nil {
		return 0, err
	}
	pipe := node.Pipeline()
	result := script.Eval(ctx, pipe, keys, args...)
	have := pipe.Do(ctx, "WAIT", replicas, max(s.Timeout.Milliseconds()/2, 1))
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, err
	}
	n, err := have.Int()
	if err != nil {
		return 0, err
	}
	if n < replicas {
		return 0, fmt.Errorf("%d of %d replicas have the change", n, replicas)
	}
	return result.Int64()
}

// node returns a client of the server that has a key.
func (s *Store) node(ctx context.Context, key string) (*goredis.Client, error) {
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		return client.MasterForKey(ctx, key)
	case *goredis.Client:
		return client, nil
	}
	return nil, errors.New("unknown kind of client")
}

// Read returns records.
func (s *Store) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	if err := state.CheckKeys(keys...); err != nil {
		return nil, err
	}
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = s.recordPrefix() + key
	}
	values, err := s.client.MGet(ctx, full...).Result()
	if err != nil {
		return nil, state.Unavailable(err)
	}
	records := make([]state.Record, 0, len(keys))
	for i, key := range keys {
		r := state.Record{Key: key}
		if kept, there := values[i].(string); there {
			if r, err = state.DecodeRecord(key, []byte(kept)); err != nil {
				return nil, state.Unavailable(err)
			}
		}
		records = append(records, r)
	}
	return records, nil
}

// Scan returns records in the order of their keys.
func (s *Store) Scan(ctx context.Context, prefix, after string, limit int) (records []state.Record, next string, err error) {
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	from, to := "-", "+"
	if prefix != "" {
		from = "[" + prefix
		if end := successor(prefix); end != "" {
			to = "(" + end
		}
	}
	if after != "" && after >= prefix {
		from = "(" + after
	}
	limit = min(max(limit, 1), state.MaxScan)
	found, err := scanScript.Run(ctx, s.client, []string{s.index(), s.expiries()}, from, to, limit, s.recordPrefix(), scanBytes).StringSlice()
	if err != nil {
		return nil, "", state.Unavailable(err)
	}
	next, found = found[0], found[1:]
	for i := 0; i+1 < len(found); i += 2 {
		r, err := state.DecodeRecord(found[i], []byte(found[i+1]))
		if err != nil {
			return nil, "", state.Unavailable(err)
		}
		records = append(records, r)
	}
	return records, next, nil
}

// successor is the least text that is greater than all that begin with a prefix; empty
// if there is none.
func successor(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < math.MaxUint8 {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// Apply makes all changes or none.
func (s *Store) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	if err := state.CheckChanges(changes); err != nil {
		return 0, err
	}
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	version := newVersion()
	keys := append(make([]string, 0, len(changes)+3), s.index(), s.expiries(), s.doneKey(version))
	args := make([]any, 0, 6*len(changes))
	now := time.Now()
	for _, c := range changes {
		keys = append(keys, s.recordPrefix()+c.Key)
		want := "*"
		switch c.If {
		case state.Any:
		case state.Absent:
			want = ""
		default:
			want = string(binary.BigEndian.AppendUint64(nil, uint64(c.If)))
		}
		op, life, expires, kept := "check", "", "", []byte(nil)
		switch c.Op {
		case state.OpPut:
			op = "put"
			kept = state.Record{Key: c.Key, Value: c.Value, Version: version, Expires: c.Expires}.Encode()
			if !c.Expires.IsZero() {
				left := remaining(c.Expires, now)
				life, expires = strconv.FormatInt(left, 10), strconv.FormatInt(state.Millis(c.Expires), 10)
				if left <= 0 {
					op = "delete"
				}
			}
		case state.OpDelete:
			op = "delete"
		case state.OpCheck:
		}
		args = append(args, op, want, life, c.Key, expires, kept)
	}
	failed, err := s.write(ctx, applyScript, s.MinReplicas, keys, args...)
	if err != nil {
		return 0, state.Unavailable(err)
	}
	if failed > 0 {
		return 0, &state.ConflictError{Key: changes[failed-1].Key}
	}
	return version, nil
}

// remaining is a life in milliseconds, rounded up.
func remaining(expires, now time.Time) int64 {
	left := expires.Sub(now)
	return int64((left + time.Millisecond - 1) / time.Millisecond)
}

// newVersion is one that no record has had: a chance of 1 in 2^64 for each pair.
func newVersion() state.Version {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails
		if v := state.Version(binary.BigEndian.Uint64(b[:])); v != state.Absent && v != state.Any {
			return v
		}
	}
}

// Take counts uses.
func (s *Store) Take(ctx context.Context, key string, n int, windows ...state.Window) (time.Duration, error) {
	if err := state.CheckWindows(key, n, windows); err != nil {
		return 0, err
	}
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	now := ""
	if s.now != nil {
		now = strconv.FormatInt(s.now().Unix(), 10)
	}
	args := append(make([]any, 0, 2+3*len(windows)), now, n)
	for _, w := range windows {
		args = append(args, int64(w.Period/time.Second), w.Seconds(), w.Limit)
	}
	// What a lost replica forgets here are uses, for which no request should wait.
	wait, err := takeScript.Run(ctx, s.client, []string{s.counterKey(key)}, args...).Int64()
	if err != nil {
		return 0, state.Unavailable(err)
	}
	return time.Duration(wait) * time.Second, nil
}

const (
	sweepEvery = time.Minute
	sweepMost  = 1000
)

// sweepAtTimes removes from the index what has expired. Redis removes the records
// themselves.
func (s *Store) sweepAtTimes() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			for n := sweepMost; n == sweepMost; {
				var err error
				if n, err = s.sweep(s.ctx); err != nil {
					break // the next time, perhaps
				}
			}
		}
	}
}

func (s *Store) sweep(ctx context.Context) (int, error) {
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	return sweepScript.Run(ctx, s.client, []string{s.index(), s.expiries()}, s.recordPrefix(), sweepMost).Int()
}

// Interface guard
var _ state.Store = (*Store)(nil)
