// Package state holds what must outlive the configuration that made it.
package state

import (
	"container/list"
	"crypto/rand"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// Owner is whom a session belongs to. The subject alone would not do: two issuers
// may use the same one, and a client must not take over another client's session.
type Owner struct {
	Issuer, Subject, ClientID string
}

// Limits bound the table of sessions.
type Limits struct {
	// Idle ends a session that was not used for so long, unless a request of it is
	// still running; Life ends it in any case.
	Idle, Life time.Duration
	// Max is how many sessions there may be, PerOwner how many of one owner. One
	// more ends the one that was not used for longest.
	Max, PerOwner int
}

// Sessions is the table of the MCP sessions that the gateway made (MCP 2025-03-26
// to 2025-11-25, session management). It is safe for concurrent use.
type Sessions struct {
	mu     sync.RWMutex
	limits Limits
	byID   map[string]*Session
	// used has every session, the one used last in front, to within a second; owned
	// the same for each owner.
	used  *list.List
	owned map[Owner]*list.List
}

// Session is one session. Its exported fields do not change.
type Session struct {
	// ID is the gateway's own, UpstreamID the server's.
	ID, UpstreamID string
	Owner          Owner
	Server         string
	// Upstream is the address of the server that made it.
	Upstream string
	Created  time.Time
	// OnUse is called each time the session is used, OnEnd once when it has left the
	// table. Neither may wait, or call the table. Both may be nil.
	OnUse, OnEnd func()

	// lastUsed is in nanoseconds since 1970, uses how many requests are running.
	lastUsed atomic.Int64
	uses     atomic.Int64
	ended    atomic.Pointer[EndCause]
	version  atomic.Value // mcp.Version

	// The table's lock guards these.
	inUsed, inOwned *list.Element

	mu sync.Mutex
	// asked are the server's requests that were relayed and not yet answered, open
	// the client's that were forwarded and whose answer has not been seen; both by
	// the id's key.
	asked, open map[string]struct{}
	// tasking are the tasks that those of open ask for, arguments how long their
	// arguments are.
	tasking   map[string]Task
	arguments int
	// events are the hashes of the last event ids that were relayed, next is where
	// the next one goes once there are maxEvents.
	events []uint64
	next   int
}

const (
	// maxOpen bounds the open requests of one session, each way.
	maxOpen = 1000
	// maxEvents bounds how far back a stream of a session can be resumed.
	maxEvents = 1024
)

var eventSeed = maphash.MakeSeed()

// NewSessions returns an empty table.
func NewSessions(limits Limits) *Sessions {
	return &Sessions{
		limits: limits,
		byID:   make(map[string]*Session),
		used:   list.New(),
		owned:  make(map[Owner]*list.List),
	}
}

// Destruct lets the table live in a caddy.UsagePool.
func (*Sessions) Destruct() error { return nil }

// SetLimits replaces the limits.
func (t *Sessions) SetLimits(limits Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = limits
	t.shrink(steady.Now(), Owner{})
}

// Len is how many sessions there are, those included whose time is up and which
// nobody asked for since.
func (t *Sessions) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// Add makes a session's ID and enters it.
func (t *Sessions) Add(s *Session, now time.Time) {
	s.ID = rand.Text()
	s.Created = now
	s.lastUsed.Store(now.UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[s.ID] = s
	s.inUsed = t.used.PushFront(s)
	mine := t.owned[s.Owner]
	if mine == nil {
		mine = list.New()
		t.owned[s.Owner] = mine
	}
	s.inOwned = mine.PushFront(s)
	t.shrink(now, s.Owner)
}

// Use returns the owner's session of that ID on a server, or nil: a session that
// is somebody else's is as unknown as one that never was. It does not idle until
// Release.
func (t *Sessions) Use(id string, owner Owner, server string, now time.Time) *Session {
	t.mu.RLock()
	s := t.byID[id]
	if s == nil || s.Owner != owner || s.Server != server {
		t.mu.RUnlock()
		return nil
	}
	over := t.over(s, now)
	if !over {
		s.uses.Add(1)
	}
	t.mu.RUnlock()
	if over {
		s.Because(t.overBecause(s, now))
		t.Remove(s)
		return nil
	}
	t.touch(s, now)
	if s.OnUse != nil {
		s.OnUse()
	}
	return s
}

// Release ends what Use began.
func (t *Sessions) Release(s *Session, now time.Time) {
	t.touch(s, now)
	s.uses.Add(-1)
}

// Remove ends a session.
func (t *Sessions) Remove(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[s.ID] == s {
		t.remove(s)
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
	if t.byID[s.ID] == s {
		t.used.MoveToFront(s.inUsed)
		t.owned[s.Owner].MoveToFront(s.inOwned)
	}
}

func (t *Sessions) over(s *Session, now time.Time) bool {
	return now.Sub(s.Created) >= t.limits.Life ||
		s.uses.Load() == 0 && now.UnixNano()-s.lastUsed.Load() >= int64(t.limits.Idle)
}

// shrink drops what is over at the cold end, and what is too many.
func (t *Sessions) shrink(now time.Time, owner Owner) {
	if mine := t.owned[owner]; mine != nil {
		for mine.Len() > t.limits.PerOwner {
			excess := mine.Back().Value.(*Session)
			excess.Because(EndLimit)
			t.remove(excess)
		}
	}
	for e := t.used.Back(); e != nil; e = t.used.Back() {
		s := e.Value.(*Session)
		switch {
		case t.over(s, now):
			s.Because(t.overBecause(s, now))
		case len(t.byID) > t.limits.Max:
			s.Because(EndLimit)
		default:
			return
		}
		t.remove(s)
	}
}

func (t *Sessions) remove(s *Session) {
	delete(t.byID, s.ID)
	t.used.Remove(s.inUsed)
	mine := t.owned[s.Owner]
	mine.Remove(s.inOwned)
	if mine.Len() == 0 {
		delete(t.owned, s.Owner)
	}
	if s.OnEnd != nil {
		s.OnEnd()
	}
}

// Asked notes that a request of the server was relayed to the session's owner. It
// is false when too many are open.
func (s *Session) Asked(id jsonrpc.ID) bool {
	return s.enter(&s.asked, id)
}

// Answered reports whether the server asked that and nobody has answered; from then
// on it is answered.
func (s *Session) Answered(id jsonrpc.ID) bool {
	return s.leave(&s.asked, id)
}

// Begin notes that a request of the client is forwarded. It is false when a request
// of the same id has not been answered yet: a server may take the answer to the one
// for that to the other. It is false, too, when the session is Full.
func (s *Session) Begin(id jsonrpc.ID) bool {
	return s.enter(&s.open, id)
}

// Full reports whether so many requests of the client were never answered that no
// more are taken. Such a session is of no further use.
func (s *Session) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) >= maxOpen
}

// Done notes that its answer has been seen.
func (s *Session) Done(id jsonrpc.ID) {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, key)
	s.forgetTask(key)
}

