package scope

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Limits are how many requests may be made with a token. Zero is no limit.
type Limits struct {
	PerHour uint32
	PerDay  uint32
}

func (l Limits) none() bool { return l == Limits{} }

// Key tells the tokens whose requests are counted apart. It is a hash, so that a
// counter is of the same size however long the names in a token are.
type Key [sha256.Size]byte

// UsageKey returns the key of the token that an issuer gave that jti. Two issuers
// may use the same one.
func UsageKey(issuer, jti string) Key {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(issuer))))
	h.Write([]byte(issuer))
	h.Write([]byte(jti))
	return Key(h.Sum(nil))
}

// The windows slide in steps: a request counts from when it was made until the end
// of the window, and then for less than one step more. So there are never more
// requests than the limit in any hour or day, wherever it begins.
const (
	hourStep  = 5 * time.Minute
	hourSteps = int(time.Hour/hourStep) + 1
	dayStep   = time.Hour
	daySteps  = int(24*time.Hour/dayStep) + 1
)

// counter counts the requests of one token. Its size does not depend on how many
// there are.
type counter struct {
	hour [hourSteps]uint32
	day  [daySteps]uint32

	hourAt, dayAt int64 // the newest step
	inHour, inDay uint64
}

// advance forgets the steps that are over. A clock that goes back changes nothing:
// what was counted stays, and what comes is counted in the newest step.
func advance(steps []uint32, at *int64, sum *uint64, now int64) {
	if now <= *at {
		return
	}
	for over := range min(now-*at, int64(len(steps))) {
		i := (*at + 1 + over) % int64(len(steps))
		*sum -= uint64(steps[i])
		steps[i] = 0
	}
	*at = now
}

// wait returns how long it is until there is room, which is when enough of the
// oldest steps are over.
func wait(steps []uint32, at int64, sum uint64, step time.Duration, limit uint32, now time.Time) time.Duration {
	if limit == 0 || sum < uint64(limit) {
		return 0
	}
	size := int64(len(steps))
	oldest := at - size + 1
	for i := range size {
		// Before the first step of all there is nothing to be found.
		if oldest+i >= 0 {
			sum -= uint64(steps[(oldest+i)%size])
		}
		if sum < uint64(limit) {
			over := time.Unix((oldest+i+size)*int64(step/time.Second), 0)
			return max(over.Sub(now), time.Second)
		}
	}
	return time.Duration(size) * step
}

// shards is how many parts the table has, so that requests of different tokens
// seldom wait for each other.
const shards = 16

// DefaultUsageSize is for how many tokens a [Usage] counts unless told otherwise.
const DefaultUsageSize = 100_000

// Usage counts the requests of tokens with limits, in the memory of this process.
//
// It has room for a number of tokens. When more than that are in use, the counter
// that was not used for longest is given up, and its token begins anew: to gain one
// more quota that way takes as many other tokens, each with a quota of its own, as
// there is room for.
type Usage struct {
	shards [shards]struct {
		mu       sync.Mutex
		counters *simplelru.LRU[Key, *counter]
	}
}

// NewUsage returns a Usage for size tokens, about 400 bytes each once they are used.
// A size of 0 is [DefaultUsageSize].
func NewUsage(size int) (*Usage, error) {
	if size < 0 {
		return nil, fmt.Errorf("the number of tokens to count for is %d; use a positive one", size)
	}
	if size == 0 {
		size = DefaultUsageSize
	}
	u := new(Usage)
	for i := range u.shards {
		counters, err := simplelru.NewLRU[Key, *counter]((size+shards-1)/shards, nil)
		if err != nil {
			return nil, err
		}
		u.shards[i].counters = counters
	}
	return u, nil
}

// Take counts a request, if both limits have room for it. If not, it is not counted,
// and the duration is after which there will be room, unless others take it. One
// call is atomic: of requests at the same time no more pass than there is room for.
func (u *Usage) Take(key Key, limits Limits, now time.Time) (bool, time.Duration) {
	if limits.none() {
		return true, 0
	}
	shard := &u.shards[key[0]%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	c, ok := shard.counters.Get(key)
	if !ok {
		c = new(counter)
		shard.counters.Add(key, c)
	}
	seconds := now.Unix()
	advance(c.hour[:], &c.hourAt, &c.inHour, seconds/int64(hourStep/time.Second))
	advance(c.day[:], &c.dayAt, &c.inDay, seconds/int64(dayStep/time.Second))
	again := max(
		wait(c.hour[:], c.hourAt, c.inHour, hourStep, limits.PerHour, now),
		wait(c.day[:], c.dayAt, c.inDay, dayStep, limits.PerDay, now),
	)
	if again > 0 {
		return false, again
	}
	c.hour[c.hourAt%int64(hourSteps)]++
	c.day[c.dayAt%int64(daySteps)]++
	c.inHour++
	c.inDay++
	return true, 0
}
