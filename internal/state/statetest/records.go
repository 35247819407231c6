package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

func testRecords(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	if _, err := state.Get(ctx, s, "user/alice"); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("a record that never was: %v", err)
	}
	v := mustApply(t, s, state.Create("user/alice", []byte("1")))
	r := mustGet(t, s, "user/alice")
	if r.Key != "user/alice" || string(r.Value) != "1" || r.Version != v || !r.Expires.IsZero() {
		t.Fatalf("read %+v, version %d was written", r, v)
	}
	if v = mustApply(t, s, state.Replace(r, []byte("2"))); v == r.Version {
		t.Error("another value has the same version")
	}
	if r = mustGet(t, s, "user/alice"); string(r.Value) != "2" || r.Version != v {
		t.Errorf("read %+v after it was replaced", r)
	}
	mustApply(t, s, state.Overwrite("user/alice", []byte("3")), state.Overwrite("user/bob", []byte("b")))
	records, err := s.Read(ctx, "user/bob", "user/carol", "user/alice")
	if err != nil || len(records) != 3 || string(records[0].Value) != "b" || records[1].Exists() ||
		records[1].Key != "user/carol" || string(records[2].Value) != "3" || records[0].Version != records[2].Version {
		t.Fatalf("read %+v, %v", records, err)
	}
	mustApply(t, s, state.Delete(records[0]), state.Remove("user/carol"), state.Remove("user/alice"))
	for _, key := range []string{"user/alice", "user/bob", "user/carol"} {
		if !absent(t, s, key) {
			t.Errorf("%s is there after it was deleted", key)
		}
	}
}

func testVersions(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	mustApply(t, s, state.Create("k", []byte("same")))
	first := mustGet(t, s, "k")
	mustApply(t, s, state.Delete(first))
	mustApply(t, s, state.Create("k", []byte("same")))
	if second := mustGet(t, s, "k"); second.Version == first.Version {
		t.Error("a record made anew has the version of the old one")
	}
	for name, change := range map[string]state.Change{
		"create what is there":        state.Create("k", nil),
		"replace what was deleted":    state.Replace(first, nil),
		"delete what was deleted":     state.Delete(first),
		"require what was deleted":    state.Require(first),
		"require that it is absent":   state.Require(state.Record{Key: "k"}),
		"replace what never was":      state.Replace(state.Record{Key: "other", Version: 7}, nil),
		"delete what never was":       state.Delete(state.Record{Key: "other", Version: 7}),
		"require what never was":      state.Require(state.Record{Key: "other", Version: 7}),
		"delete as absent what is":    state.Delete(state.Record{Key: "k"}),
		"require any version of none": state.Require(state.Record{Key: "other", Version: 1}),
	} {
		_, err := s.Apply(ctx, change)
		var conflict *state.ConflictError
		if !errors.Is(err, state.ErrConflict) || !errors.As(err, &conflict) || conflict.Key != change.Key {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s: a conflict is taken for something else", name)
		}
	}
	if r := mustGet(t, s, "k"); string(r.Value) != "same" {
		t.Errorf("a conflict has changed the record to %q", r.Value)
	}
}

func testAtomic(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	mustApply(t, s, state.Create("token/1", []byte("a")), state.Create("token_by_name/ci", []byte("1")))
	one := mustGet(t, s, "token/1")
	_, err := s.Apply(ctx,
		state.Replace(one, []byte("b")),
		state.Create("token/2", []byte("c")),
		state.Remove("token/1x"),
		state.Create("token_by_name/ci", []byte("2")), // the name is taken
		state.Create("token/3", []byte("d")))
	var conflict *state.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != "token_by_name/ci" {
		t.Fatalf("two of one name: %v", err)
	}
	if r := mustGet(t, s, "token/1"); r.Version != one.Version || string(r.Value) != "a" {
		t.Error("a change was made though another could not be")
	}
	if !absent(t, s, "token/2") || !absent(t, s, "token/3") || string(mustGet(t, s, "token_by_name/ci").Value) != "1" {
		t.Error("a change was made though another could not be")
	}
}

func testRequire(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	mustApply(t, s, state.Create("team/a", []byte("x")))
	team := mustGet(t, s, "team/a")
	mustApply(t, s, state.Require(team), state.Require(state.Record{Key: "team/b"}), state.Create("member/a/alice", nil))
	if r := mustGet(t, s, "team/a"); r.Version != team.Version {
		t.Error("to require a record has changed it")
	}
	mustApply(t, s, state.Remove("team/a"))
	if _, err := s.Apply(ctx, state.Require(team), state.Create("member/a/bob", nil)); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a team that is gone got a member: %v", err)
	}
	if !absent(t, s, "member/a/bob") {
		t.Error("a team that is gone got a member")
	}
}

