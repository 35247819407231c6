package live

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
)

// slow is a store whose reads can be held up and counted.
type slow struct {
	state.Store
	reads atomic.Int64
	// held, if set, is called by each Read before it returns what was read.
	held atomic.Pointer[func()]
	fail atomic.Bool
	// told is how it tells of changes, instead of the store behind it.
	mu   sync.Mutex
	told func(state.Update)
}

func (s *slow) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	s.reads.Add(1)
	if s.fail.Load() {
		return nil, state.Unavailable(errors.New("failing"))
	}
	records, err := s.Store.Read(ctx, keys...)
	if held := s.held.Load(); held != nil {
		(*held)()
	}
	return records, err
}

func (s *slow) Watch(ctx context.Context, _ string, told func(state.Update)) {
	s.mu.Lock()
	s.told = told
	s.mu.Unlock()
	told(state.Update{Reset: true})
	told(state.Update{Current: time.Now(), Alone: true})
	<-ctx.Done()
}

func (s *slow) tell(u state.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told(u)
}

// world is a cache of a store in which there are accounts.
type world struct {
	*Cache
	t        *testing.T
	slow     *slow
	accounts *account.Service
}

var operator = account.Actor{Name: "test"}

func newWorld(t *testing.T) *world {
	t.Helper()
	module := &embedded.Embedded{Path: filepath.Join(t.TempDir(), "state.db")}
	if err := module.Provision(caddy.Context{Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	store := module.NewStore()
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, slow: &slow{Store: store}}
	w.Cache = New(w.slow)
	var err error
	if w.accounts, err = account.New(store, account.Config{}, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { w.Run(ctx, zap.NewNop) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	<-w.Known()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) user(email string) account.User {
	w.t.Helper()
	u, err := w.accounts.Create(w.t.Context(), operator, account.NewUser{Email: email, Active: true})
	w.must(err)
	return u
}

func (w *world) account(id string) *Fact[account.Standing] {
	w.t.Helper()
	f, err := w.Account(w.t.Context(), id)
	w.must(err)
	return f
}

// TestFacts: a fact is read once, and again when one of the records has changed that it
// depends on; other records do not matter.
func TestFacts(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice@example.com"), w.user("bob@example.com")
	_, err := w.accounts.CreateTeam(t.Context(), operator, "sales", "", "")
	w.must(err)
	w.must(w.accounts.SetMember(t.Context(), operator, "sales", alice.Email, account.Member))
	w.must(w.accounts.Assign(t.Context(), operator, alice.Email, account.Assignment{Role: "reader", Team: "sales", Active: true}))
	first, other := w.account(alice.ID), w.account(bob.ID)
	if v := first.Value; !v.Known || v.User.Email != alice.Email || fmt.Sprint(v.Teams) != "[sales]" || len(v.Assignments) != 1 {
		t.Errorf("%+v", v)
	}
	reads := w.slow.reads.Load()
	if w.account(alice.ID) != first || w.slow.reads.Load() != reads {
		t.Error("it is read again")
	}
	for key, drops := range map[string]bool{
		"user/alice@example.com":                   true,
		"user_id/" + alice.ID:                      true,
		"member_of/" + alice.ID + "/other":         true,
		"assignment/" + alice.ID + "/writer/any":   true,
		"team/sales":                               true,
		"user/bob@example.com":                     false,
		"team/other":                               false,
		"member/sales/" + alice.ID:                 false,
		"session/" + alice.ID:                      false,
		"member_of/" + bob.ID + "/sales":           false,
		"assignment/" + bob.ID + "/writer/global":  false,
		"token/" + alice.ID:                        false,
		"login/" + alice.ID + "/x":                 false,
		"assignment/" + alice.ID + "x/reader/team": false,
	} {
		f := w.account(alice.ID)
		w.slow.tell(state.Update{Keys: []string{key}})
		if f.Current() == drops {
			t.Errorf("%s: current %v", key, f.Current())
		}
	}
	w.slow.tell(state.Update{Keys: []string{"user/bob@example.com"}})
	if other.Current() {
		t.Error("the other is still current")
	}
	now := w.account(alice.ID)
	w.slow.tell(state.Update{Reset: true})
	if now.Current() || w.Len() != 0 || len(w.index) != 0 || w.idle.Len() != 0 {
		t.Errorf("after a reset there are %d", w.Len())
	}
}

// TestChangeWhileReading: what was read before a change, and comes after it, is not
// remembered.
func TestChangeWhileReading(t *testing.T) {
	for name, key := range map[string]func(u account.User) string{
		"of the user":     func(u account.User) string { return "user/" + u.Email },
		"of a membership": func(u account.User) string { return "member_of/" + u.ID + "/sales" },
		"of some team":    func(account.User) string { return "team/any" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			u := w.user("alice@example.com")
			reached, resume := make(chan struct{}), make(chan struct{})
			var others atomic.Bool
			held := func() {
				if !others.Swap(true) {
					close(reached)
					<-resume
				}
			}
			w.slow.held.Store(&held)
			late := make(chan *Fact[account.Standing])
			go func() {
				f, _ := w.Account(t.Context(), u.ID)
				late <- f
			}()
			<-reached
			w.Changed(key(u))
			// Who asks now does not get what is under way.
			fresh := w.account(u.ID)
			close(resume)
			if f := <-late; f == fresh || f.Current() {
				t.Error("what was read before the change is taken for current")
			}
			if again := w.account(u.ID); again != fresh || !fresh.Current() {
				t.Error("what was read after the change was forgotten")
			}
		})
	}
}

// TestOneFlight: many who ask at once cost one reading.
func TestOneFlight(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice@example.com")
	resume := make(chan struct{})
	held := func() { <-resume }
	w.slow.held.Store(&held)
	var asking, asked sync.WaitGroup
	facts := make([]*Fact[account.Standing], 50)
	for i := range facts {
		asked.Add(1)
		asking.Go(func() {
			asked.Done()
			facts[i], _ = w.Account(context.Background(), u.ID)
		})
	}
	asked.Wait()
	// One who does not wait any longer does not end it for the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Account(ctx, u.ID); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	close(resume)
	asking.Wait()
	for _, f := range facts {
		if f == nil || f != facts[0] {
			t.Fatal("they were told different things")
		}
	}
	if reads := w.slow.reads.Load(); reads > 4 {
		t.Errorf("%d reads", reads)
	}
}

// TestErrorsAreNotRemembered: what could not be read is read again.
func TestErrorsAreNotRemembered(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice@example.com")
	w.slow.fail.Store(true)
	if _, err := w.Account(t.Context(), u.ID); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Token(t.Context(), "any"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Session(t.Context(), u.ID, "any"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	w.slow.fail.Store(false)
	if f := w.account(u.ID); !f.Value.Known || w.Len() != 1 {
		t.Errorf("%+v, of %d", f.Value, w.Len())
	}
	if f, err := w.Token(t.Context(), "any"); err != nil || f.Value.Known {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestBounded: there are never more facts than there is room for, and those that are
// watched are kept.
func TestBounded(t *testing.T) {
	w := newWorld(t)
	w.max = 10
	ask := func(i int) *Fact[Token] {
		f, err := w.Token(t.Context(), fmt.Sprint("t", i))
		w.must(err)
		return f
	}
	watched, used := ask(-1), ask(-2)
	watch := w.Watch(func() { t.Error("told of what has not changed") }, watched)
	for i := range 100 {
		if ask(i); ask(-2) != used || w.Len() > 10 {
			t.Fatalf("after %d: %d are known", i, w.Len())
		}
	}
	if !watched.Current() || ask(-1) != watched {
		t.Error("what is watched was forgotten")
	}
	gone, err := w.Token(t.Context(), "t1")
	w.must(err)
	watch.Close()
	watch.Close()
	for i := range 100 {
		ask(i)
	}
	if watched.Current() || w.Watches() != 0 || gone == nil {
		t.Error("what is not watched any more is kept")
	}
}

// TestWatch: who watches is told once, by whichever fact, and of nothing else.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice@example.com")
	holder := w.account(u.ID)
	token, err := w.Token(t.Context(), "t1")
	w.must(err)
	told := make(chan struct{}, 10)
	watch := w.Watch(func() { told <- struct{}{} }, holder, token)
	if watch == nil {
		t.Fatal("it is not watched")
	}
	w.Changed("token/t2", "user/bob@example.com")
	w.Changed("token/t1", "user/alice@example.com")
	<-told
	watch.Close()
	w.Changed("token/t1", "user/alice@example.com")
	if w.Watch(func() {}, w.account(u.ID), token) != nil {
		t.Error("what is gone is watched")
	}
	closed := w.Watch(func() { told <- struct{}{} }, w.account(u.ID))
	closed.Close()
	w.Changed("user/alice@example.com")
	(*Watch)(nil).Close()
	if len(told) > 0 {
		t.Error("told twice, or after the end")
	}
}

// TestCutOff: when nothing is heard of the store, nothing can be relied on, and who watches
// is told; what is heard then counts again, from the beginning.
func TestCutOff(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice@example.com")
	f := w.account(u.ID)
	told := make(chan struct{})
	if w.Watch(func() { close(told) }, f) == nil {
		t.Fatal("it is not watched")
	}
	now := time.Now()
	w.slow.tell(state.Update{Err: errors.New("cut off")})
	w.slow.tell(state.Update{Current: now}) // and not alone
	if w.IsStale(now.Add(state.Grace)) || !w.IsStale(now.Add(state.Grace+time.Millisecond)) {
		t.Error("stale at the wrong time")
	}
	<-told
	if w.Watch(func() {}, f) != nil || w.Ready(time.Now()) == nil {
		t.Error("it is watched all the same")
	}
	w.SetAllowStale(time.Hour)
	if w.IsStale(time.Now()) || !w.IsStale(time.Now().Add(2*time.Hour)) {
		t.Error("allow_stale has no effect")
	}
	if w.Watch(func() {}, f) == nil || !f.Current() {
		t.Error("what is known was forgotten")
	}
	w.slow.tell(state.Update{Reset: true})
	if f.Current() {
		t.Error("what may have been missed is taken for current")
	}
}

// TestStore: what this node changes, it knows before the change is answered.
func TestStore(t *testing.T) {
	w := newWorld(t)
	store := w.Store()
	put := func(active bool) {
		create, err := catalogue.Records.Create(catalogue.Record{ID: "t1", Active: active}, time.Time{}, "t1")
		w.must(err)
		create.If = state.Any
		_, err = store.Apply(t.Context(), create)
		w.must(err)
	}
	for i := range 50 {
		put(i%2 == 0)
		if f, err := w.Token(t.Context(), "t1"); err != nil || !f.Value.Known || f.Value.Record.Active != (i%2 == 0) {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	f, err := w.Token(t.Context(), "t1")
	w.must(err)
	if _, err := store.Apply(t.Context(), state.Create("token/t1", nil)); !errors.Is(err, state.ErrConflict) || f.Current() {
		t.Errorf("after what may have been changed: %v, %v", err, f.Current())
	}
	f, err = w.Token(t.Context(), "t1")
	w.must(err)
	record, err := state.Get(t.Context(), store, "token/t1")
	w.must(err)
	if _, err := store.Apply(t.Context(), state.Require(record)); err != nil || !f.Current() {
		t.Errorf("after what changes nothing: %v, %v", err, f.Current())
	}
}

// TestConcurrent: readers and changes at the same time end with what was changed last.
func TestConcurrent(t *testing.T) {
	w := newWorld(t)
	w.max = 20
	store := w.Store()
	var running sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				f, err := w.Token(context.Background(), fmt.Sprint("t", (n+i)%30))
				if err != nil {
					t.Error(err)
					return
				}
				w.Watch(func() {}, f).Close()
			}
		})
	}
	for n := range 100 {
		id := fmt.Sprint("t", n%30)
		create, err := catalogue.Records.Create(catalogue.Record{ID: id, Name: fmt.Sprint(n)}, time.Time{}, id)
		w.must(err)
		create.If = state.Any
		_, err = store.Apply(t.Context(), create)
		w.must(err)
		if f, err := w.Token(t.Context(), id); err != nil || f.Value.Record.Name != fmt.Sprint(n) {
			t.Fatalf("%d: %+v, %v", n, f, err)
		}
	}
	close(stop)
	running.Wait()
	statetest.Eventually(t, "nobody watches", func() bool { return w.Watches() == 0 })
	if len(w.reading) != 0 || w.idle.Len() != w.Len() || w.Len() > 20 {
		t.Errorf("%d are being read, %d idle, %d known", len(w.reading), w.idle.Len(), w.Len())
	}
}
