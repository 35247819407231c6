package account

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
)

// cheap is a cost for tests.
var cheap = Cost{Passes: 1, Memory: 64, Threads: 1}

// Passwords that are good enough.
const (
	good      = "Tulip-42 walks sideways"
	another   = "Marble*7 owes the tailor"
	good22    = "seven Quiet otters 9 row upstream"
	another22 = "Granite 5 umbrellas; one violin"
)

var tester = Actor{Name: "test"}

// opened opens the store of a module, which the test closes.
func opened(t testing.TB, module state.Module) state.Store {
	t.Helper()
	if err := module.(caddy.Provisioner).Provision(caddy.Context{Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	store := module.NewStore()
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func embeddedStore(t testing.TB) state.Store {
	t.Helper()
	return opened(t, &embedded.Embedded{Path: filepath.Join(t.TempDir(), "state.db")})
}

// nodes are services of two nodes with one store.
func nodes(t *testing.T) map[string][2]*Service {
	t.Helper()
	one := embeddedStore(t)
	server := redistest.Start(t)
	shared := func() state.Store { return opened(t, &redis.Redis{Addresses: []string{server.Addr}}) }
	return map[string][2]*Service{
		"embedded": {service(t, one, Config{}), service(t, one, Config{})},
		"redis":    {service(t, shared(), Config{}), service(t, shared(), Config{})},
	}
}

func service(t testing.TB, store state.Store, config Config) *Service {
	t.Helper()
	s, _ := logged(t, store, config)
	return s
}

func logged(t testing.TB, store state.Store, config Config) (*Service, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	config.Cost = cheap
	s, err := New(store, config, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	s.beat = 0
	return s, logs
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// reason is the stable word of an error.
func reason(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Reason
	}
	return err.Error()
}

func want(t *testing.T, err error, reasoned string) {
	t.Helper()
	if got := reason(err); got != reasoned {
		t.Errorf("got %q, expected %q", got, reasoned)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func made(t testing.TB, s *Service, n NewUser) User {
	t.Helper()
	return must[User](t)(s.Create(t.Context(), tester, n))
}

func login(ctx context.Context, s *Service, email, password string) error {
	_, err := s.Authenticate(ctx, email, password, "192.0.2.1")
	return err
}
