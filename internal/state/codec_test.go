package state

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// TestRecordFormat1 reads what is kept in stores out there. This text must not change.
func TestRecordFormat1(t *testing.T) {
	const kept = "01" + "0123456789abcdef" + "000001a3185c5000" + "4145d045" + "7b2276223a317d"
	want := Record{
		Key: "user/alice@example.com", Value: []byte(`{"v":1}`), Version: 0x0123456789abcdef,
		Expires: time.UnixMilli(1_800_000_000_000),
	}
	if got := hex.EncodeToString(want.Encode()); got != kept {
		t.Errorf("written as %s", got)
	}
	b, err := hex.DecodeString(kept)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(want.Key, b)
	if err != nil || got.Key != want.Key || !bytes.Equal(got.Value, want.Value) || got.Version != want.Version || !got.Expires.Equal(want.Expires) {
		t.Errorf("read %+v, %v", got, err)
	}
	for i := range b {
		for bit := range 8 {
			damaged := bytes.Clone(b)
			damaged[i] ^= 1 << bit
			if _, err := DecodeRecord(want.Key, damaged); !errors.Is(err, ErrDamaged) {
				t.Errorf("bit %d of byte %d is wrong: %v", bit, i, err)
			}
		}
		if _, err := DecodeRecord(want.Key, b[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("only %d bytes: %v", i, err)
		}
	}
	if _, err := DecodeRecord("user/bob@example.com", b); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add("k", Record{Key: "k", Value: []byte("v"), Version: 7}.Encode())
	f.Add("k", []byte{})
	f.Fuzz(func(t *testing.T, key string, kept []byte) {
		r, err := DecodeRecord(key, kept)
		if err == nil && !bytes.Equal(r.Encode(), kept) {
			t.Errorf("%x is read as %+v", kept, r)
		}
	})
}

// TestRevocationFormat1 is the same for revocations.
func TestRevocationFormat1(t *testing.T) {
	for text, want := range map[string]Revocation{
		"mcp_gateway/1 1800000000000 0 1 https%3A%2F%2Flogin.example.com a+b%2A": {
			Kind: RevokeID, Issuer: "https://login.example.com", Value: "a b*", Expires: time.UnixMilli(1_800_000_000_000),
		},
		"mcp_gateway/1 0 0 2 * " + strings.Repeat("0f", 32): {Kind: RevokeHash, Value: strings.Repeat("0f", 32)},
		"mcp_gateway/1 0 1700000000001 3 * alice":           {Kind: RevokeSubject, Value: "alice", Before: time.UnixMilli(1_700_000_000_001)},
		"mcp_gateway/1 0 0 4 %2A app":                       {Kind: RevokeClient, Issuer: "*", Value: "app"},
		"mcp_gateway/1 0 1700000000000 5 * ":                {Kind: RevokeEveryone, Before: time.UnixMilli(1_700_000_000_000)},
	} {
		if got := want.EncodeText(); got != text {
			t.Errorf("written as %q, want %q", got, text)
		}
		got, err := DecodeRevocation(text)
		if err != nil || !got.Same(want) || !got.Before.Equal(want.Before) || !got.Expires.Equal(want.Expires) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "1", "mcp_gateway/2 0 0 1 * a", "mcp_gateway/1 0 0 1 *", "mcp_gateway/1 0 0 1 * a b", "mcp_gateway/1 x 0 1 * a",
		"mcp_gateway/1 -1 0 1 * a", "mcp_gateway/1 0 0 9 * a", "mcp_gateway/1 0 0 257 * a", "mcp_gateway/1 0 0 1 %zz a", "mcp_gateway/1 0 0 1 * %zz",
		"mcp_gateway/1 0 0 1 * ", "mcp_gateway/1 0 5 1 * a", "mcp_gateway/1  0 0 1 * a",
	} {
		if r, err := DecodeRevocation(text); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q is read as %+v, %v", text, r, err)
		}
	}
}

func FuzzDecodeRevocation(f *testing.F) {
	f.Add("mcp_gateway/1 1800000000000 0 1 https%3A%2F%2Flogin.example.com a+b%2A")
	f.Add("mcp_gateway/1 0 1700000000000 5 * ")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := DecodeRevocation(text)
		if err != nil {
			return
		}
		again, err := DecodeRevocation(r.EncodeText())
		if err != nil || !again.Same(r) || !again.Before.Equal(r.Before) || !again.Expires.Equal(r.Expires) {
			t.Errorf("%q is %+v, and that again %+v, %v", text, r, again, err)
		}
	})
}

