package sse

import "errors"

// ErrTooLong is returned when an event is longer than the Scanner's limit.
var ErrTooLong = errors.New("server-sent event exceeds the size limit")

// retained is the most memory, in bytes, that a Scanner keeps between events
// for each of its two buffers: an idle stream is to cost next to nothing, and
// one big event must not be paid for during hours of silence.
const retained = 4096

// Scanner finds the events in a stream whose bytes are pushed into it in pieces
// of any size. The work is linear in the number of bytes, whatever the pieces.
// It is not safe for concurrent use.
type Scanner struct {
	limit int
	buf   []byte // the bytes of the current event that came in earlier calls
	data  []byte // room for data of several lines
	event Event  // what emit is given, reused
	err   error  // what ended the scanning, for good

	marked int  // how many bytes of a byte order mark have been seen
	begun  bool // the stream's start has been told from a byte order mark
	first  bool // no event has been emitted yet
	blank  bool // the current line has no byte yet
	cr     bool // the last byte was a CR that ended a line of the current event
	ended  bool // the last byte was a CR that ended an event, emitted already
}

// NewScanner returns a Scanner that refuses events of more than limit bytes,
// line ends and comments included.
func NewScanner(limit int) *Scanner {
	return &Scanner{limit: limit, first: true, blank: true}
}

// Feed takes the next bytes of the stream and calls emit for each event that
// they complete, in order. It returns ErrTooLong as soon as the current event
// exceeds the limit, after it has emitted the events before. That error, or one
// that emit returns, ends the scanning: later calls return it again, and the
// rest of p is lost. Feed neither changes p nor keeps it; events may point into
// p while emit runs.
//
// The events and their fields do not depend on how the stream is cut into
// pieces, save for where the LF of a final CRLF goes (see Event.Raw).
func (s *Scanner) Feed(p []byte, emit func(*Event) error) error {
	if s.err != nil {
		return s.err
	}
	i, start := 0, 0
	if s.ended && len(p) > 0 {
		s.ended = false
		if p[0] == '\n' {
			s.event = Event{Raw: p[:1:1]}
			if err := emit(&s.event); err != nil {
				return s.fail(err)
			}
			i, start = 1, 1
		}
	}
	for i < len(p) {
		c := p[i]
		if !s.begun {
			if c == mark[s.marked] {
				s.marked++
				s.begun = s.marked == len(mark)
				i++
				continue
			}
			// What looked like the start of a mark belongs to the first line.
			s.begun, s.blank, s.marked = true, s.marked == 0, 0
		}
		if s.cr {
			s.cr = false
			if c == '\n' {
				i++
				continue
			}
		}
		if c != '\n' && c != '\r' {
			s.blank = false
			i += lineLength(p[i:])
			continue
		}
		i++
		if !s.blank {
			s.blank, s.cr = true, c == '\r'
			continue
		}
		// The event ends here. The LF of a last CRLF does not count against the
		// limit, as it may come too late to be refused.
		if len(s.buf)+i-start > s.limit {
			return s.fail(ErrTooLong)
		}
		if c == '\r' {
			if i == len(p) {
				s.ended = true
			} else if p[i] == '\n' {
				i++
			}
		}
		if err := s.emit(p[start:i:i], emit); err != nil {
			return s.fail(err)
		}
		start = i
	}
	if len(s.buf)+len(p)-start > s.limit {
		return s.fail(ErrTooLong)
	}
	s.buf = append(s.buf, p[start:]...)
	return nil
}

// Pending returns the bytes of the event that is not complete yet. They are
// valid until the next call of Feed or Finish.
func (s *Scanner) Pending() []byte { return s.buf }

// Finish says that the stream has ended. What is pending is emitted as an event
// marked Partial: the standard has clients drop it, but some (the Go MCP SDK is
// one) dispatch it, so whoever filters a stream must not pass it on unread. The
// Scanner is then ready for another stream, unless an error ended it before.
func (s *Scanner) Finish(emit func(*Event) error) error {
	if s.err != nil {
		return s.err
	}
	if len(s.buf) > 0 {
		if s.marked < len(mark) {
			s.marked = 0
		}
		s.data = s.event.parse(s.buf, s.skip(), s.data)
		s.event.Partial = true
		if err := emit(&s.event); err != nil {
			return s.fail(err)
		}
	}
	*s = *NewScanner(s.limit)
	return nil
}

// emit gives out the event that ends with the bytes of tail. Only what came in
// an earlier call is copied.
func (s *Scanner) emit(tail []byte, emit func(*Event) error) error {
	raw := tail
	if len(s.buf) > 0 {
		s.buf = append(s.buf, tail...)
		raw = s.buf
	}
	s.data = s.event.parse(raw, s.skip(), s.data)
	err := emit(&s.event)
	s.first = false
	s.event = Event{}
	s.buf, s.data = recycle(s.buf), recycle(s.data)
	return err
}

// skip is how many bytes stand in front of the current event's first line.
func (s *Scanner) skip() int {
	if s.first {
		return s.marked
	}
	return 0
}

// fail ends the scanning and lets go of the memory.
func (s *Scanner) fail(err error) error {
	*s = Scanner{err: err}
	return err
}

// recycle empties a buffer, and drops one that is too big to be kept.
func recycle(b []byte) []byte {
	if cap(b) > retained {
		return nil
	}
	return b[:0]
}