func testValues(t *testing.T, maker Maker) {
	s := maker.store(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, value := range map[string][]byte{
		"empty":   {},
		"zero":    {0},
		"all":     all,
		"largest": bytes.Repeat([]byte{0xff, 0, '\n'}, state.MaxValue/3),
	} {
		mustApply(t, s, state.Overwrite("value", value))
		if got := mustGet(t, s, "value"); !bytes.Equal(got.Value, value) {
			t.Errorf("%s: %d bytes came back as %d", name, len(value), len(got.Value))
		}
	}
}

// hostile are keys that something on the way might take for something else.
var hostile = []string{
	"a", "a/", "a//", "A", "{a}", "{", "}", "a{b}c", "*", "a*", "?", "[a]", "^", "\\", "a b", " a", "a ", "\n", "a\r\nb",
	"\x00", "a\x00", "a\x00b", "\xff", "\xff\xff", "a\xff", "é", "日本語", "'", `"`, "-", "+inf", "(", "((a", "[", "[a",
	strings.Repeat("k", state.MaxKey), ":", "token:revoked:a", "0", "-1", "nil", "%2F", "..", "%",
}

func testKeys(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	for i, key := range hostile {
		if _, err := s.Apply(ctx, state.Create(key, []byte(strconv.Itoa(i)))); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	for i, key := range hostile {
		if got := string(mustGet(t, s, key).Value); got != strconv.Itoa(i) {
			t.Errorf("%q has the value of %q", key, got)
		}
	}
	want := slices.Sorted(slices.Values(hostile))
	if got := keys(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("scanned %q\nwant    %q", got, want)
	}
	for _, prefix := range hostile {
		var want []string
		for _, key := range hostile {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		slices.Sort(want)
		if got := keys(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("prefix %q: scanned %q, want %q", prefix, got, want)
		}
	}
}

func keys(t *testing.T, s state.Store, prefix string) (all []string) {
	t.Helper()
	for r, err := range state.All(background(t), s, prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Key)
	}
	return all
}

func testBounds(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	many := make([]state.Change, state.MaxChanges+1)
	manyKeys := make([]string, len(many))
	for i := range many {
		manyKeys[i] = fmt.Sprint("k", i)
		many[i] = state.Create(manyKeys[i], nil)
	}
	for name, changes := range map[string][]state.Change{
		"none":       {},
		"too many":   many,
		"no key":     {state.Create("", nil)},
		"long key":   {state.Create(strings.Repeat("k", state.MaxKey+1), nil)},
		"large":      {state.Create("k", make([]byte, state.MaxValue+1))},
		"same twice": {state.Create("k", nil), state.Remove("k")},
		"unknown":    {{Key: "k", Op: 9}},
	} {
		_, err := s.Apply(ctx, changes...)
		if err == nil || errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, keys := range map[string][]string{
		"none": {}, "too many": manyKeys, "no key": {""}, "long key": {strings.Repeat("k", state.MaxKey+1)},
	} {
		if _, err := s.Read(ctx, keys...); err == nil || errors.Is(err, state.ErrUnavailable) {
			t.Errorf("read %s: %v", name, err)
		}
	}
	mustApply(t, s, many[:state.MaxChanges]...)
	records, err := s.Read(ctx, manyKeys[:state.MaxChanges]...)
	if err != nil || slices.ContainsFunc(records, func(r state.Record) bool { return !r.Exists() }) {
		t.Errorf("as many as there may be: %v", err)
	}
}

func testScan(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	all := make([]string, 0, 50)
	for i := range 50 {
		all = append(all, fmt.Sprintf("member/a/%02d", i))
	}
	for _, key := range append([]string{"member/a", "member/aa/1", "member/b/1", "membe", "member/A/1"}, all...) {
		mustApply(t, s, state.Create(key, []byte(key)))
	}
	for _, limit := range []int{1, 7, 50, 51, state.MaxScan} {
		var got []string
		for after, pages := "", 0; ; pages++ {
			records, next, err := s.Scan(ctx, "member/a/", after, limit)
			if err != nil || len(records) > limit || pages > 60 {
				t.Fatalf("%d records of %d on page %d: %v", len(records), limit, pages, err)
			}
			for _, r := range records {
				if string(r.Value) != r.Key || !r.Exists() {
					t.Errorf("%q has the value %q", r.Key, r.Value)
				}
				got = append(got, r.Key)
			}
			if next == "" {
				break
			}
			after = next
		}
		if !slices.Equal(got, all) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	if records, next, err := s.Scan(ctx, "member/a/", "member/a/48", 10); err != nil || next != "" || len(records) != 1 || records[0].Key != "member/a/49" {
		t.Errorf("after the last but one: %v, %q, %v", records, next, err)
	}
	if records, next, err := s.Scan(ctx, "member/a/", "member/b", 10); err != nil || next != "" || len(records) != 0 {
		t.Errorf("after the prefix: %v, %q, %v", records, next, err)
	}
	if records, _, err := s.Scan(ctx, "member/a/", "memb", 1); err != nil || len(records) != 1 || records[0].Key != all[0] {
		t.Errorf("before the prefix: %v, %v", records, err)
	}
	if records, next, err := s.Scan(ctx, "nobody/", "", 10); err != nil || next != "" || len(records) != 0 {
		t.Errorf("nothing: %v, %q, %v", records, next, err)
	}
}

// testScanLarge: what one call returns is bounded, and all comes in the end.
func testScanLarge(t *testing.T, maker Maker) {
	s := maker.store(t)
	value := bytes.Repeat([]byte("x"), state.MaxValue)
	const n = 40 // 10 MiB
	for i := range n {
		mustApply(t, s, state.Create(fmt.Sprintf("large/%02d", i), value))
	}
	records, next, err := s.Scan(background(t), "large/", "", state.MaxScan)
	if err != nil || next == "" || len(records) == 0 || len(records) > n/2 {
		t.Errorf("%d records of 256 KiB at once, next %q, %v", len(records), next, err)
	}
	if got := keys(t, s, "large/"); len(got) != n {
		t.Errorf("%d of %d records in all", len(got), n)
	}
}

func testExpiry(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	soon := time.Now().Add(300 * time.Millisecond)
	later := time.Now().Add(time.Hour)
	mustApply(t, s,
		state.Create("e/soon", []byte("1")).Until(soon),
		state.Create("e/later", []byte("1")).Until(later),
		state.Create("e/never", []byte("1")),
		state.Create("e/kept", []byte("1")).Until(soon),
		state.Create("e/ended", []byte("1")).Until(later),
		state.Create("e/freed", []byte("1")).Until(soon))
	if got := mustGet(t, s, "e/later").Expires; got.Sub(later).Abs() > time.Millisecond {
		t.Errorf("expires %s, want %s", got, later)
	}
	mustApply(t, s,
		state.Replace(mustGet(t, s, "e/kept"), []byte("2")).Until(later),
		state.Replace(mustGet(t, s, "e/freed"), []byte("2")).Until(time.Time{}),
		state.Replace(mustGet(t, s, "e/ended"), []byte("2")).Until(soon),
		state.Replace(mustGet(t, s, "e/later"), []byte("2")))
	if got := mustGet(t, s, "e/later").Expires; got.Sub(later).Abs() > time.Millisecond {
		t.Errorf("a replaced record expires %s, want %s", got, later)
	}
	was := mustGet(t, s, "e/ended")
	Eventually(t, "the end of what expires", func() bool { return absent(t, s, "e/soon") && absent(t, s, "e/ended") })
	if got := time.Now(); got.Before(soon.Add(-time.Millisecond)) {
		t.Errorf("expired %s too early", soon.Sub(got))
	}
	if got, want := keys(t, s, "e/"), []string{"e/freed", "e/kept", "e/later", "e/never"}; !slices.Equal(got, want) {
		t.Errorf("scanned %q, want %q", got, want)
	}
	if _, err := s.Apply(ctx, state.Replace(was, nil)); !errors.Is(err, state.ErrConflict) {
		t.Errorf("what has expired was replaced: %v", err)
	}
	mustApply(t, s, state.Create("e/soon", []byte("again")), state.Require(state.Record{Key: "e/ended"}))
	if r := mustGet(t, s, "e/soon"); string(r.Value) != "again" || !r.Expires.IsZero() {
		t.Errorf("made again: %+v", r)
	}
	mustApply(t, s, state.Create("e/over", []byte("1")).Until(time.Now().Add(-time.Second)))
	if !absent(t, s, "e/over") || slices.Contains(keys(t, s, "e/"), "e/over") {
		t.Error("a record that was over when it was made is there")
	}
}
