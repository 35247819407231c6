package revocation

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// forever is a time in seconds that never comes.
const forever = math.MaxUint32

// entry is a revocation in a table: two keyed hashes, the second of which depends on
// the issuer, and, in seconds since 1970, when it expires and from when on tokens are
// spared that were issued then.
type entry struct {
	first, second   uint64
	expires, before uint32
}

// query is what an entry is asked about.
type query struct{ now, issued uint32 }

func (q query) revoked(expires, before uint32) bool {
	return (q.now < expires || expires == forever) && (q.issued < before || before == forever)
}

// A table has entries in slots by their first hash, with linear probing. Whoever reads
// needs no lock: slots are written so that one that can be seen is complete, and are
// never emptied; instead a new table takes the place of the old one. It is divided, so
// that this takes little memory and time.
//
// Nearly every question is about what is not there. A filter with a byte for each slot
// says so with one look, however many entries there are; of 200 such questions it lets
// about one through.
const (
	shards = 16
	// minSlots is the least size of a part, a power of two.
	minSlots = 8
)

type table struct {
	parts [shards]part
}

type part struct {
	slots atomic.Pointer[slots]
	mu    sync.Mutex
	used  int
}

type slots struct {
	filter []atomic.Uint64
	all    []slot
}

func newSlots(n int) *slots {
	return &slots{make([]atomic.Uint64, n/minSlots), make([]slot, n)}
}

// filtered returns the word of the filter for a hash, and the bits that are set in it if
// there may be an entry. The word, the bits, the slot and the part go by different bits
// of the hash.
func (s *slots) filtered(first uint64) (word *atomic.Uint64, bits uint64) {
	mixed := first * 0x9e3779b97f4a7c15
	bits = 1<<(mixed>>58) | 1<<(mixed>>52&63) | 1<<(mixed>>46&63) | 1<<(mixed>>40&63)
	return &s.filter[first>>28&uint64(len(s.filter)-1)], bits // #nosec G115 -- a power of two
}

type slot struct {
	// first is 0 in a slot that is free. It is written last.
	first, second atomic.Uint64
	// times are expires in the upper half and before in the lower one.
	times atomic.Uint64
}

func (t *table) init() {
	for i := range t.parts {
		t.parts[i].slots.Store(newSlots(minSlots))
	}
}

// maskOf has the bits of a hash that say where an entry belongs.
func maskOf(slots []slot) uint64 { return uint64(len(slots)) - 1 } // #nosec G115 -- a power of two

// nonzero is a hash as slots have it.
func nonzero(hash uint64) uint64 {
	if hash == 0 {
		return 1
	}
	return hash
}

func pack(expires, before uint32) uint64 { return uint64(expires)<<32 | uint64(before) }

func unpack(times uint64) (expires, before uint32) {
	return uint32(times >> 32), uint32(times & math.MaxUint32) // #nosec G115 -- halves
}

// may reports whether there can be an entry with a first hash.
func (t *table) may(first uint64) bool {
	first = nonzero(first)
	word, bits := t.parts[first>>60].slots.Load().filtered(first)
	return word.Load()&bits == bits
}

// has looks for an entry of an issuer, and for one of any.
func (t *table) has(first, second, issuer, every uint64, q query) bool {
	first = nonzero(first)
	slots := t.parts[first>>60].slots.Load().all
	mask := maskOf(slots)
	for i := first & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		switch s.first.Load() {
		case 0:
			return false
		case first:
			if found := s.second.Load(); found == second^issuer || found == second^every {
				if q.revoked(unpack(s.times.Load())) {
					return true
				}
			}
		}
	}
}

// add enters an entry, or has the one that is there and has not expired cover what this
// one does, too. It is false when there are too many.
func (t *table) add(e entry, now uint32) bool {
	p := &t.parts[e.first>>60]
	p.mu.Lock()
	defer p.mu.Unlock()
	slots := p.slots.Load()
	if s := find(slots.all, e.first, e.second); s.first.Load() != 0 {
		if expires, before := unpack(s.times.Load()); expires > now {
			e.expires, e.before = max(expires, e.expires), max(before, e.before)
		}
		s.times.Store(pack(e.expires, e.before))
		return true
	}
	if p.used >= MaxRevocations/shards {
		return false
	}
	if (p.used+1)*5 > len(slots.all)*3 {
		slots = p.rebuild(2*len(slots.all), 0)
	}
	p.put(slots, e)
	return true
}

// find returns the slot of an entry, or the free one where it belongs.
func find(slots []slot, first, second uint64) *slot {
	mask := maskOf(slots)
	for i := first & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		if found := s.first.Load(); found == 0 || found == first && s.second.Load() == second {
			return s
		}
	}
}

// put fills a free slot.
func (p *part) put(slots *slots, e entry) {
	s := find(slots.all, e.first, e.second)
	s.second.Store(e.second)
	s.times.Store(pack(e.expires, e.before))
	s.first.Store(e.first)
	word, bits := slots.filtered(e.first)
	word.Or(bits)
	p.used++
}

// rebuild makes another table of some size, without what has expired by then.
func (p *part) rebuild(size int, over uint32) *slots {
	old, slots := p.slots.Load().all, newSlots(size)
	p.used = 0
	for i := range old {
		first := old[i].first.Load()
		expires, before := unpack(old[i].times.Load())
		if first != 0 && expires > over {
			p.put(slots, entry{first, old[i].second.Load(), expires, before})
		}
	}
	p.slots.Store(slots)
	return slots
}

func (t *table) len() (n int) {
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		n += p.used
		p.mu.Unlock()
	}
	return n
}

// keep is how long an entry stays after it has expired: if the clock is put back, the
// token is not expired any more.
const keep = time.Hour

// purge removes what has expired, from those parts where it is a fourth or more.
func (t *table) purge(now time.Time) {
	over := seconds(now.Add(-keep))
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		slots := p.slots.Load().all
		left := 0
		for j := range slots {
			if expires, _ := unpack(slots[j].times.Load()); slots[j].first.Load() != 0 && expires > over {
				left++
			}
		}
		if p.used > 0 && left <= p.used/4*3 {
			size := minSlots
			for left*5 > size*3 {
				size *= 2
			}
			p.rebuild(size, over)
		}
		p.mu.Unlock()
	}
}
