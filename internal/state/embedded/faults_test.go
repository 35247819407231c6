package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// filled makes a file with records and revocations and returns how many of each.
func filled(t *testing.T, path string) (n int) {
	t.Helper()
	s := newStore(path, false)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const steps, each = 10, 40
	for step := range steps {
		var changes []state.Change
		var revocations []state.Revocation
		for i := range each {
			name := fmt.Sprintf("%03d", step*each+i)
			changes = append(changes, state.Create("k/"+name, []byte(strings.Repeat(name, 20))))
			revocations = append(revocations, state.Revocation{Kind: state.RevokeID, Issuer: "https://login.example.com", Value: name})
		}
		if _, err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
		if err := s.Revoke(t.Context(), revocations...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return steps * each
}

// whole reports whether all of it can be read.
func whole(t *testing.T, s *Store, n int) bool {
	t.Helper()
	records, revocations := 0, 0
	for r, err := range state.All(t.Context(), s, "") {
		if err != nil {
			return false
		}
		name := strings.TrimPrefix(r.Key, "k/")
		if string(r.Value) == strings.Repeat(name, 20) {
			records++
		}
		if _, err := state.Get(t.Context(), s, r.Key); err != nil {
			return false
		}
	}
	err := s.allRevocations(t.Context(), func(u state.Update) { revocations += len(u.Revocations) })
	return err == nil && records == n && revocations == n
}

// TestDamaged: whatever happened to the file, it is either read as it was or refused,
// with words that say what to do.
func TestDamaged(t *testing.T) {
	original := filepath.Join(t.TempDir(), "state.db")
	n := filled(t, original)
	content, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	try := func(t *testing.T, name string, content []byte, mayBeWhole bool) (refused bool) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := newStore(path, rand.IntN(2) == 0)
		err := s.Open(t.Context())
		if err == nil {
			if !mayBeWhole || !whole(t, s, n) {
				t.Errorf("%s: it was opened", name)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return false
		}
		for _, want := range []string{path, "restore it from a backup", "move it away"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", name, want, err)
			}
		}
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s: the refused file was changed", name)
		}
		return true
	}
	if try(t, "as it was", content, true) {
		t.Fatal("the file as it was is refused")
	}
	for _, size := range []int{0, 1, 100, 4095, 4096, 8192, 12288, 16384, 20480, len(content) / 2, len(content) - 4096, len(content) - 1} {
		// The last pages may be free.
		try(t, fmt.Sprintf("truncated to %d of %d", size, len(content)), content[:size], size >= len(content)-4096)
	}
	try(t, "something else", bytes.Repeat([]byte("something else\n"), 10000), false)
	try(t, "zeros", make([]byte, len(content)), false)
	for page := range 2 {
		damaged := bytes.Clone(content)
		damaged[page*4096+40] ^= 1
		try(t, fmt.Sprintf("meta page %d", page), damaged, false)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	refused := 0
	for i := range 150 {
		damaged := bytes.Clone(content)
		at := random.IntN(len(damaged))
		damaged[at] ^= 1 << random.IntN(8)
		if try(t, fmt.Sprintf("seed %d, flip %d at %d", seed, i, at), damaged, true) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no flipped bit was found, so none was looked for")
	}
	empty := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(empty, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	try(t, "another program's", other, false)
}

// TestNewerFormat: what a newer version of this program has written is not touched.
func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	filled(t, path)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := newStore(path, false).Open(t.Context()); err == nil || !strings.Contains(err.Error(), `format "2"`) {
		t.Errorf("a file of another format: %v", err)
	}
}

// TestLocked: a second process is told so soon.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first := opened(t, path)
	if err := newStore(path, true).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is in use: %v", err)
	}
	if _, err := first.Apply(t.Context(), state.Create("k", nil)); err != nil {
		t.Errorf("the first one cannot write any more: %v", err)
	}
}

// TestNoFolder: what cannot be made says so.
func TestNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newStore(filepath.Join(file, "state.db"), false).Open(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("in a folder that is a file: %v", err)
	}
	if err := newStore(filepath.Dir(file), false).Open(t.Context()); err == nil {
		t.Error("a folder was opened")
	}
}

// TestTouchedInUse: when the file is taken away, cut or replaced while it is open,
// writes fail and nothing else does; what was revoked stays known.
func TestTouchedInUse(t *testing.T) {
	for name, touch := range map[string]func(path string) error{
		"removed":          os.Remove,
		"emptied":          func(path string) error { return os.Truncate(path, 0) },
		"cut in the pages": func(path string) error { return os.Truncate(path, 16384) },
		"replaced": func(path string) error {
			content, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, content, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			n := filled(t, path)
			s := newStore(path, false)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			told := statetest.Collect(t, s.Follow)
			told.Current(t)
			if err := touch(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := s.Apply(t.Context(), state.Create("new", nil)); !errors.Is(err, state.ErrUnavailable) {
					t.Errorf("written: %v", err)
				}
				if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "new"}); !errors.Is(err, state.ErrUnavailable) {
					t.Errorf("revoked: %v", err)
				}
			}
			for i := range n {
				r, err := state.Get(t.Context(), s, fmt.Sprintf("k/%03d", i))
				if err == nil && !r.Exists() || errors.Is(err, state.ErrNotFound) {
					t.Fatal("a record is said not to exist")
				}
			}
			told.Current(t)
			if err := s.Close(); err != nil && !errors.Is(err, state.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}

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
