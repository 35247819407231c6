package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/mirror"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// thing is what is kept for a record.
type thing struct {
	mirror.Item
	mu    sync.Mutex
	value string
	ended int
}

func (th *thing) Change(r state.Record) error {
	if string(r.Value) == "another" {
		return errors.New("it is another one")
	}
	th.mu.Lock()
	defer th.mu.Unlock()
	th.value = string(r.Value)
	return nil
}

func (th *thing) Ended() {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.ended++
}

func (th *thing) now() (value string, ended int) {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.value, th.ended
}

func form(r state.Record) (*thing, error) {
	if string(r.Value) == "damaged" {
		return nil, state.ErrDamaged
	}
	return &thing{value: string(r.Value)}, nil
}

// script is a store that does what a test says, step by step. Nobody else writes to it.
type script struct {
	state.Store // none: whatever is not here is not called

	mu      sync.Mutex
	records map[string]state.Record
	version state.Version
	failing error
	reads   int
	applied []string
	// onRead and onApply are called before the answer, which has been made.
	onRead   func(keys []string)
	onApply  func()
	told     func(state.Update)
	watching chan struct{}
}

func newScript() *script {
	return &script{records: make(map[string]state.Record), watching: make(chan struct{})}
}

func (s *script) Watch(ctx context.Context, _ string, told func(state.Update)) {
	s.told = told
	close(s.watching)
	<-ctx.Done()
}

func (s *script) Read(_ context.Context, keys ...string) ([]state.Record, error) {
	s.mu.Lock()
	s.reads++
	err, onRead := s.failing, s.onRead
	records := make([]state.Record, len(keys))
	for i, key := range keys {
		records[i] = s.records[key]
		records[i].Key = key
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if onRead != nil {
		onRead(keys)
	}
	return records, nil
}

func (s *script) Apply(_ context.Context, changes ...state.Change) (state.Version, error) {
	s.mu.Lock()
	defer func() {
		onApply := s.onApply
		s.mu.Unlock()
		if onApply != nil {
			onApply()
		}
	}()
	if s.failing != nil {
		return 0, s.failing
	}
	s.version++
	for _, c := range changes {
		s.applied = append(s.applied, c.Key)
		if c.Op == state.OpDelete {
			delete(s.records, c.Key)
			continue
		}
		s.records[c.Key] = state.Record{Key: c.Key, Value: c.Value, Version: s.version}
	}
	return s.version, nil
}

// set writes as another node does; tell says so.
func (s *script) set(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	if value == "" {
		delete(s.records, key)
		return
	}
	s.records[key] = state.Record{Key: key, Value: []byte(value), Version: s.version}
}

func (s *script) tell(keys ...string) { s.told(state.Update{Keys: keys, Current: steady.Now()}) }

func (s *script) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
}

func (s *script) during(f func(keys []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRead = f
}

func (s *script) readSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *script) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.records[key]
	return ok
}

// world is a mirror that runs on a script.
type world struct {
	*mirror.Mirror[*thing]
	t     *testing.T
	store *script
}

func run(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: newScript()}
	w.Mirror = mirror.New[*thing](w.store, "thing", form)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-w.store.watching
	w.store.told(state.Update{Reset: true, Current: steady.Now()})
	return w
}

func (w *world) get(key string) *thing {
	w.t.Helper()
	th, err := w.Get(w.t.Context(), key)
	if err != nil {
		w.t.Fatalf("%s: %v", key, err)
	}
	return th
}

func (w *world) wantValue(th *thing, value string) {
	w.t.Helper()
	if got, ended := th.now(); got != value || ended != 0 {
		w.t.Errorf("it is %q and ended %d times, expected %q", got, ended, value)
	}
}

func (w *world) wantEnded(th *thing) {
	w.t.Helper()
	if _, ended := th.now(); ended != 1 || !th.Gone() || w.Trusts(th, steady.Now()) {
		w.t.Errorf("ended %d times, gone: %v", ended, th.Gone())
	}
}

