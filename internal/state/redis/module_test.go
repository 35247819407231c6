package redis

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestKey: what is the same store has the same key, anything else another, and no
// secret is in it or in what is printed of a module.
func TestKey(t *testing.T) {
	t.Setenv("REDIS_TEST_ONE", "canary-1")
	t.Setenv("REDIS_TEST_TWO", "canary-2")
	t.Setenv("REDIS_TEST_SAME", "canary-1")
	key := func(r Redis) string {
		t.Helper()
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		if err := r.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		for _, printed := range []string{r.Key(), string(text), fmt.Sprintf("%+v", &r), fmt.Sprintf("%+v", r)} {
			if strings.Contains(printed, "canary") {
				t.Errorf("it shows a secret: %s", printed)
			}
		}
		return r.Key()
	}
	base := Redis{Addresses: []string{"a:1"}, Username: "u", Password: "{env.REDIS_TEST_ONE}"}
	same := base
	same.Password, same.Prefix, same.Timeout = "{env.REDIS_TEST_SAME}", "mcp_gateway", caddy.Duration(3*time.Second)
	if key(base) != key(same) {
		t.Error("the same settings have different keys")
	}
	seen := map[string]string{key(base): "base"}
	for name, change := range map[string]func(*Redis){
		"address":   func(r *Redis) { r.Addresses = []string{"b:1"} },
		"addresses": func(r *Redis) { r.Addresses = []string{"a:1", "b:1"} },
		"username":  func(r *Redis) { r.Username = "v" },
		"password":  func(r *Redis) { r.Password = "{env.REDIS_TEST_TWO}" },
		"database":  func(r *Redis) { r.Database = 1 },
		"tls":       func(r *Redis) { r.TLS = new(TLS) },
		"tls name":  func(r *Redis) { r.TLS = &TLS{ServerName: "a"} },
		"sentinel":  func(r *Redis) { r.Sentinel = &Sentinel{Master: "m"} },
		"its user":  func(r *Redis) { r.Sentinel = &Sentinel{Master: "m", Username: "u"} },
		"its word":  func(r *Redis) { r.Sentinel = &Sentinel{Master: "m", Password: "{env.REDIS_TEST_ONE}"} },
		"cluster":   func(r *Redis) { r.Cluster = true },
		"prefix":    func(r *Redis) { r.Prefix = "other" },
		"timeout":   func(r *Redis) { r.Timeout = 1 },
		"retries":   func(r *Redis) { r.Retries = -1 },
		"replicas":  func(r *Redis) { r.MinReplicas = 1 },
	} {
		changed := base
		change(&changed)
		k := key(changed)
		if other := seen[k]; other != "" {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[k] = name
	}
}

// TestPort: an address without a port has the usual one.
func TestPort(t *testing.T) {
	for _, c := range []struct {
		master  string
		written string
		want    string
	}{
		{"", "redis.internal", "redis.internal:6379"},
		{"", "redis.internal:7000", "redis.internal:7000"},
		{"", "10.0.0.7", "10.0.0.7:6379"},
		{"", "::1", "[::1]:6379"},
		{"", "[::1]", "[::1]:6379"},
		{"", "[::1]:7000", "[::1]:7000"},
		{"m", "10.0.0.7", "10.0.0.7:26379"},
	} {
		s := settings{Addresses: []string{c.written}, Master: c.master}
		s.defaults()
		if s.Addresses[0] != c.want {
			t.Errorf("%s: got %s, expected %s", c.written, s.Addresses[0], c.want)
		}
	}
}
