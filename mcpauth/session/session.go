// Package session knows the MCP sessions that the gateway made (MCP 2025-03-26 to
// 2025-11-25, session management): whose they are, and what belongs together in them.
// They are in the gateway's store, so that any node can serve any of them, and in the
// memory of the nodes that do.
package session

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/mirror"
)

// Session is one session, as this node knows it. Its exported fields do not change once
// it is in the table.
type Session struct {
	mirror.Item
	// ID is the gateway's own, which only the client knows beside us; the store has
	// a hash of it. UpstreamID is the server's.
	ID, UpstreamID string
	Owner          state.Owner
	Server         string
	// Upstream is the address of the server that made it.
	Upstream string
	Created  time.Time

	table *Sessions
	watch *watch
	// here is whether it was begun in this process.
	here bool
	// lastUsed is in nanoseconds since 1970, uses how many requests are running.
	lastUsed atomic.Int64
	uses     atomic.Int64
	// revoked is whether it has ended because its token was revoked.
	revoked atomic.Bool
	version atomic.Value // mcp.Version
	// messages and bytes are those that the store does not know of yet.
	messages, bytes atomic.Int64

	// The table's lock guards this.
	inUsed *list.Element

	mu sync.Mutex
	// stored is the record as it is known, with its version and when it expires.
	stored  record
	at      state.Version
	expires time.Time
	// asked are the server's requests that were relayed and not yet answered, with
	// whether the store has them, too; open the client's that were forwarded and whose
	// answer has not been seen; both by the id's key.
	asked map[string]bool
	open  map[string]struct{}
	// tasking are the tasks that those of open ask for, arguments how long their
	// arguments are.
	tasking   map[string]state.Task
	arguments int
	// events are the hashes of the last event ids that were relayed, next is where
	// the next one goes once there are maxEvents.
	events []uint64
	next   int
	// streams are what ends with the session, unless it is over already.
	streams map[*func()]struct{}
	over    bool
}

const (
	// maxOpen bounds the open requests of one session, each way.
	maxOpen = 1000
	// maxEvents bounds how far back a stream of a session can be resumed on the node
	// that sent it, keptEvents on the others.
	maxEvents, keptEvents = 1024, 64
)

// Begin notes that a request of the client is forwarded. It is false when a request
// of the same id has not been answered yet: a server may take the answer to the one
// for that to the other. It is false, too, when the session is Full.
func (s *Session) Begin(id jsonrpc.ID) bool {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.open[key]; there || len(s.open) >= maxOpen {
		return false
	}
	if s.open == nil {
		s.open = make(map[string]struct{})
	}
	s.open[key] = struct{}{}
	return true
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

// Unanswered reports whether one of the requests has not been answered yet.
func (s *Session) Unanswered(ids []jsonrpc.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(ids, func(id jsonrpc.ID) bool {
		_, open := s.open[id.Key()]
		return open
	})
}

// Alone reports whether nobody but this process ever forwarded a request of the session.
// Only then Begin knows of all of them. Otherwise the answer to any other request may
// come for one, and has to be judged by what it holds.
func (s *Session) Alone() bool { return s.here && s.table.rows.Alone() }

// Negotiated returns the revision that initialize negotiated; empty while its
// answer is still under way.
func (s *Session) Negotiated() mcp.Version {
	v, _ := s.version.Load().(mcp.Version)
	return v
}

// SetNegotiated sets it. The other nodes are told in the background.
func (s *Session) SetNegotiated(v mcp.Version) {
	s.version.Store(v)
	s.Save()
}

// Save has the store told soon what is known here.
func (s *Session) Save() { s.table.save(s) }

// Count notes messages and bytes of the session, in both directions.
func (s *Session) Count(messages, bytes int) {
	s.messages.Add(int64(messages))
	s.bytes.Add(int64(bytes))
}

// Received is where the bytes are counted that come while a request runs.
func (s *Session) Received() *atomic.Int64 { return &s.bytes }

// hash is what stands for an event's id.
func (s *Session) hash(event string) uint64 {
	var buffer [256]byte
	sum := sha256.Sum256(append(append(append(buffer[:0], s.Key()...), 0), event...))
	return binary.BigEndian.Uint64(sum[:])
}

// Relayed notes the id of an event that the session's owner was sent.
func (s *Session) Relayed(event []byte) {
	h := s.hash(string(event))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) < maxEvents {
		s.events = append(s.events, h)
		return
	}
	s.events[s.next] = h
	s.next = (s.next + 1) % maxEvents
}

// wasRelayed reports whether an event of that id was among the last ones that the
// session's owner was sent, by this node, or by another that has told.
func (s *Session) wasRelayed(event string) bool {
	h := s.hash(event)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.events, h) || slices.Contains(s.stored.events(), h)
}

// lastEvents are the newest events, whoever sent them. The caller has the lock.
func (s *Session) lastEvents() []uint64 {
	var last []uint64
	for i := range min(len(s.events), keptEvents) {
		at := s.next - 1 - i
		last = append(last, s.events[(at+len(s.events))%len(s.events)])
	}
	for _, h := range slices.Backward(s.stored.events()) {
		if len(last) < keptEvents && !slices.Contains(last, h) {
			last = append(last, h)
		}
	}
	slices.Reverse(last)
	return last
}

// Attach has end called, once, when the session ends, which may be at once. It may not
// wait. Detach takes it back.
func (s *Session) Attach(end func()) (detach func()) {
	s.mu.Lock()
	over := s.over
	if !over {
		if s.streams == nil {
			s.streams = make(map[*func()]struct{})
		}
		s.streams[&end] = struct{}{}
	}
	s.mu.Unlock()
	if over {
		end()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, &end)
	}
}

// Revoked reports whether it has ended because its token was revoked.
func (s *Session) Revoked() bool { return s.revoked.Load() }

// Ended is for the mirror: the session is no more, or none that can be used.
func (s *Session) Ended() {
	s.table.drop(s)
	s.mu.Lock()
	streams := s.streams
	s.streams, s.over = nil, true
	s.mu.Unlock()
	s.watch.close()
	for end := range streams {
		(*end)()
	}
}

// Change is for the mirror: what the store has is another record now.
func (s *Session) Change(r state.Record) error {
	entry, err := records.Decode(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(entry.Data, r.Version, r.Expires)
	return nil
}

// keep takes what the store has. The caller has the lock.
func (s *Session) keep(stored record, at state.Version, expires time.Time) {
	s.stored, s.at, s.expires = stored, at, expires
	if stored.Version != "" && s.Negotiated() == "" {
		s.version.Store(mcp.Version(stored.Version))
	}
	used := stored.Used * int64(time.Millisecond)
	for last := s.lastUsed.Load(); last < used; last = s.lastUsed.Load() {
		if s.lastUsed.CompareAndSwap(last, used) {
			break
		}
	}
}

// Interface guard
var _ mirror.Mirrored = (*Session)(nil)
