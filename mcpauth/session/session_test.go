package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// Rows E1 and E3b: a session belongs to one issuer's subject in one client, and to
// one server, on every node.
func TestUseOnlyOwn(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		s := a.begin(t, alice)
		for _, n := range []*node{b, a, b} {
			for name, tc := range map[string]struct {
				owner  state.Owner
				server string
				want   bool
			}{
				"own":           {alice, "a", true},
				"other subject": {bob, "a", false},
				"other issuer":  {state.Owner{Issuer: "https://other", Subject: "alice", ClientID: "app"}, "a", false},
				"other client":  {state.Owner{Issuer: "https://issuer", Subject: "alice", ClientID: "evil"}, "a", false},
				"other server":  {alice, "b", false},
				"nobody":        {state.Owner{}, "a", false},
			} {
				got, err := n.Use(t.Context(), s.ID, tc.owner, tc.server)
				if (err == nil) != tc.want || err != nil && !errors.Is(err, state.ErrNotFound) {
					t.Errorf("%s: %v, want %v", name, err, tc.want)
				}
				if err == nil {
					if got.UpstreamID != "up" || got.Upstream != "10.0.0.1:80" || got.Owner != alice {
						t.Errorf("%s: %+v", name, got)
					}
					n.Release(got)
				}
			}
			for _, id := range []string{"", "no-such", strings.ToLower(s.ID), s.ID + "A", strings.Repeat("A", 26), "up", public(s), "../" + s.ID} {
				if n.has(t, id, alice) {
					t.Errorf("%q was found", id)
				}
			}
		}
		if contains(t, a.store, s.ID) {
			t.Error("the store has the session's id")
		}
	})
}

// TestContinues: what is begun on one node goes on on the other; what ends on one ends
// on the other, with its streams.
func TestContinues(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		s := a.begin(t, alice)
		s.SetNegotiated("2025-06-18")
		there, err := b.Use(t.Context(), s.ID, alice, "a")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Release(there)
		eventually(t, "the version is known", func() bool { return there.Negotiated() == "2025-06-18" })
		ended, detached := make(chan struct{}), 0
		there.Attach(func() { close(ended) })
		there.Attach(func() { detached++ })()
		if err := a.Remove(t.Context(), s, session.EndClient); err != nil {
			t.Fatal(err)
		}
		<-ended
		if a.has(t, s.ID, alice) || b.has(t, s.ID, alice) || detached != 0 {
			t.Errorf("after its end; what was detached ended %d times", detached)
		}
		late := make(chan struct{})
		there.Attach(func() { close(late) })
		<-late
		if err := a.Remove(t.Context(), s, session.EndClient); err != nil { // twice is harmless
			t.Error(err)
		}
	})
}

// TestRestart: a session outlives the process.
func TestRestart(t *testing.T) {
	store := embedded(t)
	first := run(t, store, wide)
	s := first.begin(t, alice)
	s.SetNegotiated("2025-03-26")
	s.Relayed([]byte("e1"))
	used := first.hold(t, bob, revocation.Token{Issuer: bob.Issuer, ID: "t", Subject: bob.Subject})
	first.stop()
	second := run(t, store, wide)
	again, err := second.Use(t.Context(), s.ID, alice, "a")
	if err != nil {
		t.Fatal(err)
	}
	if again.Negotiated() != "2025-03-26" || again.UpstreamID != "up" || again.Created.UnixMilli() != s.Created.UnixMilli() || again.Alone() {
		t.Errorf("%+v, version %s", again, again.Negotiated())
	}
	for event, want := range map[string]bool{"e1": true, "e2": false} {
		if got, err := second.Relayed(t.Context(), again, event); got != want || err != nil {
			t.Errorf("event %s: %v %v", event, got, err)
		}
	}
	// The token that began the other is revoked, and so it is not found by another
	// token of the same owner either.
	if err := second.revocations.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Issuer: bob.Issuer, Value: "t"}); err != nil {
		t.Fatal(err)
	}
	if second.has(t, used.ID, bob) {
		t.Error("the session of a revoked token was found")
	}
}

