// Package sse reads and writes server-sent events as the WHATWG HTML standard
// defines them (section 9.2, "Server-sent events"), without losing a byte: what
// the reader gives out, put together again, is what it was fed. That lets a
// gateway look into a stream, change the data of one event, and pass everything
// else (comments, ids, reconnection times, fields nobody knows yet, line ends)
// exactly as the server wrote it.
package sse

import (
	"bytes"
	"time"
)

// mark is the byte order mark, which the standard allows once, at the start of
// a stream.
const mark = "\xEF\xBB\xBF"

// Event is one block of a stream: its lines up to and including the blank line
// that ends it. A block of nothing but comments, as sent to keep a connection
// alive, is an event too, so that it can be passed on at once.
//
// Every slice of an Event that a Scanner emits points into memory which the
// Scanner or its caller uses again: it is valid only until emit returns, and
// must not be changed. Copy what is needed for longer.
type Event struct {
	// Raw is the bytes as received, including the terminating blank line.
	//
	// When the blank line ends in CR and the bytes fed so far end there too, the
	// event is emitted at once. Should an LF follow in a later call, it belongs
	// to that line end, and is emitted as an event of its own whose Raw is "\n"
	// and which has no fields.
	Raw []byte
	// Type is the value of the last event field. Empty means "message".
	Type []byte
	// ID is the value of the last id field, which sets the stream's last event
	// ID. A value with a NUL in it is ignored, as the standard says.
	ID []byte
	// HasID tells an id field with an empty value, which clears the last event
	// ID, from none at all.
	HasID bool
	// Data is the values of the data fields, joined by LF.
	Data []byte
	// HasData says that there was a data field, be it empty. Clients dispatch
	// nothing for a block without one.
	HasData bool
	// Retry is the reconnection time that the last valid retry field asks for.
	Retry time.Duration
	// HasRetry says that there was a valid retry field, be it zero.
	HasRetry bool
	// Partial says that the stream ended before the blank line came. The
	// standard has clients drop such a block, but some dispatch it all the same.
	// Only Scanner.Finish emits it.
	Partial bool

	// skip is the number of bytes in front of the first line: the byte order
	// mark, when this is the stream's first event and it has one.
	skip int
}

// parse fills the event from its raw bytes. Values are slices of raw; only data
// of several lines is put together in scratch, which is returned for reuse.
func (e *Event) parse(raw []byte, skip int, scratch []byte) []byte {
	*e = Event{Raw: raw, skip: skip}
	joined := false
	for rest := raw[skip:]; len(rest) > 0; {
		var content []byte
		content, _, rest = cutLine(rest)
		name, value := cutField(content)
		switch string(name) {
		case "data":
			switch {
			case !e.HasData:
				e.Data, e.HasData = value, true
				continue
			case !joined:
				scratch, joined = append(scratch[:0], e.Data...), true
			}
			scratch = append(scratch, '\n')
			scratch = append(scratch, value...)
		case "event":
			e.Type = value
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				e.ID, e.HasID = value, true
			}
		case "retry":
			if d, ok := parseRetry(value); ok {
				e.Retry, e.HasRetry = d, true
			}
		}
	}
	if joined {
		e.Data = scratch
	}
	return scratch
}

// cutLine splits off the first line: what it says, its line end (LF, CR or CRLF;
// empty when the bytes end first), and what comes after it.
func cutLine(b []byte) (content, end, rest []byte) {
	i := lineLength(b)
	n := i
	if n < len(b) {
		n++
		if b[i] == '\r' && n < len(b) && b[n] == '\n' {
			n++
		}
	}
	return b[:i], b[i:n], b[n:]
}

// lineLength returns how many bytes come before the first CR or LF. It looks for
// both in windows of growing size: to look for one in all of b would make the
// reading of a stream with line ends of the other kind quadratic.
func lineLength(b []byte) int {
	from := 0
	for size := 128; from < len(b); size *= 2 {
		window := b[from:min(from+size, len(b))]
		lf := bytes.IndexByte(window, '\n')
		if lf >= 0 {
			window = window[:lf]
		}
		if cr := bytes.IndexByte(window, '\r'); cr >= 0 {
			return from + cr
		}
		from += len(window)
		if lf >= 0 {
			break
		}
	}
	return from
}

// cutField splits a line into field name and value. A comment has an empty name.
func cutField(line []byte) (name, value []byte) {
	name, value, _ = bytes.Cut(line, []byte{':'})
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return name, value
}

// maxRetry bounds the reconnection time that is told apart from longer ones.
const maxRetry = 365 * 24 * time.Hour

// parseRetry reads a number of milliseconds: ASCII digits and nothing else.
func parseRetry(value []byte) (time.Duration, bool) {
	if len(value) == 0 {
		return 0, false
	}
	d := time.Duration(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		d = min(d*10+time.Duration(c-'0')*time.Millisecond, maxRetry)
	}
	return d, true
}
