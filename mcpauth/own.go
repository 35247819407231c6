package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func init() {
	caddy.RegisterModule(new(OwnKeys))
}

// OwnKeys verifies the gateway's own tokens: those of people who log in at it, and those
// that it has handed out. The keys are at hand, no request is made for them. The issuer
// must be the one that tokens of the `mcp_gateway` app names.
type OwnKeys struct {
	issuer *issue.Issuer
}

// CaddyModule returns the Caddy module information.
func (*OwnKeys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.key_sources.gateway",
		New: func() caddy.Module { return new(OwnKeys) },
	}
}

// Provision finds the app's issuer.
func (k *OwnKeys) Provision(ctx caddy.Context) error {
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	if k.issuer = loaded.(*App).Issuer(); k.issuer == nil {
		return errors.New("the gateway makes no tokens; name their issuer in the global option mcp_gateway, such as: tokens https://mcp.example.com")
	}
	return nil
}

// BindIssuer refuses another issuer's name.
func (k *OwnKeys) BindIssuer(issuer string) error {
	if issuer != k.issuer.Name() {
		return fmt.Errorf("the gateway's own tokens are issued by %s; name that issuer", k.issuer.Name())
	}
	return nil
}

// Algorithms returns those of the gateway's keys.
func (k *OwnKeys) Algorithms() []string { return k.issuer.Algorithms() }

// Keys returns the gateway's keys.
func (k *OwnKeys) Keys(ctx context.Context, kid string, now time.Time) ([]token.Key, uint64, error) {
	return k.issuer.Keys(ctx, kid, now)
}

// Epoch changes when a key is withdrawn.
func (k *OwnKeys) Epoch() uint64 { return k.issuer.Epoch() }

// Ready returns nil when the keys are known.
func (k *OwnKeys) Ready(now time.Time) error { return k.issuer.Ready(now) }

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	gateway
func (*OwnKeys) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		return d.Errf("the key source gateway has no options, and '%s' is one", d.Val())
	}
	return nil
}

// Bearer takes the token out of a request, in the one way in which mcp_auth does. The
// token is empty if there is none.
func Bearer(r *http.Request) (string, *Refusal) { return bearer(r) }

// Interface guards
var (
	_ caddy.Provisioner     = (*OwnKeys)(nil)
	_ caddyfile.Unmarshaler = (*OwnKeys)(nil)
	_ token.KeySource       = (*OwnKeys)(nil)
	_ token.IssuerBinder    = (*OwnKeys)(nil)
)
