package state

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Table reads and makes records whose values are a T in JSON (RFC 8259), in an object
// that tells the version of its layout:
//
//	{"v":2,"data":{"name":"ci", ...}}
//
// Names are matched exactly, and members that T does not have are an error, so that
// nothing is lost when a record is written by a newer version of this program and
// then changed by an older one.
type Table[T any] struct {
	// Name is one of the names above.
	Name string
	// Version is what is written. Raise it when T changes so that what was written
	// before cannot be read as it is any more.
	Version int
	// Upgrade turns what an older version wrote into what T reads. It may be nil as
	// long as Version is 1.
	Upgrade func(version int, data jsontext.Value) (jsontext.Value, error)
}

// Entry is a record of a table.
type Entry[T any] struct {
	Record
	Data T
}

type envelope struct {
	Version int            `json:"v"`
	Data    jsontext.Value `json:"data"`
}

// Key is the key of the record with those parts.
func (t Table[T]) Key(parts ...string) string { return Key(t.Name, parts...) }

// Get reads a record. One that does not exist is an ErrNotFound.
func (t Table[T]) Get(ctx context.Context, s Store, parts ...string) (Entry[T], error) {
	r, err := Get(ctx, s, t.Key(parts...))
	if err != nil {
		return Entry[T]{}, err
	}
	return t.Decode(r)
}

// All yields the records that have those first parts, or without any the whole table,
// in the order of their keys. It ends after the first error.
func (t Table[T]) All(ctx context.Context, s Store, parts ...string) func(yield func(Entry[T], error) bool) {
	return func(yield func(Entry[T], error) bool) {
		for r, err := range All(ctx, s, Prefix(t.Name, parts...)) {
			if err != nil {
				yield(Entry[T]{}, err)
				return
			}
			entry, err := t.Decode(r)
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

// Create is the change that makes a record, which must not exist.
func (t Table[T]) Create(data T, expires time.Time, parts ...string) (Change, error) {
	value, err := t.encode(data)
	return Create(t.Key(parts...), value).Until(expires), err
}

// Replace is the change that puts data in place of exactly what was read. When it
// expires stays; see Change.Until.
func (t Table[T]) Replace(entry Entry[T], data T) (Change, error) {
	value, err := t.encode(data)
	return Replace(entry.Record, value), err
}

// Decode reads the value of a record.
func (t Table[T]) Decode(r Record) (Entry[T], error) {
	entry := Entry[T]{Record: r}
	var e envelope
	if err := json.Unmarshal(r.Value, &e, json.RejectUnknownMembers(true)); err != nil {
		return entry, t.unreadable()
	}
	switch {
	case e.Version == t.Version:
	case e.Version < 1 || e.Version > t.Version || t.Upgrade == nil:
		return entry, fmt.Errorf("a record of the table %s has version %d, and this program knows 1 to %d: %w",
			t.Name, e.Version, t.Version, ErrDamaged)
	default:
		data, err := t.Upgrade(e.Version, e.Data)
		if err != nil {
			return entry, fmt.Errorf("a record of the table %s, from version %d: %w", t.Name, e.Version, err)
		}
		e.Data = data
	}
	if err := json.Unmarshal(e.Data, &entry.Data, json.RejectUnknownMembers(true)); err != nil {
		return entry, t.unreadable()
	}
	return entry, nil
}

// unreadable leaves out what the decoder says, because it may repeat what is in the
// record.
func (t Table[T]) unreadable() error {
	return fmt.Errorf("a record of the table %s: %w", t.Name, ErrDamaged)
}

func (t Table[T]) encode(data T) ([]byte, error) {
	value, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("a record of the table %s: %w", t.Name, err)
	}
	return json.Marshal(envelope{t.Version, value})
}
