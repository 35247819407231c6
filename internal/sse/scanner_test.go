package sse

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// kept is a copy of an event that outlives emit.
type kept struct {
	Raw, Type, ID, Data               string
	HasID, HasData, HasRetry, Partial bool
	Retry                             time.Duration
}

func keep(e *Event) kept {
	return kept{
		Raw: string(e.Raw), Type: string(e.Type), ID: string(e.ID), Data: string(e.Data),
		HasID: e.HasID, HasData: e.HasData, HasRetry: e.HasRetry, Partial: e.Partial, Retry: e.Retry,
	}
}

// scan feeds the pieces to a new scanner and returns the events, what was
// pending in the end, and the error.
func scan(limit int, pieces ...string) (events []kept, pending string, err error) {
	s := NewScanner(limit)
	emit := func(e *Event) error { events = append(events, keep(e)); return nil }
	for _, p := range pieces {
		if err = s.Feed([]byte(p), emit); err != nil {
			break
		}
	}
	return events, string(s.Pending()), err
}

func TestScannerEvents(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []kept
		pending  string
	}{
		{"nothing", "", nil, ""},
		{"lf", "data: a\n\n", []kept{{Raw: "data: a\n\n", Data: "a", HasData: true}}, ""},
		{"crlf", "data: a\r\n\r\n", []kept{{Raw: "data: a\r\n\r\n", Data: "a", HasData: true}}, ""},
		{"cr", "data: a\r\r", []kept{{Raw: "data: a\r\r", Data: "a", HasData: true}}, ""},
		{"cr then lf ends one line only", "data: a\r\ndata: b\n\r", []kept{{Raw: "data: a\r\ndata: b\n\r", Data: "a\nb", HasData: true}}, ""},
		{"cr events in a row", "data: a\r\rdata: b\r\r", []kept{
			{Raw: "data: a\r\r", Data: "a", HasData: true}, {Raw: "data: b\r\r", Data: "b", HasData: true},
		}, ""},
		{"every field", "event: message\nid: 7\nretry: 1500\nfoo: bar\ndata: x\n\n", []kept{{
			Raw: "event: message\nid: 7\nretry: 1500\nfoo: bar\ndata: x\n\n", Type: "message", ID: "7", HasID: true,
			Retry: 1500 * time.Millisecond, HasRetry: true, Data: "x", HasData: true,
		}}, ""},
		{"comment only", ": ping\n\n", []kept{{Raw: ": ping\n\n"}}, ""},
		{"blank lines only", "\n\r\n", []kept{{Raw: "\n"}, {Raw: "\r\n"}}, ""},
		{"one optional space", "data:a\ndata: b\ndata:  c\n\n", []kept{{Raw: "data:a\ndata: b\ndata:  c\n\n", Data: "a\nb\n c", HasData: true}}, ""},
		{"no colon", "data\nid\nretry\n\n", []kept{{Raw: "data\nid\nretry\n\n", HasData: true, HasID: true}}, ""},
		{"empty data, as in a priming event", "id: 1\ndata:\n\n", []kept{{Raw: "id: 1\ndata:\n\n", ID: "1", HasID: true, HasData: true}}, ""},
		{"names are exact", "Data: a\n data: b\ndata : c\n\n", []kept{{Raw: "Data: a\n data: b\ndata : c\n\n"}}, ""},
		{"last id and type win, a NUL id is ignored", "id: 1\nid: 2\nid: \x00\nevent: a\nevent: b\n\n", []kept{{
			Raw: "id: 1\nid: 2\nid: \x00\nevent: a\nevent: b\n\n", ID: "2", HasID: true, Type: "b",
		}}, ""},
		{"retry must be digits", "retry: 1\nretry: -1\nretry: 1s\nretry:\n\n", []kept{{
			Raw: "retry: 1\nretry: -1\nretry: 1s\nretry:\n\n", Retry: time.Millisecond, HasRetry: true,
		}}, ""},
		{"absurd retry is capped", "retry: 99999999999999999999999999\n\n", []kept{{
			Raw: "retry: 99999999999999999999999999\n\n", Retry: maxRetry, HasRetry: true,
		}}, ""},
		{"mark", "\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\n", []kept{
			{Raw: "\xEF\xBB\xBFdata: a\n\n", Data: "a", HasData: true},
			{Raw: "\xEF\xBB\xBFdata: b\n\n"}, // only the stream's first is a mark; this is a field name
		}, ""},
		{"mark and blank line", "\xEF\xBB\xBF\ndata: a\n\n", []kept{{Raw: "\xEF\xBB\xBF\n"}, {Raw: "data: a\n\n", Data: "a", HasData: true}}, ""},
		{"half a mark is a field name", "\xEF\xBB\ndata: a\n\n", []kept{{Raw: "\xEF\xBB\ndata: a\n\n", Data: "a", HasData: true}}, ""},
		{"colon in value, UTF-8", "data: {\"a\": \"ü:ü\"}\n\n", []kept{{Raw: "data: {\"a\": \"ü:ü\"}\n\n", Data: `{"a": "ü:ü"}`, HasData: true}}, ""},
		{"unterminated", "data: a\n\ndata: b\n", []kept{{Raw: "data: a\n\n", Data: "a", HasData: true}}, "data: b\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, pending, err := scan(1000, tc.in)
			if err != nil || pending != tc.pending || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("whole: got %+v, pending %q, error %v", got, pending, err)
			}
			got, pending, err = scan(1000, strings.Split(tc.in, "")...)
			if err != nil || pending != tc.pending || !reflect.DeepEqual(joinTails(got), tc.want) {
				t.Errorf("by byte: got %+v, pending %q, error %v", got, pending, err)
			}
		})
	}
}

