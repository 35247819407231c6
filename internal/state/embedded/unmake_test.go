package embedded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// TestUnmake: a store that was opened and closed leaves no file behind that was not there,
// in case that its configuration was rejected; one that something was written to stays, and
// so does one that was there before.
func TestUnmake(t *testing.T) {
	dir := t.TempDir()
	there := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	open := func(path string, change func(s *Store)) {
		t.Helper()
		s := newStore(path, false)
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("while it is open: %v", err)
		}
		change(s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	nothing := func(*Store) {}
	write := func(s *Store) {
		if _, err := s.Apply(t.Context(), state.Create("key", []byte("value"))); err != nil {
			t.Error(err)
		}
	}
	empty := func(s *Store) {
		if _, err := s.Apply(t.Context(), state.Remove("key")); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "a.db"), filepath.Join(dir, "b", "c", "d.db")} {
		open(path, nothing)
		if found, err := os.ReadDir(dir); err != nil || len(found) != 0 {
			t.Errorf("%v is left of %s, %v", found, path, err)
		}
	}
	path := filepath.Join(dir, "b", "c", "d.db")
	open(path, write)
	if !there(path) {
		t.Error("one that was written to is gone")
	}
	open(path, empty)
	open(path, nothing)
	if !there(path) {
		t.Error("one that was there is gone")
	}
	// Somebody else's file in a folder of ours.
	other := filepath.Join(dir, "e", "f.db")
	open(other, func(*Store) {
		if err := os.WriteFile(filepath.Join(dir, "e", "other"), nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	if !there(filepath.Join(dir, "e", "other")) || there(other) {
		t.Error("the wrong one was removed")
	}
}
