package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// TestCutOff: when the store cannot be asked, no session begins, and one that this node
// does not know, or cannot be sure of any more, is not said to be unknown.
func TestCutOff(t *testing.T) {
	store := &faulty{Store: embedded(t), elsewhere: true}
	n := runOn(t, store, wide)
	elsewhere := run(t, store.Store, wide)
	known, unknown := n.begin(t, alice), elsewhere.begin(t, alice)
	unavailable := func(id string) bool {
		t.Helper()
		s, err := n.Use(t.Context(), id, alice, "a")
		if err == nil {
			n.Release(s)
		}
		if errors.Is(err, state.ErrNotFound) {
			t.Fatalf("%v: a client would drop its session", err)
		}
		return errors.Is(err, state.ErrUnavailable)
	}
	n.SetAllowStale(time.Hour)
	store.cut.Store(true)
	if err := n.Begin(t.Context(), &session.Session{Owner: alice, Server: "a"}, revocation.Token{}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("begin: %v", err)
	}
	if _, total, err := n.List(t.Context(), session.Filter{}, 0, 10); total != 0 || !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("list: %d %v", total, err)
	}
	if err := n.End(t.Context(), public(known), session.Filter{}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("end: %v", err)
	}
	if !unavailable(unknown.ID) {
		t.Error("a session was used that this node does not know")
	}
	if unavailable(known.ID) {
		t.Error("a session that is known was refused, although that is allowed to be stale")
	}
	n.SetAllowStale(0)
	eventually(t, "it is not trusted any more", func() bool { return unavailable(known.ID) })
	n.SetAllowStale(time.Hour)
	if unavailable(known.ID) {
		t.Error("it was not trusted again")
	}
	// It ends here at once, and elsewhere when the store is back.
	if err := n.Remove(t.Context(), known, session.EndClient); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("remove: %v", err)
	}
	if n.has(t, known.ID, alice) || !elsewhere.has(t, known.ID, alice) {
		t.Error("want it over here, and not there yet")
	}
	ended := elsewhere.begin(t, alice)
	if unavailable(ended.ID) != true {
		t.Error("a session was used that this node does not know")
	}
	store.cut.Store(false)
	eventually(t, "it ends elsewhere", func() bool { return !elsewhere.has(t, known.ID, alice) })
	if n.has(t, known.ID, alice) || !n.has(t, unknown.ID, alice) {
		t.Error("want the other one to go on, and this one over")
	}
}

// TestMissedEnd: what ended while the node heard nothing is over when it hears again.
func TestMissedEnd(t *testing.T) {
	store := &faulty{Store: embedded(t), elsewhere: true}
	n, elsewhere := runOn(t, store, wide), run(t, store.Store, wide)
	s := n.hold(t, alice, revocation.Token{})
	ended := make(chan struct{})
	s.Attach(func() { close(ended) })
	store.cut.Store(true)
	if err := elsewhere.End(t.Context(), public(s), session.Filter{}); err != nil {
		t.Fatal(err)
	}
	store.cut.Store(false)
	<-ended
	if n.has(t, s.ID, alice) {
		t.Error("it goes on")
	}
}

// TestStaleRead: a session that ends while another node reads it is not kept there.
func TestStaleRead(t *testing.T) {
	a, b := two(t, wide)
	for range 20 {
		s := a.begin(t, alice)
		once := new(sync.Once)
		after := func() {
			once.Do(func() {
				if err := a.Remove(t.Context(), s, session.EndClient); err != nil {
					t.Error(err)
				}
			})
		}
		b.store.afterRead.Store(&after)
		found, err := b.Use(t.Context(), s.ID, alice, "a")
		b.store.afterRead.Store(nil)
		if err == nil { // it had ended only after it was found
			ended := make(chan struct{})
			found.Attach(func() { close(ended) })
			<-ended
		}
		if b.has(t, s.ID, alice) {
			t.Fatal("a session that has ended was found")
		}
	}
}

