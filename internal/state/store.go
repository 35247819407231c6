package state

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Store is what must outlive the process, or be known to several nodes: records,
// counters and revocations. The guest modules of mcp_gateway.stores make one, and
// what it means that, say, a user exists is written on top of it.
//
// Every method but Watch and Follow ends when its context does. Its error is then, and
// whenever the store could not be asked, an [ErrUnavailable]; whether a change was
// made is not known in that case. What a method has answered is durable: it survives
// the end of the process, as far as the store behind it promises that.
//
// A Store is safe for concurrent use.
type Store interface {
	// Open makes the store usable. It is called once, and does not wait for a store
	// that is elsewhere.
	Open(ctx context.Context) error
	// Close gives back what Open took. Calls that are running end with an error.
	Close() error

	// Read returns the records of some keys, in the order of the keys, as they were
	// at one moment. The Version of one that does not exist is 0. There may be up to
	// MaxChanges keys.
	Read(ctx context.Context, keys ...string) ([]Record, error)
	// Scan returns records whose keys begin with prefix and are greater than after,
	// in the order of the keys' bytes: up to limit of them, or fewer. The next call's
	// after is next, which is empty when there is nothing more.
	Scan(ctx context.Context, prefix, after string, limit int) (records []Record, next string, err error)
	// Apply makes all changes or none of them. If a record does not have the version
	// that its change expects, that is a *ConflictError, which is an ErrConflict. The
	// version returned is what all records that were put have from now on. There may
	// be up to MaxChanges changes, each of another key.
	Apply(ctx context.Context, changes ...Change) (Version, error)
	// Watch tells which records have changed, whoever changed them. See Update. It
	// returns when ctx is done.
	Watch(ctx context.Context, prefix string, told func(Update))

	// Take counts n uses under a key in several windows, if all of them have room
	// for that, and otherwise none. The duration is then after which there will be
	// room, unless others take it; it is 0 when the uses were counted. With an n of 0
	// it only tells whether there is room for one. One call is atomic.
	Take(ctx context.Context, key string, n int, windows ...Window) (wait time.Duration, err error)

	// Revoke writes revocations. One that is there already only ever gets to cover
	// more. One that has expired is not written.
	Revoke(ctx context.Context, revocations ...Revocation) error
	// Follow tells of all revocations that are in force, and then of each that is
	// made, whoever made it. See Update. It returns when ctx is done.
	Follow(ctx context.Context, told func(Update))
}

// Module is what a guest module of mcp_gateway.stores has to be. Provisioning one
// does nothing but read its configuration.
type Module interface {
	// Key tells stores apart: modules with the same key stand for the same store,
	// and over a reload it stays open.
	Key() string
	// NewStore returns the store, not yet open, for which nothing is done before
	// Open.
	NewStore() Store
}

// Update is what Watch and Follow tell. The calls come one after the other, in the
// order in which things happened; a slow one holds up the next, so that it may not
// wait for the store itself.
type Update struct {
	// Revocations came to be known. When the connection to the store was lost, all
	// that are in force are told again, so that one may come more than once.
	Revocations []Revocation
	// Keys are those of records that have changed, which includes their end.
	Keys []string
	// Reset says that any record may have changed. It comes first of all, and then
	// after each time when changes may have been missed.
	Reset bool
	// Current, unless zero, says that all was told that happened before that moment.
	// It comes several times a second; when it does not, the store is cut off, and
	// what is known gets older.
	Current time.Time
	// Alone, beside Current, says that nobody but this process writes to the store, so
	// that what is known does not get older, even if this is not told for a while.
	Alone bool
	// Err says why the store is cut off. It comes once, when that begins.
	Err error
}

// Bounds of what a store takes.
const (
	// MaxKey bounds a key, in bytes.
	MaxKey = 1024
	// MaxValue bounds the value of a record, in bytes.
	MaxValue = 256 << 10
	// MaxChanges bounds how many records one call reads or changes.
	MaxChanges = 128
	// MaxScan bounds how many records one Scan returns.
	MaxScan = 1000
)

var (
	// ErrNotFound is for a record that does not exist, or whose time is over.
	ErrNotFound = errors.New("there is no such record")
	// ErrConflict is for a change of a record that somebody else has changed since
	// it was read, or made when there was to be none. Read again and start over, or,
	// for one that must be unique, say that it is taken.
	ErrConflict = errors.New("the record was changed by somebody else")
	// ErrUnavailable is for a store that could not be asked. Deny.
	ErrUnavailable = errors.New("the store is not available")
)

// ConflictError is an ErrConflict that tells which change could not be made.
type ConflictError struct {
	// Key is the first one of the changes' that has another version than expected.
	Key string
}

// Error does not tell the key: there may be a name in it.
func (*ConflictError) Error() string { return ErrConflict.Error() }

