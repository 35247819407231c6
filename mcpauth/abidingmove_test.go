package mcpauth

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// copyTo writes all that is in the node's store into another, by its configuration.
func (n *node) copyTo(store string) {
	n.t.Helper()
	module := new(embedded.Embedded)
	n.must(json.Unmarshal([]byte(store), module))
	n.must(module.Provision(caddy.Context{Context: n.t.Context()}))
	to := module.NewStore()
	n.must(to.Open(n.t.Context()))
	for r, err := range state.All(n.t.Context(), n.app.Store(), "") {
		n.must(err)
		change := state.Overwrite(r.Key, r.Value)
		change.Expires = r.Expires
		_, err = to.Apply(n.t.Context(), change)
		n.must(err)
	}
	n.must(to.Close())
}

// TestIdleStreamsMove: after a reload that changes the store, a stream through which
// nothing comes is its holder's as the new store has it. If that does not know the
// holder, the stream ends with the reload; what is changed in the old store does not
// matter any more.
func TestIdleStreamsMove(t *testing.T) {
	const alice = "alice@example.com"
	for name, known := range map[string]bool{"known": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			n, end := newNode(t, stored(t), nil)
			other := stored(t)
			if !known {
				n.copyTo(other)
			}
			u := n.user(alice, false)
			n.assign(alice, "listener", "")
			raw, _ := n.token(u, "", "", nil)
			if known {
				n.copyTo(other)
			}
			stream := n.listen(t, raw, "notes/listen")
			if watched := n.handler.register.cache.Watches(); watched != 1 {
				t.Fatalf("%d streams are watched", watched)
			}
			moved, _ := startNode(t, other, nil)
			if known {
				statetest.Eventually(t, "it is watched in the other store", func() bool {
					return n.handler.register.cache.Watches() == 0 && moved.handler.register.cache.Watches() == 1
				})
				n.update(alice, account.Update{Active: new(false)})
				end()
				stream.hears(progress, progress)
				moved.must(moved.accounts().Unassign(t.Context(), operator, alice, "listener", ""))
			}
			stream.ends()
			statetest.Eventually(t, "nothing is watched any more", func() bool {
				all := &moved.app.shared.watches
				all.mu.Lock()
				defer all.mu.Unlock()
				return moved.handler.register.cache.Watches() == 0 && len(all.idle) == 0
			})
		})
	}
}
