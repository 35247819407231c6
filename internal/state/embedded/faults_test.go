package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// filled makes a file with records and revocations and returns how many of each.
func filled(t *testing.T, path string) (n int) {
	t.Helper()
	s := newStore(path, false)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const steps, each = 10, 40
	for step := range steps {
		var changes []state.Change
		var revocations []state.Revocation
		for i := range each {
			name := fmt.Sprintf("%03d", step*each+i)
			changes = append(changes, state.Create("k/"+name, []byte(strings.Repeat(name, 20))))
			revocations = append(revocations, state.Revocation{Kind: state.RevokeID, Issuer: "https://login.example.com", Value: name})
		}
		if _, err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
		if err := s.Revoke(t.Context(), revocations...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return steps * each
}

// whole reports whether all of it can be read.
func whole(t *testing.T, s *Store, n int) bool {
	t.Helper()
	records, revocations := 0, 0
	for r, err := range state.All(t.Context(), s, "") {
		if err != nil {
			return false
		}
		name := strings.TrimPrefix(r.Key, "k/")
		if string(r.Value) == strings.Repeat(name, 20) {
			records++
		}
		if _, err := state.Get(t.Context(), s, r.Key); err != nil {
			return false
		}
	}
	err := s.allRevocations(t.Context(), func(u state.Update) { revocations += len(u.Revocations) })
	return err == nil && records == n && revocations == n
}

// TestDamaged: whatever happened to the file, it is either read as it was or refused,
// with words that say what to do.
func TestDamaged(t *testing.T) {
	original := filepath.Join(t.TempDir(), "state.db")
	n := filled(t, original)
	content, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	try := func(t *testing.T, name string, content []byte, mayBeWhole bool) (refused bool) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := newStore(path, rand.IntN(2) == 0)
		err := s.Open(t.Context())
		if err == nil {
			if !mayBeWhole || !whole(t, s, n) {
				t.Errorf("%s: it was opened", name)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return false
		}
		for _, want := range []string{path, "restore it from a backup", "move it away"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", name, want, err)
			}
		}
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s: the refused file was changed", name)
		}
		return true
	}
	if try(t, "as it was", content, true) {
		t.Fatal("the file as it was is refused")
	}
	for _, size := range []int{0, 1, 100, 4095, 4096, 8192, 12288, 16384, 20480, len(content) / 2, len(content) - 4096, len(content) - 1} {
		// The last pages may be free.
		try(t, fmt.Sprintf("truncated to %d of %d", size, len(content)), content[:size], size >= len(content)-4096)
	}
	try(t, "something else", bytes.Repeat([]byte("something else\n"), 10000), false)
	try(t, "zeros", make([]byte, len(content)), false)
	for page := range 2 {
		damaged := bytes.Clone(content)
		damaged[page*4096+40] ^= 1
		try(t, fmt.Sprintf("meta page %d", page), damaged, false)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	refused := 0
	for i := range 150 {
		damaged := bytes.Clone(content)
		at := random.IntN(len(damaged))
		damaged[at] ^= 1 << random.IntN(8)
		if try(t, fmt.Sprintf("seed %d, flip %d at %d", seed, i, at), damaged, true) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no flipped bit was found, so none was looked for")
	}
	empty := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(empty, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	try(t, "another program's", other, false)
}

// TestNewerFormat: what a newer version of this program has written is not touched.
func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	filled(t, path)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := newStore(path, false).Open(t.Context()); err == nil || !strings.Contains(err.Error(), `format "2"`) {
		t.Errorf("a file of another format: %v", err)
	}
}

// TestLocked: a second process is told so soon.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first := opened(t, path)
	if err := newStore(path, true).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is in use: %v", err)
	}
	if _, err := first.Apply(t.Context(), state.Create("k", nil)); err != nil {
		t.Errorf("the first one cannot write any more: %v", err)
	}
}

// TestNoFolder: what cannot be made says so.
func TestNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newStore(filepath.Join(file, "state.db"), false).Open(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("in a folder that is a file: %v", err)
	}
	if err := newStore(filepath.Dir(file), false).Open(t.Context()); err == nil {
		t.Error("a folder was opened")
	}
}

// TestTouchedInUse: when the file is taken away, cut or replaced while it is open,
// writes fail and nothing else does; what was revoked stays known.
func TestTouchedInUse(t *testing.T) {
	for name, touch := range map[string]func(path string) error{
		"removed":          os.Remove,
		"emptied":          func(path string) error { return os.Truncate(path, 0) },
		"cut in the pages": func(path string) error { return os.Truncate(path, 16384) },
		"replaced": func(path string) error {
			content, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, content, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			n := filled(t, path)
			s := newStore(path, false)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			told := statetest.Collect(t, s.Follow)
			told.Current(t)
			if err := touch(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := s.Apply(t.Context(), state.Create("new", nil)); !errors.Is(err, state.ErrUnavailable) {
					t.Errorf("written: %v", err)
				}
				if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "new"}); !errors.Is(err, state.ErrUnavailable) {
					t.Errorf("revoked: %v", err)
				}
			}
			for i := range n {
				r, err := state.Get(t.Context(), s, fmt.Sprintf("k/%03d", i))
				if err == nil && !r.Exists() || errors.Is(err, state.ErrNotFound) {
					t.Fatal("a record is said not to exist")
				}
			}
			told.Current(t)
			if err := s.Close(); err != nil && !errors.Is(err, state.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}
