package session

import (
	"context"
	"errors"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// What was sent through one node may come back through another: the answer to a request
// of the server, and the id of an event from which a stream goes on. A node takes from a
// client only what the gateway is known to have sent in that session.

// askTimeout bounds how long a request of a server waits for the store.
const askTimeout = 2 * time.Second

// Asked notes that a request of the server is relayed to the session's owner. It is false
// when too many are open, or one of that id is. The other nodes can take the answer if
// the store could be told; if not, this one can.
func (t *Sessions) Asked(ctx context.Context, s *Session, id jsonrpc.ID) bool {
	key := id.Key()
	s.mu.Lock()
	if _, there := s.asked[key]; there || len(s.asked) >= maxOpen {
		s.mu.Unlock()
		return false
	}
	if s.asked == nil {
		s.asked = make(map[string]bool)
	}
	s.asked[key] = false
	s.mu.Unlock()
	if t.rows.Alone() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := t.store.Apply(ctx, state.Overwrite(askKey(s, key), nil).Until(steady.Now().Add(t.limitsNow().Idle)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.asked[key]; there {
		s.asked[key] = err == nil
	}
	return true
}

func askKey(s *Session, id string) string {
	_, parts, err := state.Parts(s.Key())
	if err != nil {
		return ""
	}
	return state.Key(state.TableSessionAsk, append(parts, fingerprint(id))...)
}

// Answered reports whether the server asked that and nobody has answered; from then
// on it is answered, on all nodes.
func (t *Sessions) Answered(ctx context.Context, s *Session, id jsonrpc.ID) (bool, error) {
	key := id.Key()
	s.mu.Lock()
	stored, here := s.asked[key]
	delete(s.asked, key)
	s.mu.Unlock()
	if here && !stored {
		return true, nil
	}
	if !here && s.Alone() {
		return false, nil
	}
	ask, err := state.Get(ctx, t.store, askKey(s, key))
	if err == nil {
		_, err = t.store.Apply(ctx, state.Delete(ask))
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, state.ErrNotFound), errors.Is(err, state.ErrConflict):
		return false, nil
	}
	return false, err
}

// Relayed reports whether an event of that id was among the last ones that the session's
// owner was sent, by any node.
func (t *Sessions) Relayed(ctx context.Context, s *Session, event string) (bool, error) {
	if s.wasRelayed(event) {
		return true, nil
	}
	if s.Alone() {
		return false, nil
	}
	s, err := t.rows.Read(ctx, s.Key())
	if err != nil {
		return false, err
	}
	return s.wasRelayed(event), nil
}
