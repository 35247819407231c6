package keys

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

func init() {
	caddy.RegisterModule(new(JWKS))
}

// JWKS fetches the issuer's keys from a JWK Set (RFC 7517 section 5) at a known
// address, without asking the issuer's metadata for it.
type JWKS struct {
	// The address of the JWK Set: https, or http for a loopback host or in the
	// environment development. The answer may have up to 1 MiB, and redirects may
	// not leave the host. Placeholders are expanded when the configuration is
	// loaded. Required.
	URL string `json:"url,omitempty"`

	Remote
}

// CaddyModule returns the Caddy module information.
func (*JWKS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.key_sources.jwks",
		New: func() caddy.Module { return new(JWKS) },
	}
}

// Provision checks the options. The keys are fetched later.
func (j *JWKS) Provision(ctx caddy.Context) error {
	if err := j.provision(ctx); err != nil {
		return err
	}
	var err error
	if j.URL, err = caddy.NewReplacer().ReplaceOrErr(j.URL, true, true); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if j.URL == "" {
		return errors.New("url is missing: set it to the address of the issuer's JWK Set")
	}
	parsed, err := j.checkURL(j.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	address := j.URL
	return j.acquire(remoteKey{url: address}, parsed.Host+parsed.Path, func(ctx context.Context, client *http.Client) ([]token.Key, int, error) {
		return fetchKeySet(ctx, client, address)
	})
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	jwks <url> {
//		refresh_interval     <duration>
//		min_refresh_interval <duration>
//		timeout              <duration>
//	}
func (j *JWKS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if !d.AllArgs(&j.URL) {
		return d.ArgErr()
	}
	return j.unmarshalBlock(d)
}

func fetchKeySet(ctx context.Context, client *http.Client, address string) ([]token.Key, int, error) {
	body, err := metadata.Get(ctx, client, address)
	if err != nil {
		return nil, 0, err
	}
	return parseKeySet(body)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*JWKS)(nil)
	_ caddy.CleanerUpper    = (*JWKS)(nil)
	_ caddyfile.Unmarshaler = (*JWKS)(nil)
	_ token.KeySource       = (*JWKS)(nil)
)
