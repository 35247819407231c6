package tasks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
)

var (
	alice = state.Owner{Issuer: "https://issuer", Subject: "alice", ClientID: "app"}
	bob   = state.Owner{Issuer: "https://issuer", Subject: "bob", ClientID: "app"}
	wide  = tasks.Limits{Life: time.Hour, Max: 1000, PerOwner: 100}
)

// both runs a test on two nodes of one Redis, and on one with a file, where the second
// node is the first.
func both(t *testing.T, limits tasks.Limits, test func(t *testing.T, a, b *tasks.Tasks)) {
	run := func(t *testing.T, config map[string]any) *tasks.Tasks {
		t.Helper()
		configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(configured)
		t.Cleanup(cancel)
		id := config["id"].(string)
		delete(config, "id")
		text, _ := json.Marshal(config)
		module, err := ctx.LoadModuleByID("mcp_gateway.stores."+id, text)
		if err != nil {
			t.Fatal(err)
		}
		store := module.(state.Module).NewStore()
		if err := store.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		table := tasks.New(store, limits)
		running, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() { table.Run(running) })
		t.Cleanup(func() { stop(); done.Wait() })
		return table
	}
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		node := func() *tasks.Tasks { return run(t, map[string]any{"id": "redis", "addresses": []string{server.Addr}}) }
		test(t, node(), node())
	})
	t.Run("embedded", func(t *testing.T) {
		n := run(t, map[string]any{"id": "embedded", "path": filepath.Join(t.TempDir(), "state.db")})
		test(t, n, n)
	})
}

func bind(t *testing.T, table *tasks.Tasks, owner state.Owner, id string, ttl time.Duration) {
	t.Helper()
	if err := table.Bind(t.Context(), "a", id, state.Task{Owner: owner, Tool: "work"}, ttl); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
}

func has(t *testing.T, table *tasks.Tasks, owner state.Owner, id string) bool {
	t.Helper()
	_, err := table.Find(t.Context(), "a", id, owner)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// Row F1: a task belongs to one issuer's subject in one client, on one server, on every
// node.
func TestFindOnlyOwn(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *tasks.Tasks) {
		bind(t, a, alice, "t", 0)
		for _, n := range []*tasks.Tasks{b, a, b} {
			for name, tc := range map[string]struct {
				server, id string
				owner      state.Owner
				want       bool
			}{
				"own":           {"a", "t", alice, true},
				"other subject": {"a", "t", bob, false},
				"other issuer":  {"a", "t", state.Owner{Issuer: "https://other", Subject: "alice", ClientID: "app"}, false},
				"other client":  {"a", "t", state.Owner{Issuer: "https://issuer", Subject: "alice", ClientID: "evil"}, false},
				"nobody":        {"a", "t", state.Owner{}, false},
				"other server":  {"b", "t", alice, false},
				"other task":    {"a", "T", alice, false},
				"another's key": {"at", "", alice, false},
			} {
				_, err := n.Find(t.Context(), tc.server, tc.id, tc.owner)
				if (err == nil) != tc.want || err != nil && !errors.Is(err, state.ErrNotFound) {
					t.Errorf("%s: %v, want %v", name, err, tc.want)
				}
			}
		}
		there, err := b.FindAll(t.Context(), "a", []string{"t", "none", "t"})
		if err != nil || !there["t"] || there["none"] {
			t.Errorf("%v %v", there, err)
		}
	})
}

