package redis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestLost: what Redis has acknowledged and does not have any more is written back by a
// node that knows it, and so a node that is started later is told of it.
func TestLost(t *testing.T) {
	hour := time.Now().Add(time.Hour).Truncate(time.Second)
	revoked := []state.Revocation{
		{Kind: state.RevokeID, Value: "every issuer's"},
		{Kind: state.RevokeID, Issuer: "https://login.example.com", Value: "one issuer's", Expires: hour},
		{Kind: state.RevokeHash, Value: strings.Repeat("0a", 32), Expires: hour},
		{Kind: state.RevokeSubject, Issuer: "https://login.example.com", Value: "alice", Before: hour.Add(-2 * time.Hour)},
		{Kind: state.RevokeClient, Value: "app", Expires: hour},
		{Kind: state.RevokeEveryone, Before: hour.Add(-3 * time.Hour)},
	}
	for name, lose := range map[string]func(t *testing.T, server *redistest.Server){
		"emptied": func(t *testing.T, server *redistest.Server) {
			plain(t, server.Addr).FlushAll(t.Context())
		},
		"restarted without its data": func(_ *testing.T, server *redistest.Server) {
			server.Stop()
			server.Start()
		},
		"without the last changes": func(t *testing.T, server *redistest.Server) {
			other := plain(t, server.Addr)
			for key := range scanAll(t, other) {
				if strings.HasPrefix(key, literalPrefix) || strings.Contains(key, ":subject:") {
					other.Del(t.Context(), key)
				}
			}
			other.ClientKillByFilter(t.Context(), "TYPE", "normal")
		},
		"with less": func(t *testing.T, server *redistest.Server) {
			other := plain(t, server.Addr)
			less := revoked[3]
			less.Before = less.Before.Add(-time.Hour)
			s := opened(t, settings{Addresses: []string{server.Addr}})
			other.Set(t.Context(), s.revokedKey(less), less.EncodeText(), 0)
			other.PExpire(t.Context(), literalPrefix+revoked[1].Value, time.Minute)
			other.ClientKillByFilter(t.Context(), "TYPE", "normal")
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			writes := opened(t, settings{Addresses: []string{server.Addr}})
			reads := opened(t, settings{Addresses: []string{server.Addr}, Timeout: time.Second})
			if err := writes.Revoke(t.Context(), revoked[:3]...); err != nil {
				t.Fatal(err)
			}
			// This node has never revoked anything itself.
			told := statetest.Collect(t, reads.Follow)
			told.Current(t)
			if err := writes.Revoke(t.Context(), revoked[3:]...); err != nil {
				t.Fatal(err)
			}
			told.Wait(t, "all", func(all state.Update) bool { return toldAll(all, revoked) })
			if err := writes.Close(); err != nil {
				t.Fatal(err)
			}
			lose(t, server)
			statetest.Eventually(t, "that a node that is started now is told of all", func() bool {
				later := statetest.Collect(t, opened(t, settings{Addresses: []string{server.Addr}}).Follow)
				later.Current(t)
				complete := false
				later.Wait(t, "", func(all state.Update) bool {
					complete = toldAll(all, revoked)
					return true
				})
				return complete
			})
		})
	}
}

// toldAll reports whether all were told, each to its full extent.
func toldAll(all state.Update, want []state.Revocation) bool {
	for _, w := range want {
		if !slices.ContainsFunc(all.Revocations, func(r state.Revocation) bool {
			return r.Same(w) && r.Before.Equal(w.Before) && r.Expires.Equal(w.Expires)
		}) {
			return false
		}
	}
	return true
}

