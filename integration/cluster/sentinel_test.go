//go:build unix

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// sentinels starts a master, a replica and three Sentinels.
func sentinels(t *testing.T) (master, replica *redistest.Server, addresses []string) {
	t.Helper()
	master = newRedis(t)
	replica = newRedis(t, "--replicaof", master.Host(), fmt.Sprint(master.Port()))
	// Sentinels look for replicas when they start, and not again for long.
	admin := operator(t, master.Addr)
	statetest.Eventually(t, "that the replica follows", func() bool {
		return strings.Contains(admin.Info(t.Context(), "replication").Val(), "state=online")
	})
	var clients []*goredis.SentinelClient
	for range 3 {
		config := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor main %s %d 2\nsentinel down-after-milliseconds main 1000\n"+
			"sentinel failover-timeout main 5000\nsentinel parallel-syncs main 1\n", master.Host(), master.Port())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := redistest.NewSentinel(t, config)
		s.Start()
		client := goredis.NewSentinelClient(&goredis.Options{Addr: s.Addr})
		t.Cleanup(func() { client.Close() })
		clients, addresses = append(clients, client), append(addresses, s.Addr)
	}
	for _, client := range clients {
		statetest.Eventually(t, "that the Sentinels know of each other and the replica", func() bool {
			others, err := client.Sentinels(t.Context(), "main").Result()
			replicas, err2 := client.Replicas(t.Context(), "main").Result()
			return err == nil && err2 == nil && len(others) == 2 && len(replicas) == 1
		})
	}
	return master, replica, addresses
}

// TestFailover: the master of a pair is killed under load, and the replica takes its
// place. With min_replicas, all that was acknowledged is known by the time that a node
// serves again; what the replica could not get was not acknowledged, and the nodes that
// were asked write it back.
func TestFailover(t *testing.T) {
	master, replica, addresses := sentinels(t)
	w := newWorld(t)
	global := strings.Replace(store(strings.Join(addresses, " ")), "timeout 1s", "timeout 1s\n\t\t\tsentinel main\n\t\t\tmin_replicas 1", 1)
	one, other, third := w.node(t, global), w.node(t, global), w.node(t, global)
	one.start(t)
	other.start(t)
	tokens := w.good(t, 60)
	either := func(i int) *node { return []*node{one, other}[i%2] }
	l := w.load(t, tokens, one, other)
	l.await(t, "answers of both nodes", 40, served(nil))
	for i, tk := range tokens[:20] {
		either(i).mustRevoke(t, tk)
	}
	// The replica is cut off, so that it cannot have what comes now.
	if err := syscall.Kill(replica.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := operator(t, master.Addr).ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	for i, tk := range tokens[20:22] {
		if err := either(i).revoke(t.Context(), tk); err == nil {
			t.Error("acknowledged what the replica does not have")
		}
	}
	if err := syscall.Kill(master.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-master.Done()
	if err := syscall.Kill(replica.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{one, other} {
		l.await(t, n.name+" is cut off", 10, unknown(n))
	}
	for _, n := range []*node{one, other} {
		l.await(t, n.name+" serves again", 40, served(n))
	}
	// The old master comes back, as the replica of the new one. The Sentinels would see
	// to that, but take their time.
	master.Start()
	if err := operator(t, master.Addr).SlaveOf(t.Context(), replica.Host(), fmt.Sprint(replica.Port())).Err(); err != nil {
		t.Fatal(err)
	}
	for i, tk := range tokens[22:30] {
		statetest.Eventually(t, "that there is a replica again", func() bool { return either(i).revoke(t.Context(), tk) == nil })
	}
	l.await(t, "answers in the end", 100, served(nil))
	l.end(t)

	admin := operator(t, replica.Addr)
	for _, tk := range tokens[:30] {
		statetest.Eventually(t, "that the new master has all", func() bool {
			return admin.Exists(t.Context(), "token:revoked:"+tk.id).Val() == 1
		})
	}
	third.start(t)
	for _, tk := range tokens[:30] {
		if a := third.call(t.Context(), tk, ""); a.status != 401 || a.reason != "token_revoked" {
			t.Errorf("a node that is started on the new master answers %s", a)
		}
	}
}
