// Package mcpauth decides who may do what: the mcp_auth handler, which turns a
// request into a Call that is allowed, and the mcp_gateway app, which keeps what
// the gateway's handlers share and what must outlive a reload.
package mcpauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/internal/seal"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
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
	// In the environment development, and in no other, a configuration with a weak
	// or well-known secret, or with an issuer whose name or keys have plain http
	// URLs, is loaded with a warning instead of being refused. Placeholders are
	// expanded when the configuration is loaded. Default: none; tokens' claims are
	// not looked at, and the gateway is not one for development.
	Environment string `json:"environment,omitempty"`

	// Sessions bounds the MCP sessions (MCP 2025-03-26 to 2025-11-25). They are in
	// the store: they outlive the process, and any node can serve any of them.
	Sessions *SessionLimits `json:"sessions,omitempty"`

	// Tasks bounds the table that says whose a task is (MCP 2025-11-25, and the
	// extension io.modelcontextprotocol/tasks of 2026-07-28). It is in the store.
	Tasks *TaskLimits `json:"tasks,omitempty"`

	// StoreRaw is where the gateway keeps what must outlive the process or be known
	// to several nodes: revocations, issued tokens, accounts, sessions and counters. Default:
	// the store embedded, whose file is made when there is something to keep.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=mcp_gateway.stores inline_key=store"`

	// AllowStale is for how long tokens are still accepted by what is known when the
	// store is cut off, so that nobody knows what was revoked since. Default: 0; then
	// they are denied after a second.
	AllowStale caddy.Duration `json:"allow_stale,omitempty"`

	// StreamDrain is the time in which, after this configuration has replaced another
	// one, the event streams end that were opened before and in which servers tell what
	// changes: a GET's, and subscriptions/listen's. Their ends are spread over that time,
	// so that not all clients come back at once. A client sees the end of an answer, and
	// opens another stream; where the server numbers its events, it goes on where the
	// last one ended, and elsewhere it may miss what is told in between. Answers to calls
	// are not cut short. Default: 0; streams go on for as long as they like. They are
	// judged by the running configuration in any case, and end at once when they would
	// be refused by it, or when their token expires or is revoked. What a configuration
	// needs in memory is free only when the last stream that it opened has ended.
	StreamDrain caddy.Duration `json:"stream_drain,omitempty"`

	// Tokens is the issuer of the gateway's own tokens. Let mcp_auth accept them by an
	// issuer of that name with the key source `gateway`. Default: none, the gateway
	// makes no tokens.
	Tokens *issue.Config `json:"tokens,omitempty"`

	// Accounts are those who can log in at the gateway itself. They need tokens.
	// Default: nobody.
	Accounts *Accounts `json:"accounts,omitempty"`

	// APITokens bounds the API tokens that those who log in can make for themselves.
	APITokens catalogue.Config `json:"api_tokens,omitzero"`

	store    *sharedStore
	storeKey string
	// storeKept is how the store keeps what it is given.
	storeKept kept
	issuer    *issue.Issuer
	desk      *login.Desk
	tokens    *catalogue.Service
	declared  account.Declared
	// running is until the app is cleaned up, and background what goes on so long.
	running    context.Context
	stop       context.CancelFunc
	background sync.WaitGroup

	shared  *shared
	ctx     caddy.Context
	storage certmagic.Storage
	logger  *zap.Logger
	// sealing is whether a handler may have to seal something.
	sealing bool
	// handlers are those of this configuration, which is of this generation.
	handlers   []*Handler
	leaves     []func(context.Context, session.Parting) bool
	generation uint64
	// rejected is whether the configuration was given up before it ran.
	rejected atomic.Bool
	book     report.Book
	checks   map[string]func(now time.Time) error
	now      func() time.Time
}

// SessionLimits bound the table of MCP sessions. A session that ends is answered
// with 404 from then on, which makes a client begin another.
type SessionLimits struct {
	// IdleTimeout ends a session that was not used for so long and has no open
	// stream. Default: 30m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// Lifetime ends a session in any case. Default: 24h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Max is how many sessions one node may serve. One more ends the one that was not
	// used for longest. Default: 100000.
	Max int `json:"max,omitempty"`

	// MaxPerPrincipal is how many sessions one principal may have on all nodes. One
	// more ends the one that was not used for longest. Default: 1000.
	MaxPerPrincipal int `json:"max_per_principal,omitempty"`
}

// TaskLimits bound the table of tasks. A task that is no longer in it looks to its
// owner, too, as if it did not exist.
type TaskLimits struct {
	// Lifetime is how long after its beginning a task can be followed, if the server
	// does not set a shorter time. Default: 24h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Max is how many tasks one node may know. One more forgets the one that was not
	// asked for in the longest time. Default: 100000.
	Max int `json:"max,omitempty"`

	// MaxPerPrincipal is the same for the tasks of one principal on all nodes.
	// Default: 1000.
	MaxPerPrincipal int `json:"max_per_principal,omitempty"`
}

// shared is what outlives a reload.
type shared struct {
	secret *seal.Secret
	// cursors is the secret's box for them.
	cursors *seal.Box
	// running is the configuration that runs, generations the number of all that
	// were ever loaded.
	running     atomic.Pointer[running]
	generations atomic.Uint64
	// declared is whether the accounts of a configuration were made.
	declared atomic.Bool
	// streams are those that are open, watches who wants to know of revocations.
	streams streams
	watches watches
}

