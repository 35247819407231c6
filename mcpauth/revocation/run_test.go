package revocation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// ended collects verdicts.
type ended struct {
	mu       sync.Mutex
	verdicts []Verdict
	change   chan struct{}
}

func (e *ended) end(v Verdict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.verdicts = append(e.verdicts, v)
	if e.change != nil {
		close(e.change)
		e.change = nil
	}
}

func (e *ended) got() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%v", e.verdicts)
}

func TestWatch(t *testing.T) {
	s := known()
	tokens := map[string]Token{}
	ends := map[string]*ended{}
	var all []*Watch
	for i, change := range []func(*Token){
		func(*Token) {},
		func(t *Token) { t.ID = "jti-2" },
		func(t *Token) { t.ID, t.Subject = "jti-3", "bob" },
		func(t *Token) { t.ID, t.Subject, t.Client = "", "carol", "other" },
		func(t *Token) { t.Issuer = "https://other.example.com" },
		func(t *Token) { t.ID, t.IssuedAt = "jti-6", now },
	} {
		token := alice
		token.Hash[0] = byte(i)
		change(&token)
		name := fmt.Sprint(i)
		tokens[name], ends[name] = token, new(ended)
		w, verdict := s.Watch(&token, now, ends[name].end)
		if verdict != Valid {
			t.Fatalf("%s: %s", name, verdict)
		}
		all = append(all, w)
	}
	for _, step := range []struct {
		revoked state.Revocation
		want    string
	}{
		{state.Revocation{Kind: state.RevokeID, Value: "jti-9"}, "[] [] [] [] [] []"},
		{state.Revocation{Kind: state.RevokeID, Value: "jti-1", Expires: now}, "[] [] [] [] [] []"},
		{state.Revocation{Kind: state.RevokeID, Issuer: alice.Issuer, Value: "jti-1"}, "[revoked_id] [] [] [] [] []"},
		{state.Revocation{Kind: state.RevokeID, Issuer: alice.Issuer, Value: "jti-1"}, "[revoked_id] [] [] [] [] []"},
		{state.Revocation{Kind: state.RevokeHash, Value: "03" + strings.Repeat("00", 30) + "07"}, "[revoked_id] [] [] [revoked_hash] [] []"},
		{state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-2 * time.Hour)}, "[revoked_id] [] [] [revoked_hash] [] []"},
		{state.Revocation{Kind: state.RevokeSubject, Issuer: alice.Issuer, Value: "alice", Before: now}, "[revoked_id] [revoked_subject] [] [revoked_hash] [] []"},
		{state.Revocation{Kind: state.RevokeClient, Issuer: "https://other.example.com", Value: "app"}, "[revoked_id] [revoked_subject] [] [revoked_hash] [revoked_client] []"},
		{state.Revocation{Kind: state.RevokeEveryone, Before: now}, "[revoked_id] [revoked_subject] [revoked_all] [revoked_hash] [revoked_client] []"},
		{state.Revocation{Kind: state.RevokeEveryone}, "[revoked_id] [revoked_subject] [revoked_all] [revoked_hash] [revoked_client] [revoked_all]"},
	} {
		if err := s.Add(now, step.revoked); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range len(ends) {
			got = append(got, ends[fmt.Sprint(i)].got())
		}
		if text := strings.Join(got, " "); text != step.want {
			t.Errorf("after %+v: %s, want %s", step.revoked, text, step.want)
		}
	}
	if n := s.Status(now).Watches; n != 0 {
		t.Errorf("%d watches are left", n)
	}
	for _, w := range all {
		w.Close() // after its end: harmless
	}
	for i := range s.watches.chains {
		if len(s.watches.chains[i]) != 0 {
			t.Errorf("%d chains are left", len(s.watches.chains[i]))
		}
	}
	token := tokens["0"]
	if w, verdict := s.Watch(&token, now, func(Verdict) { t.Error("ended") }); verdict != RevokedID || w != nil {
		t.Errorf("a token that is revoked is watched: %s", verdict)
	}
}

// TestWatchClose: what is closed is not ended, in whatever order many are closed.
func TestWatchClose(t *testing.T) {
	s := known()
	var open []*Watch
	for range 50 {
		w, _ := s.Watch(&alice, now, func(Verdict) { t.Error("a closed watch was ended") })
		open = append(open, w)
	}
	for i := range 50 {
		open[i*7%50].Close()
		open[i*7%50].Close()
		if n := s.Status(now).Watches; n != 49-i {
			t.Fatalf("%d watches after %d were closed", n, i+1)
		}
	}
	if err := s.Add(now, state.Revocation{Kind: state.RevokeEveryone}); err != nil {
		t.Fatal(err)
	}
}

// TestWatchTouchesNoOthers: a revocation looks at the watches that it is about.
func TestWatchTouchesNoOthers(t *testing.T) {
	s := known()
	const others = 10_000
	for i := range others {
		token := alice
		token.ID, token.Subject, token.Client = fmt.Sprint("jti-other-", i), fmt.Sprint("user-", i), fmt.Sprint("client-", i)
		token.Hash[1], token.Hash[2] = byte(i), byte(i>>8)
		if _, verdict := s.Watch(&token, now, func(Verdict) { t.Error("another was ended") }); verdict != Valid {
			t.Fatal(verdict)
		}
	}
	for kind, value := range map[state.RevocationKind]string{state.RevokeID: alice.ID, state.RevokeSubject: alice.Subject, state.RevokeClient: alice.Client} {
		looked := 0
		e := s.entry(state.Revocation{Kind: kind, Value: value})
		mine := new(ended)
		if _, verdict := s.Watch(&alice, now, mine.end); verdict != Valid {
			t.Fatal(verdict)
		}
		s.watches.endChain(int(kind), e.first, RevokedAll, func(*Watch) bool { looked++; return true })
		if looked != 1 || mine.got() != "[revoked_all]" {
			t.Errorf("%s: looked at %d of %d, %s", kind, looked, others+1, mine.got())
		}
	}
}