// TestKnownIsNotRead: what is known is asked for without the store, until it has changed.
func TestKnownIsNotRead(t *testing.T) {
	w := run(t)
	w.store.set("thing/a", "1")
	th := w.get("thing/a")
	if w.get("thing/a") != th || w.store.readSoFar() != 1 {
		t.Errorf("%d reads", w.store.readSoFar())
	}
	if n := testing.AllocsPerRun(100, func() { w.Trusts(th, steady.Now()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.store.set("thing/a", "2")
	w.store.tell("thing/a", "thing/unknown")
	statetest.Eventually(t, "the change is read", func() bool { v, _ := th.now(); return v == "2" })
	if w.store.readSoFar() != 2 {
		t.Errorf("%d reads, of which one should be for what is known", w.store.readSoFar())
	}
	w.store.set("thing/a", "")
	w.store.tell("thing/a")
	statetest.Eventually(t, "its end is known", th.Gone)
	w.wantEnded(th)
	if _, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
}

// TestChangeWhileRead: an answer of the store that is older than what was told while it was
// under way is not kept, whichever way it was told.
func TestChangeWhileRead(t *testing.T) {
	for name, tell := range map[string]func(w *world){
		"the key":      func(w *world) { w.store.tell("thing/a") },
		"one of many":  func(w *world) { w.store.tell("thing/b", "thing/a") },
		"all":          func(w *world) { w.store.told(state.Update{Reset: true}) },
		"dropped here": func(w *world) { w.Dropped("thing/a") },
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t)
			w.store.set("thing/a", "1")
			w.store.during(func([]string) {
				w.store.during(nil)
				w.store.set("thing/a", "2")
				tell(w)
			})
			th := w.get("thing/a")
			w.wantValue(th, "2")
			if w.store.readSoFar() < 2 {
				t.Error("it was not read again")
			}
		})
		t.Run(name+", which was its end", func(t *testing.T) {
			w := run(t)
			w.store.set("thing/a", "1")
			w.store.during(func([]string) {
				w.store.during(nil)
				w.store.set("thing/a", "")
				tell(w)
			})
			if th, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("%+v, %v", th, err)
			}
		})
	}
}

// TestChangesAllTheTime: to read what never stays the same ends, with nothing known.
func TestChangesAllTheTime(t *testing.T) {
	w := run(t)
	w.store.set("thing/a", "1")
	w.store.during(func([]string) { w.store.tell("thing/a") })
	if _, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := w.GetAll(t.Context(), []string{"thing/a"}); !errors.Is(err, state.ErrUnavailable) {
		t.Error(err)
	}
	if _, known := w.Known("thing/a"); known {
		t.Error("it is kept")
	}
}

// TestChangeWhileCaughtUp: the same for what is read in the background, of what is known.
func TestChangeWhileCaughtUp(t *testing.T) {
	w := run(t)
	w.store.set("thing/a", "1")
	th := w.get("thing/a")
	w.store.during(func([]string) {
		w.store.during(nil)
		w.store.set("thing/a", "3")
		w.store.tell("thing/a")
	})
	w.store.set("thing/a", "2")
	w.store.tell("thing/a")
	statetest.Eventually(t, "the last change is read", func() bool { v, _ := th.now(); return v == "3" })
	w.wantValue(w.get("thing/a"), "3")
}

// TestReset: after a gap all is read again, and what has ended in it ends.
func TestReset(t *testing.T) {
	w := run(t)
	var kept []*thing
	for i := range 2*state.MaxChanges + 1 {
		key := fmt.Sprintf("thing/%d", i)
		w.store.set(key, "1")
		kept = append(kept, w.get(key))
	}
	w.store.set("thing/0", "")
	w.store.set("thing/1", "another")
	for i := 2; i < len(kept); i++ {
		w.store.set(fmt.Sprintf("thing/%d", i), "2")
	}
	before := w.store.readSoFar()
	w.store.told(state.Update{Reset: true, Current: steady.Now()})
	statetest.Eventually(t, "all were read again", func() bool {
		for i, th := range kept {
			if value, _ := th.now(); i < 2 && !th.Gone() || i >= 2 && value != "2" {
				return false
			}
		}
		return true
	})
	w.wantEnded(kept[0])
	w.wantEnded(kept[1])
	if n := w.store.readSoFar() - before; n > 3 {
		t.Errorf("%d reads, expected as many as there must be", n)
	}
}

