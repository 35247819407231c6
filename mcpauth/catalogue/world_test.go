package catalogue

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

const (
	password   = "Tulip-42 walks sideways"
	password22 = "seven Quiet otters 9 row upstream"
	gateway    = "https://mcp.example.com"
)

var cheap = account.Cost{Passes: 1, Memory: 64, Threads: 1}

// node is a gateway: everything about tokens but HTTP.
type node struct {
	t     testing.TB
	store state.Store
	set   *revocation.Set
	users *account.Service
	desk  *login.Desk
	cat   *Service
	logs  *observer.ObservedLogs

	mu   sync.Mutex
	held map[string]Held // by address
	skew time.Duration
}

func (n *node) holds(email string, h Held) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[email] = h
}

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

// eachStore runs a test with two nodes on one store of each kind.
func eachStore(t *testing.T, test func(t *testing.T, one, two *node)) {
	t.Run("embedded", func(t *testing.T) {
		store := embeddedStore(t)
		test(t, newNode(t, store, Config{}), newNode(t, store, Config{}))
	})
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		shared := func() state.Store { return opened(t, &redis.Redis{Addresses: []string{server.Addr}}) }
		test(t, newNode(t, shared(), Config{}), newNode(t, shared(), Config{}))
	})
}

func newNode(t testing.TB, store state.Store, config Config) *node {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	n := &node{t: t, store: store, logs: logs, held: make(map[string]Held), set: revocation.New(store)}
	logger := zap.New(core)
	var err error
	if n.users, err = account.New(store, account.Config{Cost: cheap}, logger); err != nil {
		t.Fatal(err)
	}
	issuer, err := issue.New(store, issue.Config{Name: gateway}, "", logger)
	if err != nil {
		t.Fatal(err)
	}
	if n.desk, err = login.New(store, n.set, n.users, issuer, login.Config{}, "", logger); err != nil {
		t.Fatal(err)
	}
	holding := func(h Holder) Held {
		n.mu.Lock()
		defer n.mu.Unlock()
		email, _ := h.Claims.Lookup("email")
		return n.held[email.(string)]
	}
	if n.cat, err = New(store, n.set, n.users, issuer, holding, config, logger); err != nil {
		t.Fatal(err)
	}
	n.cat.now = func() time.Time { return time.Now().Add(n.skew) }
	return n
}

var tester = account.Actor{Name: "test"}

// user makes an account.
func (n *node) user(email string, admin bool) account.User {
	n.t.Helper()
	secret := password
	if admin {
		secret = password22
	}
	u, err := n.users.Create(n.t.Context(), tester, account.NewUser{Email: email, Password: secret, Admin: admin, Active: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return u
}

func (n *node) team(id string, owner string, members ...string) {
	n.t.Helper()
	if _, err := n.users.CreateTeam(n.t.Context(), tester, id, "", ""); err != nil {
		n.t.Fatal(err)
	}
	for i, email := range append([]string{owner}, members...) {
		role := account.Member
		if i == 0 {
			role = account.Owner
		}
		if err := n.users.SetMember(n.t.Context(), tester, id, email, role); err != nil {
			n.t.Fatal(err)
		}
	}
}

// in logs somebody in, who then calls.
func (n *node) in(email string) Caller {
	n.t.Helper()
	secret := password
	if u, err := n.users.User(n.t.Context(), email); err == nil && u.Admin {
		secret = password22
	}
	grant, err := n.desk.Login(n.t.Context(), email, secret, "192.0.2.1")
	if err != nil {
		n.t.Fatal(err)
	}
	v, err := n.desk.Check(n.t.Context(), grant.Access.Raw)
	if err != nil {
		n.t.Fatal(err)
	}
	return Caller{Visitor: v, Address: "192.0.2.1"}
}

// simple is a token of some name.
func simple(name string) NewToken { return NewToken{Name: name, Days: 30, Active: true} }

func (n *node) make(c Caller, asked NewToken) Token {
	n.t.Helper()
	made, raw, err := n.cat.Create(n.t.Context(), c, asked)
	if err != nil {
		n.t.Fatal(err)
	}
	if raw == "" {
		n.t.Fatal("there is no token")
	}
	return made
}

// reason is the stable word of an error.
func reason(err error) string {
	var e *account.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Reason
	}
	return err.Error()
}

func want(t testing.TB, err error, reasoned string) {
	t.Helper()
	if got := reason(err); got != reasoned {
		t.Errorf("got %q, expected %q", got, reasoned)
	}
}

func actionIs(name string) zapcore.Field { return zap.String("action", name) }
