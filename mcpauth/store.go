package mcpauth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
)

// stores are the open stores, by the keys of their modules. They stay open over reloads
// that keep them.
var stores = caddy.NewUsagePool()

// openStore is a store that is opened once, by the first configuration with it that
// starts.
type openStore struct {
	state.Store
	once sync.Once
	err  error
}

// storeTimeout bounds how long a store may take to be opened.
const storeTimeout = 30 * time.Second

func (s *openStore) start() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		s.err = s.Open(ctx)
	})
	return s.err
}

// Destruct closes it.
func (s *openStore) Destruct() error { return s.Close() }

// provisionStore takes the store. Nothing is read or written before the app starts.
func (a *App) provisionStore(ctx caddy.Context) error {
	var module state.Module
	if len(a.StoreRaw) == 0 {
		standard := embedded.Default()
		if err := standard.Provision(ctx); err != nil {
			return err
		}
		module = standard
	} else {
		guest, err := ctx.LoadModule(a, "StoreRaw")
		if err != nil {
			return fmt.Errorf("loading store: %w", err)
		}
		var ok bool
		if module, ok = guest.(state.Module); !ok {
			return fmt.Errorf("store module %T is not a state.Module", guest)
		}
	}
	key := module.Key()
	value, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) {
		return &openStore{Store: module.NewStore()}, nil
	})
	if err != nil {
		return err
	}
	a.storeKey, a.store = key, value.(*openStore)
	return nil
}

// Store is what outlives the process. It is nil unless the configuration has something
// to keep: a store, accounts or tokens. Modules may take it in Provision, and use it
// for requests.
func (a *App) Store() state.Store {
	if a.store == nil {
		return nil
	}
	return a.store
}
