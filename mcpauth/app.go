// Package mcpauth decides who may do what: the mcp_auth handler, which turns a
// request into a Call that is allowed, and the mcp_gateway app, which keeps what
// the gateway's handlers share and what must outlive a reload.
package mcpauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/seal"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

func init() {
	caddy.RegisterModule(&App{})
}

// App holds what the gateway's handlers share. It needs no configuration: every
// handler of the gateway brings it along.
//
// It keeps a secret in Caddy's storage, under the key mcp_gateway/secret: 32 random
// bytes, made at the first start, from which the keys of the gateway are derived. All
// nodes with that storage use the same one. To have a new one made, delete it and
// restart; cursors of lists that clients hold are refused then, and they begin the
// list again.
type App struct {
	// Environment names what this gateway is for, such as production. A token that
	// names another one in its claim env is refused; one that names none is not.
	// Default: tokens' claims are not looked at.
	Environment string `json:"environment,omitempty"`

	// Sessions bounds the table of MCP sessions (MCP 2025-03-26 to 2025-11-25).
	// The table outlives reloads; it does not outlive the process.
	Sessions *SessionLimits `json:"sessions,omitempty"`

	// Where the gateway keeps what outlives it and what several nodes share. Default:
	// embedded, a file in Caddy's data directory, if there is something to keep.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=mcp_gateway.stores inline_key=type"`

	// The issuer of the gateway's own tokens. Let mcp_auth accept them by an issuer of
	// that name with the key source `gateway`. Default: none, the gateway makes no
	// tokens.
	Tokens *issue.Config `json:"tokens,omitempty"`

	// Those who can log in at the gateway itself. They need tokens. Default: nobody.
	Accounts *Accounts `json:"accounts,omitempty"`

	store    *openStore
	storeKey string
	issuer   *issue.Issuer
	desk     *login.Desk
	declared account.Declared
	// running is until the app is cleaned up, and background what goes on so long.
	running    context.Context
	stop       context.CancelFunc
	background sync.WaitGroup

	shared  *shared
	storage certmagic.Storage
	logger  *zap.Logger
	// sealing is whether a handler may have to seal something.
	sealing bool
	checks  map[string]func(now time.Time) error
	now     func() time.Time
}

// SessionLimits bound the table of MCP sessions. A session that ends is answered
// with 404 from then on, which makes a client begin another.
type SessionLimits struct {
	// IdleTimeout ends a session that was not used for so long and has no open
	// stream. Default: 30m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// Lifetime ends a session in any case. Default: 24h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Max is how many sessions there may be. One more ends the one that was not
	// used for longest. Default: 100000.
	Max int `json:"max,omitempty"`

	// MaxPerPrincipal is the same for the sessions of one principal. Default:
	// 1000.
	MaxPerPrincipal int `json:"max_per_principal,omitempty"`
}

// shared is what outlives a reload.
type shared struct {
	sessions *state.Sessions
	usage    *scope.Usage
	secret   *seal.Secret
	// cursors is the secret's box for them.
	cursors *seal.Box
}

func newShared(limits state.Limits) (*shared, error) {
	s := &shared{sessions: state.NewSessions(limits), secret: seal.NewSecret()}
	var err error
	if s.usage, err = scope.NewUsage(0); err != nil {
		return nil, err
	}
	s.cursors, err = s.secret.Box("cursor")
	return s, err
}

// Destruct lets it live in the pool.
func (*shared) Destruct() error { return nil }

// pool holds it over reloads: the next configuration takes it before the last one
// gives it back.
var pool = caddy.NewUsagePool()

const sharedKey = "shared"

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision takes the shared state. It changes nothing of it: this configuration
// may yet be rejected.
func (a *App) Provision(ctx caddy.Context) error {
	if a.Sessions == nil {
		a.Sessions = new(SessionLimits)
	}
	l := a.Sessions
	for _, d := range []struct {
		value *caddy.Duration
		or    time.Duration
	}{{&l.IdleTimeout, 30 * time.Minute}, {&l.Lifetime, 24 * time.Hour}} {
		if *d.value == 0 {
			*d.value = caddy.Duration(d.or)
		}
	}
	if l.Max == 0 {
		l.Max = 100_000
	}
	if l.MaxPerPrincipal == 0 {
		l.MaxPerPrincipal = 1000
	}
	a.checks = make(map[string]func(time.Time) error)
	a.now = time.Now
	a.storage, a.logger = ctx.Storage(), ctx.Logger()
	value, _, err := pool.LoadOrNew(sharedKey, func() (caddy.Destructor, error) {
		return newShared(l.limits())
	})
	if err != nil {
		return err
	}
	a.shared = value.(*shared)
	if err := a.provisionAccounts(ctx); err != nil {
		return err
	}

	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("started", a)
}

// Validate refuses limits that would end every session.
func (a *App) Validate() error {
	l := a.Sessions
	if l.IdleTimeout < 0 || l.Lifetime < 0 || l.Max < 0 || l.MaxPerPrincipal < 0 {
		return fmt.Errorf("the limits of sessions must be positive; leave one out for its default")
	}
	return nil
}

// Start opens the store, and has missing keys fetched.
func (a *App) Start() error {
	if a.store != nil {
		if err := a.store.start(); err != nil {
			return err
		}
	}
	a.Ready()
	return nil
}

// Handle applies the limits when the whole configuration has started. In Start it
// would be too early: another app may fail to, and then the configuration before
// goes on. Nor must one that is rejected take a secret from its storage, or leave one
// there.
func (a *App) Handle(ctx context.Context, _ caddy.Event) error {
	a.shared.sessions.SetLimits(a.Sessions.limits())
	if a.sealing {
		a.loadSecret(ctx)
	}
	a.startAccounts()
	return nil
}

// storageTimeout is how long a storage may take for the secret.
const storageTimeout = 10 * time.Second

func (a *App) loadSecret(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	if err := a.shared.secret.Load(ctx, a.storage); err != nil {
		a.logger.Warn("the gateway's secret can't be kept in Caddy's storage; cursors of lists will not outlive this process, nor do other nodes know them",
			zap.String("key", seal.StorageKey), zap.Error(err))
	}
}

// Stop does nothing: requests of this configuration may still be running.
func (*App) Stop() error { return nil }

// Cleanup gives the shared state back, if it was taken.
func (a *App) Cleanup() error {
	if a.shared == nil {
		return nil
	}
	a.shared = nil
	accountsErr := a.cleanupAccounts()
	_, err := pool.Delete(sharedKey)
	return errors.Join(accountsErr, err)
}

// SessionTable returns the table of sessions.
func (a *App) SessionTable() *state.Sessions { return a.shared.sessions }

// Check has /ready ask a question under a name. Modules call it in Provision.
func (a *App) Check(name string, ready func(now time.Time) error) {
	a.checks[name] = ready
}

// Ready asks every check: nil means ready. It never waits.
func (a *App) Ready() map[string]error {
	now := a.now()
	results := make(map[string]error, len(a.checks))
	for name, check := range a.checks {
		results[name] = check(now)
	}
	return results
}

func (l *SessionLimits) limits() state.Limits {
	return state.Limits{
		Idle:     time.Duration(l.IdleTimeout),
		Life:     time.Duration(l.Lifetime),
		Max:      l.Max,
		PerOwner: l.MaxPerPrincipal,
	}
}

// Interface guards
var (
	_ caddy.App           = (*App)(nil)
	_ caddy.Provisioner   = (*App)(nil)
	_ caddy.Validator     = (*App)(nil)
	_ caddy.CleanerUpper  = (*App)(nil)
	_ caddyevents.Handler = (*App)(nil)
)
