package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

var (
	alice = state.Owner{Issuer: "https://issuer", Subject: "alice", ClientID: "app"}
	bob   = state.Owner{Issuer: "https://issuer", Subject: "bob", ClientID: "app"}
	wide  = session.Limits{Idle: time.Hour, Life: 24 * time.Hour, Max: 1000, PerOwner: 100}
)

// faulty is a store that a test cuts off, and which counts what it is asked.
type faulty struct {
	state.Store
	// elsewhere is whether it is taken for one that others write to, too.
	elsewhere     bool
	cut           atomic.Bool
	reads, writes atomic.Int64
	// afterRead is called when something was read, before that is told.
	afterRead atomic.Pointer[func()]
}

var errCut = state.Unavailable(errors.New("cut off by the test"))

func (f *faulty) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	f.reads.Add(1)
	if f.cut.Load() {
		return nil, errCut
	}
	records, err := f.Store.Read(ctx, keys...)
	if after := f.afterRead.Load(); after != nil {
		(*after)()
	}
	return records, err
}

func (f *faulty) Scan(ctx context.Context, prefix, after string, limit int) ([]state.Record, string, error) {
	if f.cut.Load() {
		return nil, "", errCut
	}
	return f.Store.Scan(ctx, prefix, after, limit)
}

func (f *faulty) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	f.writes.Add(1)
	if f.cut.Load() {
		return 0, errCut
	}
	return f.Store.Apply(ctx, changes...)
}

func (f *faulty) Watch(ctx context.Context, prefix string, told func(state.Update)) {
	missed := false
	f.Store.Watch(ctx, prefix, func(u state.Update) {
		if f.cut.Load() {
			missed = true
			return
		}
		u.Reset = u.Reset || missed
		u.Alone = u.Alone && !f.elsewhere
		missed = false
		told(u)
	})
}

// node is a table as one node has it.
type node struct {
	*session.Sessions
	store       *faulty
	revocations *revocation.Set
	mu          sync.Mutex
	left        []session.Parting
	stop        func()
}

func (n *node) leaves() []session.Parting {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]session.Parting(nil), n.left...)
}

// run runs a node on a store until the test ends, or it is stopped.
func run(t testing.TB, store state.Store, limits session.Limits) *node {
	t.Helper()
	return runOn(t, &faulty{Store: store}, limits)
}

func runOn(t testing.TB, store *faulty, limits session.Limits) *node {
	t.Helper()
	n := &node{store: store}
	n.revocations = revocation.New(n.store)
	n.Sessions = session.New(n.store, n.revocations, limits)
	n.SetLeave(func(p session.Parting) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.left = append(n.left, p)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.revocations.Run(ctx, zap.NewNop) })
	running.Go(func() { n.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(n.stop)
	<-n.revocations.Known()
	return n
}

// open opens a store by the configuration of its module.
func open(t testing.TB, id, config string) state.Store {
	t.Helper()
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	t.Cleanup(cancel)
	module, err := ctx.LoadModuleByID("mcp_gateway.stores."+id, json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	store := module.(state.Module).NewStore()
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func embedded(t testing.TB) state.Store {
	return open(t, "embedded", `{"path":`+quote(filepath.Join(t.TempDir(), "state.db"))+`}`)
}

func quote(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// both runs a test on two nodes of one Redis, and on one with a file, where the second
// node is the first.
func both(t *testing.T, limits session.Limits, test func(t *testing.T, a, b *node)) {
	t.Run("redis", func(t *testing.T) {
		a, b := two(t, limits)
		test(t, a, b)
	})
	t.Run("embedded", func(t *testing.T) {
		n := run(t, embedded(t), limits)
		test(t, n, n)
	})
}

// two are two nodes on one Redis.
func two(t *testing.T, limits session.Limits) (a, b *node) {
	t.Helper()
	server := redistest.Start(t)
	node := func() *node { return run(t, openRedis(t, server), limits) }
	return node(), node()
}

func openRedis(t testing.TB, server *redistest.Server) state.Store {
	return open(t, "redis", `{"addresses":[`+quote(server.Addr)+`]}`)
}

// begin begins a session, and lets go of it.
func (n *node) begin(t testing.TB, owner state.Owner) *session.Session {
	t.Helper()
	s := n.hold(t, owner, revocation.Token{Issuer: owner.Issuer, Subject: owner.Subject, Client: owner.ClientID})
	n.Release(s)
	return s
}

// hold begins a session of which a request goes on.
func (n *node) hold(t testing.TB, owner state.Owner, token revocation.Token) *session.Session {
	t.Helper()
	s := &session.Session{Owner: owner, Server: "a", UpstreamID: "up", Upstream: "10.0.0.1:80"}
	if err := n.Begin(t.Context(), s, token); err != nil {
		t.Fatal(err)
	}
	return s
}

// has reports whether the owner can use a session.
func (n *node) has(t testing.TB, id string, owner state.Owner) bool {
	t.Helper()
	s, err := n.Use(t.Context(), id, owner, "a")
	if err == nil {
		n.Release(s)
		return true
	}
	if !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	return false
}

// eventually waits for what must be so within the second that is promised, and then some
// for a slow machine.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	statetest.Eventually(t, what, so)
}

// public is the id by which people know a session.
func public(s *session.Session) string { return session.PublicID(s.Owner, s.ID) }

// contains reports whether a store holds a text anywhere among its sessions.
func contains(t *testing.T, store state.Store, text string) bool {
	t.Helper()
	for r, err := range state.All(t.Context(), store, "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.Key, text) || strings.Contains(string(r.Value), text) {
			return true
		}
	}
	return false
}
