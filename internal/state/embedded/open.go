package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// The buckets of the file. What they hold is said in records.go, revocations.go and
// counters.go.
var (
	metaBucket        = []byte("meta")
	recordsBucket     = []byte("records")
	revocationsBucket = []byte("revocations")
	expiriesBucket    = []byte("expiries")
	countersBucket    = []byte("counters")

	// formatKey, in meta, has the version of this layout.
	formatKey = []byte("format")
	format    = "1"
)

// lockTimeout is how long another process may hold the file before we give up: long
// enough for one that is just ending.
const lockTimeout = 2 * time.Second

// open opens the file, which must exist, and reads all of it, so that damage is found
// now and not when somebody asks for the damaged part.
func open(path string) (db *bolt.DB, file *os.File, err error) {
	options := &bolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			// An empty file would be taken for a new one.
			opened, err := os.OpenFile(name, flag&^os.O_CREATE, mode) // #nosec G304 -- the operator's path
			if err != nil {
				return nil, err
			}
			if info, err := opened.Stat(); err == nil && info.Size() == 0 {
				opened.Close()
				return nil, fmt.Errorf("the file is empty: %w", state.ErrDamaged)
			}
			file = opened
			return opened, nil
		},
	}
	// Read only at first: to write, bbolt begins with a list whose place may be
	// beyond the end of a truncated file.
	err = guard(func() error {
		options.ReadOnly = true
		if db, err = bolt.Open(path, 0o600, options); err != nil {
			return err
		}
		return errors.Join(db.View(verify), db.Close())
	})
	if err == nil {
		err = guard(func() error {
			options.ReadOnly = false
			db, err = bolt.Open(path, 0o600, options)
			return err
		})
	}
	if err != nil {
		if file != nil {
			file.Close() // and with it the lock, if bbolt was interrupted
		}
		return nil, nil, explain(path, err)
	}
	return db, file, nil
}

// explain says what to do about a file that cannot be opened.
func explain(path string, err error) error {
	var pathError *fs.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("the state file %s is in use by another process: give each gateway a file of its own, with the option store embedded PATH, or share the state with store redis", path)
	case errors.As(err, &pathError):
		return fmt.Errorf("the state file cannot be opened: %w", err)
	}
	return fmt.Errorf("the state file %s cannot be read: %w. Without it revoked tokens would be good again, so nothing is started: restore it from a backup; or, if you accept that all revocations, issued tokens, accounts and sessions are lost, move it away", path, err)
}

// verify reads everything once.
func verify(tx *bolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("the file has %d bytes and was larger: %w", info.Size(), state.ErrDamaged)
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("the file is not one of this program: %w", state.ErrDamaged)
	}
	if got := string(meta.Get(formatKey)); got != format {
		return fmt.Errorf("the file has format %q, and this program knows %q: %w", got, format, state.ErrDamaged)
	}
	for _, name := range [][]byte{recordsBucket, revocationsBucket} {
		bucket := tx.Bucket(name)
		if bucket == nil {
			return fmt.Errorf("there are no %s: %w", name, state.ErrDamaged)
		}
		var n uint64
		var last string
		err := bucket.ForEach(func(k, v []byte) error {
			n++
			key := string(k)
			if n > 1 && key <= last {
				return fmt.Errorf("the %s are out of order: %w", name, state.ErrDamaged)
			}
			last = key
			_, err := state.DecodeRecord(key, v)
			return err
		})
		if err != nil {
			return err
		}
		if n != bucket.Sequence() {
			return fmt.Errorf("there are %d %s, and there were %d: %w", n, name, bucket.Sequence(), state.ErrDamaged)
		}
	}
	for _, name := range [][]byte{expiriesBucket, countersBucket} {
		bucket := tx.Bucket(name)
		if bucket == nil {
			return fmt.Errorf("there are no %s: %w", name, state.ErrDamaged)
		}
		if err := bucket.ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// create makes the file. It appears under its name when it is complete, so that one
// that is not was not made by us; and if another process was quicker, its file stays.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(temp.Name(), 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{metaBucket, recordsBucket, revocationsBucket, expiriesBucket, countersBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(formatKey, []byte(format))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// syncDir has the name of a new file survive a power failure.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it knows no such thing
	}
	d, err := os.Open(dir) // #nosec G304 -- the operator's path
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// guard runs what reads the mapped file. Where the file has become shorter than its
// mapping, or does not hold what it should, that ends in a fault or a panic, which is
// an error here.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%v)", state.ErrDamaged, p)
		}
	}()
	return f()
}

// exists reports whether there is something under the file's name.
func exists(path string) (bool, error) {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// done is the error of a context, if it has ended.
func done(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}
