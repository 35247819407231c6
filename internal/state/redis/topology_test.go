package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// loaded provisions a module and returns a store of it.
func loaded(t *testing.T, r *Redis) *Store {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := r.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return opened(t, *r.settings)
}

// permissions are what the documentation of Redis says that a user needs.
var permissions = []string{
	"resetkeys", "~mcp_gateway:*", "~{mcp_gateway}:*", "~token:revoked:*", "resetchannels",
	"-@all", "+@read", "+@write", "+@connection", "-@dangerous", "+eval", "+evalsha", "+time", "+info", "+wait",
}

// TestSecured is with TLS from both sides, a user, and nothing more than is needed.
func TestSecured(t *testing.T) {
	certificates := redistest.NewCertificates(t)
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	options := []string{
		"--tls-port", launch.Port(addr), "--tls-auth-clients", "yes", "--tls-ca-cert-file", certificates.CA,
		"--tls-cert-file", certificates.Server, "--tls-key-file", certificates.ServerKey,
		"--user", "default", "on", "nopass", "~*", "&*", "+@all",
		"--user", "gateway", "on", ">the password",
	}
	server := redistest.Start(t, append(options, permissions...)...)
	t.Setenv("REDIS_TEST_PASSWORD", "the password")
	store := func(t *testing.T) *Store {
		return loaded(t, &Redis{
			Addresses: []string{addr}, Username: "gateway", Password: "{env.REDIS_TEST_PASSWORD}",
			TLS: &TLS{CA: certificates.CA, Certificate: certificates.Client, Key: certificates.ClientKey},
		})
	}
	statetest.Run(t, statetest.Maker{
		New: func(t *testing.T) func() state.Store {
			flush(t, server)
			return func() state.Store { return store(t) }
		},
		Shared: true,
		SetNow: setNow,
	})
	s := store(t)
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	if n, err := s.sweep(t.Context()); err != nil {
		t.Error(n, err)
	}
	s.warned.Range(func(message, _ any) bool {
		t.Errorf("with all permissions it is warned of: %s", message)
		return true
	})

	for name, broken := range map[string]*Redis{
		"another password": {Addresses: []string{addr}, Username: "gateway", Password: "another", TLS: &TLS{CA: certificates.CA, Certificate: certificates.Client, Key: certificates.ClientKey}},
		"another user":     {Addresses: []string{addr}, Username: "nobody", Password: "{env.REDIS_TEST_PASSWORD}", TLS: &TLS{CA: certificates.CA, Certificate: certificates.Client, Key: certificates.ClientKey}},
		"no certificate":   {Addresses: []string{addr}, Username: "gateway", Password: "{env.REDIS_TEST_PASSWORD}", TLS: &TLS{CA: certificates.CA}},
		"unknown signer":   {Addresses: []string{addr}, Username: "gateway", Password: "{env.REDIS_TEST_PASSWORD}", TLS: &TLS{Certificate: certificates.Client, Key: certificates.ClientKey}},
		"another name":     {Addresses: []string{addr}, Username: "gateway", Password: "{env.REDIS_TEST_PASSWORD}", TLS: &TLS{CA: certificates.CA, Certificate: certificates.Client, Key: certificates.ClientKey, ServerName: "redis.example.com"}},
		"without TLS":      {Addresses: []string{addr}, Username: "gateway", Password: "{env.REDIS_TEST_PASSWORD}"},
	} {
		s := loaded(t, broken)
		_, err := s.Read(t.Context(), "k")
		if !errors.Is(err, state.ErrUnavailable) || strings.Contains(err.Error(), "the password") {
			t.Errorf("%s: %v", name, err)
		}
		told := statetest.Collect(t, s.Follow)
		told.Wait(t, name, func(all state.Update) bool {
			if !all.Current.IsZero() {
				t.Errorf("%s: it is current", name)
			}
			return errors.Is(all.Err, state.ErrUnavailable)
		})
	}
}

// sentinels starts a master, a replica and three Sentinels.
func sentinels(t *testing.T) (master, replica *redistest.Server, addresses []string) {
	t.Helper()
	master = redistest.Start(t)
	replica = redistest.Start(t, "--replicaof", master.Host(), fmt.Sprint(master.Port()))
	var running []*redistest.Server
	for range 3 {
		config := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor mymaster %s %d 2\nsentinel down-after-milliseconds mymaster 1000\n"+
			"sentinel failover-timeout mymaster 5000\nsentinel parallel-syncs mymaster 1\n", master.Host(), master.Port())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := redistest.NewSentinel(t, config)
		s.Start()
		running = append(running, s)
		addresses = append(addresses, s.Addr)
	}
	for _, s := range running {
		client := goredis.NewSentinelClient(&goredis.Options{Addr: s.Addr})
		t.Cleanup(func() { client.Close() })
		statetest.Eventually(t, "that the Sentinels know of each other and the replica", func() bool {
			others, err := client.Sentinels(t.Context(), "mymaster").Result()
			replicas, err2 := client.Replicas(t.Context(), "mymaster").Result()
			return err == nil && err2 == nil && len(others) == 2 && len(replicas) == 1
		})
	}
	return master, replica, addresses
}