// TestLostInCluster: each master's are written back to it, and the others are left alone.
func TestLostInCluster(t *testing.T) {
	nodes := cluster(t)
	addresses := []string{nodes[0].Addr, nodes[1].Addr}
	s := loaded(t, &Redis{Addresses: addresses, Cluster: true})
	var revoked []state.Revocation
	for i := range 60 {
		revoked = append(revoked, state.Revocation{Kind: state.RevokeID, Value: fmt.Sprint("token-", i)},
			state.Revocation{Kind: state.RevokeSubject, Value: fmt.Sprint("user-", i)})
	}
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	if err := s.Revoke(t.Context(), revoked...); err != nil {
		t.Fatal(err)
	}
	told.Wait(t, "all", func(all state.Update) bool { return toldAll(all, revoked) })
	master := plain(t, nodes[0].Addr)
	before := master.DBSize(t.Context()).Val()
	if err := master.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	statetest.Eventually(t, "that the master has them again", func() bool { return master.DBSize(t.Context()).Val() >= before })
	later := statetest.Collect(t, loaded(t, &Redis{Addresses: addresses, Cluster: true}).Follow)
	later.Current(t)
	later.Wait(t, "all, on another node", func(all state.Update) bool { return toldAll(all, revoked) })
}

// TestNothingLost: nothing is written back when nothing is lost, and what has expired or
// what was known of another issuer is none of it.
func TestNothingLost(t *testing.T) {
	server := redistest.Start(t)
	w := newWire(t, server.Addr)
	s := opened(t, settings{Addresses: []string{w.Addr}, Timeout: time.Second})
	other := plain(t, server.Addr)
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	other.Set(t.Context(), "token:revoked:theirs", "1", time.Hour)
	soon := time.Now().Add(50 * time.Millisecond)
	for _, r := range []state.Revocation{
		{Kind: state.RevokeID, Value: "ours", Expires: time.Now().Add(time.Hour)},
		{Kind: state.RevokeID, Value: "ends", Expires: soon},
		{Kind: state.RevokeSubject, Value: "alice", Before: time.Now()},
	} {
		if err := s.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	told.Wait(t, "what others revoke", tells("theirs", ""))
	statetest.Eventually(t, "that one has expired", func() bool { return time.Now().After(soon) })
	w.Cut()
	told.Wait(t, "that it is cut off", func(all state.Update) bool { return all.Err != nil })
	if err := other.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.Mend()
	for range 2 { // the second one is after what would be written back
		told.Forget()
		told.Current(t)
	}
	if n := len(s.kept.read(time.Now(), func(state.Revocation) bool { return true }).lost); n != 3 {
		t.Errorf("%d are kept", n)
	}
	if stats := other.Info(t.Context(), "commandstats").Val(); strings.Contains(stats, "cmdstat_eval") {
		t.Errorf("something was written: %s", stats)
	}
}

// TestKept: what is kept is what was told, within the bound, and the newest of it.
func TestKept(t *testing.T) {
	now := time.Now()
	k := newKept(4 * keptChunk)
	const n = 60_000
	var newest state.Revocation
	for i := range n {
		newest = state.Revocation{Kind: state.RevocationKind(i%4 + 1), Issuer: fmt.Sprint("issuer-", rand.IntN(2)), Value: fmt.Sprint(i), Expires: now.Add(time.Hour)}
		if i%3 == 0 {
			newest.Expires, newest.Before = time.Time{}, now.Truncate(time.Second)
		}
		k.add(newest)
		if k.size > k.max {
			t.Fatalf("%d bytes are kept", k.size)
		}
	}
	count, last := 0, state.Revocation{}
	for r := range k.all(now) {
		if i := 0; count > 0 {
			if _, err := fmt.Sscan(r.Value, &i); err != nil || i >= n || int(r.Kind) != i%4+1 || (i%3 == 0) != r.Expires.IsZero() || (i%3 == 0) == r.Before.IsZero() {
				t.Fatalf("%+v is none of those that were told", r)
			}
		}
		count++
		last = r
	}
	if count < 20_000 || count == n || last.Value != newest.Value || last.Issuer != newest.Issuer {
		t.Errorf("%d are kept, the newest being %+v", count, last)
	}
	// The same again and again, and what has expired, need no room.
	for range n {
		k.add(newest)
	}
	still := 0
	for range k.all(now.Add(2 * time.Hour)) {
		still++
	}
	if still == 0 || k.size > k.max {
		t.Errorf("%d of what never expires are kept, in %d bytes", still, k.size)
	}
}
