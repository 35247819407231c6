// Package live remembers what the gateway's store says of those who hold the gateway's own
// tokens: their accounts, their sessions, and the records of API tokens. It is asked for
// each request, and answers without the store as long as nothing has changed; what does
// change is known within the time that the store takes to tell of it.
package live

import (
	"container/list"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

const (
	// MaxFacts bounds what is remembered. Beyond it, what was not asked for in the
	// longest time is read again when it is; what is watched is kept in any case.
	MaxFacts = 50_000
	// readTimeout bounds how long a fact may take to be read.
	readTimeout = 5 * time.Second
)

// Cache remembers facts about a store. It is safe for concurrent use.
type Cache struct {
	store state.Store
	fresh *state.Freshness
	max   int

	mu sync.Mutex
	// facts are by their IDs, known and those that are being read just now.
	facts map[string]fact
	// index leads from the keys of records, and from what such keys begin with, to
	// the facts that depend on them. Of those that are being read, some are not
	// known yet.
	index   map[string]map[*node]struct{}
	reading map[*node]struct{}
	// idle are the known ones that nobody watches, the one that was asked for last at
	// the end.
	idle    list.List
	watches map[*Watch]struct{}
}

// New returns the cache of a store, which need not be open before Run.
func New(store state.Store) *Cache {
	return &Cache{
		store: store, fresh: state.NewFreshness(steady.Now()), max: MaxFacts,
		facts: make(map[string]fact), index: make(map[string]map[*node]struct{}),
		reading: make(map[*node]struct{}), watches: make(map[*Watch]struct{}),
	}
}

// SetAllowStale says for how long facts are relied on although the store is cut off. 0 is
// not at all: not after [state.Grace].
func (c *Cache) SetAllowStale(allow time.Duration) { c.fresh.SetAllowStale(allow) }

// Known is closed when the store has begun to tell what changes.
func (c *Cache) Known() <-chan struct{} { return c.fresh.Known() }

// IsStale reports whether facts must not be relied on, because the store is cut off. It
// neither waits nor allocates.
func (c *Cache) IsStale(now time.Time) bool { return c.fresh.IsStale(now) }

// Ready returns an error while facts must not be relied on.
func (c *Cache) Ready(now time.Time) error { return c.fresh.Ready(now) }

// Fact is something that the store says. It does not change.
type Fact[T any] struct {
	node
	Value T
}

// fact is a Fact of any type.
type fact interface{ base() *node }

// node is what all facts have.
type node struct {
	id string
	// gone is whether it may have changed since it was read.
	gone atomic.Bool
	// read is closed when it was read, or failed to be.
	read chan struct{}
	err  error

	// The lock of the cache guards these.
	keys    []string
	place   *list.Element
	watches map[*Watch]struct{}
}

func (n *node) base() *node { return n }

// Current reports whether nothing is known to have changed. It neither waits nor
// allocates.
func (n *node) Current() bool { return !n.gone.Load() }

// Account returns how the account with an ID stands.
func (c *Cache) Account(ctx context.Context, id string) (*Fact[account.Standing], error) {
	return get(ctx, c, "account/"+id, account.StandingKeys(id), func(ctx context.Context) (account.Standing, []string, error) {
		return account.LookUp(ctx, c.store, id)
	})
}

// Session returns how a session of a user stands.
func (c *Cache) Session(ctx context.Context, userID, id string) (*Fact[login.Standing], error) {
	key := login.StandingKey(userID, id)
	return get(ctx, c, key, []string{key}, func(ctx context.Context) (login.Standing, []string, error) {
		standing, err := login.LookUp(ctx, c.store, userID, id)
		return standing, nil, err
	})
}

// Token is what is kept of an API token.
type Token struct {
	// Known is whether there is a record.
	Known  bool
	Record catalogue.Record
}

// Token returns what is kept of the API token with an ID.
func (c *Cache) Token(ctx context.Context, id string) (*Fact[Token], error) {
	key := catalogue.Records.Key(id)
	return get(ctx, c, key, []string{key}, func(ctx context.Context) (Token, []string, error) {
		entry, err := catalogue.Records.Get(ctx, c.store, id)
		if errors.Is(err, state.ErrNotFound) {
			return Token{}, nil, nil
		}
		return Token{true, entry.Data}, nil, err
	})
}

// get returns a fact that is known, or that read returns with the keys that it depends on
// beside the first ones. Whoever asks while it is being read waits for that. An error is
// not remembered.
func get[T any](ctx context.Context, c *Cache, id string, keys []string, read func(context.Context) (T, []string, error)) (*Fact[T], error) {
	c.mu.Lock()
	f, ok := c.facts[id].(*Fact[T])
	if ok {
		c.touch(&f.node)
	} else {
		f = &Fact[T]{node: node{id: id, read: make(chan struct{})}}
		c.facts[id] = f
		c.reading[&f.node] = struct{}{}
		c.depend(&f.node, keys)
		// It is read for all who wait for it, not only for the first one.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		go func() {
			defer cancel()
			value, more, err := read(ctx)
			f.Value = value
			c.known(&f.node, more, err)
		}()
	}
	c.mu.Unlock()
	select {
	case <-f.read:
		return f, f.err
	case <-ctx.Done():
		return nil, state.Unavailable(context.Cause(ctx))
	}
}

// known ends the reading of a fact. If something changed meanwhile that it may depend on,
// nobody finds it any more, and who has waited for it sees that it is not current.
func (c *Cache) known(n *node, more []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reading, n)
	n.err = err
	if err != nil {
		c.drop(n)
	}
	if !n.gone.Load() {
		c.depend(n, more)
		c.rest(n)
	}
	close(n.read)
}

// depend notes on what a fact depends.
func (c *Cache) depend(n *node, keys []string) {
	n.keys = append(n.keys, keys...)
	for _, key := range keys {
		if c.index[key] == nil {
			c.index[key] = make(map[*node]struct{})
		}
		c.index[key][n] = struct{}{}
	}
}

// rest lets a fact be forgotten when there are too many.
func (c *Cache) rest(n *node) {
	n.place = c.idle.PushBack(n)
	for len(c.facts) > c.max && c.idle.Len() > 0 {
		c.drop(c.idle.Front().Value.(*node))
	}
}

func (c *Cache) touch(n *node) {
	if n.place != nil {
		c.idle.MoveToBack(n.place)
	}
}

// drop forgets a fact, and tells those who watch it.
func (c *Cache) drop(n *node) {
	if n.gone.Swap(true) {
		return
	}
	delete(c.facts, n.id)
	for _, key := range n.keys {
		delete(c.index[key], n)
		if len(c.index[key]) == 0 {
			delete(c.index, key)
		}
	}
	if n.place != nil {
		c.idle.Remove(n.place)
		n.place = nil
	}
	for w := range n.watches {
		c.tell(w)
	}
}

// Changed says that the records with these keys may have changed. Whatever is asked from
// now on is answered by what the store says from now on.
func (c *Cache) Changed(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		table, rest, _ := strings.Cut(key, "/")
		first, _, _ := strings.Cut(rest, "/")
		c.dropAll(c.index[key])
		c.dropAll(c.index[table+"/"+first+"/"])
		if table == state.TableUser || table == state.TableTeam {
			// Which of these a fact depends on is only known when it was read.
			c.dropAll(c.reading)
		}
	}
}

func (c *Cache) dropAll(nodes map[*node]struct{}) {
	for n := range nodes {
		c.drop(n)
	}
}

// reset forgets everything.
func (c *Cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.facts {
		c.drop(f.base())
	}
}

// Len is how many facts are remembered.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.facts)
}