// TestSentinelFailover: when the master dies, the feed is cut off, follows the next one,
// and nothing that was answered is lost, given min_replicas.
func TestSentinelFailover(t *testing.T) {
	master, replica, addresses := sentinels(t)
	r := &Redis{Addresses: addresses, Sentinel: &Sentinel{Master: "mymaster"}, MinReplicas: 1, Timeout: caddy.Duration(2 * time.Second)}
	one, two := loaded(t, r), loaded(t, r)
	told := statetest.Collect(t, two.Follow)
	told.Current(t)
	statetest.Eventually(t, "that the replica follows", func() bool {
		return one.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "before"}) == nil
	})
	if _, err := one.Apply(t.Context(), state.Create("kept", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	told.Wait(t, "a revocation", tells("before", ""))
	told.Forget()
	master.Stop()
	told.Wait(t, "that it is cut off", func(all state.Update) bool { return all.Err != nil })

	// The new master has no replica.
	r.MinReplicas = 0
	three := loaded(t, r)
	statetest.Eventually(t, "that there is a new master", func() bool {
		return three.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "after"}) == nil
	})
	told.Wait(t, "what is revoked on the new master", tells("after", ""))
	told.Current(t)
	if got := mustGet(t, three, "kept"); string(got.Value) != "1" {
		t.Errorf("what was answered before the failover is %q", got.Value)
	}
	all := statetest.Collect(t, three.Follow)
	all.Current(t)
	all.Wait(t, "what was revoked before the failover", tells("before", ""))
	if role := plain(t, replica.Addr).Do(t.Context(), "ROLE").Val().([]any)[0]; role != "master" {
		t.Errorf("the replica is %v", role)
	}
}

// TestSentinelSwitch: when the Sentinels make another server the master while the old
// one lives on, the feed follows.
func TestSentinelSwitch(t *testing.T) {
	_, replica, addresses := sentinels(t)
	s := loaded(t, &Redis{Addresses: addresses, Sentinel: &Sentinel{Master: "mymaster"}})
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	sentinel := goredis.NewSentinelClient(&goredis.Options{Addr: addresses[0]})
	t.Cleanup(func() { sentinel.Close() })
	statetest.Eventually(t, "that the switch begins", func() bool { return sentinel.Failover(t.Context(), "mymaster").Err() == nil })
	other := plain(t, replica.Addr)
	statetest.Eventually(t, "that the replica is the master", func() bool {
		return other.Set(t.Context(), "token:revoked:switched", "1", time.Hour).Err() == nil
	})
	told.Wait(t, "what is revoked on the new master", tells("switched", ""))
	statetest.Eventually(t, "that we write to the new master", func() bool {
		return s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "written"}) == nil &&
			other.Exists(t.Context(), "token:revoked:written").Val() == 1
	})
	told.Current(t)
	told.Wait(t, "what we revoke on the new master", tells("written", ""))
}

// cluster starts three masters that share the slots.
func cluster(t *testing.T) []*redistest.Server {
	t.Helper()
	nodes := make([]*redistest.Server, 3)
	for i := range nodes {
		nodes[i] = redistest.Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
	}
	for i, node := range nodes {
		client := plain(t, node.Addr)
		if err := client.ClusterAddSlotsRange(t.Context(), i*16384/3, (i+1)*16384/3-1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.ClusterMeet(t.Context(), nodes[0].Host(), fmt.Sprint(nodes[0].Port())).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		client := plain(t, node.Addr)
		statetest.Eventually(t, "that the cluster is complete", func() bool {
			info, err := client.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return nodes
}

func TestCluster(t *testing.T) {
	nodes := cluster(t)
	addresses := []string{nodes[0].Addr, nodes[1].Addr}
	statetest.Run(t, statetest.Maker{
		New: func(t *testing.T) func() state.Store {
			for _, node := range nodes {
				flush(t, node)
			}
			return func() state.Store { return loaded(t, &Redis{Addresses: addresses, Cluster: true}) }
		},
		Shared: true,
		SetNow: setNow,
	})

	s := loaded(t, &Redis{Addresses: addresses, Cluster: true, Timeout: caddy.Duration(time.Second)})
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	other := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: addresses})
	t.Cleanup(func() { other.Close() })
	for i := range 30 {
		if err := other.Set(t.Context(), fmt.Sprint("token:revoked:on-any-node-", i), "1", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		told.Wait(t, "what is on any node", tells(fmt.Sprint("on-any-node-", i), ""))
	}

	// One master of three is enough to be cut off: nobody knows what is revoked on it.
	told.Forget()
	nodes[2].Stop()
	told.Wait(t, "that it is cut off", func(all state.Update) bool { return all.Err != nil })
	told.Forget()
	nodes[2].Start()
	told.Current(t)
}

// TestClosesFeeds: feeds end with the store, whatever goes on.
func TestClosesFeeds(t *testing.T) {
	server := redistest.Start(t)
	for _, addr := range []string{server.Addr, "127.0.0.1:1"} {
		s := opened(t, settings{Addresses: []string{addr}, Timeout: time.Second})
		ended := make(chan struct{})
		begun := make(chan struct{}, 100)
		go func() {
			defer close(ended)
			s.Follow(context.Background(), func(state.Update) {
				select {
				case begun <- struct{}{}:
				default:
				}
			})
		}()
		<-begun
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("%s: the feed goes on after the store was closed", addr)
		}
	}
}
