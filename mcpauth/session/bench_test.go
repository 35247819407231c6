package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// BenchmarkUse is what a request costs in a session that the node knows.
func BenchmarkUse(b *testing.B) {
	n := run(b, embedded(b), wide)
	s := n.begin(b, alice)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			used, err := n.Use(b.Context(), s.ID, alice, "a")
			if err != nil {
				b.Fatal(err)
			}
			used.Count(1, 100)
			n.Release(used)
		}
	})
}

// BenchmarkBegin is what a session costs that begins: the first of an owner, and one of
// somebody who has as many as may be.
func BenchmarkBegin(b *testing.B) {
	limits := session.Limits{Idle: time.Hour, Life: time.Hour, Max: 1 << 20, PerOwner: 1000}
	for name, store := range map[string]func() state.Store{
		"embedded": func() state.Store { return embedded(b) },
		"redis":    func() state.Store { return openRedis(b, redistest.Start(b)) },
	} {
		n := run(b, store(), limits)
		b.Run(name+"/first", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				n.begin(b, state.Owner{Subject: fmt.Sprint(i)})
			}
		})
		for range limits.PerOwner {
			n.begin(b, alice)
		}
		b.Run(name+"/1000th", func(b *testing.B) {
			for b.Loop() {
				n.begin(b, alice)
			}
		})
	}
}
