//go:build unix

package cluster

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// fault is something that happens to Redis, or between it and the nodes.
type fault struct {
	name       string
	begin, end func(t *testing.T)
	// cuts are the nodes that do not know then what is revoked.
	cuts []*node
	// revokes is a node that can revoke meanwhile.
	revokes *node
}

// TestFaults: whatever happens to Redis under load, no token is let through that was
// revoked a second ago, or that is expired or foreign. Nodes that are cut off refuse, say
// why, and serve again when it is over.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	redis := newRedis(t)
	toOne, toOther := newProxy(t, redis.Addr), newProxy(t, redis.Addr)
	one, other := w.node(t, store(toOne.Addr)), w.node(t, store(toOther.Addr))
	one.start(t)
	other.start(t)
	both := []*node{one, other}
	admin := operator(t, redis.Addr)
	do := func(args ...any) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal := func(s syscall.Signal) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := syscall.Kill(redis.PID(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	nothing := func(*testing.T) {}
	for _, f := range []fault{
		{name: "stopped and started", begin: func(*testing.T) { redis.Stop() }, end: func(*testing.T) { redis.Start() }, cuts: both},
		{name: "killed and started", begin: func(t *testing.T) {
			signal(syscall.SIGKILL)(t)
			<-redis.Done()
		}, end: func(*testing.T) { redis.Start() }, cuts: both},
		{name: "paused", begin: do("CLIENT", "PAUSE", "2500", "ALL"), end: nothing, cuts: both},
		{name: "paused for writes", begin: do("CLIENT", "PAUSE", "2500", "WRITE"), end: nothing, cuts: both},
		{name: "hangs", begin: signal(syscall.SIGSTOP), end: signal(syscall.SIGCONT), cuts: both},
		{name: "unreachable for one", begin: func(*testing.T) { toOther.Cut() }, end: func(*testing.T) { toOther.Mend() }, cuts: []*node{other}, revokes: one},
		{name: "too slow for one", begin: func(*testing.T) { toOther.Delay(1500 * time.Millisecond) }, end: func(*testing.T) { toOther.Mend() }, cuts: []*node{other}, revokes: one},
		{name: "slow", begin: func(*testing.T) {
			toOne.Delay(50 * time.Millisecond)
			toOther.Delay(50 * time.Millisecond)
		}, end: func(*testing.T) { toOne.Mend(); toOther.Mend() }, revokes: one},
		{name: "connections reset", begin: func(*testing.T) { toOne.Reset(); toOther.Reset() }, end: func(*testing.T) { toOne.Reset(); toOther.Reset() }, revokes: one},
		{name: "password changed", begin: func(t *testing.T) {
			do("ACL", "SETUSER", "gateway", "resetpass", ">another")(t)
			do("CLIENT", "KILL", "USER", "gateway")(t)
		}, end: do("ACL", "SETUSER", "gateway", "resetpass", ">"+password), cuts: both},
		{
			name: "keys not permitted", begin: do("ACL", "SETUSER", "gateway", "resetkeys"),
			end: do("ACL", "SETUSER", "gateway", "~mcp_gateway:*", "~{mcp_gateway}:*", "~token:revoked:*"), cuts: both,
		},
		{name: "user switched off", begin: func(t *testing.T) {
			do("ACL", "SETUSER", "gateway", "off")(t)
			do("CLIENT", "KILL", "USER", "gateway")(t)
		}, end: do("ACL", "SETUSER", "gateway", "on"), cuts: both},
		{name: "out of memory", begin: do("CONFIG", "SET", "maxmemory", "1"), end: do("CONFIG", "SET", "maxmemory", "0")},
	} {
		t.Run(f.name, func(t *testing.T) { f.run(t, w, one, other) })
	}
}

// run has a fault happen under load.
func (f *fault) run(t *testing.T, w *world, one, other *node) {
	tokens := w.good(t, 40)
	take := func(n int) (taken []*token) {
		taken, tokens = tokens[:n], tokens[n:]
		return taken
	}
	l := w.load(t, tokens, one, other)
	l.await(t, "answers of both nodes", 40, served(nil))
	for _, tk := range take(5) {
		one.mustRevoke(t, tk)
	}
	f.begin(t)
	ended := false
	end := func() {
		if !ended {
			ended = true
			f.end(t)
		}
	}
	defer end()
	for _, n := range f.cuts {
		l.await(t, n.name+" is cut off", 20, unknown(n))
	}
	if f.revokes != nil {
		for _, tk := range take(5) {
			f.revokes.mustRevoke(t, tk)
		}
	}
	// What cannot be revoked everywhere is not acknowledged.
	perhaps := take(2)
	for i, n := range []*node{one, other} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := n.revoke(ctx, perhaps[i])
		cancel()
		t.Logf("%s revokes meanwhile: %v", n.name, err)
	}
	l.await(t, "answers", 100, func(*answer) bool { return true })
	end()
	for _, n := range []*node{one, other} {
		l.await(t, n.name+" serves again", 30, served(n))
	}
	for i, tk := range take(6) {
		[]*node{one, other}[i%2].mustRevoke(t, tk)
	}
	l.await(t, "answers in the end", 100, served(nil))
	l.end(t)
	for _, tk := range l.tokens {
		if tk.acknowledged.IsZero() {
			continue
		}
		for _, n := range []*node{one, other} {
			if a := n.call(t.Context(), tk, ""); a.status != 401 || a.reason != "token_revoked" {
				t.Errorf("in the end a token that is %s is answered with %s", tk.state(time.Now()), a)
			}
		}
	}
}
