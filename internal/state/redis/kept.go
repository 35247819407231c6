package redis

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Redis can forget what it has acknowledged: a replica becomes the master that did not
// have the last changes, or it comes back without its data. The nodes that run know
// better. A revocation is for good, so that one that is known and is in force, and is not
// told when all are read anew, was lost; it is written back. Otherwise a node that is
// started later would let the token through.
//
// For that, each node keeps the text of what it was told or has revoked, up to a bound;
// beyond it the oldest is dropped, and with it only this second chance.
const (
	maxKept = 16 << 20
	// keptChunk is how much is dropped at once.
	keptChunk = 256 << 10
	// keptSlack is how much sooner a revocation may expire in Redis than we know. What
	// others write has a time to live, which we do not read to the millisecond.
	keptSlack = 5 * time.Second
)

// kept is the texts of revocations, oldest first. A chunk is a sequence of
//
//	kind, and sameIssuer if the issuer is that of the one before
//	expires, before: in milliseconds since 1970, or 0, each a varint
//	issuer, unless it is the same: its length and itself
//	value: the same
type kept struct {
	mu     sync.Mutex
	max    int
	seed   maphash.Seed
	chunks [][]byte
	size   int
	issuer string // of the last one in the last chunk
}

const sameIssuer = 0x80

func newKept(most int) *kept { return &kept{max: most, seed: maphash.MakeSeed()} }

// add keeps revocations.
func (k *kept) add(revocations ...state.Revocation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range revocations {
		k.append(r)
	}
	if k.size > k.max {
		k.compact(time.Now())
	}
}

func (k *kept) append(r state.Revocation) {
	last := len(k.chunks) - 1
	if last < 0 || len(k.chunks[last]) >= keptChunk {
		k.chunks = append(k.chunks, make([]byte, 0, 4<<10))
		k.issuer = ""
		last++
	}
	chunk, kind := k.chunks[last], byte(r.Kind)
	before := len(chunk)
	same := before > 0 && r.Issuer == k.issuer
	if same {
		kind |= sameIssuer
	}
	chunk = append(chunk, kind)
	for _, at := range []time.Time{r.Expires, r.Before} {
		chunk = binary.AppendVarint(chunk, state.Millis(at))
	}
	if !same {
		chunk = append(binary.AppendUvarint(chunk, uint64(len(r.Issuer))), r.Issuer...)
		k.issuer = r.Issuer
	}
	chunk = append(binary.AppendUvarint(chunk, uint64(len(r.Value))), r.Value...)
	k.chunks[last] = chunk
	k.size += len(chunk) - before
}

// all yields those that are in force.
func (k *kept) all(now time.Time) iter.Seq[state.Revocation] {
	return func(yield func(state.Revocation) bool) {
		for _, chunk := range k.chunks {
			issuer := ""
			number := func() int64 {
				n, size := binary.Varint(chunk)
				chunk = chunk[size:]
				return n
			}
			text := func() string {
				n, size := binary.Uvarint(chunk)
				end := size + int(n) // #nosec G115 -- we have written it
				s := string(chunk[size:end])
				chunk = chunk[end:]
				return s
			}
			for len(chunk) > 0 {
				kind := chunk[0]
				chunk = chunk[1:]
				r := state.Revocation{Kind: state.RevocationKind(kind &^ sameIssuer)}
				r.Expires, r.Before = state.FromMillis(number()), state.FromMillis(number())
				if kind&sameIssuer == 0 {
					issuer = text()
				}
				r.Issuer, r.Value = issuer, text()
				if !r.Over(now) && !yield(r) {
					return
				}
			}
		}
	}
}