// TestEmptied: sessions that a Redis has lost are over.
func TestEmptied(t *testing.T) {
	server := redistest.Start(t)
	n := run(t, openRedis(t, server), wide)
	s := n.begin(t, alice)
	server.Stop()
	server.Start() // which keeps nothing
	eventually(t, "it is over", func() bool {
		again, err := n.Use(t.Context(), s.ID, alice, "a")
		if err == nil {
			n.Release(again)
		}
		return errors.Is(err, state.ErrNotFound)
	})
	eventually(t, "another can begin", func() bool {
		s := &session.Session{Owner: alice, Server: "a"}
		return n.Begin(t.Context(), s, revocation.Token{}) == nil && n.has(t, s.ID, alice)
	})
}

// TestNoRoundTrip: the store is not asked for a session that is known, and a use costs no
// allocation.
func TestNoRoundTrip(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		s := a.begin(t, alice)
		if !b.has(t, s.ID, alice) {
			t.Fatal("it is not there")
		}
		// A node's own write is a change, after which it reads once more.
		var reads, writes int64
		eventually(t, "it is quiet", func() bool {
			before := reads
			reads, writes = b.store.reads.Load(), b.store.writes.Load()
			return reads > 0 && reads == before
		})
		allocations := testing.AllocsPerRun(1000, func() {
			used, err := b.Use(t.Context(), s.ID, alice, "a")
			if err != nil {
				t.Fatal(err)
			}
			used.Count(1, 100)
			b.Release(used)
		})
		if allocations != 0 || b.store.reads.Load() != reads || b.store.writes.Load() != writes {
			t.Errorf("%.1f allocations, %d reads, %d writes", allocations, b.store.reads.Load()-reads, b.store.writes.Load()-writes)
		}
	})
}

// TestOneWrite: a session begins with one write.
func TestOneWrite(t *testing.T) {
	limits := wide
	limits.PerOwner = 1
	n := run(t, embedded(t), limits)
	for range 3 { // from the second on, one ends as well
		before := n.store.writes.Load()
		n.begin(t, alice)
		if writes := n.store.writes.Load() - before; writes != 1 {
			t.Errorf("%d writes", writes)
		}
	}
}

// TestCounts: what two nodes count is added up.
func TestCounts(t *testing.T) {
	limits := wide
	limits.Idle = 2 * time.Second
	both(t, limits, func(t *testing.T, a, b *node) {
		s := a.hold(t, alice, revocation.Token{})
		there, err := b.Use(t.Context(), s.ID, alice, "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			s.Count(1, 100)
			there.Count(2, 10)
		}
		s.Save()
		there.Save()
		eventually(t, "both are counted", func() bool {
			page, _, err := a.List(t.Context(), session.Filter{}, 0, 1)
			return err == nil && len(page) == 1 && page[0].Messages == 30 && page[0].Bytes == 1100
		})
	})
}

