package session

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/mirror"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// Limits bound the sessions.
type Limits struct {
	// Idle ends a session that was not used for so long on any node, unless a
	// request of it is still running; Life ends it in any case.
	Idle, Life time.Duration
	// Max is how many sessions one node may know, PerOwner how many of one owner
	// there may be on all nodes. One more ends the one that was not used for longest.
	// Two nodes that each begin a session of the same owner in the same moment may
	// go beyond by one, until the next one begins.
	Max, PerOwner int
}

// Sessions is the table of the MCP sessions that the gateway made. It is safe for
// concurrent use.
type Sessions struct {
	store       state.Store
	revocations *revocation.Set
	rows        *mirror.Mirror[*Session]

	mu     sync.RWMutex
	limits Limits
	byID   map[string]*Session
	// used has every session that this node knows, the one used last in front, to
	// within a second.
	used *list.List
	// leave tells a server that a session is over.
	leave func(Parting)

	partings chan Parting
	// saving are the sessions whose records are to be written soon.
	saveMu sync.Mutex
	saving map[*Session]struct{}
	wake   chan struct{}
}

// Parting is a session of a server that the gateway has no more use for.
type Parting struct {
	// Server is the name of the server, Upstream the address of the one that made
	// it, and UpstreamID its id for it.
	Server, Upstream, UpstreamID string
	Version                      mcp.Version
}

// New returns the table of a store's sessions, which has to be Run. Those end whose
// tokens are revoked.
func New(store state.Store, revocations *revocation.Set, limits Limits) *Sessions {
	t := &Sessions{
		store: store, revocations: revocations, limits: limits,
		byID: make(map[string]*Session), used: list.New(),
		partings: make(chan Parting, 1000), saving: make(map[*Session]struct{}), wake: make(chan struct{}, 1),
	}
	t.rows = mirror.New(store, state.TableSession, t.form)
	return t
}

// form makes a session of its record.
func (t *Sessions) form(r state.Record) (*Session, error) {
	entry, err := records.Decode(r)
	if err != nil {
		return nil, err
	}
	d := &entry.Data
	s := &Session{
		UpstreamID: d.UpstreamID, Owner: d.owner(), Server: d.Server, Upstream: d.Upstream,
		Created: time.UnixMilli(d.Created), table: t,
	}
	s.watch = newWatch(t.revocations, d.token(), func() { t.expel(s) })
	s.keep(*d, r.Version, r.Expires)
	return s, nil
}

// Close forgets all sessions, and ends their event streams: nobody follows the store any
// more. In the store they go on to exist.
func (t *Sessions) Close() {
	t.mu.RLock()
	var keys []string
	for e := t.used.Front(); e != nil; e = e.Next() {
		keys = append(keys, e.Value.(*Session).Key())
	}
	t.mu.RUnlock()
	t.rows.Dropped(keys...)
}

// SetLimits replaces the limits.
func (t *Sessions) SetLimits(limits Limits) {
	t.mu.Lock()
	t.limits = limits
	t.mu.Unlock()
	t.shrink()
}

// SetAllowStale says for how long the sessions that this node knows can be used although
// the store is cut off. 0 is not at all, after a second.
func (t *Sessions) SetAllowStale(allow time.Duration) { t.rows.SetAllowStale(allow) }

// SetLeave says how servers are told that the gateway has no more use for a session.
func (t *Sessions) SetLeave(leave func(Parting)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave = leave
}

// Len is how many sessions this node knows, those included whose time is up and which
// nobody asked for since.
func (t *Sessions) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.used.Len()
}