// joinTails gives the LF of a CRLF that came late back to its event.
func joinTails(events []kept) (joined []kept) {
	for _, e := range events {
		if n := len(joined); e.Raw == "\n" && n > 0 && strings.HasSuffix(joined[n-1].Raw, "\r") {
			joined[n-1].Raw += "\n"
			continue
		}
		joined = append(joined, e)
	}
	return joined
}

func TestScannerEmitsAtOnce(t *testing.T) {
	s := NewScanner(100)
	var got []kept
	emit := func(e *Event) error { got = append(got, keep(e)); return nil }
	for i, step := range []struct {
		feed string
		want []kept
	}{
		{"data: a\r\n", nil},
		{"\r", []kept{{Raw: "data: a\r\n\r", Data: "a", HasData: true}}},
		{"", nil},
		{"\n", []kept{{Raw: "\n"}}},
		{"\n", []kept{{Raw: "\n"}}},
		{": ping\n\nda", []kept{{Raw: ": ping\n\n"}}},
		{"ta: b\r", nil},
		{"\rdata: c\n", []kept{{Raw: "data: b\r\r", Data: "b", HasData: true}}},
		{"\n", []kept{{Raw: "data: c\n\n", Data: "c", HasData: true}}},
	} {
		got = nil
		if err := s.Feed([]byte(step.feed), emit); err != nil || !reflect.DeepEqual(got, step.want) {
			t.Fatalf("step %d: got %+v, want %+v, error %v", i, got, step.want, err)
		}
	}
}

func TestScannerLimit(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		limit    int
		events   int
		tooLong  bool
	}{
		{"exact", "data: abc\n\n", 11, 1, false},
		{"one over", "data: abcd\n\n", 11, 0, true},
		{"per event, not in all", strings.Repeat("data: abc\n\n", 9), 11, 9, false},
		{"events before are emitted", "data: abc\n\ndata: abcd\n\n", 11, 1, true},
		{"many short lines", strings.Repeat("data: a\n", 4), 30, 0, true},
		{"comment that never ends", ":" + strings.Repeat("x", 30), 30, 0, true},
		{"unterminated at the limit", strings.Repeat("x", 30), 30, 0, false},
		{"LF of the last CRLF is free", "data: a\r\n\r\n", 10, 1, false},
		{"mark counts", "\xEF\xBB\xBFdata: abc\n\n", 13, 0, true},
	} {
		for _, pieces := range [][]string{{tc.in}, strings.Split(tc.in, "")} {
			t.Run(tc.name, func(t *testing.T) {
				events, _, err := scan(tc.limit, pieces...)
				if errors.Is(err, ErrTooLong) != tc.tooLong || len(joinTails(events)) != tc.events {
					t.Errorf("%d pieces: %d events, error %v", len(pieces), len(events), err)
				}
			})
		}
	}
}

