package statetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

const issuer = "https://login.example.com/realms/a b*"

func some(until time.Time) []state.Revocation {
	return []state.Revocation{
		{Kind: state.RevokeID, Issuer: issuer, Value: "jti-1", Expires: until},
		{Kind: state.RevokeID, Value: "jti-2 of any issuer", Expires: until},
		{Kind: state.RevokeID, Issuer: issuer, Value: strings.Repeat("long", 2000)},
		{Kind: state.RevokeID, Issuer: "*", Value: "{tag} *?[x]\n", Expires: until},
		{Kind: state.RevokeHash, Value: strings.Repeat("0f", 32), Expires: until},
		{Kind: state.RevokeSubject, Issuer: issuer, Value: "alice", Before: time.Unix(1_700_000_000, 0), Expires: until},
		{Kind: state.RevokeSubject, Issuer: issuer, Value: "bob"},
		{Kind: state.RevokeClient, Issuer: issuer, Value: "app", Expires: until},
		{Kind: state.RevokeEveryone, Issuer: issuer, Before: time.Unix(1_600_000_000, 0), Expires: until},
		{Kind: state.RevokeEveryone, Before: time.Unix(1_500_000_000, 0), Expires: until},
	}
}

// found returns what was told last of the same revocation.
func found(all state.Update, want state.Revocation) (state.Revocation, bool) {
	for _, r := range slices.Backward(all.Revocations) {
		if r.Same(want) {
			return r, true
		}
	}
	return state.Revocation{}, false
}

// has says that a revocation was told as it was made, to the precision of expiry.
func has(all state.Update, want state.Revocation) bool {
	got, ok := found(all, want)
	return ok && got.Before.Equal(want.Before) && got.Expires.IsZero() == want.Expires.IsZero() &&
		got.Expires.Sub(want.Expires).Abs() <= time.Second
}

func hasAll(all state.Update, want []state.Revocation) bool {
	return !slices.ContainsFunc(want, func(r state.Revocation) bool { return !has(all, r) })
}

func testRevoke(t *testing.T, maker Maker) {
	open := maker.New(t)
	s := open()
	revocations := some(time.Now().Add(time.Hour))
	if err := s.Revoke(background(t), revocations[:5]...); err != nil {
		t.Fatal(err)
	}
	told := Collect(t, s.Follow)
	told.Wait(t, "what was revoked before", func(all state.Update) bool { return hasAll(all, revocations[:5]) })
	told.Current(t)
	told.Forget()
	for _, r := range revocations[5:] {
		if err := s.Revoke(background(t), r); err != nil {
			t.Fatal(err)
		}
	}
	told.Current(t)
	told.Wait(t, "what was revoked after, by the time it is current", func(all state.Update) bool {
		if !hasAll(all, revocations[5:]) {
			t.Errorf("told %+v", all.Revocations)
		}
		return true
	})
	if err := s.Revoke(background(t)); err != nil {
		t.Errorf("to revoke nothing: %v", err)
	}
	again := Collect(t, s.Follow)
	again.Current(t)
	again.Wait(t, "all of it to another", func(all state.Update) bool {
		for _, r := range all.Revocations {
			if !slices.ContainsFunc(revocations, r.Same) {
				t.Errorf("told of %+v, which nobody has revoked", r)
			}
		}
		return hasAll(all, revocations)
	})
}

