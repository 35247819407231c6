package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func boxes(t testing.TB, purposes ...string) []*Box {
	t.Helper()
	s := NewSecret()
	var all []*Box
	for _, purpose := range purposes {
		b, err := s.Box(purpose)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func sealed(t testing.TB, b *Box, text string, bound ...string) string {
	t.Helper()
	closed, err := b.Seal(text, bound...)
	if err != nil {
		t.Fatal(err)
	}
	return closed
}

func TestSealOpen(t *testing.T) {
	b := boxes(t, "a")[0]
	for _, text := range []string{"", "a", "admin", "\x00\xff", strings.Repeat("é", 100), strings.Repeat("x", MaxText)} {
		closed := sealed(t, b, text, "alice", "tools")
		if got, ok := b.Open(closed, "alice", "tools"); !ok || got != text {
			t.Errorf("%.20q: opened as %.20q, %v", text, got, ok)
		}
		if !b.Sealed(closed) || len(closed) > MaxSealed {
			t.Errorf("%.20q: is not known again, or is too long: %d bytes", text, len(closed))
		}
		raw, err := base64.RawURLEncoding.DecodeString(closed)
		if err != nil {
			t.Fatal(err)
		}
		if text != "" && len(text) > 1 && (strings.Contains(closed, text) || bytes.Contains(raw, []byte(text))) {
			t.Errorf("%.20q can be read", text)
		}
		if again := sealed(t, b, text, "alice", "tools"); again == closed {
			t.Errorf("%.20q is sealed twice to the same", text)
		}
	}
	if _, err := b.Seal(strings.Repeat("x", MaxText+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long a text: %v", err)
	}
}

// TestLength: the length of what is sealed says no more than in which block it is.
func TestLength(t *testing.T) {
	b := boxes(t, "a")[0]
	lengths := map[int]bool{}
	for n := range 4 * block {
		lengths[len(sealed(t, b, strings.Repeat("x", n)))] = true
	}
	if len(lengths) != 5 { // the last two bytes of the fourth block begin a fifth
		t.Errorf("%d lengths", len(lengths))
	}
}

func TestOpenRefuses(t *testing.T) {
	both := boxes(t, "a", "b")
	b, other := both[0], both[1]
	closed := sealed(t, b, "secret", "iss", "alice", "")
	raw, err := encoding.DecodeString(closed)
	if err != nil {
		t.Fatal(err)
	}
	for name, bound := range map[string][]string{
		"another":           {"iss", "bob", ""},
		"none":              nil,
		"fewer":             {"iss", "alice"},
		"more":              {"iss", "alice", "", ""},
		"cut elsewhere":     {"issa", "lice", ""},
		"in another order":  {"alice", "iss", ""},
		"joined":            {"issalice", "", ""},
		"with their length": {"iss\x05alice", "", ""},
	} {
		if text, ok := b.Open(closed, bound...); ok {
			t.Errorf("names, %s: opened: %q", name, text)
		}
	}
	for name, text := range map[string]string{
		"empty":         "",
		"garbage":       "garbage",
		"marker alone":  closed[:8],
		"cut":           closed[:len(closed)-4],
		"longer":        closed + "AAAA",
		"padded":        closed + "=",
		"unused bits":   closed[:len(closed)-1] + unusedBitSet(closed[len(closed)-1]),
		"a line break":  closed[:20] + "\n" + closed[20:],
		"much too long": closed + strings.Repeat("A", MaxSealed),
		"not base64":    closed[:30] + "!" + closed[31:],
		"upper case":    strings.ToUpper(closed),
	} {
		if text, ok := b.Open(text, "iss", "alice", ""); ok {
			t.Errorf("%s: opened: %q", name, text)
		}
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if text, ok := b.Open(encoding.EncodeToString(changed), "iss", "alice", ""); ok {
			t.Errorf("byte %d changed: opened: %q", i, text)
		}
	}
	if _, ok := other.Open(closed, "iss", "alice", ""); ok || other.Sealed(closed) {
		t.Error("the box of another purpose opens it, or takes it for its own")
	}
	if elsewhere := boxes(t, "a")[0]; elsewhere.Sealed(closed) {
		t.Error("the box of another secret takes it for its own")
	}
}

// unusedBitSet is the last character of a base64 text whose length leaves bits of it
// unused, written in another way.
func unusedBitSet(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)|1:][:1]
}

// FuzzOpen: nothing opens but what was sealed, and that for the same names only.
func FuzzOpen(f *testing.F) {
	b := boxes(f, "a")[0]
	const text, whom = "the text", "whom"
	closed := sealed(f, b, text, whom)
	f.Add(closed, whom)
	f.Add(closed, "who")
	f.Add(closed+"A", whom)
	f.Add(closed[:8], whom)
	f.Add("", "")
	f.Add(strings.Repeat("A", 300), whom)
	f.Fuzz(func(t *testing.T, given, name string) {
		if strings.HasPrefix(given, "marker") {
			given = closed[:8] + given[len("marker"):]
		}
		got, ok := b.Open(given, name)
		if ok != (given == closed && name == whom) || ok && got != text {
			t.Errorf("%q for %q: %q, %v", given, name, got, ok)
		}
		again, err := b.Seal(given, name)
		if err != nil {
			if len(given) <= MaxText {
				t.Error(err)
			}
			return
		}
		if back, ok := b.Open(again, name); !ok || back != given {
			t.Errorf("%q came back as %q, %v", given, back, ok)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	box := boxes(b, "a")[0]
	cursor := strings.Repeat("c", 100)
	b.ReportAllocs()
	for b.Loop() {
		closed, err := box.Seal(cursor, "https://login.example.com", "alice", "app", "https://mcp.example.com/servers/a/mcp", "tools")
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := box.Open(closed, "https://login.example.com", "alice", "app", "https://mcp.example.com/servers/a/mcp", "tools"); !ok {
			b.Fatal("not opened")
		}
	}
}