// feed is a store that tells what the test says.
type feed struct {
	state.Store
	updates chan state.Update
	told    chan struct{}
	revoke  func(...state.Revocation) error
}

func (f *feed) Follow(ctx context.Context, told func(state.Update)) {
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-f.updates:
			told(u)
			f.told <- struct{}{}
		}
	}
}

func (f *feed) Revoke(_ context.Context, r ...state.Revocation) error { return f.revoke(r...) }

func (f *feed) tell(u state.Update) {
	f.updates <- u
	<-f.told
}

// running returns a set that follows a feed, and what it logs.
func running(t *testing.T) (*Set, *feed, *observer.ObservedLogs) {
	t.Helper()
	f := &feed{updates: make(chan state.Update), told: make(chan struct{})}
	s := New(f)
	core, logs := observer.New(zap.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { s.Run(ctx, func() *zap.Logger { return zap.New(core) }) })
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	return s, f, logs
}

// TestStale: what is not known to be valid is Unknown, but what is known to be revoked
// stays so; allow_stale prolongs what is known, and only what was once complete.
func TestStale(t *testing.T) {
	s, f, logs := running(t)
	token := alice
	check := func(at time.Time, want Verdict) {
		t.Helper()
		if got := s.Check(&token, at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	start := time.Now()
	check(start, Unknown)
	s.SetAllowStale(time.Hour)
	check(start, Unknown)
	if err := s.Ready(start); err == nil {
		t.Error("ready before anything is known")
	}
	f.tell(state.Update{Err: errors.New("no route")})
	check(start, Unknown)
	if err := s.Ready(start); err == nil || err.Error() != "no route" {
		t.Errorf("ready: %v", err)
	}
	f.tell(state.Update{Revocations: []state.Revocation{{Kind: state.RevokeID, Value: "jti-2"}}})
	check(start, Unknown) // not all of it yet
	token.ID = "jti-2"
	check(start, RevokedID)
	token.ID = "jti-1"
	f.tell(state.Update{Current: start})
	check(start, Valid)
	check(start.Add(time.Hour), Valid)
	check(start.Add(time.Hour+time.Second), Unknown)
	s.SetAllowStale(0)
	check(start.Add(Grace), Valid)
	check(start.Add(Grace+time.Millisecond), Unknown)
	token.ID = "jti-2"
	check(start.Add(Grace+time.Millisecond), RevokedID)
	token.ID = "jti-1"

	// The wall clock does not matter: it may be put back or forward.
	check(start.Add(time.Minute), Unknown)
	f.tell(state.Update{Current: start.Add(time.Minute)})
	check(start.Add(time.Minute), Valid)
	f.tell(state.Update{Current: start}) // late
	check(start.Add(time.Minute), Valid)
	status := s.Status(start.Add(90 * time.Second))
	if !status.Loaded || status.Age != 30*time.Second || !status.Stale || status.Err != nil || status.Revocations != 1 {
		t.Errorf("%+v", status)
	}
	if err := s.Ready(start.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	f.tell(state.Update{Current: start.Add(time.Minute), Alone: true})
	check(start.Add(time.Hour), Valid) // nobody else could have revoked it
	f.tell(state.Update{Current: start.Add(time.Minute)})
	check(start.Add(time.Hour), Unknown)
	var words []string
	for _, entry := range logs.All() {
		words = append(words, entry.Message)
	}
	if len(words) != 2 || !strings.Contains(words[0], "cut off") || !strings.Contains(words[1], "is back") {
		t.Errorf("logged %q", words)
	}
}

// TestStaleEndsStreams: the streams of tokens that nobody knows of end, too.
func TestStaleEndsStreams(t *testing.T) {
	s, f, _ := running(t)
	if w, verdict := s.Watch(&alice, time.Now(), func(Verdict) { t.Error("ended") }); verdict != Unknown || w != nil {
		t.Errorf("watched before anything is known: %s", verdict)
	}
	e := &ended{change: make(chan struct{})}
	changed := e.change
	for verdict := Unknown; verdict != Valid; { // the machine may be slow
		f.tell(state.Update{Current: time.Now()})
		_, verdict = s.Watch(&alice, time.Now(), e.end)
	}
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("the stream goes on though the store is cut off")
	}
	if got := e.got(); got != "[unknown]" {
		t.Errorf("ended with %s", got)
	}
}

// TestRevoke: this node knows at once, even if the store does not take it.
func TestRevoke(t *testing.T) {
	s, f, _ := running(t)
	broken := errors.New("broken")
	var written []state.Revocation
	f.revoke = func(r ...state.Revocation) error {
		written = append(written, r...)
		if got := s.Check(&alice, time.Now()); got != RevokedID {
			t.Errorf("%s while it is written", got)
		}
		return broken
	}
	if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "jti-1"}); !errors.Is(err, broken) || len(written) != 1 {
		t.Errorf("%v, %+v", err, written)
	}
	if got := s.Check(&alice, time.Now()); got != RevokedID {
		t.Errorf("%s after it could not be written", got)
	}
}
