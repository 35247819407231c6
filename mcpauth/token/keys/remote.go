// Package keys holds the key sources that come with the gateway: the modules
// discovery, jwks, pem and secret of the namespace mcp_gateway.key_sources.
package keys

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

// Defaults of a [Remote].
const (
	defaultRefreshInterval    = 10 * time.Minute
	defaultMinRefreshInterval = 30 * time.Second
	defaultTimeout            = 10 * time.Second
)

// remotes holds the fetched keys of every issuer. They outlive a reload, so that
// a new configuration neither waits for its issuers nor loses the keys of one
// that happens to be down.
var remotes = caddy.NewUsagePool()

// Remote is the part that all sources share which fetch a JWK Set (RFC 7517
// section 5). Keys are fetched for the first time when the app starts, then
// again in the background when they are old, and at once when a token names a
// key that is not known, but never more often than the minimum interval: a flood
// of made-up key ids reaches the issuer once per interval. When an issuer cannot
// be reached, its last known keys stay in use and each failed attempt is logged
// with their age.
type Remote struct {
	// After how long the keys are fetched again in the background, give or take
	// a tenth, so that many gateways do not ask at the same moment. A key that
	// the issuer withdraws is refused after this time at the latest. Default: 10m.
	RefreshInterval caddy.Duration `json:"refresh_interval,omitempty"`

	// The least time between two attempts to fetch keys. While no keys are known
	// at all, the first attempts follow each other sooner, after 1s, 2s, 4s and
	// so on up to this time. Default: 30s.
	MinRefreshInterval caddy.Duration `json:"min_refresh_interval,omitempty"`

	// How long an attempt to fetch keys may take, discovery included.
	// Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	logger      *zap.Logger
	environment token.Environment
	key         remoteKey
	state       *remoteState
}

// Algorithms returns all algorithms of public keys: which keys the issuer will
// have is not known in advance. A JWK Set never provides a secret.
func (r *Remote) Algorithms() []string { return token.AsymmetricAlgorithms() }

// Keys returns the known keys for kid. It waits for the issuer only when there
// are none.
func (r *Remote) Keys(ctx context.Context, kid string, now time.Time) ([]token.Key, uint64, error) {
	if known := r.state.known.Load(); known != nil {
		if keys := known.find(kid); len(keys) > 0 {
			r.refreshIfOld(known, now)
			return keys, known.epoch, nil
		}
	}
	if done := r.state.refresh(r, now); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
	known := r.state.known.Load()
	if known == nil {
		return nil, 0, r.state.failure()
	}
	return known.find(kid), known.epoch, nil
}

// Epoch counts the fetches in which a key had vanished or changed.
func (r *Remote) Epoch() uint64 {
	if known := r.state.known.Load(); known != nil {
		return known.epoch
	}
	return 0
}

// Ready reports whether there are keys, and fetches them in the background if
// there are none or they are old.
func (r *Remote) Ready(now time.Time) error {
	known := r.state.known.Load()
	if known == nil {
		r.state.refresh(r, now)
		return r.state.failure()
	}
	r.refreshIfOld(known, now)
	if len(known.all) == 0 {
		return errors.New("the issuer publishes no usable key")
	}
	return nil
}

// checkURL reads an address of the configuration.
func (r *Remote) checkURL(address string) (*url.URL, error) {
	parsed, err := metadata.ParseURL(address)
	if err != nil {
		return nil, err
	}
	return parsed, r.environment.CheckTransport(r.logger, parsed)
}

func (r *Remote) refreshIfOld(known *keySet, now time.Time) {
	if now.Sub(known.fetched) >= time.Duration(float64(r.RefreshInterval)*known.jitter) {
		r.state.refresh(r, now)
	}
}

// provision sets defaults. It takes nothing from the pool.
func (r *Remote) provision(ctx caddy.Context) error {
	r.logger, r.environment = ctx.Logger(), token.EnvironmentOf(ctx)
	for _, option := range []struct {
		name  string
		value *caddy.Duration
		unset time.Duration
	}{
		{"refresh_interval", &r.RefreshInterval, defaultRefreshInterval},
		{"min_refresh_interval", &r.MinRefreshInterval, defaultMinRefreshInterval},
		{"timeout", &r.Timeout, defaultTimeout},
	} {
		if *option.value < 0 {
			return fmt.Errorf("%s is negative", option.name)
		}
		if *option.value == 0 {
			*option.value = caddy.Duration(option.unset)
		}
	}
	return nil
}

// acquire takes the keys of one origin from the pool. The origin is what the log
// calls it.
func (r *Remote) acquire(key remoteKey, origin string, fetch fetcher) error {
	r.logger = r.logger.With(zap.String("origin", origin))
	value, _, err := remotes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newRemoteState(fetch), nil
	})
	if err != nil {
		return err
	}
	r.key, r.state = key, value.(*remoteState)
	return nil
}

// Cleanup gives back what acquire took, and nothing if it took nothing.
func (r *Remote) Cleanup() error {
	if r.state == nil {
		return nil
	}
	_, err := remotes.Delete(r.key)
	return err
}

// unmarshalBlock reads the options of a source's block.
func (r *Remote) unmarshalBlock(d *caddyfile.Dispenser) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var option *caddy.Duration
		name := d.Val()
		switch name {
		case "refresh_interval":
			option = &r.RefreshInterval
		case "min_refresh_interval":
			option = &r.MinRefreshInterval
		case "timeout":
			option = &r.Timeout
		default:
			return d.Errf("unrecognized key source option '%s'; it has: min_refresh_interval, refresh_interval, timeout", name)
		}
		if *option != 0 {
			return d.Errf("%s already specified", name)
		}
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		value, err := caddy.ParseDuration(text)
		if err != nil || value <= 0 {
			return d.Errf("%s is not a positive duration: %s", name, text)
		}
		*option = caddy.Duration(value)
	}
	return nil
}
