package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestLazy: nothing is made on the disk before there is something to keep.
func TestLazy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(dir, "state.db")
	s := newStore(path, true)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := statetest.Collect(t, s.Follow)
	changed := statetest.Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "", f) })
	told.Current(t)
	changed.Current(t)
	if records, err := s.Read(t.Context(), "k"); err != nil || records[0].Exists() {
		t.Errorf("read %+v, %v", records, err)
	}
	if records, next, err := s.Scan(t.Context(), "", "", 10); err != nil || len(records) > 0 || next != "" {
		t.Errorf("scanned %+v, %q, %v", records, next, err)
	}
	if wait, err := s.Take(t.Context(), "k", 0, state.PerHour(1)); wait != 0 || err != nil {
		t.Errorf("wait %s, %v", wait, err)
	}
	if err := s.Revoke(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("there is something on the disk: %v", err)
	}
	if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "first"}); err != nil {
		t.Fatal(err)
	}
	told.Wait(t, "the first", func(all state.Update) bool { return len(all.Revocations) == 1 })
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the file there is more: %v, %v", entries, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := newStore(path, true)
	if err := again.Open(t.Context()); err != nil || again.file.Load() == nil {
		t.Errorf("a file that is there was not opened: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestTogether: writes that are asked for while another one is under way share one
// commit.
func TestTogether(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "state.db"))
	id := func() (n int) {
		t.Helper()
		if err := s.view(t.Context(), func(tx *bolt.Tx) error { n = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := id()
	writing, goOn := make(chan struct{}), make(chan struct{})
	results := make(chan error, 101)
	go func() {
		results <- s.update(t.Context(), func(*bolt.Tx) error {
			close(writing)
			<-goOn
			return nil
		}, nil)
	}()
	<-writing
	for i := range 100 {
		go func() {
			_, err := s.Apply(t.Context(), state.Create(fmt.Sprint("k", i/2), nil))
			results <- err
		}()
	}
	statetest.Eventually(t, "that all wait", func() bool { return len(s.operations) == 100 })
	close(goOn)
	conflicts := 0
	for range 101 {
		switch err := <-results; {
		case errors.Is(err, state.ErrConflict):
			conflicts++
		case err != nil:
			t.Error(err)
		}
	}
	if commits := id() - before; commits != 2 || conflicts != 50 {
		t.Errorf("%d commits, %d conflicts", commits, conflicts)
	}
}

// TestGivesUp: an operation whose caller has gone before it was begun is not made.
func TestGivesUp(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "state.db"))
	writing, goOn := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.update(context.Background(), func(*bolt.Tx) error {
			close(writing)
			<-goOn
			return nil
		}, nil)
	}()
	<-writing
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := s.Apply(ctx, state.Create("k", nil))
		result <- err
	}()
	statetest.Eventually(t, "that it waits", func() bool { return len(s.operations) == 1 })
	cancel()
	if err := <-result; !errors.Is(err, state.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(goOn)
	if _, err := s.Apply(t.Context(), state.Create("other", nil)); err != nil {
		t.Fatal(err)
	}
	if records, err := s.Read(t.Context(), "k"); err != nil || records[0].Exists() {
		t.Errorf("%+v, %v", records, err)
	}
}

// TestSweep: what has expired is removed, a bounded number at a time, revocations an
// hour later, and nothing else.
func TestSweep(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "state.db"))
	now := time.Now().Truncate(time.Millisecond)
	clock := statetest.NewClock(now)
	s.setNow(clock.Now)
	const n = sweepMost + 500
	soon, late := now.Add(time.Minute), now.Add(5*time.Hour)
	for i := 0; i < n; i += 50 {
		var changes []state.Change
		for j := range 50 {
			changes = append(changes, state.Create(fmt.Sprint("soon/", i+j), nil).Until(soon))
		}
		changes = append(changes, state.Create(fmt.Sprint("late/", i), nil).Until(late), state.Create(fmt.Sprint("ever/", i), nil),
			state.Create(fmt.Sprint("kept/", i), nil).Until(soon))
		if _, err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
		kept, err := state.Get(t.Context(), s, fmt.Sprint("kept/", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(t.Context(), state.Replace(kept, nil).Until(late)); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Revoke(t.Context(),
		state.Revocation{Kind: state.RevokeID, Value: "soon", Expires: soon},
		state.Revocation{Kind: state.RevokeID, Value: "late", Expires: late},
		state.Revocation{Kind: state.RevokeID, Value: "ever"},
		state.Revocation{Kind: state.RevokeSubject, Value: "longer", Expires: soon})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeSubject, Value: "longer", Expires: late})
	if err != nil {
		t.Fatal(err)
	}
	counts := func() (records, revocations, expiries int) {
		t.Helper()
		err := s.view(t.Context(), func(tx *bolt.Tx) error {
			records, revocations = int(tx.Bucket(recordsBucket).Sequence()), int(tx.Bucket(revocationsBucket).Sequence())
			expiries = tx.Bucket(expiriesBucket).Stats().KeyN
			return verify(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		return records, revocations, expiries
	}
	const groups = n / 50
	for _, step := range []struct {
		at                              time.Time
		swept, records, revs, remaining int
	}{
		{now, 0, n + 3*groups, 4, n + 2*groups + 3},
		{soon, sweepMost, n + 3*groups - sweepMost, 4, n + 2*groups + 3 - sweepMost},
		{soon, n - sweepMost, 3 * groups, 4, 2*groups + 3},
		{soon, 0, 3 * groups, 4, 2*groups + 3},
		{soon.Add(keepRevocations), 1, 3 * groups, 3, 2*groups + 2},
		{late, 2 * groups, groups, 3, 2},
		{late.Add(keepRevocations), 2, groups, 1, 0},
	} {
		clock.Set(step.at)
		swept, err := s.sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if records, revs, remaining := counts(); swept != step.swept || records != step.records || revs != step.revs || remaining != step.remaining {
			t.Errorf("at %s swept %d, then %d records, %d revocations, %d that expire; want %+v", step.at, swept, records, revs, remaining, step)
		}
	}
}

// TestClockBack: a revocation that had expired is in force again when the clock is put
// back, as is the token.
func TestClockBack(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "state.db"))
	start := time.Now()
	clock := statetest.NewClock(start)
	s.setNow(clock.Now)
	if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "a", Expires: start.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		if err := s.allRevocations(t.Context(), func(u state.Update) { n += len(u.Revocations) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	clock.Set(start.Add(30 * time.Minute))
	if _, err := s.sweep(t.Context()); err != nil || count() != 0 {
		t.Errorf("%d in force after it has expired, %v", count(), err)
	}
	clock.Set(start)
	if count() != 1 {
		t.Error("it is forgotten")
	}
}
