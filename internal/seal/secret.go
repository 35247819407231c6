package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/caddyserver/certmagic"
)

// Where the secret is kept in Caddy's storage, which the nodes of a cluster share,
// and the lock under which it is made.
const (
	StorageKey = "mcp_gateway/secret"
	lock       = "mcp_gateway_secret"
)

const (
	rootSize = 32
	// maxRoots is how many former secrets there may be and the present one: one for
	// the process, and one for each storage that was configured last.
	maxRoots = 4
)

// Secret is what keys are made from: random bytes that are made once and kept in
// storage, so that what is sealed outlives the process and can be opened by every
// node. Until they are loaded, or if they cannot be, it is bytes of this process.
// They are never given away, only keys that are derived from them.
type Secret struct {
	mu sync.Mutex
	// roots are the bytes, the present ones first. What was sealed by the others can
	// still be opened.
	roots [][]byte
	boxes map[string]*Box
}

// NewSecret makes a secret of this process.
func NewSecret() *Secret {
	root := make([]byte, rootSize)
	_, _ = rand.Read(root) // never fails
	return &Secret{roots: [][]byte{root}, boxes: make(map[string]*Box)}
}

// Box returns the box for a purpose, always the same one.
func (s *Secret) Box(purpose string) (*Box, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[purpose]; b != nil {
		return b, nil
	}
	b := new(Box)
	if err := s.fill(b, purpose); err != nil {
		return nil, err
	}
	s.boxes[purpose] = b
	return b, nil
}

// Load takes the secret that a storage has. One that has none is given ours. If it
// cannot be read or written, the secret stays what it was.
func (s *Secret) Load(ctx context.Context, storage certmagic.Storage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := storage.Load(ctx, StorageKey)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = s.store(ctx, storage)
	}
	if err != nil {
		return err
	}
	if len(root) != rootSize {
		return fmt.Errorf("what is stored at %s is not %d bytes long; delete it to have a new one made", StorageKey, rootSize)
	}
	others := slices.DeleteFunc(slices.Clone(s.roots), func(r []byte) bool { return bytes.Equal(r, root) })
	s.roots = append([][]byte{root}, others[:min(len(others), maxRoots-1)]...)
	for purpose, b := range s.boxes {
		if err := s.fill(b, purpose); err != nil {
			return err
		}
	}
	return nil
}

// store puts our secret into a storage, unless another node was faster.
func (s *Secret) store(ctx context.Context, storage certmagic.Storage) (root []byte, err error) {
	if err := storage.Lock(ctx, lock); err != nil {
		return nil, err
	}
	defer func() { _ = storage.Unlock(context.WithoutCancel(ctx), lock) }()
	if root, err = storage.Load(ctx, StorageKey); !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	return s.roots[0], storage.Store(ctx, StorageKey, s.roots[0])
}

func (s *Secret) fill(b *Box, purpose string) error {
	keys := make([]key, len(s.roots))
	for i, root := range s.roots {
		var err error
		if keys[i], err = newKey(root, purpose); err != nil {
			return err
		}
	}
	b.keys.Store(&keys)
	return nil
}
