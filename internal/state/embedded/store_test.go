package embedded

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// opened opens a store that the test closes.
func opened(t *testing.T, path string) *Store {
	t.Helper()
	s := newStore(path, false)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	statetest.Run(t, statetest.Maker{
		New: func(t *testing.T) func() state.Store {
			path := filepath.Join(t.TempDir(), "deeper", "state.db")
			return func() state.Store { return opened(t, path) }
		},
		SetNow: func(s state.Store, now func() time.Time) { s.(*Store).now = now },
	})
}
