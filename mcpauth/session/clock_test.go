package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// TestClock: a session whose time was up stays so when the clock is set back, and one in
// use goes on.
func TestClock(t *testing.T) {
	a := run(t, embedded(t), wide)
	s := a.begin(t, alice)
	defer steady.Move(-2 * time.Hour)()
	if _, err := a.Use(t.Context(), s.ID, alice, s.Server); err != nil {
		t.Errorf("in use: %v", err)
	}
	a.Release(s)
	short := wide
	short.Life = time.Nanosecond
	a.SetLimits(short)
	if _, err := a.Use(t.Context(), s.ID, alice, s.Server); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("over: %v", err)
	}
}