func testRevokeJoins(t *testing.T, maker Maker) {
	s := maker.store(t)
	early, late := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	subject := func(before, expires time.Time) state.Revocation {
		return state.Revocation{Kind: state.RevokeSubject, Issuer: issuer, Value: "alice", Before: before, Expires: expires}
	}
	id := func(issuer string, expires time.Time) state.Revocation {
		return state.Revocation{Kind: state.RevokeID, Issuer: issuer, Value: "j", Expires: expires}
	}
	one, two := time.Unix(1_700_000_001, 0), time.Unix(1_700_000_002, 0)
	for i, step := range []struct{ made, want state.Revocation }{
		{subject(one, late), subject(one, late)},
		{subject(two, early), subject(two, late)},
		{subject(one, early), subject(two, late)},
		{subject(time.Time{}, early), subject(time.Time{}, late)},
		{subject(two, early), subject(time.Time{}, late)},
		{subject(two, time.Time{}), subject(time.Time{}, time.Time{})},
		{subject(two, late), subject(time.Time{}, time.Time{})},
		{id(issuer, late), id(issuer, late)},
		{id(issuer, early), id(issuer, late)},
		{id("https://other", late), id("https://other", late)},
		{id("", late), id("", late)},
		{id(issuer, time.Time{}), id(issuer, time.Time{})},
	} {
		if err := s.Revoke(background(t), step.made); err != nil {
			t.Fatal(err)
		}
		told := Collect(t, s.Follow)
		told.Current(t)
		told.Wait(t, "", func(all state.Update) bool {
			if !has(all, step.want) {
				got, _ := found(all, step.want)
				t.Errorf("step %d: told %+v, want %+v", i, got, step.want)
			}
			return true
		})
	}
	told := Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "each issuer's on its own", func(all state.Update) bool {
		return has(all, id(issuer, time.Time{})) && len(all.Revocations) == 4
	})
}

func testRevokeBounds(t *testing.T, maker Maker) {
	s := maker.store(t)
	for name, r := range map[string]state.Revocation{
		"no kind":           {Value: "a"},
		"unknown kind":      {Kind: 99, Value: "a"},
		"no id":             {Kind: state.RevokeID},
		"no subject":        {Kind: state.RevokeSubject},
		"everyone and one":  {Kind: state.RevokeEveryone, Value: "a"},
		"id and issue time": {Kind: state.RevokeID, Value: "a", Before: time.Now()},
		"short hash":        {Kind: state.RevokeHash, Value: "0f"},
		"hash in capitals":  {Kind: state.RevokeHash, Value: strings.Repeat("0F", 32)},
		"long":              {Kind: state.RevokeSubject, Value: strings.Repeat("a", state.MaxRevocation+1)},
	} {
		if err := s.Revoke(background(t), r); err == nil || errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	over := state.Revocation{Kind: state.RevokeID, Value: "over", Expires: time.Now().Add(-time.Second)}
	soon := state.Revocation{Kind: state.RevokeID, Value: "soon", Expires: time.Now().Add(200 * time.Millisecond)}
	if err := s.Revoke(background(t), over, soon); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "the end of what expires", func() bool { return !time.Now().Before(soon.Expires) })
	told := Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "", func(all state.Update) bool {
		if len(all.Revocations) != 0 {
			t.Errorf("told of %+v, which are over", all.Revocations)
		}
		return true
	})
}

func testFollowMany(t *testing.T, maker Maker) {
	s := maker.store(t)
	const n = 25_000
	batch := make([]state.Revocation, 0, 1000)
	for i := range n {
		batch = append(batch, state.Revocation{Kind: state.RevokeID, Issuer: issuer, Value: fmt.Sprint("jti-", i), Expires: time.Now().Add(time.Hour)})
		if len(batch) == cap(batch) {
			if err := s.Revoke(background(t), batch...); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	told := Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "all of many", func(all state.Update) bool {
		seen := map[string]bool{}
		for _, r := range all.Revocations {
			seen[r.Value] = true
		}
		if len(seen) != n {
			t.Errorf("told of %d of %d", len(seen), n)
		}
		return true
	})
}

func testWatch(t *testing.T, maker Maker) {
	s := maker.store(t)
	mustApply(t, s, state.Create("user/alice", nil), state.Create("user/carol", nil), state.Create("team/a", nil))
	told := Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "user/", f) })
	told.Wait(t, "to begin anew", func(all state.Update) bool { return all.Reset })
	told.Current(t)
	told.Forget()
	mustApply(t, s,
		state.Create("user/bob", nil),
		state.Overwrite("user/alice", []byte("2")),
		state.Require(mustGet(t, s, "user/carol")),
		state.Overwrite("team/a", []byte("2")),
		state.Create("user", nil))
	mustApply(t, s, state.Remove("user/bob"))
	told.Current(t)
	told.Wait(t, "the changes", func(all state.Update) bool {
		for _, key := range all.Keys {
			if key != "user/bob" && key != "user/alice" {
				t.Errorf("told of %q", key)
			}
		}
		if !all.Reset && (!slices.Contains(all.Keys, "user/bob") || !slices.Contains(all.Keys, "user/alice")) {
			t.Errorf("current, and only told of %q", all.Keys)
		}
		return true
	})
}