// TestRevoked: a session ends when the token is revoked that began it, on the nodes that
// serve it and on those that do not yet.
func TestRevoked(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		s := a.hold(t, alice, revocation.Token{Issuer: alice.Issuer, ID: "t", Subject: alice.Subject, IssuedAt: time.Now()})
		there, err := b.Use(t.Context(), s.ID, alice, "a")
		if err != nil {
			t.Fatal(err)
		}
		ends := make(chan struct{}, 2)
		s.Attach(func() { ends <- struct{}{} })
		if there != s {
			there.Attach(func() { ends <- struct{}{} })
		} else {
			ends <- struct{}{}
		}
		if err := b.revocations.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Issuer: alice.Issuer, Value: "t"}); err != nil {
			t.Fatal(err)
		}
		<-ends
		<-ends
		if a.has(t, s.ID, alice) || b.has(t, s.ID, alice) {
			t.Error("the session goes on")
		}
		eventually(t, "the record is removed", func() bool {
			_, total, err := a.List(t.Context(), session.Filter{}, 0, 10)
			return err == nil && total == 0
		})
		eventually(t, "the server is told", func() bool { return len(a.leaves())+len(b.leaves()) > 0 })
	})
}

// TestIdle: a session that is used on one node does not idle on the other, and one that
// nobody uses ends on both.
func TestIdle(t *testing.T) {
	limits := wide
	limits.Idle = 800 * time.Millisecond
	both(t, limits, func(t *testing.T, a, b *node) {
		s := a.begin(t, alice)
		idle := a.begin(t, alice)
		held := b.hold(t, bob, revocation.Token{})
		over := time.After(4 * limits.Idle)
		tick := time.NewTicker(limits.Idle / 8)
		defer tick.Stop()
		for going := true; going; {
			select {
			case <-over:
				going = false
			case <-tick.C:
				if !b.has(t, s.ID, alice) {
					t.Fatal("a session ended that was in use")
				}
			}
		}
		if !a.has(t, s.ID, alice) {
			t.Error("it ended on the node that did not use it")
		}
		if a.has(t, idle.ID, alice) || b.has(t, idle.ID, alice) {
			t.Error("a session that nobody used goes on")
		}
		if !a.has(t, held.ID, bob) {
			t.Error("a session with a request running has ended")
		}
		b.Release(held)
		eventually(t, "nobody knows any session", func() bool {
			_, total, err := a.List(t.Context(), session.Filter{}, 0, 10)
			return err == nil && total == 0 && a.Len() == 0 && b.Len() == 0
		})
	})
}

// TestLife: at its end a session ends, even in use.
func TestLife(t *testing.T) {
	limits := session.Limits{Idle: 200 * time.Millisecond, Life: 600 * time.Millisecond, Max: 10, PerOwner: 10}
	both(t, limits, func(t *testing.T, a, b *node) {
		s := a.hold(t, alice, revocation.Token{})
		ended := make(chan struct{})
		s.Attach(func() { close(ended) })
		<-ended
		if a.has(t, s.ID, alice) || b.has(t, s.ID, alice) {
			t.Error("it goes on")
		}
	})
}

// TestPerOwner: one too many ends the one that was not used for longest, whichever nodes
// they were begun on, and others' are left alone.
func TestPerOwner(t *testing.T) {
	limits := wide
	limits.PerOwner = 3
	both(t, limits, func(t *testing.T, a, b *node) {
		other, theirs := state.Owner{Issuer: alice.Issuer, Subject: alice.Subject, ClientID: "other"}, b.begin(t, bob)
		second := a.begin(t, other)
		var mine []*session.Session
		for i := range limits.PerOwner {
			mine = append(mine, []*node{a, b}[i%2].begin(t, alice))
			// So that the second is the one that was not used for longest.
			used := time.Now().UnixMilli()
			eventually(t, "time goes on", func() bool { return time.Now().UnixMilli() > used })
		}
		if !a.has(t, mine[0].ID, alice) {
			t.Fatal("it ended")
		}
		mine = append(mine, a.begin(t, alice))
		for i, want := range []bool{true, false, true, true} {
			eventually(t, fmt.Sprint("session ", i), func() bool { return b.has(t, mine[i].ID, alice) == want })
			if got := a.has(t, mine[i].ID, alice); got != want {
				t.Errorf("session %d: %v", i, got)
			}
		}
		if !a.has(t, theirs.ID, bob) || !b.has(t, second.ID, other) {
			t.Error("a session of another ended")
		}
		eventually(t, "the server is told", func() bool { return len(a.leaves()) == 1 })
	})
}

