package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// tell is how many revocations Follow tells at once when it begins.
const tell = 10_000

// revocationKey is the key of a revocation in its bucket: a hash, because the names in
// it may be longer than a key can be. The record's value is its text.
func revocationKey(r state.Revocation) string {
	h := sha256.New()
	h.Write([]byte{byte(r.Kind)})
	h.Write(binary.AppendUvarint(nil, uint64(len(r.Issuer))))
	h.Write([]byte(r.Issuer))
	h.Write([]byte(r.Value))
	return string(h.Sum(nil))
}

// Revoke writes revocations.
func (s *Store) Revoke(ctx context.Context, revocations ...state.Revocation) error {
	now := s.now()
	var inForce []state.Revocation
	for _, r := range revocations {
		if err := state.CheckRevocation(r); err != nil {
			return err
		}
		if !r.Over(now) {
			inForce = append(inForce, r)
		}
	}
	if len(inForce) == 0 {
		return nil
	}
	joined := make([]state.Revocation, len(inForce))
	return s.update(ctx, func(tx *bolt.Tx) error {
		t := tableOf(tx, ofRevocations)
		for i, r := range inForce {
			key := revocationKey(r)
			if stored := t.bucket.Get([]byte(key)); stored != nil {
				old, err := decodeRevocation(key, stored)
				if err != nil {
					return failed{err}
				}
				if !old.Over(now) {
					r = r.Join(old)
				}
			}
			joined[i] = r
			err := t.put(state.Record{Key: key, Value: []byte(r.EncodeText()), Version: 1, Expires: r.Expires})
			if err != nil {
				return failed{err}
			}
		}
		return nil
	}, func() { s.feeds.revoked(joined) })
}

func decodeRevocation(key string, stored []byte) (state.Revocation, error) {
	r, err := state.DecodeRecord(key, stored)
	if err != nil {
		return state.Revocation{}, err
	}
	revocation, err := state.DecodeRevocation(string(r.Value))
	if err == nil && revocationKey(revocation) != key {
		err = fmt.Errorf("a revocation is not where it belongs: %w", state.ErrDamaged)
	}
	return revocation, err
}

// allRevocations tells those that are in force.
func (s *Store) allRevocations(ctx context.Context, told func(state.Update)) error {
	var after []byte
	for {
		var batch []state.Revocation
		now, more := s.now(), false
		err := s.view(ctx, func(tx *bolt.Tx) error {
			cursor := tx.Bucket(revocationsBucket).Cursor()
			k, v := cursor.Seek(after)
			for ; k != nil && len(batch) < tell; k, v = cursor.Next() {
				r, err := decodeRevocation(string(k), v)
				if err != nil {
					return err
				}
				if !r.Over(now) {
					batch = append(batch, r)
				}
			}
			after, more = append([]byte(nil), k...), k != nil
			return nil
		})
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			told(state.Update{Revocations: batch})
		}
		if !more {
			return nil
		}
	}
}

// A revocation stays in the file for a while after it has expired: if the clock is put
// back, the tokens that it is about are not expired any more.
const keepRevocations = time.Hour

// sweepEvery is how often expired records are removed, sweepMost how many at most in
// one transaction.
const (
	sweepEvery = time.Minute
	sweepMost  = 1000
)

func (s *Store) sweepAtTimes() {
	defer s.running.Done()
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

// sweep removes records that have expired and returns how many.
func (s *Store) sweep(ctx context.Context) (n int, err error) {
	var keys []string
	now := s.now()
	err = s.update(ctx, func(tx *bolt.Tx) error {
		n, keys = 0, nil
		var gone [][]byte
		cursor := tx.Bucket(expiriesBucket).Cursor()
		for k, _ := cursor.First(); k != nil && len(gone) < sweepMost; k, _ = cursor.Next() {
			if int64(binary.BigEndian.Uint64(k)) > now.UnixMilli() { // #nosec G115 -- as it was written
				break
			}
			gone = append(gone, append([]byte(nil), k...))
		}
		for _, k := range gone {
			letter, key := k[8], k[9:]
			if letter == ofRecords {
				keys = append(keys, string(key))
			}
			if err := tableOf(tx, letter).delete(key); err != nil {
				return failed{err}
			}
		}
		n = len(gone)
		return nil
	}, func() { s.feeds.changed(keys) })
	return n, err
}
