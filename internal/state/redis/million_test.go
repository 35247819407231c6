package redis_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// BenchmarkLoadMillion is how long a node needs at its start until it knows a million
// revoked token ids that are in Redis.
func BenchmarkLoadMillion(b *testing.B) {
	const n, batch = 1_000_000, 10_000
	server := redistest.Start(b)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	defer client.Close()
	value := fmt.Sprintf("mcp_gateway/1 %d %s", time.Now().Add(time.Hour).UnixMilli(), state.EscapeIssuer("https://login.example.com"))
	for range n / batch {
		pipe := client.Pipeline()
		for range batch {
			pipe.Set(b.Context(), "token:revoked:"+rand.Text(), value, time.Hour)
		}
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	module := &redis.Redis{Addresses: []string{server.Addr}}
	if err := module.Provision(caddy.Context{Context: b.Context()}); err != nil {
		b.Fatal(err)
	}
	used := func() float64 {
		var sum float64
		for line := range strings.Lines(client.Info(b.Context(), "cpu").Val()) {
			for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
				if text, found := strings.CutPrefix(line, name); found {
					seconds, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
					sum += seconds
				}
			}
		}
		return sum
	}
	before := used()
	defer func() { b.ReportMetric((used()-before)/float64(b.N), "redis-cpu-s/op") }()
	for b.Loop() {
		store := module.NewStore()
		if err := store.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		set := revocation.New(store)
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			set.Run(ctx, zap.NewNop)
		}()
		<-set.Known()
		b.StopTimer()
		if known := set.Status(time.Now()).Revocations; known != n {
			b.Errorf("%d are known", known)
		}
		cancel()
		<-done
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