// TestRandom drives two nodes by a model: which sessions there are, and whose.
func TestRandom(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *node) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
		nodes, owners := []*node{a, b}, []state.Owner{alice, bob, {Issuer: alice.Issuer, Subject: "alice", ClientID: "x"}}
		type known struct {
			*session.Session
			token string
			over  bool
		}
		var all []*known
		for step := range 400 {
			n, other := nodes[r.IntN(2)], owners[r.IntN(len(owners))]
			if len(all) == 0 || r.IntN(4) == 0 {
				owner := owners[r.IntN(len(owners))]
				token := fmt.Sprint("t", step)
				s := n.hold(t, owner, revocation.Token{Issuer: owner.Issuer, ID: token, Subject: owner.Subject})
				n.Release(s)
				all = append(all, &known{Session: s, token: token})
				continue
			}
			s := all[r.IntN(len(all))]
			switch r.IntN(8) {
			case 0:
				if got, err := n.Use(t.Context(), s.ID, s.Owner, "a"); err == nil {
					n.Release(got)
					if err := n.Remove(t.Context(), got, session.EndClient); err != nil {
						t.Fatal(err)
					}
					s.over = true
				}
			case 1:
				err := n.End(t.Context(), public(s.Session), session.Filter{Issuer: other.Issuer, Subject: other.Subject})
				if may := !s.over && other.Subject == s.Owner.Subject; may != (err == nil) {
					t.Fatalf("step %d: %v, over %v, owner %v, by %v", step, err, s.over, s.Owner, other)
				} else if may {
					s.over = true
				}
			case 2:
				if r.IntN(4) == 0 {
					if err := n.revocations.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Issuer: s.Owner.Issuer, Value: s.token}); err != nil {
						t.Fatal(err)
					}
					s.over = true
					eventually(t, "the record is gone", func() bool {
						return errors.Is(n.End(t.Context(), public(s.Session), session.Filter{Issuer: "nobody", Subject: "x"}), state.ErrNotFound) &&
							!listed(t, n, s.Session)
					})
				}
			case 3:
				s.Save()
			default:
				if other != s.Owner && n.has(t, s.ID, other) {
					t.Fatalf("step %d: %v found a session of %v", step, other, s.Owner)
				}
				if !s.over && !n.has(t, s.ID, s.Owner) {
					t.Fatalf("step %d: a session was lost", step)
				}
				if s.over {
					eventually(t, "it is over", func() bool { return !n.has(t, s.ID, s.Owner) })
				}
			}
		}
		for _, n := range nodes {
			for _, owner := range owners {
				want := 0
				for _, s := range all {
					if !s.over && s.Owner.Subject == owner.Subject {
						want++
					}
				}
				page, total, err := n.List(t.Context(), session.Filter{Issuer: owner.Issuer, Subject: owner.Subject}, 0, 1000)
				if err != nil || total != want || len(page) != want {
					t.Errorf("%s has %d sessions, %d on the page, want %d: %v", owner.Subject, total, len(page), want, err)
				}
			}
		}
	})
}

func listed(t *testing.T, n *node, s *session.Session) bool {
	t.Helper()
	page, _, err := n.List(t.Context(), session.Filter{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range page {
		if info.ID == public(s) {
			return true
		}
	}
	return false
}

// TestConcurrently: whatever happens at once, what was ended stays so, on both nodes.
func TestConcurrently(t *testing.T) {
	limits := wide
	limits.PerOwner, limits.Idle = 5, 2*time.Second
	both(t, limits, func(t *testing.T, a, b *node) {
		var running sync.WaitGroup
		var begun, over atomic.Int64
		for i := range 8 {
			owner := state.Owner{Issuer: alice.Issuer, Subject: fmt.Sprint(i / 2)}
			n, other := a, b
			if i%2 == 0 {
				n, other = b, a
			}
			running.Go(func() {
				for j := range 25 {
					s := &session.Session{Owner: owner, Server: "a"}
					if err := n.Begin(t.Context(), s, revocation.Token{}); err != nil {
						if !errors.Is(err, state.ErrNotFound) { // one too many, already
							t.Error(err)
						}
						continue
					}
					begun.Add(1)
					s.Attach(func() { over.Add(1) })
					s.Count(1, 1)
					if there, err := other.Use(t.Context(), s.ID, owner, "a"); err == nil {
						there.Count(1, 1)
						there.Save()
						there.Relayed([]byte("e"))
						other.Release(there)
						if j%2 == 0 {
							_ = other.Remove(t.Context(), there, session.EndClient)
						}
					}
					s.Save()
					n.Release(s)
					if _, _, err := n.List(t.Context(), session.Filter{}, 0, 10); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		for page, total, err := a.List(t.Context(), session.Filter{}, 0, 100); total > 0; page, total, err = a.List(t.Context(), session.Filter{}, 0, 100) {
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range page {
				if err := b.End(t.Context(), info.ID, session.Filter{}); err != nil && !errors.Is(err, state.ErrNotFound) {
					t.Fatal(err)
				}
			}
		}
		eventually(t, "all are over on both nodes", func() bool { return over.Load() == begun.Load() && a.Len() == 0 && b.Len() == 0 })
	})
}
