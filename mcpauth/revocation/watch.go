package revocation

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// MaxWatches bounds how many tokens can be watched at once.
const MaxWatches = 1_000_000

// Watch is somebody who wants to know when a token is revoked, such as a stream that
// the token has opened.
type Watch struct {
	set    *Set
	end    func(Verdict)
	issuer uint64
	issued uint32
	// keys are the hashes of what the token can be revoked by, by kind; next and prev
	// chain those with the same one. A kind that the token has nothing of is 0.
	keys       [state.RevocationKinds + 1][2]uint64
	next, prev [state.RevocationKinds + 1]*Watch
}

// watches are all of them, in chains by what they can be revoked by. So a revocation
// finds those that it is about, and looks at no others.
type watches struct {
	mu     sync.Mutex
	chains [state.RevocationKinds + 1]map[uint64]*Watch
	n      int
}

// Watch has end called once when the token is revoked, or when it is not known any more
// whether it was. It may neither wait nor call us. When the verdict is anything but Valid, the token
// must not be used at all, there is no watch, and end is not called. Otherwise the
// watch has to be closed.
func (s *Set) Watch(t *Token, now time.Time, end func(Verdict)) (*Watch, Verdict) {
	w := &Watch{set: s, end: end, issuer: maphash.String(s.issuer, t.Issuer), issued: seconds(t.IssuedAt)}
	for kind, value := range [...]string{state.RevokeID: t.ID, state.RevokeSubject: t.Subject, state.RevokeClient: t.Client} {
		if value != "" {
			w.keys[kind] = [2]uint64{nonzero(maphash.String(s.seeds[kind][0], value)), maphash.String(s.seeds[kind][1], value)}
		}
	}
	const hash, all = state.RevokeHash, state.RevokeEveryone
	w.keys[hash] = [2]uint64{nonzero(maphash.Bytes(s.seeds[hash][0], t.Hash[:])), maphash.Bytes(s.seeds[hash][1], t.Hash[:])}
	w.keys[all] = [2]uint64{nonzero(maphash.String(s.seeds[all][0], "")), maphash.String(s.seeds[all][1], "")}

	// First the watch and then the look: what is revoked in between ends it.
	if !s.watches.add(w) {
		return nil, Unknown
	}
	if verdict := s.Check(t, now); verdict != Valid {
		if s.watches.remove(w) {
			return nil, verdict
		}
	}
	return w, Valid
}

// Close ends the watch. When it returns, end has been called or never will be.
func (w *Watch) Close() {
	if w != nil {
		w.set.watches.remove(w)
	}
}

func (ws *watches) len() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.n
}

func (ws *watches) add(w *Watch) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.n >= MaxWatches {
		return false
	}
	ws.n++
	for kind, key := range w.keys {
		if key[0] == 0 {
			continue
		}
		if ws.chains[kind] == nil {
			ws.chains[kind] = make(map[uint64]*Watch)
		}
		if first := ws.chains[kind][key[0]]; first != nil {
			first.prev[kind], w.next[kind] = w, first
		}
		ws.chains[kind][key[0]] = w
	}
	return true
}

// remove takes a watch out, and reports whether it was there.
func (ws *watches) remove(w *Watch) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.unchain(w)
}

func (ws *watches) unchain(w *Watch) bool {
	if w.end == nil {
		return false
	}
	w.end = nil
	ws.n--
	for kind, key := range w.keys {
		if key[0] == 0 {
			continue
		}
		next, prev := w.next[kind], w.prev[kind]
		if next != nil {
			next.prev[kind] = prev
		}
		switch {
		case prev != nil:
			prev.next[kind] = next
		case next != nil:
			ws.chains[kind][key[0]] = next
		default:
			delete(ws.chains[kind], key[0])
		}
		w.next[kind], w.prev[kind] = nil, nil
	}
	return true
}

// endRevoked ends the watches of tokens that a revocation is about.
func (s *Set) endRevoked(kind state.RevocationKind, e entry, now time.Time) {
	s.watches.endChain(int(kind), e.first, verdicts[kind], func(w *Watch) bool {
		second := w.keys[kind][1]
		q := query{now: seconds(now), issued: w.issued}
		return (e.second == second^w.issuer || e.second == second^s.every) && q.revoked(e.expires, e.before)
	})
}

// endAll ends all watches.
func (s *Set) endAll(verdict Verdict) {
	const all = state.RevokeEveryone
	s.watches.endChain(int(all), nonzero(maphash.String(s.seeds[all][0], "")), verdict, func(*Watch) bool { return true })
}

// endChain ends those in a chain that something is so of.
func (ws *watches) endChain(kind int, key uint64, verdict Verdict, so func(*Watch) bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := ws.chains[kind][key]; w != nil; {
		next := w.next[kind]
		if so(w) {
			end := w.end
			ws.unchain(w)
			end(verdict)
		}
		w = next
	}
}