func (s *Session) enter(set *map[string]struct{}, id jsonrpc.ID) bool {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := (*set)[key]; there || len(*set) >= maxOpen {
		return false
	}
	if *set == nil {
		*set = make(map[string]struct{})
	}
	(*set)[key] = struct{}{}
	return true
}

func (s *Session) leave(set *map[string]struct{}, id jsonrpc.ID) bool {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := (*set)[key]
	delete(*set, key)
	return there
}

// Negotiated returns the revision that initialize negotiated; empty while its
// answer is still under way.
func (s *Session) Negotiated() mcp.Version {
	v, _ := s.version.Load().(mcp.Version)
	return v
}

// SetNegotiated sets it.
func (s *Session) SetNegotiated(v mcp.Version) { s.version.Store(v) }

// Relayed notes the id of an event that the session's owner was sent.
func (s *Session) Relayed(event []byte) {
	h := maphash.Bytes(eventSeed, event)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) < maxEvents {
		s.events = append(s.events, h)
		return
	}
	s.events[s.next] = h
	s.next = (s.next + 1) % maxEvents
}

// WasRelayed reports whether an event of that id was among the last ones that the
// session's owner was sent.
func (s *Session) WasRelayed(event string) bool {
	h := maphash.String(eventSeed, event)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.events, h)
}
