package mcpauth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/live"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
)

// stores holds the open stores over reloads, by what makes two of them the same.
var stores = caddy.NewUsagePool()

// openTimeout is how long opening a store may take.
const openTimeout = 30 * time.Second

// knownTimeout is how long a configuration waits for the revocations to be known.
const knownTimeout = 3 * time.Second

// sharedStore is a store, and what goes with it as long as it is open.
type sharedStore struct {
	store       state.Store
	revocations *revocation.Set
	// uses are those of API tokens, counted for as long as the store is open.
	uses *catalogue.Usage
	// live is what the store says of those who hold the gateway's own tokens. It is
	// followed from when there first are such tokens.
	live     *live.Cache
	sessions *session.Sessions
	tasks    *tasks.Tasks

	mu      sync.Mutex
	open    bool
	lively  bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// takeStore finds the store that is configured, or the embedded one. Nothing of it is
// touched yet: this configuration may be rejected.
func (a *App) takeStore(ctx caddy.Context) error {
	var module state.Module
	if a.StoreRaw == nil {
		unnamed := embedded.Default()
		if err := unnamed.Provision(ctx); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		module = unnamed
	} else {
		loaded, err := ctx.LoadModule(a, "StoreRaw")
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		var ok bool
		if module, ok = loaded.(state.Module); !ok {
			return fmt.Errorf("store: %T is not a store", loaded)
		}
	}
	key := module.Key()
	value, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) {
		known := live.New(metric.Store(module.NewStore()))
		store := known.Store()
		revocations := revocation.New(store)
		return &sharedStore{
			store: store, revocations: revocations, uses: catalogue.NewUsage(store), live: known,
			sessions: session.New(store, revocations, a.Sessions.limits()), tasks: tasks.New(store, a.Tasks.limits()),
		}, nil
	})
	if err != nil {
		return err
	}
	a.store, a.storeKey = value.(*sharedStore), key
	a.storeKept = keptOf(module)
	a.Check("revocations", a.store.revocations.Ready)
	return nil
}

// giveStore gives it back, if it was taken.
func (a *App) giveStore() error {
	if a.store == nil {
		return nil
	}
	a.store = nil
	_, err := stores.Delete(a.storeKey)
	return err
}

// start opens the store and follows its revocations, unless a configuration before has
// done so.
func (s *sharedStore) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := s.store.Open(ctx); err != nil {
		return err
	}
	s.open = true
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(func() { s.revocations.Run(s.ctx, logNow) })
	s.running.Go(func() { s.uses.Run(s.ctx, logNow) })
	s.running.Go(func() { s.sessions.Run(s.ctx) })
	s.running.Go(func() { s.tasks.Run(s.ctx) })
	// Until they are known, requests are refused. A store that cannot be reached must
	// not keep the configuration from being loaded, though.
	select {
	case <-s.revocations.Known():
	case <-time.After(knownTimeout):
	}
	return nil
}

// logNow is the logger of the configuration at the time.
func logNow() *zap.Logger { return caddy.Log().Named("mcp_gateway") }

// startLive follows what the store says of those who hold the gateway's own tokens, unless
// a configuration before has begun to. The store is open.
func (s *sharedStore) startLive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lively {
		return
	}
	s.lively = true
	s.running.Go(func() { s.live.Run(s.ctx, logNow) })
	select {
	case <-s.revocations.Known():
	default:
		return // there was a wait for the store already
	}
	select {
	case <-s.live.Known():
	case <-time.After(knownTimeout):
	}
}

// setAllowStale says for how long what is known is relied on when the store is cut off.
func (s *sharedStore) setAllowStale(allow time.Duration) {
	s.revocations.SetAllowStale(allow)
	s.live.SetAllowStale(allow)
	s.sessions.SetAllowStale(allow)
	s.tasks.SetAllowStale(allow)
}

// Destruct closes the store when no configuration has it any more.
func (s *sharedStore) Destruct() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		s.cancel()
		s.running.Wait()
		s.sessions.Close()
	}
	return s.store.Close()
}

// Store returns the store of the gateway. It must not be used before the app has
// started.
func (a *App) Store() state.Store { return a.store.store }

// Revocations returns what was revoked. It can be asked at any time; before the app has
// started, and until all that was revoked has been read, nothing is known.
func (a *App) Revocations() *revocation.Set { return a.store.revocations }
