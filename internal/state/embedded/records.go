package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// The bucket records has records by their keys, as Record.Encode makes them, and
// revocations has them in the same form by a hash. How many there are is the bucket's
// sequence. The bucket expiries has a key for each that expires: when it is to be
// removed, in milliseconds since 1970, as 8 bytes, one of these letters, and the key.
const (
	ofRecords     = 'r'
	ofRevocations = 'v'
)

// scanBytes bounds what one Scan returns, beside its limit.
const scanBytes = 4 << 20

// Read returns records.
func (s *Store) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	if err := state.CheckKeys(keys...); err != nil {
		return nil, err
	}
	records := make([]state.Record, len(keys))
	for i, key := range keys {
		records[i].Key = key
	}
	now := s.now()
	err := s.view(ctx, func(tx *bolt.Tx) error {
		bucket := tx.Bucket(recordsBucket)
		for i, key := range keys {
			r, err := read(bucket, key, now)
			if err != nil {
				return err
			}
			records[i] = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// read returns a record, with version 0 if it does not exist or has expired.
func read(bucket *bolt.Bucket, key string, now time.Time) (state.Record, error) {
	stored := bucket.Get([]byte(key))
	if stored == nil {
		return state.Record{Key: key}, nil
	}
	r, err := state.DecodeRecord(key, stored)
	if err == nil && over(r, now) {
		r = state.Record{Key: key}
	}
	return r, err
}

func over(r state.Record, now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// Scan returns records in the order of their keys.
func (s *Store) Scan(ctx context.Context, prefix, after string, limit int) (records []state.Record, next string, err error) {
	limit = min(max(limit, 1), state.MaxScan)
	now := s.now()
	err = s.view(ctx, func(tx *bolt.Tx) error {
		cursor := tx.Bucket(recordsBucket).Cursor()
		from := max(prefix, after)
		size, seen := 0, 0
		for k, v := cursor.Seek([]byte(from)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = cursor.Next() {
			key := string(k)
			if key <= after {
				continue
			}
			if len(records) == limit || size >= scanBytes || seen >= 10*state.MaxScan {
				return nil
			}
			r, err := state.DecodeRecord(key, v)
			if err != nil {
				return err
			}
			seen++
			next = key
			if !over(r, now) {
				records = append(records, r)
				size += len(r.Value)
			}
		}
		next = ""
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return records, next, nil
}

// Apply makes all changes or none.
func (s *Store) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	if err := state.CheckChanges(changes); err != nil {
		return 0, err
	}
	version := newVersion()
	var keys []string
	for _, c := range changes {
		if c.Op != state.OpCheck {
			keys = append(keys, c.Key)
		}
	}
	now := s.now()
	err := s.update(ctx, func(tx *bolt.Tx) error {
		t := tableOf(tx, ofRecords)
		for _, c := range changes {
			if c.If == state.Any {
				continue
			}
			r, err := read(t.bucket, c.Key, now)
			if err != nil {
				return failed{err}
			}
			if r.Version != c.If {
				return &state.ConflictError{Key: c.Key}
			}
		}
		for _, c := range changes {
			var err error
			switch c.Op {
			case state.OpPut:
				err = t.put(state.Record{Key: c.Key, Value: c.Value, Version: version, Expires: c.Expires})
			case state.OpDelete:
				err = t.delete([]byte(c.Key))
			case state.OpCheck:
			}
			if err != nil {
				return failed{err}
			}
		}
		return nil
	}, func() { s.feeds.changed(keys) })
	if err != nil {
		return 0, err
	}
	return version, nil
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

// table keeps a bucket of records, its count and the index of what expires together.
type table struct {
	bucket, expiries *bolt.Bucket
	letter           byte
}

func tableOf(tx *bolt.Tx, letter byte) table {
	name := recordsBucket
	if letter == ofRevocations {
		name = revocationsBucket
	}
	return table{tx.Bucket(name), tx.Bucket(expiriesBucket), letter}
}

func (t table) put(r state.Record) error {
	key := []byte(r.Key)
	old := t.bucket.Get(key)
	if err := t.forget(key, old); err != nil {
		return err
	}
	if old == nil {
		if err := t.bucket.SetSequence(t.bucket.Sequence() + 1); err != nil {
			return err
		}
	}
	if !r.Expires.IsZero() {
		if err := t.expiries.Put(t.expiry(state.Millis(r.Expires), key), nil); err != nil {
			return err
		}
	}
	return t.bucket.Put(key, r.Encode())
}

func (t table) delete(key []byte) error {
	old := t.bucket.Get(key)
	if old == nil {
		return nil
	}
	if err := t.forget(key, old); err != nil {
		return err
	}
	if err := t.bucket.SetSequence(t.bucket.Sequence() - 1); err != nil {
		return err
	}
	return t.bucket.Delete(key)
}

// forget takes the old value of a key out of the index.
func (t table) forget(key, old []byte) error {
	if old == nil {
		return nil
	}
	r, err := state.DecodeRecord(string(key), old)
	if err != nil || r.Expires.IsZero() {
		return err
	}
	return t.expiries.Delete(t.expiry(state.Millis(r.Expires), key))
}

func (t table) expiry(ms int64, key []byte) []byte {
	if t.letter == ofRevocations {
		ms += keepRevocations.Milliseconds()
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(key)), uint64(ms)) // #nosec G115 -- never negative
	b = append(b, t.letter)
	return append(b, key...)
}
