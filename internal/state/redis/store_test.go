package redis

import (
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// opened opens a store that the test closes.
func opened(t *testing.T, settings settings) *Store {
	t.Helper()
	settings.defaults()
	s := newStore(&settings)
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

func setNow(s state.Store, now func() time.Time) { s.(*Store).now = now }

func TestConformance(t *testing.T) {
	server := redistest.Start(t)
	statetest.Run(t, statetest.Maker{
		New: func(t *testing.T) func() state.Store {
			flush(t, server)
			return func() state.Store { return opened(t, settings{Addresses: []string{server.Addr}}) }
		},
		Shared: true,
		SetNow: setNow,
	})
}

// flush empties a server.
func flush(t *testing.T, server *redistest.Server) {
	t.Helper()
	s := opened(t, settings{Addresses: []string{server.Addr}})
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}
