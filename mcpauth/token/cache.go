package token

import (
	"crypto/sha256"
	"time"
	"unsafe"

	lru "github.com/hashicorp/golang-lru/v2"
)

// DefaultCacheSize is the number of tokens a [Cache] remembers by default.
const DefaultCacheSize = 10_000

// Cache remembers what the caller made of a verified token, such as a principal,
// until the token expires, a key of its issuer is withdrawn, the issuer has to be asked
// again, or others were used more recently. It never holds the token itself, only its hash. A cache belongs
// to one configuration: another may judge the same token differently.
type Cache[V any] struct {
	entries *lru.Cache[cacheKey, cacheEntry[V]]
}

// cacheKey keeps the endpoint apart from the hash, so that no token can be made
// whose text runs over into it.
type cacheKey struct {
	token    [sha256.Size]byte
	endpoint string
}

type cacheEntry[V any] struct {
	value  V
	claims *Claims
}

// NewCache makes a cache for size tokens; 0 means [DefaultCacheSize].
func NewCache[V any](size int) *Cache[V] {
	if size <= 0 {
		size = DefaultCacheSize
	}
	entries, err := lru.New[cacheKey, cacheEntry[V]](size)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Cache[V]{entries: entries}
}

// Get returns the value that Add stored for the same token and endpoint, if the
// token may still be used at now.
func (c *Cache[V]) Get(raw, endpoint string, now time.Time) (value V, ok bool) {
	key := cacheKey{hash(raw), endpoint}
	entry, ok := c.entries.Get(key)
	if !ok {
		return value, false
	}
	if !now.Before(entry.claims.deadline) || entry.claims.Stale(now) || !entry.claims.Current() {
		c.entries.Remove(key)
		return value, false
	}
	return entry.value, true
}

// Add stores value for a token that [Verifier.Verify] returned claims for. The
// endpoint stands for the audiences it was verified with: a token that was found
// good for one endpoint is not found at another.
func (c *Cache[V]) Add(raw, endpoint string, claims *Claims, value V) {
	c.entries.Add(cacheKey{hash(raw), endpoint}, cacheEntry[V]{value, claims})
}

// Len returns the number of remembered tokens, expired ones included.
func (c *Cache[V]) Len() int { return c.entries.Len() }

// hash takes the bytes of a string where they are. A conversion would copy the
// token to the heap for each request; SHA-256 only reads them.
func hash(raw string) [sha256.Size]byte {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(raw), len(raw)))
}