// compact drops what has expired or is there twice, and then the oldest, so that there
// is room for a while.
func (k *kept) compact(now time.Time) {
	old := &kept{chunks: k.chunks}
	k.chunks, k.size = nil, 0
	seen := map[uint64]bool{}
	for r := range old.all(now) {
		// What covers as much, and nothing else, is the same.
		hash := k.hash(r) ^ uint64(state.Millis(r.Expires))*0x9e3779b97f4a7c15 ^ uint64(state.Millis(r.Before))*0xff51afd7ed558ccd // #nosec G115 -- a hash
		if !seen[hash] {
			seen[hash] = true
			k.append(r)
		}
	}
	for k.size > k.max/4*3 {
		k.size -= len(k.chunks[0])
		k.chunks[0] = nil
		k.chunks = k.chunks[1:]
	}
}

// hash tells revocations apart by what they go by.
func (k *kept) hash(r state.Revocation) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seed)
	_ = h.WriteByte(byte(r.Kind)) // none of them fails
	_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(r.Issuer))))
	_, _ = h.WriteString(r.Issuer)
	_, _ = h.WriteString(r.Value)
	return h.Sum64()
}

// reading compares what is kept with what is told when all are read anew.
type reading struct {
	kept *kept
	// lost are those that were not told, or not to that extent, by their hash.
	lost map[uint64]extent
}

// extent is the times of a revocation.
type extent struct{ expires, before int64 }

// read begins it, for the revocations that should be told.
func (k *kept) read(now time.Time, should func(state.Revocation) bool) *reading {
	k.mu.Lock()
	defer k.mu.Unlock()
	lost := map[uint64]extent{}
	for r := range k.all(now) {
		if !should(r) {
			continue
		}
		hash := k.hash(r)
		if other, twice := lost[hash]; twice {
			r = r.Join(state.Revocation{Expires: state.FromMillis(other.expires), Before: state.FromMillis(other.before)})
		}
		lost[hash] = extent{state.Millis(r.Expires), state.Millis(r.Before)}
	}
	return &reading{k, lost}
}

// told takes some that are there. Those that were not known are kept, while there is
// room: at its beginning a node reads more than it may be able to keep.
func (g *reading) told(revocations []state.Revocation) {
	g.kept.mu.Lock()
	defer g.kept.mu.Unlock()
	for _, r := range revocations {
		hash := g.kept.hash(r)
		known, found := g.lost[hash]
		if found && known.covered(r) {
			delete(g.lost, hash)
		}
		if !found && g.kept.size < g.kept.max/4*3 {
			g.kept.append(r)
		}
	}
}

// covered reports whether what is there does what is known.
func (e extent) covered(there state.Revocation) bool {
	expires, before := state.Millis(there.Expires), state.Millis(there.Before)
	return (before == 0 || e.before != 0 && before >= e.before) &&
		(expires == 0 || e.expires != 0 && expires+keptSlack.Milliseconds() >= e.expires)
}

// rest returns what was lost.
func (g *reading) rest(now time.Time) (lost []state.Revocation) {
	if len(g.lost) == 0 {
		return nil
	}
	g.kept.mu.Lock()
	defer g.kept.mu.Unlock()
	for r := range g.kept.all(now) {
		if known, found := g.lost[g.kept.hash(r)]; found {
			delete(g.lost, g.kept.hash(r))
			r.Expires, r.Before = state.FromMillis(known.expires), state.FromMillis(known.before)
			lost = append(lost, r)
		}
	}
	return lost
}

// restore writes back what a server has lost.
func (s *Store) restore(ctx context.Context, lost []state.Revocation) error {
	if len(lost) == 0 {
		return nil
	}
	log := caddy.Log().Named("mcp_gateway.stores.redis").With(zap.Int("revocations", len(lost)))
	// Nobody waits for replicas here: what they do not get is found again.
	if err := s.writeRevocations(ctx, lost, 0); err != nil {
		if ctx.Err() == nil {
			log.Error("redis has lost revocations, and they cannot be written back; nodes that are started now do not know them", zap.Error(err))
		}
		return err
	}
	log.Warn("redis had lost revocations; they are written back")
	return nil
}