// TestMax: one too many on a node ends the one that was not used for longest.
func TestMax(t *testing.T) {
	limits := wide
	limits.Max = 3
	n := run(t, embedded(t), limits)
	var all []*session.Session
	for i := range 5 {
		all = append(all, n.begin(t, state.Owner{Subject: fmt.Sprint(i)}))
	}
	for i, s := range all {
		if got := n.has(t, s.ID, s.Owner); got != (i >= 2) {
			t.Errorf("session %d: %v", i, got)
		}
	}
	limits.Max = 1
	n.SetLimits(limits)
	if n.Len() != 1 || !n.has(t, all[4].ID, all[4].Owner) {
		t.Errorf("%d sessions", n.Len())
	}
	eventually(t, "the store knows", func() bool {
		_, total, err := n.List(t.Context(), session.Filter{}, 0, 10)
		return err == nil && total == 1
	})
}

// Row E10: an answer is taken once, on whichever node, and only to what was asked.
func TestAnswered(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		s, other := a.begin(t, alice), a.begin(t, alice)
		there, err := b.Use(t.Context(), s.ID, alice, "a")
		if err != nil {
			t.Fatal(err)
		}
		answered := func(n *node, s *session.Session, id jsonrpc.ID) bool {
			t.Helper()
			ok, err := n.Answered(t.Context(), s, id)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if answered(a, s, "1") || answered(b, there, "1") {
			t.Error("what was never asked was answered")
		}
		for _, nodes := range [][2]*node{{a, b}, {b, a}} {
			sessions := map[*node]*session.Session{a: s, b: there}
			from, to := nodes[0], nodes[1]
			if !from.Asked(t.Context(), sessions[from], "1") || from.Asked(t.Context(), sessions[from], "1.0") {
				t.Error("want it asked once")
			}
			if answered(to, sessions[to], `"1"`) || answered(to, other, "1") {
				t.Error("another question, or another session's, was answered")
			}
			if !answered(to, sessions[to], "1.0") || answered(from, sessions[from], "1") || answered(to, sessions[to], "1") {
				t.Error("want exactly one answer")
			}
		}
		for i := range 1000 {
			if !a.Asked(t.Context(), s, jsonrpc.ID(fmt.Sprint("1", i))) {
				t.Fatal(i)
			}
		}
		if a.Asked(t.Context(), s, "9") {
			t.Error("the open requests are not bounded")
		}
	})
}

func TestBegin(t *testing.T) {
	s := run(t, embedded(t), wide).begin(t, alice)
	if !s.Begin("1") || s.Begin("1") || s.Begin("1.0") || !s.Begin(`"1"`) {
		t.Error("want an id to be open once")
	}
	if !s.Unanswered([]jsonrpc.ID{"7", "1e0"}) || s.Unanswered([]jsonrpc.ID{"7"}) {
		t.Error("want 1 unanswered, and not 7")
	}
	s.Done("1")
	if !s.Begin("1e0") {
		t.Error("an id is still open after its answer")
	}
	for i := range 1000 {
		if s.Full() != (i >= 998) {
			t.Fatalf("full: %v with %d open requests", s.Full(), i+2)
		}
		s.Begin(jsonrpc.ID(fmt.Sprint(100 + i)))
	}
	if s.Begin("2") {
		t.Error("the open requests are not bounded")
	}
}

// Row E13: a stream is resumed only from an event of the session itself, on any node that
// can know of it.
func TestRelayed(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		mine, other := a.begin(t, alice), a.begin(t, alice)
		there, err := b.Use(t.Context(), mine.ID, alice, "a")
		if err != nil {
			t.Fatal(err)
		}
		relayed := func(n *node, s *session.Session, event string) bool {
			t.Helper()
			ok, err := n.Relayed(t.Context(), s, event)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		for i := range 1100 {
			mine.Relayed([]byte(fmt.Sprint("e", i)))
		}
		if relayed(a, mine, "e0") || !relayed(a, mine, "e76") || relayed(a, other, "e1099") || relayed(a, mine, "e1100") {
			t.Error("want the session's own last events and no more")
		}
		mine.Save()
		eventually(t, "the other node knows", func() bool { return relayed(b, there, "e1099") })
		if !relayed(b, there, "e1036") || a != b && relayed(b, there, "e1035") {
			t.Error("want the last 64")
		}
		there.Relayed([]byte("f"))
		there.Save()
		eventually(t, "the first node knows", func() bool { return relayed(a, mine, "f") })
	})
}