// Begin makes a session's ID and enters it. When it returns, the store has it. The token
// is that by which it is begun. Without the error the session has to be released.
func (t *Sessions) Begin(ctx context.Context, s *Session, token revocation.Token) error {
	now := steady.Now()
	s.ID, s.Created, s.table, s.here = rand.Text(), now, t, true
	s.lastUsed.Store(now.UnixNano())
	s.watch = newWatch(t.revocations, token, func() { t.expel(s) })
	data := record{
		Server: s.Server, Upstream: s.Upstream, UpstreamID: s.UpstreamID,
		Issuer: s.Owner.Issuer, Subject: s.Owner.Subject, Client: s.Owner.ClientID,
		Created: now.UnixMilli(), Used: now.UnixMilli(),
	}
	data.setToken(&token)
	limits := t.limitsNow()
	crowded, err := t.crowded(ctx, s.Owner, limits)
	if err != nil {
		return err
	}
	person, client := s.Owner.Parts()
	create, err := records.Create(data, data.expires(limits), person, client, fingerprint(s.ID))
	if err != nil {
		return err
	}
	changes := []state.Change{create}
	for i := range crowded {
		changes = append(changes, state.Remove(crowded[i].Key))
	}
	s.stored, s.expires = data, create.Expires
	version, err := t.rows.Create(ctx, create.Key, s, changes...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.at = version
	s.mu.Unlock()
	for i := range crowded {
		t.rows.Dropped(crowded[i].Key)
		metric.SessionEnded(string(EndLimit))
		t.part(crowded[i].Data.parting())
	}
	s.uses.Add(1)
	if !t.enter(s, s.ID) {
		return state.ErrNotFound
	}
	metric.SessionBegun()
	s.watch.renew(now) // not before it could be removed
	t.shrink()
	return nil
}

// maxCrowded bounds how many sessions end for one that begins.
const maxCrowded = state.MaxChanges - 1

// crowded are the sessions of an owner that have to end if there is one more.
func (t *Sessions) crowded(ctx context.Context, owner state.Owner, limits Limits) ([]state.Entry[record], error) {
	person, client := owner.Parts()
	var found []state.Record
	for r, err := range state.All(ctx, t.store, state.Prefix(state.TableSession, person, client)) {
		if err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	excess := min(len(found)+1-limits.PerOwner, maxCrowded, len(found))
	if excess <= 0 {
		return nil, nil
	}
	entries := make([]state.Entry[record], 0, len(found))
	for _, r := range found {
		entry, err := records.Decode(r)
		if err != nil {
			// Nobody can use it, and so it goes first.
			entry = state.Entry[record]{Record: r}
		}
		if s, known := t.rows.Known(r.Key); known {
			entry.Data.Used = max(entry.Data.Used, s.lastUsed.Load()/int64(time.Millisecond))
		}
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b state.Entry[record]) int { return cmp.Compare(a.Data.Used, b.Data.Used) })
	return entries[:excess], nil
}

// Use returns the owner's session of that ID on a server: a session that is somebody
// else's is as unknown as one that never was, which is an ErrNotFound. It does not idle
// until Release. The store is asked only for a session that this node does not know; any
// other error is an ErrUnavailable, by which nothing is known about the session.
func (t *Sessions) Use(ctx context.Context, id string, owner state.Owner, server string) (*Session, error) {
	now := steady.Now()
	t.mu.RLock()
	s := t.byID[id]
	usable := false
	if s != nil {
		if s.Owner != owner || s.Server != server {
			t.mu.RUnlock()
			return nil, state.ErrNotFound
		}
		if usable = t.rows.Trusts(s, now) && !s.idle(now, t.limits); usable {
			s.uses.Add(1)
		}
	}
	t.mu.RUnlock()
	if !usable {
		return t.find(ctx, id, owner, server, now)
	}
	return t.admit(s, now)
}

// admit lets a session be used that was counted as used, unless its token was revoked.
func (t *Sessions) admit(s *Session, now time.Time) (*Session, error) {
	switch verdict := s.watch.renew(now); {
	case verdict.Revoked():
		s.uses.Add(-1)
		t.expel(s)
		return nil, state.ErrNotFound
	case verdict == revocation.Unknown:
		s.uses.Add(-1)
		return nil, state.Unavailable(errRevocations)
	}
	t.touch(s, now)
	return s, nil
}

var errRevocations = errors.New("it is not known whether the token was revoked that began the session")

// find finds a session in the store.
func (t *Sessions) find(ctx context.Context, id string, owner state.Owner, server string, now time.Time) (*Session, error) {
	if !wellFormed(id) {
		return nil, state.ErrNotFound
	}
	key, limits := keyOf(owner, id), t.limitsNow()
	s, err := t.rows.Get(ctx, key)
	if err == nil && s.idle(now, limits) {
		// Another node may have used it just now.
		if s, err = t.rows.Read(ctx, key); err == nil && s.idle(now, limits) {
			t.rows.End(key)
			metric.SessionEnded(string(s.overBecause(now, limits)))
			err = state.ErrNotFound
		}
	}
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, state.ErrNotFound
	case err != nil:
		return nil, state.Unavailable(err)
	}
	s.uses.Add(1)
	if !t.enter(s, id) || s.Owner != owner || s.Server != server {
		s.uses.Add(-1)
		return nil, state.ErrNotFound
	}
	t.shrink()
	return t.admit(s, now)
}

