package seal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"
)

func box(t *testing.T, s *Secret) *Box {
	t.Helper()
	b, err := s.Box("test")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opens(t *testing.T, s *Secret, closed string) bool {
	t.Helper()
	text, ok := box(t, s).Open(closed)
	return ok && text == "text"
}

func load(t *testing.T, s *Secret, storage certmagic.Storage) {
	t.Helper()
	if err := s.Load(t.Context(), storage); err != nil {
		t.Fatal(err)
	}
}

// TestSecretIsShared by all that have the storage, and outlives them.
func TestSecretIsShared(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	first := NewSecret()
	early := sealed(t, box(t, first), "text") // before it is loaded
	load(t, first, storage)
	closed := sealed(t, box(t, first), "text")

	second := NewSecret()
	own := sealed(t, box(t, second), "text")
	if opens(t, second, closed) {
		t.Fatal("a secret of its own opens what another sealed")
	}
	load(t, second, storage)
	for name, closed := range map[string]string{"sealed before the first was stored": early, "sealed by the first": closed, "its own, sealed before": own} {
		if !opens(t, second, closed) {
			t.Errorf("the second does not open what was %s", name)
		}
	}
	if !opens(t, first, sealed(t, box(t, second), "text")) {
		t.Error("the first does not open what the second sealed")
	}
	path := filepath.Join(storage.Path, filepath.FromSlash(StorageKey))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 || info.Size() != rootSize {
		t.Errorf("the file: %v, %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Join(storage.Path, "locks", "*")); err != nil || len(left) > 0 {
		t.Errorf("locks are left: %v, %v", left, err)
	}
}

// TestSecretIsMadeOnce, however many nodes start at a time.
func TestSecretIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	all := make([]*Secret, 8)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = NewSecret()
		wg.Go(func() {
			if err := all[i].Load(t.Context(), &certmagic.FileStorage{Path: dir}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, from := range all {
		closed := sealed(t, box(t, from), "text")
		for _, to := range all {
			if !opens(t, to, closed) {
				t.Fatal("two nodes have two secrets")
			}
		}
	}
}

// TestSecretOfAnotherStorage: what was sealed before can still be opened, up to a
// limit.
func TestSecretOfAnotherStorage(t *testing.T) {
	s := NewSecret()
	storages := make([]*certmagic.FileStorage, 6)
	closed := []string{sealed(t, box(t, s), "text")}
	for i := range storages {
		storages[i] = &certmagic.FileStorage{Path: t.TempDir()}
		load(t, NewSecret(), storages[i]) // another node's
		load(t, s, storages[i])
		load(t, s, storages[i]) // as each reload does
		closed = append(closed, sealed(t, box(t, s), "text"))
	}
	var opened []int
	for i, text := range closed {
		if opens(t, s, text) {
			opened = append(opened, i)
		}
	}
	if !slices.Equal(opened, []int{3, 4, 5, 6}) {
		t.Errorf("opened: %v", opened)
	}
	load(t, s, storages[4])
	node := NewSecret()
	load(t, node, storages[4])
	if !opens(t, node, sealed(t, box(t, s), "text")) {
		t.Error("back at a former storage, its secret is not the one that seals")
	}
}

// TestStorageFails: then the secret is what it was, and the error tells nothing of it.
func TestStorageFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	short := &certmagic.FileStorage{Path: t.TempDir()}
	if err := short.Store(t.Context(), StorageKey, []byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	locked := &certmagic.FileStorage{Path: t.TempDir()}
	if err := locked.Lock(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	defer locked.Unlock(t.Context(), lock)
	for name, tc := range map[string]struct {
		ctx     context.Context
		storage certmagic.Storage
		want    string
	}{
		"no folder":    {t.Context(), &certmagic.FileStorage{Path: file}, "file"},
		"wrong length": {t.Context(), short, StorageKey},
		"no time":      {over, locked, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSecret()
			closed := sealed(t, box(t, s), "text")
			err := s.Load(tc.ctx, tc.storage)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error: %v", err)
			}
			if !opens(t, s, closed) || !opens(t, s, sealed(t, box(t, s), "text")) {
				t.Error("the secret has changed")
			}
		})
	}
	if left, err := short.Load(t.Context(), StorageKey); err != nil || !bytes.Equal(left, []byte("hunter2")) {
		t.Errorf("what was stored was changed: %q, %v", left, err)
	}
}