// testWatchExpiry: the end of a record is a change of it, if not one that is told at
// once.
func testWatchExpiry(t *testing.T, maker Maker) {
	s := maker.store(t)
	told := Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "", f) })
	told.Current(t)
	expires := time.Now().Add(50 * time.Millisecond)
	mustApply(t, s, state.Create("short", nil).Until(expires))
	if r, err := state.Get(background(t), s, "short"); err == nil && r.Expires.Sub(expires).Abs() > time.Millisecond {
		t.Errorf("a reader is told that it expires %s, not %s", r.Expires, expires)
	}
	told.Wait(t, "of the new record", func(all state.Update) bool { return slices.Contains(all.Keys, "short") })
}

func testReopened(t *testing.T, maker Maker) {
	open := maker.New(t)
	s := open()
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	v := mustApply(t, s, state.Create("kept", []byte("value")).Until(expires))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := mustGet(t, open(), "kept")
	if string(r.Value) != "value" || r.Version != v || !r.Expires.Equal(expires) {
		t.Errorf("read %+v", r)
	}
}

func testFollowOnReopen(t *testing.T, maker Maker) {
	open := maker.New(t)
	s := open()
	revocations := some(time.Now().Add(time.Hour))
	if err := s.Revoke(background(t), revocations...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	told := Collect(t, open().Follow)
	told.Current(t)
	told.Wait(t, "what was revoked before the restart", func(all state.Update) bool { return hasAll(all, revocations) })
}

func testContexts(t *testing.T, maker Maker) {
	s := maker.store(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s) {
		if err := call(ctx); !errors.Is(err, state.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that has ended: %v", name, err)
		}
	}
	s.Follow(ctx, func(state.Update) {})
	s.Watch(ctx, "", func(state.Update) {})
	if !absent(t, s, "k") {
		t.Error("a call whose context had ended has written")
	}
}

func testClosed(t *testing.T, maker Maker) {
	s := maker.store(t)
	mustApply(t, s, state.Create("other", nil))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range calls(s) {
		if err := call(background(t)); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
}

func calls(s state.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Read":   func(ctx context.Context) error { _, err := s.Read(ctx, "k"); return err },
		"Scan":   func(ctx context.Context) error { _, _, err := s.Scan(ctx, "k", "", 1); return err },
		"Apply":  func(ctx context.Context) error { _, err := s.Apply(ctx, state.Create("k", nil)); return err },
		"Take":   func(ctx context.Context) error { _, err := s.Take(ctx, "fresh", 1, state.PerHour(1)); return err },
		"Revoke": func(ctx context.Context) error { return s.Revoke(ctx, some(time.Now().Add(time.Hour))...) },
	}
}

// testOtherNode: what one node does, the other knows.
func testOtherNode(t *testing.T, maker Maker) {
	open := maker.New(t)
	one := open()
	two := one
	if maker.Shared {
		two = open()
	}
	revoked, changed := Collect(t, two.Follow), Collect(t, func(ctx context.Context, f func(state.Update)) { two.Watch(ctx, "", f) })
	revoked.Current(t)
	changed.Current(t)
	revocations := some(time.Now().Add(time.Hour))
	if err := one.Revoke(background(t), revocations...); err != nil {
		t.Fatal(err)
	}
	v := mustApply(t, one, state.Create("k", []byte("1")))
	revoked.Wait(t, "the other's revocations", func(all state.Update) bool { return hasAll(all, revocations) })
	changed.Wait(t, "the other's change", func(all state.Update) bool { return slices.Contains(all.Keys, "k") })
	if r := mustGet(t, two, "k"); r.Version != v || string(r.Value) != "1" {
		t.Errorf("the other reads %+v", r)
	}
}
