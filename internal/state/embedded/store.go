package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// maxBatch bounds how many operations share a commit.
const maxBatch = 256

var errClosed = errors.New("the state file is closed")

// Store is a state.Store in a file.
type Store struct {
	path string
	lazy bool
	// clock is what records expire by.
	clock atomic.Pointer[func() time.Time]

	// mu guards the steps from no file to an open one and to a closed one.
	mu     sync.Mutex
	closed bool
	file   atomic.Pointer[openFile]

	feeds    feeds
	counters counters

	operations chan *operation
	ctx        context.Context
	cancel     context.CancelFunc
	running    sync.WaitGroup
}

// openFile is the file and what is the matter with it.
type openFile struct {
	db   *bolt.DB
	file *os.File
	info os.FileInfo
	// broken is why the file must not be touched any more.
	broken atomic.Pointer[error]
	// made are the folders that were made for the file, the lowest first; nil if the file
	// was there.
	made []string
}

// operation is something that writes. Operations that are asked for at the same time
// share a transaction, and so the wait for the disk.
type operation struct {
	// run makes the changes, or returns an error and has made none.
	run func(tx *bolt.Tx) error
	// committed, if any, is called when they are durable.
	committed func()
	// claimed is 1 once the writer has begun with it, or the caller has given up.
	claimed atomic.Int32
	err     error
	done    chan struct{}
}

// failed is an error of run for which the whole transaction has to be given up.
type failed struct{ error }

func (f failed) Unwrap() error { return f.error }

func newStore(path string, lazy bool) *Store {
	s := &Store{path: path, lazy: lazy, operations: make(chan *operation, maxBatch)}
	s.setNow(steady.Now)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *Store) now() time.Time { return (*s.clock.Load())() }

func (s *Store) setNow(now func() time.Time) { s.clock.Store(&now) }

// Open opens the file and reads it. When it is only made on demand and does not exist
// yet, there is nothing to do.
func (s *Store) Open(context.Context) error {
	there, err := exists(s.path)
	if err != nil {
		return fmt.Errorf("the state file: %w", err)
	}
	if !there && s.lazy {
		return nil
	}
	_, err = s.open(true)
	return err
}

// Close waits for what is being written, and closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	f := s.file.Load()
	if f == nil {
		return nil
	}
	err := s.flush(f)
	if f.broken.Load() != nil {
		// To close it could wait for ever for what was interrupted.
		unlock(f.file)
		return errors.Join(err, f.file.Close())
	}
	return errors.Join(err, guard(func() error { return s.unmake(f) }), guard(f.db.Close))
}

// open returns the open file. Without one it is opened, and made if that is wanted;
// otherwise nil is returned.
func (s *Store) open(wanted bool) (*openFile, error) {
	if s.ctx.Err() != nil {
		return nil, state.Unavailable(errClosed)
	}
	if f := s.file.Load(); f != nil {
		return f, f.failure()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.file.Load(); f != nil {
		return f, f.failure()
	}
	if s.closed {
		return nil, state.Unavailable(errClosed)
	}
	there, err := exists(s.path)
	if err != nil {
		return nil, state.Unavailable(err)
	}
	var made []string
	if !there {
		if !wanted {
			return nil, nil
		}
		made = missing(filepath.Dir(s.path))
		if err := create(s.path); err != nil {
			remove(made)
			return nil, state.Unavailable(fmt.Errorf("the state file cannot be made: %w", err))
		}
	}
	db, file, err := open(s.path)
	if err != nil {
		return nil, state.Unavailable(err)
	}
	f := &openFile{db: db, file: file, made: made}
	if f.info, err = file.Stat(); err != nil {
		return nil, state.Unavailable(errors.Join(err, db.Close()))
	}
	s.file.Store(f)
	s.running.Add(3)
	go s.write(f)
	go s.sweepAtTimes()
	go s.flushAtTimes(f)
	return f, nil
}

func (f *openFile) failure() error {
	if err := f.broken.Load(); err != nil {
		return state.Unavailable(*err)
	}
	return nil
}

// fail gives the file up.
func (f *openFile) fail(err error) error {
	f.broken.CompareAndSwap(nil, &err)
	return state.Unavailable(err)
}

// view reads from the file, if there is one.
func (s *Store) view(ctx context.Context, read func(tx *bolt.Tx) error) error {
	if err := done(ctx); err != nil {
		return state.Unavailable(err)
	}
	f, err := s.open(false)
	if err != nil || f == nil {
		return err
	}
	if err := guard(func() error { return f.db.View(read) }); err != nil {
		if errors.Is(err, state.ErrDamaged) {
			return f.fail(err)
		}
		return state.Unavailable(err)
	}
	return nil
}

// update has an operation made, and returns when it is durable.
func (s *Store) update(ctx context.Context, run func(tx *bolt.Tx) error, committed func()) error {
	if err := done(ctx); err != nil {
		return state.Unavailable(err)
	}
	if _, err := s.open(true); err != nil {
		return err
	}
	op := &operation{run: run, committed: committed, done: make(chan struct{})}
	select {
	case s.operations <- op:
	case <-ctx.Done():
		return state.Unavailable(context.Cause(ctx))
	case <-s.ctx.Done():
		return state.Unavailable(errClosed)
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	if op.claimed.CompareAndSwap(0, 1) {
		return state.Unavailable(errors.Join(done(ctx), done(s.ctx)))
	}
	<-op.done // it is being written
	return op.err
}

// write is the only one who writes. While it waits for the disk, the next operations
// gather.
func (s *Store) write(f *openFile) {
	defer s.running.Done()
	for {
		var batch []*operation
		select {
		case op := <-s.operations:
			batch = append(batch, op)
		case <-s.ctx.Done():
			return
		}
	gather:
		for len(batch) < maxBatch {
			select {
			case op := <-s.operations:
				batch = append(batch, op)
			default:
				break gather
			}
		}
		s.commit(f, batch)
	}
}

// commit makes the operations of a batch durable, all of those that can be made.
func (s *Store) commit(f *openFile, batch []*operation) {
	claimed := batch[:0]
	for _, op := range batch {
		if op.claimed.CompareAndSwap(0, 1) {
			claimed = append(claimed, op)
		}
	}
	err := f.failure()
	if err == nil {
		err = s.transact(f, claimed)
	}
	for _, op := range claimed {
		switch {
		case err != nil:
			op.err = err
		case op.err == nil && op.committed != nil:
			op.committed()
		}
		close(op.done)
	}
}

func (s *Store) transact(f *openFile, batch []*operation) error {
	err := guard(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			if err := f.check(s.path, tx.Size()); err != nil {
				return err
			}
			for _, op := range batch {
				if op.err = op.run(tx); errors.As(op.err, new(failed)) {
					return op.err
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return nil
	case full(err):
		return state.Unavailable(fmt.Errorf("the state file cannot grow, nothing was written: %w", err))
	default:
		return f.fail(err)
	}
}

// check sees to it that the file is still the one that was opened, and whole. What is
// written into one that was moved away or overwritten would be lost.
func (f *openFile) check(path string, size int64) error {
	info, err := os.Stat(path)
	if err != nil || !os.SameFile(info, f.info) || info.Size() < size {
		return fmt.Errorf("the state file %s was removed, replaced or truncated while it was in use: %w", path, state.ErrDamaged)
	}
	return nil
}

// full reports whether there was no room. The file is as it was then; after any other
// error it is not certain what has reached the disk. When the file itself cannot be
// made longer, which is before anything is written, bbolt says so only in words.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) ||
		strings.HasPrefix(err.Error(), "file resize error")
}

// Interface guard
var _ state.Store = (*Store)(nil)
