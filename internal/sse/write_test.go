package sse

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAppendData(t *testing.T) {
	for _, tc := range []struct{ name, in, data, want string }{
		{"plain", "data: old\n\n", "new", "data: new\n\n"},
		{"all else is kept", ": c\nid: 1\nevent: message\ndata: old\nretry: 5\nX-y:z\n:\n\n", "new", ": c\nid: 1\nevent: message\ndata: new\nretry: 5\nX-y:z\n:\n\n"},
		{"several lines become one", "data: a\nid: 1\ndata: b\ndata: c\n\n", "new", "data: new\nid: 1\n\n"},
		{"one line becomes several", "id: 1\ndata: a\n\n", "x\ny\n", "id: 1\ndata: x\ndata: y\ndata: \n\n"},
		{"crlf", "id: 1\r\ndata:a\r\n\r\n", "x\ny", "id: 1\r\ndata: x\r\ndata: y\r\n\r\n"},
		{"cr", "data:a\rid: 1\r\r", "x", "data: x\rid: 1\r\r"},
		{"breaks of any kind in the data", "data:a\n\n", "x\r\ny\rz\nw", "data: x\ndata: y\ndata: z\ndata: w\n\n"},
		{"leading space", "data:a\n\n", " x", "data:  x\n\n"},
		{"empty", "data: a\ndata: b\n\n", "", "data: \n\n"},
		{"none before", "id: 1\r\n\r\n", "x", "id: 1\r\ndata: x\r\n\r\n"},
		{"mark", "\xEF\xBB\xBFdata: a\n\n", "x", "\xEF\xBB\xBFdata: x\n\n"},
		{"field without colon", "data\ndata\n\n", "x", "data: x\n\n"},
		{"other case is another field", "Data: a\ndata: b\n\n", "x", "Data: a\ndata: x\n\n"},
		{"a CR must not meet the LF of the blank line", "data: a\nid: 1\rdata: b\n\n", "x", "data: x\nid: 1\r\n\n"},
		{"nor the new data's own", "data: a\rdata: b\n\n", "x", "data: x\r\n\n"},
		{"broken off in its data", "id: 1\ndata: a", "x", "id: 1\ndata: x\n"},
		{"broken off before its data", "id: 1", "x", "id: 1\ndata: x\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			s := NewScanner(1000)
			emit := func(e *Event) error {
				got = append(got, string(e.AppendData([]byte("before\r"), []byte(tc.data))))
				return nil
			}
			if err := s.Feed([]byte(tc.in), emit); err != nil {
				t.Fatal(err)
			}
			if err := s.Finish(emit); err != nil {
				t.Fatal(err)
			}
			if want := []string{"before\r" + tc.want}; !reflect.DeepEqual(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestAppendEvent(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Event
		want string
	}{
		{"data", Event{Data: []byte("{}")}, "data: {}\n\n"},
		{"all", Event{Type: []byte("message"), ID: []byte("a b"), Data: []byte("x\ny"), Retry: 1500 * time.Millisecond}, "event: message\nid: a b\nretry: 1500\ndata: x\ndata: y\n\n"},
		{"set but empty", Event{HasID: true, HasRetry: true}, "id: \nretry: 0\ndata: \n\n"},
		{"nothing can be forged", Event{Type: []byte("a\ndata: x"), ID: []byte("1\rdata: x"), Data: []byte("a\rid: 7\n\ndata: b")}, "data: a\ndata: id: 7\ndata: \ndata: data: b\n\n"},
		{"a NUL id is no id", Event{ID: []byte("a\x00")}, "data: \n\n"},
		{"negative retry", Event{HasRetry: true, Retry: -time.Second}, "retry: 0\ndata: \n\n"},
	} {
		if got := string(AppendEvent(nil, &tc.in)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestAppendComment(t *testing.T) {
	for in, want := range map[string]string{
		"":               ": \n\n",
		"keep-alive":     ": keep-alive\n\n",
		"a\r\ndata: b\n": ": a\n: data: b\n\n",
	} {
		got := string(AppendComment(nil, in))
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if events, pending, err := scan(100, got); err != nil || pending != "" || len(events) != 1 || events[0].HasData {
			t.Errorf("%q: read as %+v, pending %q, error %v", in, events, pending, err)
		}
	}
}

// breaks turns every kind of line break into the one that data can carry.
var breaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// FuzzAppendData checks that an event with new data is one event again, with
// that data, the same fields, and all its other lines.
func FuzzAppendData(f *testing.F) {
	seeds(f, []byte("x\ny"))
	f.Fuzz(func(t *testing.T, stream, data []byte) {
		s := NewScanner(1 << 20)
		check := func(e *Event) error {
			got := string(e.AppendData(nil, data))
			if e.Partial { // complete it: its last line, then the blank one
				if !strings.HasSuffix(got, "\n") && !strings.HasSuffix(got, "\r") {
					got += "\n"
				}
				got += "\r\n"
			}
			want := keep(e)
			want.Raw, want.Data, want.HasData, want.Partial = got, breaks.Replace(string(data)), true, false
			if e.skip == 0 && strings.HasPrefix(got, mark) {
				return nil // on its own it would be read as a stream with a mark
			}
			if read, pending, err := scan(1<<20, got); err != nil || pending != "" || !reflect.DeepEqual(read, []kept{want}) {
				t.Fatalf("%q: read back %+v, pending %q, error %v; want %+v", e.Raw, read, pending, err, want)
			}
			if before, after := others(e.Raw[e.skip:]), others([]byte(got)[e.skip:]); !reflect.DeepEqual(before, after) {
				t.Fatalf("%q: other lines were %q and are %q", e.Raw, before, after)
			}
			return nil
		}
		if s.Feed(stream, check) != nil || s.Finish(check) != nil {
			t.Fatal("refused")
		}
	})
}

// others returns what the lines say that are neither data nor blank.
func others(raw []byte) (lines []string) {
	for len(raw) > 0 {
		var content []byte
		content, _, raw = cutLine(raw)
		if name, _ := cutField(content); len(content) > 0 && string(name) != "data" {
			lines = append(lines, string(content))
		}
	}
	return lines
}

// FuzzAppendEvent checks that a written event is read as what it was made of.
func FuzzAppendEvent(f *testing.F) {
	f.Add([]byte("message"), []byte("1"), []byte("a\r\nb"), uint32(3))
	f.Fuzz(func(t *testing.T, typ, id, data []byte, retry uint32) {
		written := string(AppendEvent(nil, &Event{Type: typ, ID: id, Data: data, Retry: time.Duration(retry) * time.Millisecond}))
		want := kept{Raw: written, Data: breaks.Replace(string(data)), HasData: true, HasRetry: retry > 0}
		want.Retry = min(time.Duration(retry)*time.Millisecond, maxRetry)
		if !bytes.ContainsAny(typ, "\r\n") {
			want.Type = string(typ)
		}
		if len(id) > 0 && !bytes.ContainsAny(id, "\r\n\x00") {
			want.ID, want.HasID = string(id), true
		}
		if got, pending, err := scan(1<<20, written); err != nil || pending != "" || !reflect.DeepEqual(got, []kept{want}) {
			t.Fatalf("%q: read back %+v, pending %q, error %v", written, got, pending, err)
		}
	})
}
