package state

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// How stores keep a record's value: a byte that tells the format, the version, when
// it expires, a checksum, and the value.
//
//	offset  0: format, 1
//	        1: version, 8 bytes, big endian
//	        9: expires, milliseconds since 1970, 8 bytes, big endian; 0 for never
//	       17: CRC-32C of the key and all else, 4 bytes
//	       21: the value
//
// A change of this layout takes another format byte; what was written in this one has
// to stay readable.
const (
	recordFormat = 1
	recordHeader = 21
	checksumAt   = 17
)

// ErrDamaged is for what a store has kept and cannot be read as it was written.
var ErrDamaged = errors.New("the stored data is damaged, or was written by a newer version of this program")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns a record as stores keep it under its key.
func (r Record) Encode() []byte {
	b := make([]byte, recordHeader, recordHeader+len(r.Value))
	b[0] = recordFormat
	binary.BigEndian.PutUint64(b[1:], uint64(r.Version))
	binary.BigEndian.PutUint64(b[9:], uint64(Millis(r.Expires))) // #nosec G115 -- never negative
	b = append(b, r.Value...)
	binary.BigEndian.PutUint32(b[checksumAt:], checksum(r.Key, b))
	return b
}

// DecodeRecord reads what Encode made. The value is a copy.
func DecodeRecord(key string, stored []byte) (Record, error) {
	if len(stored) < recordHeader || stored[0] != recordFormat ||
		binary.BigEndian.Uint32(stored[checksumAt:]) != checksum(key, stored) {
		return Record{}, ErrDamaged
	}
	return Record{
		Key:     key,
		Value:   append([]byte(nil), stored[recordHeader:]...),
		Version: Version(binary.BigEndian.Uint64(stored[1:])),
		Expires: FromMillis(int64(binary.BigEndian.Uint64(stored[9:]))), // #nosec G115 -- as it was written
	}, nil
}

func checksum(key string, stored []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, stored[:checksumAt])
	return crc32.Update(sum, castagnoli, stored[recordHeader:])
}

// Millis is a time as stores keep it: milliseconds since 1970, and 0 for the zero
// time. It is rounded up, so that nothing ends too early.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) > 0 {
		ms++
	}
	return max(ms, 1)
}

// FromMillis is the time of Millis.
func FromMillis(ms int64) time.Time {
	if ms <= 0 || ms == math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