// Is makes it an ErrConflict.
func (*ConflictError) Is(target error) bool { return target == ErrConflict }

// Unavailable makes an ErrUnavailable of what went wrong with a store. The cause can
// be found in it, too.
func Unavailable(cause error) error {
	if errors.Is(cause, ErrUnavailable) {
		return cause
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// Version tells the states of a record apart. It says nothing about their order, and
// no two states of one key ever have the same, even when it was deleted in between.
type Version uint64

const (
	// Absent is the version of what does not exist.
	Absent Version = 0
	// Any stands for every version, in a change that does not look at it.
	Any Version = math.MaxUint64
)

// Record is a value under a key.
type Record struct {
	Key     string
	Value   []byte
	Version Version
	// Expires is when the record ceases to exist; zero for never. It is kept to the
	// millisecond.
	Expires time.Time
}

// Exists reports whether the record was there when it was read.
func (r Record) Exists() bool { return r.Version != Absent }

// Operation is what a change does with the record of its key.
type Operation uint8

const (
	// OpPut writes Value and Expires.
	OpPut Operation = iota
	// OpDelete ends the record; one that does not exist is no error unless If says
	// so.
	OpDelete
	// OpCheck changes nothing: it has the other changes depend on this record, too.
	OpCheck
)

// Change is one step of Apply. Make it with Create, Replace, Overwrite, Delete,
// Remove or Require.
type Change struct {
	Key   string
	Op    Operation
	Value []byte
	// Expires is when the record ceases to exist; zero for never.
	Expires time.Time
	// If is the version that the record must have.
	If Version
}

// Create makes a record that must not exist. This is how a name is kept unique.
func Create(key string, value []byte) Change {
	return Change{Key: key, Value: value}
}

// Replace puts another value in place of exactly what was read. The time at which it
// expires stays.
func Replace(r Record, value []byte) Change {
	return Change{Key: r.Key, Value: value, Expires: r.Expires, If: r.Version}
}

// Overwrite puts a value, whatever there was.
func Overwrite(key string, value []byte) Change {
	return Change{Key: key, Value: value, If: Any}
}

// Delete ends exactly what was read.
func Delete(r Record) Change {
	return Change{Key: r.Key, Op: OpDelete, If: r.Version}
}

// Remove ends the record, whatever it was and if there is one.
func Remove(key string) Change {
	return Change{Key: key, Op: OpDelete, If: Any}
}

// Require changes nothing, but lets the other changes be made only if the record is
// still what was read; one that did not exist must still not.
func Require(r Record) Change {
	return Change{Key: r.Key, Op: OpCheck, If: r.Version}
}

// Until returns the change with a time at which the record expires.
func (c Change) Until(expires time.Time) Change {
	c.Expires = expires
	return c
}

// Get reads one record. One that does not exist is an ErrNotFound.
func Get(ctx context.Context, s Store, key string) (Record, error) {
	records, err := s.Read(ctx, key)
	if err != nil {
		return Record{}, err
	}
	if !records[0].Exists() {
		return Record{}, ErrNotFound
	}
	return records[0], nil
}

// All yields the records whose keys begin with prefix, in the order of the keys, a
// page at a time. Records that are changed meanwhile may or may not be seen as
// changed. It ends after the first error.
func All(ctx context.Context, s Store, prefix string) func(yield func(Record, error) bool) {
	return func(yield func(Record, error) bool) {
		for after := ""; ; {
			records, next, err := s.Scan(ctx, prefix, after, MaxScan)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			after = next
		}
	}
}

// CheckKeys refuses what no store takes. Implementations call it.
func CheckKeys(keys ...string) error {
	if len(keys) == 0 || len(keys) > MaxChanges {
		return fmt.Errorf("%d keys in one call; there may be 1 to %d", len(keys), MaxChanges)
	}
	for _, key := range keys {
		if key == "" || len(key) > MaxKey {
			return fmt.Errorf("a key of %d bytes; it may have 1 to %d", len(key), MaxKey)
		}
	}
	return nil
}

// CheckChanges refuses what no store takes. Implementations call it.
func CheckChanges(changes []Change) error {
	keys := make([]string, len(changes))
	seen := make(map[string]bool, len(changes))
	for i, c := range changes {
		keys[i] = c.Key
		if seen[c.Key] {
			return errors.New("two changes of one key in one call; make one of them")
		}
		seen[c.Key] = true
		if len(c.Value) > MaxValue {
			return fmt.Errorf("a value of %d bytes; it may have up to %d", len(c.Value), MaxValue)
		}
		if c.Op > OpCheck {
			return fmt.Errorf("unknown operation %d", c.Op)
		}
	}
	return CheckKeys(keys...)
}
