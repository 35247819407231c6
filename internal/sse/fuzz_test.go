package sse

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// reference is the standard's algorithm written down plainly for a whole stream.
// It returns the dispatched blocks' fields only.
func reference(stream string) (events []kept) {
	stream = strings.TrimPrefix(stream, mark)
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	stream = strings.ReplaceAll(stream, "\r", "\n")
	lines := strings.Split(stream, "\n")
	var e kept
	for _, line := range lines[:len(lines)-1] { // the last one has no line end
		if line == "" {
			e.Data = strings.TrimSuffix(e.Data, "\n")
			events = append(events, e)
			e = kept{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Type = value
		case "data":
			e.Data, e.HasData = e.Data+value+"\n", true
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID, e.HasID = value, true
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				e.HasRetry = true
				e.Retry, _ = parseRetry([]byte(value))
			}
		}
	}
	return events
}

func seeds(f *testing.F, more ...any) {
	for _, s := range []string{
		"data: a\n\n", "data: a\r\n\r\n", "data: a\r\rdata: b\r\r\n", "\xEF\xBB\xBFid: 1\ndata\n\n: x\n\n",
		"data: a\ndata: b\n\n\n\n", "\xEF\xBB", "event:x\rid\x00\r\nretry: 12\n\rdata:  y", "id: 1\rdata: a\n\n",
	} {
		f.Add(append([]any{[]byte(s)}, more...)...)
	}
}

// FuzzScanner checks, for any stream cut anywhere: no byte is lost, the cut does
// not change the events, and they are those of the standard's algorithm.
func FuzzScanner(f *testing.F) {
	seeds(f, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		whole, pending, err := scan(1<<20, string(stream))
		if err != nil {
			t.Fatal(err)
		}
		var raw strings.Builder
		fields := make([]kept, 0, len(whole))
		for _, e := range whole {
			raw.WriteString(e.Raw)
			e.Raw = ""
			fields = append(fields, e)
		}
		if raw.String()+pending != string(stream) {
			t.Fatalf("bytes lost: %q + %q", raw.String(), pending)
		}
		if want := reference(string(stream)); len(fields)+len(want) > 0 && !reflect.DeepEqual(fields, want) {
			t.Fatalf("got %+v, the standard has %+v", fields, want)
		}

		var pieces []string
		rest := stream
		for i := 0; len(rest) > 0; i++ {
			n := 1
			if len(cuts) > 0 {
				n = min(int(cuts[i%len(cuts)]), len(rest))
			}
			if n == 0 && i > len(stream)+len(cuts) {
				n = len(rest)
			}
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		cut, cutPending, err := scan(1<<20, pieces...)
		if err != nil {
			t.Fatal(err)
		}
		if cutPending != pending || !reflect.DeepEqual(joinTails(cut), whole) {
			t.Fatalf("pieces %q: got %+v, whole: %+v", pieces, cut, whole)
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	event := []byte("event: message\nid: 12345\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"text\":\"" + strings.Repeat("x", 400) + "\"}}\n\n")
	stream := bytes.Repeat(event, 64)
	for _, bc := range []struct {
		name string
		size int
	}{{"whole", len(stream)}, {"4KiB", 4096}, {"byte", 1}} {
		b.Run(bc.name, func(b *testing.B) {
			s, events := NewScanner(1<<20), 0
			emit := func(*Event) error { events++; return nil }
			b.ReportAllocs()
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				for p := stream; len(p) > 0; {
					n := min(bc.size, len(p))
					if err := s.Feed(p[:n], emit); err != nil {
						b.Fatal(err)
					}
					p = p[n:]
				}
			}
			if events == 0 {
				b.Fatal("no events")
			}
		})
	}
}

// BenchmarkScannerLongEvent shows that a big event in tiny pieces costs as much
// for each byte as a small one.
func BenchmarkScannerLongEvent(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		stream := []byte("data: " + strings.Repeat("x", size) + "\n\n")
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := NewScanner(size + 100)
			emit := func(*Event) error { return nil }
			b.ReportAllocs()
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				for i := range stream {
					if err := s.Feed(stream[i:i+1], emit); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
