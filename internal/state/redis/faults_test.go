package redis

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestLostAnswers: a change whose answer was lost is sent again, and made once.
func TestLostAnswers(t *testing.T) {
	server := redistest.Start(t)
	w := newWire(t, server.Addr)
	s, ctx := opened(t, settings{Addresses: []string{w.Addr}, Timeout: 10 * time.Second, Retries: 10}), t.Context()
	if _, err := s.Apply(ctx, state.Create("n", []byte("0"))); err != nil {
		t.Fatal(err)
	}
	w.Lose(func(n int) bool { return n%3 != 0 })
	unknown := 0
	for range 60 {
		r, err := state.Get(ctx, s, "n")
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(string(r.Value))
		other := state.Create(fmt.Sprint("done/", n), nil)
		switch _, err = s.Apply(ctx, state.Replace(r, []byte(strconv.Itoa(n+1))), other); {
		case errors.Is(err, state.ErrUnavailable):
			unknown++
		case err != nil:
			// Nobody else writes.
			t.Fatalf("%d: %v", n, err)
		}
		if _, err := s.Apply(ctx, state.Remove(other.Key)); err != nil && !errors.Is(err, state.ErrUnavailable) {
			t.Fatal(err)
		}
		if _, err := s.Apply(ctx, state.Create("gone", nil)); err == nil {
			gone, err := state.Get(ctx, s, "gone")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Apply(ctx, state.Delete(gone)); err != nil && !errors.Is(err, state.ErrUnavailable) {
				t.Fatalf("a deletion: %v", err)
			}
		}
	}
	w.Lose(nil)
	n, _ := strconv.Atoi(string(mustGet(t, s, "n").Value))
	if n > 60 || n < 60-unknown {
		t.Errorf("counted %d of 60, of which %d are not known to be made", n, unknown)
	}
}

func mustGet(t *testing.T, s state.Store, key string) state.Record {
	t.Helper()
	r, err := state.Get(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDamagedRecord: a record that somebody has overwritten is not read as one.
func TestDamagedRecord(t *testing.T) {
	server := redistest.Start(t)
	s, ctx := opened(t, settings{Addresses: []string{server.Addr}}), t.Context()
	if _, err := s.Apply(ctx, state.Create("a", []byte("1")), state.Create("b", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	other := plain(t, server.Addr)
	kept := other.Get(ctx, "{mcp_gateway}:r:a").Val()
	for name, value := range map[string]string{
		"empty": "", "short": kept[:5], "another record's": other.Get(ctx, "{mcp_gateway}:r:b").Val(), "longer": kept + "x",
		"another format": "\x02" + kept[1:],
	} {
		other.Set(ctx, "{mcp_gateway}:r:a", value, 0)
		if _, err := s.Read(ctx, "a"); !errors.Is(err, state.ErrDamaged) || !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := s.Scan(ctx, "", "", 10); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("%s, scanned: %v", name, err)
		}
	}
}

// TestSweep: the names of records that have expired do not stay.
func TestSweep(t *testing.T) {
	server := redistest.Start(t)
	s, ctx := opened(t, settings{Addresses: []string{server.Addr}}), t.Context()
	expires := time.Now().Add(100 * time.Millisecond)
	for i := range 50 {
		_, err := s.Apply(ctx, state.Create(fmt.Sprint("soon/", i), nil).Until(expires), state.Create(fmt.Sprint("later/", i), nil).Until(expires.Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
	}
	other := plain(t, server.Addr)
	statetest.Eventually(t, "that all are swept", func() bool {
		if _, err := s.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		return other.ZCard(ctx, s.index()).Val() == 50 && other.ZCard(ctx, s.expiries()).Val() == 50
	})
	for key := range scanAll(t, other) {
		if key != s.index() && key != s.expiries() && other.TTL(ctx, key).Val() < 0 {
			t.Errorf("%s has no time to live", key)
		}
	}
}

// TestReplicas: with min_replicas a change is not answered before the replicas have it.
func TestReplicas(t *testing.T) {
	master := redistest.Start(t)
	s := opened(t, settings{Addresses: []string{master.Addr}, MinReplicas: 1, Timeout: 2 * time.Second})
	revocation := state.Revocation{Kind: state.RevokeID, Value: "a"}
	if err := s.Revoke(t.Context(), revocation); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("without a replica: %v", err)
	}
	replica := redistest.Start(t, "--replicaof", master.Host(), fmt.Sprint(master.Port()))
	statetest.Eventually(t, "that the replica follows", func() bool { return s.Revoke(t.Context(), revocation) == nil })
	other := plain(t, replica.Addr)
	for i := range 20 {
		if _, err := s.Apply(t.Context(), state.Create(fmt.Sprint("k", i), nil)); err != nil {
			t.Fatal(err)
		}
		if other.Exists(t.Context(), s.recordPrefix()+fmt.Sprint("k", i)).Val() != 1 {
			t.Errorf("change %d was answered and the replica does not have it", i)
		}
	}
	r := mustGet(t, s, "k0")
	if _, err := s.Apply(t.Context(), state.Replace(state.Record{Key: "k0", Version: r.Version + 1}, nil)); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a conflict: %v", err)
	}
}

// TestEviction: a Redis that may forget revocations is warned of.
func TestEviction(t *testing.T) {
	for policy, want := range map[string]bool{"volatile-ttl": true, "noeviction": false} {
		server := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", policy)
		s := opened(t, settings{Addresses: []string{server.Addr}})
		statetest.Collect(t, s.Follow).Current(t)
		warned := false
		s.warned.Range(func(_, _ any) bool { warned = true; return false })
		if warned != want {
			t.Errorf("%s: warned %v", policy, warned)
		}
	}
}

// TestFull: a Redis without memory refuses changes, and its feed goes on.
func TestFull(t *testing.T) {
	server := redistest.Start(t, "--maxmemory-policy", "noeviction")
	s := opened(t, settings{Addresses: []string{server.Addr}})
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	other := plain(t, server.Addr)
	if err := other.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), state.Create("a", nil), state.Create("b", nil)); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("written to a server without memory: %v", err)
	}
	if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "a"}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("revoked on a server without memory: %v", err)
	}
	told.Current(t)
	told.Wait(t, "", func(all state.Update) bool {
		if all.Err != nil {
			t.Errorf("the feed was cut off: %v", all.Err)
		}
		return true
	})
	other.ConfigSet(t.Context(), "maxmemory", "0")
	if records, err := s.Read(t.Context(), "a", "b"); err != nil || records[0].Exists() || records[1].Exists() {
		t.Errorf("read %+v, %v", records, err)
	}
}