// A server that gives an id twice never moves a task from one owner to another, whichever
// node it answers to.
func TestBindNeverTakesOver(t *testing.T) {
	both(t, wide, func(t *testing.T, a, b *tasks.Tasks) {
		made := state.Task{Owner: alice, Tool: "work", Arguments: []byte("{}"), Known: true, Upstream: "u"}
		if err := a.Bind(t.Context(), "a", "t", made, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		for name, task := range map[string]state.Task{
			"another owner": {Owner: bob, Tool: "work"},
			"another tool":  {Owner: alice, Tool: "play"},
			"both":          {Owner: bob, Tool: "play"},
		} {
			for _, n := range []*tasks.Tasks{a, b} {
				if err := n.Bind(t.Context(), "a", "t", task, time.Hour); !errors.Is(err, tasks.ErrTaskTaken) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		again := state.Task{Owner: alice, Tool: "work", Arguments: []byte(`{"x":1}`), Upstream: "v"}
		if err := b.Bind(t.Context(), "a", "t", again, 2*time.Second); err != nil {
			t.Error(err)
		}
		got, err := b.Find(t.Context(), "a", "t", alice)
		if err != nil || string(got.Arguments) != "{}" || !got.Known || got.Upstream != "u" {
			t.Errorf("%+v %v, want what was bound first", got, err)
		}
		statetest.Eventually(t, "the id is free when the time is up", func() bool {
			return b.Bind(t.Context(), "a", "t", state.Task{Owner: bob, Tool: "work"}, 0) == nil
		})
		if has(t, b, alice, "t") || !has(t, b, bob, "t") {
			t.Error("an id that was free was not bound to the new owner")
		}
		statetest.Eventually(t, "the other node knows", func() bool { return !has(t, a, alice, "t") && has(t, a, bob, "t") })
		if err := a.Bind(t.Context(), "a", "", made, 0); !errors.Is(err, tasks.ErrTaskID) {
			t.Error("an empty id was bound")
		}
		if err := a.Bind(t.Context(), "a", string(bytes.Repeat([]byte("x"), 1025)), made, 0); !errors.Is(err, tasks.ErrTaskID) {
			t.Error("an endless id was bound")
		}
	})
}

// TestRenew: a task goes on as long as the server tells of it, on both nodes.
func TestRenew(t *testing.T) {
	limits := wide
	limits.Life = 3 * time.Second
	both(t, limits, func(t *testing.T, a, b *tasks.Tasks) {
		const ttl = 800 * time.Millisecond
		bind(t, a, alice, "t", ttl)
		bind(t, a, alice, "u", ttl)
		over := time.After(2 * ttl)
		tick := time.NewTicker(ttl / 8)
		defer tick.Stop()
		for going := true; going; {
			select {
			case <-over:
				going = false
			case <-tick.C:
				b.Renew("a", "t", bob, ttl)
				if !has(t, b, alice, "t") {
					t.Fatal("it was forgotten while the server told of it")
				}
				b.Renew("a", "t", alice, ttl)
			}
		}
		if !has(t, a, alice, "t") || has(t, a, alice, "u") || has(t, b, alice, "u") {
			t.Error("want the one that was renewed, and not the other")
		}
		statetest.Eventually(t, "its life is over", func() bool {
			b.Renew("a", "t", alice, time.Hour)
			return !has(t, a, alice, "t") && !has(t, b, alice, "t")
		})
	})
}

// TestLimits: one too many of an owner forgets the one that was not asked for in the
// longest time, whichever nodes they were made through.
func TestLimits(t *testing.T) {
	limits := tasks.Limits{Life: time.Hour, Max: 20, PerOwner: 4}
	both(t, limits, func(t *testing.T, a, b *tasks.Tasks) {
		for i := range limits.PerOwner {
			bind(t, []*tasks.Tasks{a, b}[i%2], alice, fmt.Sprint(i), 0)
		}
		statetest.Eventually(t, "time goes on", func() bool {
			task, err := a.Find(t.Context(), "a", "3", alice)
			return err == nil && time.Since(task.Created) > 2*time.Millisecond
		})
		bind(t, b, bob, "bob's", 0)
		if !has(t, a, alice, "0") { // so that 1 is the one that was not asked for
			t.Fatal("it was forgotten")
		}
		bind(t, a, alice, "one more", 0)
		for id, want := range map[string]bool{"0": true, "1": false, "2": true, "one more": true} {
			statetest.Eventually(t, "task "+id, func() bool { return has(t, b, alice, id) == want })
			if has(t, a, alice, id) != want {
				t.Errorf("task %s: %v", id, !want)
			}
		}
		if !has(t, a, bob, "bob's") {
			t.Error("another's task was forgotten")
		}
		for i := range 2 * limits.Max {
			bind(t, a, state.Owner{Subject: fmt.Sprint(i)}, fmt.Sprint("o", i), 0)
		}
		if a.Len() != limits.Max {
			t.Errorf("%d tasks", a.Len())
		}
		fewer := limits
		fewer.Max = 1
		a.SetLimits(fewer)
		if a.Len() != 1 {
			t.Errorf("%d tasks with new limits", a.Len())
		}
	})
}

// TestArguments: they are kept as far as there is room for them, and never of one owner so
// many that others have none.
func TestArguments(t *testing.T) {
	both(t, tasks.Limits{Life: time.Hour, Max: 1 << 20, PerOwner: 1 << 20}, func(t *testing.T, a, b *tasks.Tasks) {
		const most = 16 << 10
		known := func(owner state.Owner, id string, size int) bool {
			t.Helper()
			task := state.Task{Owner: owner, Tool: "work", Arguments: bytes.Repeat([]byte(" "), size), Known: true}
			if err := a.Bind(t.Context(), "a", id, task, 0); err != nil {
				t.Fatal(err)
			}
			got, err := b.Find(t.Context(), "a", id, owner)
			if err != nil || got.Known != (len(got.Arguments) == size) {
				t.Fatalf("%+v %v", got.Known, err)
			}
			return got.Known
		}
		if !known(alice, "fits", most) || known(alice, "too long", most+1) {
			t.Error("the arguments of one task are not bounded as they should be")
		}
		n := 1
		for ; known(alice, fmt.Sprint(n), most); n++ {
		}
		if n != 64 {
			t.Errorf("%d of one owner", n)
		}
		if !known(bob, "bob's", most) {
			t.Error("one owner took the room of another")
		}
	})
}