func TestScannerErrorIsFinal(t *testing.T) {
	stop := errors.New("stop")
	s, calls := NewScanner(100), 0
	emit := func(*Event) error { calls++; return stop }
	for range 2 {
		if err := s.Feed([]byte("data: a\n\ndata: b\n\n"), emit); !errors.Is(err, stop) {
			t.Errorf("Feed: error %v", err)
		}
	}
	if err := s.Finish(emit); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Finish: error %v after %d calls", err, calls)
	}
	if len(s.Pending()) != 0 {
		t.Errorf("pending %q", s.Pending())
	}

	s = NewScanner(3)
	if err := s.Feed([]byte("data"), emit); !errors.Is(err, ErrTooLong) {
		t.Errorf("Feed: error %v", err)
	}
	if err := s.Feed([]byte("\n\n"), emit); !errors.Is(err, ErrTooLong) || calls != 1 {
		t.Errorf("Feed after too long: error %v after %d calls", err, calls)
	}

	s = NewScanner(100)
	if err := s.Feed([]byte("data: a\r\r"), func(*Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Feed([]byte("\n"), emit); !errors.Is(err, stop) {
		t.Errorf("error on a late LF: %v", err)
	}
}

func TestScannerFinish(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []kept
	}{
		{"", nil},
		{"data: a\n\n", nil},
		{"data: a", []kept{{Raw: "data: a", Data: "a", HasData: true, Partial: true}}},
		{"id: 1\ndata: a\r", []kept{{Raw: "id: 1\ndata: a\r", ID: "1", HasID: true, Data: "a", HasData: true, Partial: true}}},
		{"\xEF\xBB\xBFdata: a\n", []kept{{Raw: "\xEF\xBB\xBFdata: a\n", Data: "a", HasData: true, Partial: true}}},
		{"\xEF\xBB", []kept{{Raw: "\xEF\xBB", Partial: true}}},
	} {
		s := NewScanner(100)
		if err := s.Feed([]byte(tc.in), func(*Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
		var got []kept
		emit := func(e *Event) error { got = append(got, keep(e)); return nil }
		if err := s.Finish(emit); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: got %+v, error %v", tc.in, got, err)
		}
		// Another stream starts afresh, mark and all.
		got = nil
		err := s.Feed([]byte("\xEF\xBB\xBFdata: z\n\n"), emit)
		if want := []kept{{Raw: "\xEF\xBB\xBFdata: z\n\n", Data: "z", HasData: true}}; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: next stream: got %+v, error %v", tc.in, got, err)
		}
	}
	s, stop := NewScanner(100), errors.New("stop")
	if err := s.Feed([]byte("data"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(func(*Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Finish: error %v", err)
	}
}

func TestScannerIdleMemory(t *testing.T) {
	s := NewScanner(1 << 20)
	big := []byte("data: " + strings.Repeat("x", 100_000) + "\ndata: y\n\n")
	for _, piece := range [][]byte{big[:50_000], big[50_000:]} {
		if err := s.Feed(piece, func(*Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if cap(s.buf) > retained || cap(s.data) > retained {
		t.Errorf("an idle scanner keeps %d + %d bytes", cap(s.buf), cap(s.data))
	}
}

// TestLinear reads, rewrites and writes what is worst for a search for line ends:
// many of one kind, none of the other. Eight times as much may take eight times
// as long; were the work quadratic, it would be 64 times.
func TestLinear(t *testing.T) {
	for _, end := range []string{"\r", "\n", "\r\n"} {
		work := func(n int) time.Duration {
			stream := []byte(strings.Repeat("data:"+end, n) + end + strings.Repeat(":"+end+end, n))
			data := []byte(strings.Repeat("x"+end, n))
			best := time.Hour
			for range 5 { // the fastest is the one that was disturbed least
				start, events := time.Now(), 0
				err := NewScanner(len(stream)).Feed(stream, func(e *Event) error {
					if events++; e.HasData {
						e.AppendData(nil, data)
					}
					return nil
				})
				if err != nil || events != 1+n {
					t.Fatalf("%q: %d events, error %v", end, events, err)
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		if small, big := work(1<<13), work(1<<16); big > 28*small {
			t.Errorf("%q: %v, and eight times as much takes %v", end, small, big)
		}
	}
}

func TestScannerDoesNotAllocate(t *testing.T) {
	s := NewScanner(1 << 16)
	in := []byte("event: message\nid: 12\ndata: {\"a\":1,\ndata: \"b\":2}\n\n: ping\n\ndata: {}\n\n")
	a, b := in[:30], in[30:]
	emit := func(*Event) error { return nil }
	if n := testing.AllocsPerRun(100, func() {
		if s.Feed(a, emit) != nil || s.Feed(b, emit) != nil {
			panic("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations for each run", n)
	}
}