// TestRemoveWithoutStore: what is removed has ended at once, and stays so although the
// store still has it, until that could be told.
func TestRemoveWithoutStore(t *testing.T) {
	for name, remove := range map[string]func(w *world) error{
		"Remove": func(w *world) error { return w.Remove(w.t.Context(), "thing/a", "index/a") },
		"End":    func(w *world) error { w.End("thing/a", "index/a"); return state.ErrUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t)
			w.store.set("thing/a", "1")
			w.store.set("index/a", "1")
			th := w.get("thing/a")
			w.store.fail(state.ErrUnavailable)
			if err := remove(w); !errors.Is(err, state.ErrUnavailable) {
				t.Error(err)
			}
			w.wantEnded(th)
			if _, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("while the store is cut off: %v", err)
			}
			w.store.tell("thing/a") // it was changed elsewhere meanwhile
			w.store.told(state.Update{Reset: true})
			if _, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("after it was told of: %v", err)
			}
			w.store.fail(nil)
			statetest.Eventually(t, "the store is told", func() bool { return !w.store.has("thing/a") && !w.store.has("index/a") })
			w.wantEnded(th)
		})
	}
}

// TestRemoveWhileRead: who reads it just then does not bring it back.
func TestRemoveWhileRead(t *testing.T) {
	for _, cut := range []error{nil, state.ErrUnavailable} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			w := run(t)
			w.store.set("thing/a", "1")
			w.store.during(func([]string) {
				w.store.during(nil)
				w.store.fail(cut)
				if err := w.Remove(t.Context(), "thing/a"); !errors.Is(err, cut) {
					t.Error(err)
				}
				w.store.fail(nil)
			})
			if th, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("%+v, %v", th, err)
			}
			if _, known := w.Known("thing/a"); known {
				t.Error("it is kept")
			}
		})
	}
}

// TestRemovedAtTheEnd: what the store was not told by the end of Run, it is told then.
func TestRemovedAtTheEnd(t *testing.T) {
	store := newScript()
	m := mirror.New[*thing](store, "thing", form)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store.set("thing/a", "1")
	m.End("thing/a")
	m.Run(ctx)
	if store.has("thing/a") {
		t.Error("the store still has it")
	}
}