func TestMillis(t *testing.T) {
	for ns, want := range map[int64]int64{1: 1, 1_000_000: 1, 1_000_001: 2, 1_999_999: 2, 1_700_000_000_123_456_789: 1_700_000_000_124} {
		if got := Millis(time.Unix(0, ns)); got != want {
			t.Errorf("%d ns are %d ms, want %d", ns, got, want)
		}
	}
	if Millis(time.Time{}) != 0 || !FromMillis(0).IsZero() || FromMillis(5).UnixMilli() != 5 || Millis(time.Unix(-5, 0)) != 1 {
		t.Error("the zero time, or one before 1970")
	}
}

// TestKeyParts: different parts never make the same key, and none gets into another
// table or another part.
func TestKeyParts(t *testing.T) {
	parts := []string{"", "a", "/", "a/b", "%", "%2F", "a%2Fb", "..", "\x00", "\n", "é", "\xff", "a b", "%2"}
	seen := map[string][]string{}
	for _, one := range parts {
		for _, two := range parts {
			for _, key := range [][]string{{one}, {one, two}} {
				k := Key("table", key...)
				if other, there := seen[k]; there && !slices.Equal(other, key) {
					t.Errorf("%q and %q are both %q", other, key, k)
				}
				seen[k] = key
				if !strings.HasPrefix(k, Prefix("table")) || strings.HasPrefix(k, Prefix("table", one)) != (len(key) == 2) {
					t.Errorf("%q is not where it belongs", k)
				}
				table, got, err := Parts(k)
				if err != nil || table != "table" || !slices.Equal(got, key) {
					t.Errorf("%q is %q %q, want %q: %v", k, table, got, key, err)
				}
			}
		}
	}
	for _, key := range []string{"t/%", "t/%2", "t/%2f", "t/%zz"} {
		if _, _, err := Parts(key); err == nil {
			t.Errorf("%q is a key", key)
		}
	}
}

type thing struct {
	Name string `json:"name"`
	Tags int    `json:"tags"`
}

// TestTable: records of an older version are read, of a newer one and damaged ones
// refused, without what is in them.
func TestTable(t *testing.T) {
	table := Table[thing]{Name: "thing", Version: 2, Upgrade: func(version int, data jsontext.Value) (jsontext.Value, error) {
		if version != 1 {
			t.Errorf("asked to upgrade version %d", version)
		}
		return jsontext.Value(strings.Replace(string(data), `"title"`, `"name"`, 1)), nil
	}}
	for value, want := range map[string]*thing{
		`{"v":2,"data":{"name":"a","tags":3}}`:               {"a", 3},
		`{"v":1,"data":{"title":"b"}}`:                       {"b", 0},
		`{"v":3,"data":{"name":"canary"}}`:                   nil,
		`{"v":0,"data":{"name":"canary"}}`:                   nil,
		`{"data":{"name":"canary"}}`:                         nil,
		`{"v":2,"data":{"name":"canary","more":1}}`:          nil,
		`{"v":2,"data":{"Name":"canary"}}`:                   nil,
		`{"v":2,"data":{"name":"canary","name":"canary"}}`:   nil,
		`{"v":2,"data":{"name":"canary"},"more":"canary"}`:   nil,
		`{"v":2,"data":{"tags":"canary"}}`:                   nil,
		`canary`:                                             nil,
		``:                                                   nil,
		`{"v":2,"data":{"name":"canary"}}{"v":2,"data":"a"}`: nil,
	} {
		entry, err := table.Decode(Record{Key: "thing/1", Value: []byte(value), Version: 7})
		switch {
		case want == nil:
			if !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %+v, %v", value, entry.Data, err)
			}
		case err != nil || entry.Data != *want || entry.Version != 7 || entry.Key != "thing/1":
			t.Errorf("%s: %+v, %v", value, entry, err)
		}
	}
	expires := time.Now().Add(time.Hour)
	change, err := table.Create(thing{"a/b", 1}, expires, "x", "y/z")
	if err != nil || change.Key != "thing/x/y%2Fz" || string(change.Value) != `{"v":2,"data":{"name":"a/b","tags":1}}` || change.If != Absent || !change.Expires.Equal(expires) {
		t.Errorf("created by %+v, %v", change, err)
	}
	entry := Entry[thing]{Record: Record{Key: "thing/x", Version: 9, Expires: expires}}
	if change, err = table.Replace(entry, thing{Name: "c"}); err != nil || change.If != 9 || change.Key != "thing/x" || !change.Expires.Equal(expires) {
		t.Errorf("replaced by %+v, %v", change, err)
	}
}