// Release ends what Use began.
func (t *Sessions) Release(s *Session) {
	t.touch(s, steady.Now())
	s.uses.Add(-1)
}

// Remove ends a session. It has ended on this node when Remove returns, even if the store
// could not be told, which it is later then.
func (t *Sessions) Remove(ctx context.Context, s *Session, cause Cause) error {
	if !s.Gone() {
		metric.SessionEnded(string(cause))
	}
	return t.rows.Remove(ctx, s.Key())
}

// Part tells the server of a session that could not begin.
func (t *Sessions) Part(s *Session) { t.part(s.parting()) }

// Leave ends a session that its server still knows, and tells the server.
func (t *Sessions) Leave(s *Session, cause Cause) {
	if !s.Gone() {
		metric.SessionEnded(string(cause))
		t.part(s.parting())
	}
	t.rows.End(s.Key())
}

// expel ends a session whose token was revoked.
func (t *Sessions) expel(s *Session) {
	s.revoked.Store(true)
	t.Leave(s, EndRevoked)
}

func (s *Session) parting() Parting {
	return Parting{s.Server, s.Upstream, s.UpstreamID, s.Negotiated()}
}

func (r *record) parting() Parting {
	return Parting{r.Server, r.Upstream, r.UpstreamID, mcp.Version(r.Version)}
}

// part has a server told. That is a courtesy: if there are too many, they are left to
// the server's own limits.
func (t *Sessions) part(p Parting) {
	select {
	case t.partings <- p:
	default:
	}
}

// idle reports whether the time of a session is up that nobody uses, or its life is over.
func (s *Session) idle(now time.Time, limits Limits) bool {
	return now.Sub(s.Created) >= limits.Life ||
		s.uses.Load() == 0 && now.UnixNano()-s.lastUsed.Load() >= int64(limits.Idle)
}

// overBecause is why the time of a session is up.
func (s *Session) overBecause(now time.Time, limits Limits) Cause {
	if now.Sub(s.Created) >= limits.Life {
		return EndLifetime
	}
	return EndIdle
}

func (t *Sessions) limitsNow() Limits {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.limits
}

// enter notes that this node knows a session, unless it has ended.
func (t *Sessions) enter(s *Session, id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Gone() {
		return false
	}
	if s.inUsed == nil {
		s.ID = id
		t.byID[id] = s
		s.inUsed = t.used.PushFront(s)
	}
	return true
}

// drop forgets a session.
func (t *Sessions) drop(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.inUsed != nil {
		delete(t.byID, s.ID)
		t.used.Remove(s.inUsed)
		s.inUsed = nil
	}
}

// touch notes a use. The order is kept to within a second, so that not every request
// has to wait for its place in it.
func (t *Sessions) touch(s *Session, now time.Time) {
	at := now.UnixNano()
	if at-s.lastUsed.Swap(at) < int64(time.Second) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.inUsed != nil {
		t.used.MoveToFront(s.inUsed)
	}
}

// shrink ends what is too much for this node.
func (t *Sessions) shrink() {
	var most []*Session
	t.mu.RLock()
	if excess := t.used.Len() - t.limits.Max; excess > 0 {
		for e := t.used.Back(); e != nil && len(most) < excess; e = e.Prev() {
			most = append(most, e.Value.(*Session))
		}
	}
	t.mu.RUnlock()
	for _, s := range most {
		t.Leave(s, EndLimit)
	}
}