// TestCreateWhileRemoved: a record that is made is kept, and one that another node removes
// before that has returned ends all the same.
func TestCreateWhileRemoved(t *testing.T) {
	w := run(t)
	th := &thing{value: "1"}
	if _, err := w.Create(t.Context(), "thing/a", th, state.Create("thing/a", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	if w.get("thing/a") != th || w.store.readSoFar() != 0 {
		t.Error("it is not kept as it is")
	}
	w.store.set("thing/a", "")
	w.store.tell("thing/a")
	statetest.Eventually(t, "it has ended", th.Gone)
	w.wantEnded(th)
	w.store.onApply = func() {
		w.store.set("thing/c", "")
		w.store.tell("thing/c")
	}
	th = &thing{value: "1"}
	if _, err := w.Create(t.Context(), "thing/c", th, state.Create("thing/c", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	w.store.onApply = nil
	statetest.Eventually(t, "what was removed before it was kept has ended", th.Gone)
	w.wantEnded(th)
	w.store.fail(state.ErrUnavailable)
	if _, err := w.Create(t.Context(), "thing/b", new(thing), state.Create("thing/b", nil)); !errors.Is(err, state.ErrUnavailable) {
		t.Error(err)
	}
	if _, known := w.Known("thing/b"); known {
		t.Error("what was not made is kept")
	}
}

// TestCutOff: without news what is known is not trusted for longer than allowed, and of what
// cannot be read nothing is known.
func TestCutOff(t *testing.T) {
	w := run(t)
	w.store.set("thing/a", "1")
	th := w.get("thing/a")
	w.store.fail(state.ErrUnavailable)
	now := steady.Now()
	for after, trusted := range map[time.Duration]bool{0: true, mirror.Grace / 2: true, 2 * mirror.Grace: false, time.Hour: false} {
		if w.Trusts(th, now.Add(after)) != trusted {
			t.Errorf("after %s: trusted is %v", after, !trusted)
		}
	}
	w.SetAllowStale(time.Minute)
	if !w.Trusts(th, now.Add(30*time.Second)) || w.Trusts(th, now.Add(2*time.Minute)) {
		t.Error("it is trusted for another time than allowed")
	}
	w.SetAllowStale(0)
	w.store.told(state.Update{Current: now, Alone: true})
	if !w.Alone() || !w.Trusts(th, now.Add(time.Hour)) {
		t.Error("it is not trusted although nobody else writes")
	}
	w.store.tell() // somebody else does, from now on
	if w.Alone() || w.Trusts(th, steady.Now().Add(time.Hour)) {
		t.Error("it is trusted as if nobody else wrote")
	}
	w.store.tell("thing/a") // and it has changed, which cannot be read
	statetest.Eventually(t, "it is not trusted any more", func() bool {
		w.store.tell()
		return !w.Trusts(th, steady.Now())
	})
	if _, err := w.Get(t.Context(), "thing/a"); !errors.Is(err, state.ErrUnavailable) {
		t.Error(err)
	}
	if th.Gone() {
		t.Error("it has ended")
	}
	w.store.fail(nil)
	if w.get("thing/a") != th || !w.Trusts(th, steady.Now()) {
		t.Error("it is not the same again")
	}
}

// TestAnother: a record of the same key that is about something else is another thing.
func TestAnother(t *testing.T) {
	w := run(t)
	w.store.set("thing/a", "1")
	first := w.get("thing/a")
	w.store.set("thing/a", "another")
	second, err := w.Read(t.Context(), "thing/a")
	if err != nil || second == first {
		t.Fatalf("%v, %v", second, err)
	}
	w.wantEnded(first)
	w.store.set("thing/b", "damaged")
	if _, err := w.Get(t.Context(), "thing/b"); !errors.Is(err, state.ErrDamaged) {
		t.Error(err)
	}
	all, err := w.GetAll(t.Context(), []string{"thing/none", "thing/a"})
	if err != nil || all[0] != nil || all[1] == nil {
		t.Errorf("%v, %v", all, err)
	}
}

// TestMemory: nothing is left of records that have ended, were forgotten, never were, or
// were told of by others, whatever became of the attempts to read them.
func TestMemory(t *testing.T) {
	w := run(t)
	const keys = 20_000
	used := 0
	round := func() {
		for i := range keys {
			used++
			key := fmt.Sprintf("thing/%032d", used) // never the same
			switch i % 4 {
			case 0: // never was
				_, _ = w.Get(t.Context(), key)
			case 1: // is told of
				w.store.tell(key)
			case 2: // ends
				w.store.set(key, "1")
				w.get(key)
				if err := w.Remove(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			case 3: // is forgotten
				w.store.set(key, "1")
				w.Forget(w.get(key))
				w.store.set(key, "")
			}
		}
		w.store.mu.Lock()
		w.store.applied = nil
		w.store.mu.Unlock()
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far from the bound
	}
	round()
	before := heap()
	for range 2 {
		round()
	}
	if grown := heap() - before; grown > keys*8 {
		t.Errorf("it has grown by %d bytes", grown)
	}
}
