package scope

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"time"
)

// Limits are how many requests may be made with a token. Zero is no limit.
type Limits struct {
	PerHour uint32
	PerDay  uint32
}

func (l Limits) none() bool { return l == Limits{} }

// within are the limits of both.
func (l Limits) within(other Limits) Limits {
	return Limits{lower(l.PerHour, other.PerHour), lower(l.PerDay, other.PerDay)}
}

// lower is the lower one of two limits, where there are any.
func lower(a, b uint32) uint32 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Key tells the tokens whose requests are counted apart. It is a hash, so that what is
// counted under it is of the same size however long the names in a token are.
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

// Usage is how often the token may be used, and under which key its requests are
// counted; false for a token that nothing has to be counted of. To count is the last
// part of [Scope.Check]: what is refused for another reason does not count.
func (s *Scope) Usage() (Key, Limits, bool) {
	if s == nil || s.limits.none() {
		return Key{}, Limits{}, false
	}
	return s.key, s.limits, true
}

// Exceeded is the answer to a request for which there is no room within the limits,
// but after a while.
func Exceeded(again time.Duration) *Refusal {
	return &Refusal{Status: http.StatusTooManyRequests, Reason: ReasonUsage, Cause: CauseUsage, RetryAfter: again}
}

// Uncounted is the answer to a request that has to be counted and cannot be.
func Uncounted() *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Reason: ReasonUncounted, Cause: CauseUncounted}
}