func newShared() (*shared, error) {
	s := &shared{secret: seal.NewSecret()}
	var err error
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
	var err error
	if a.Environment, err = caddy.NewReplacer().ReplaceOrErr(a.Environment, true, true); err != nil {
		return fmt.Errorf("environment: %w", err)
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
	if a.Tasks == nil {
		a.Tasks = new(TaskLimits)
	}
	a.Tasks.Lifetime = cmp.Or(a.Tasks.Lifetime, caddy.Duration(24*time.Hour))
	a.Tasks.Max = cmp.Or(a.Tasks.Max, 100_000)
	a.Tasks.MaxPerPrincipal = cmp.Or(a.Tasks.MaxPerPrincipal, 1000)
	a.checks = make(map[string]func(time.Time) error)
	a.now = steady.Now
	a.ctx, a.storage, a.logger = ctx, ctx.Storage(), ctx.Logger()
	value, _, err := pool.LoadOrNew(sharedKey, func() (caddy.Destructor, error) {
		return newShared()
	})
	if err != nil {
		return err
	}
	a.shared = value.(*shared)
	a.Check("clock", steady.Ready)
	if err := a.takeStore(ctx); err != nil {
		return err
	}
	a.generation = a.shared.generations.Add(1)
	if err := a.provisionAccounts(ctx); err != nil {
		return err
	}

	if registry := ctx.GetMetricsRegistry(); registry != nil {
		if err := metric.Register(registry, gauges{}); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return errors.Join(events.(*caddyevents.App).On("started", a), events.(*caddyevents.App).On("stopping", a))
}

// Validate refuses limits that would end every session, or forget every task.
func (a *App) Validate() error {
	l := a.Sessions
	if l.IdleTimeout < 0 || l.Lifetime < 0 || l.Max < 0 || l.MaxPerPrincipal < 0 {
		return fmt.Errorf("the limits of sessions must be positive; leave one out for its default")
	}
	if t := a.Tasks; t.Lifetime < 0 || t.Max < 0 || t.MaxPerPrincipal < 0 {
		return fmt.Errorf("the limits of tasks must be positive; leave one out for its default")
	}
	if a.StreamDrain < 0 {
		return fmt.Errorf("stream_drain must be positive; leave it out to let streams go on")
	}
	if a.AllowStale < 0 {
		return fmt.Errorf("allow_stale must be positive; leave it out to deny requests when the store is cut off")
	}
	return nil
}

// Start opens the store, and has missing keys fetched.
func (a *App) Start() error {
	if err := a.store.start(); err != nil {
		return err
	}
	if a.issuer != nil {
		a.store.startLive()
	}
	a.Ready()
	return nil
}

// Handle applies the limits when the whole configuration has started. In Start it
// would be too early: another app may fail to, and then the configuration before
// goes on. Nor must one that is rejected take a secret from its storage, or leave one
// there.
func (a *App) Handle(ctx context.Context, e caddy.Event) error {
	if e.Name() == "stopping" {
		return a.ending()
	}
	a.run()
	a.observe()
	a.store.sessions.SetLimits(a.Sessions.limits())
	a.store.sessions.SetLeave(a.leave)
	a.store.tasks.SetLimits(a.Tasks.limits())
	a.store.setAllowStale(time.Duration(a.AllowStale))
	if a.sealing {
		a.loadSecret(ctx)
	}
	a.startAccounts()
	a.shared.streams.drain(a.generation, time.Duration(a.StreamDrain))
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
	a.endAccounts()
	if a.shared != nil {
		a.unobserve()
		a.end()
	}
	err := a.giveStore()
	if a.shared == nil {
		return err
	}
	a.shared = nil
	_, err2 := pool.Delete(sharedKey)
	return errors.Join(err, err2)
}

// SessionTable returns the table of sessions. It must not be used before the app has
// started.
func (a *App) SessionTable() *session.Sessions { return a.store.sessions }

// OnLeave has a module tell servers when the gateway has no more use for a session. It
// reports whether the server is one of its own. Modules call it in Provision.
func (a *App) OnLeave(leave func(ctx context.Context, p session.Parting) bool) {
	a.leaves = append(a.leaves, leave)
}

// leaveTimeout is how long a server may take to be told.
const leaveTimeout = 10 * time.Second

func (a *App) leave(p session.Parting) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	for _, leave := range a.leaves {
		if leave(ctx, p) {
			return
		}
	}
}

// Development reports whether the gateway is for development alone, where what is
// unsafe is only warned of.
func (a *App) Development() bool { return token.Environment(a.Environment) == token.Development }

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

func (l *SessionLimits) limits() session.Limits {
	return session.Limits{
		Idle:     time.Duration(l.IdleTimeout),
		Life:     time.Duration(l.Lifetime),
		Max:      l.Max,
		PerOwner: l.MaxPerPrincipal,
	}
}

func (l *TaskLimits) limits() tasks.Limits {
	return tasks.Limits{Life: time.Duration(l.Lifetime), Max: l.Max, PerOwner: l.MaxPerPrincipal}
}

// Interface guards
var (
	_ caddy.App           = (*App)(nil)
	_ caddy.Provisioner   = (*App)(nil)
	_ caddy.Validator     = (*App)(nil)
	_ caddy.CleanerUpper  = (*App)(nil)
	_ caddyevents.Handler = (*App)(nil)
)
