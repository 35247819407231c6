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
	caddy.RegisterModule(new(Discovery))
}

// Discovery finds the issuer's keys through its metadata, either that of an
// OAuth authorization server (RFC 8414) or that of an OpenID provider (OpenID
// Connect Discovery). Metadata counts only if its member issuer equals the
// configured issuer exactly. Metadata and keys are fetched anew each time, so
// that a JWK Set that moves is found again.
type Discovery struct {
	// The address of the metadata: https, or http for a loopback host or in the
	// environment development. Placeholders are expanded when the configuration is loaded. Default: the
	// well-known addresses of the issuer, first that of RFC 8414, then those of
	// OpenID Connect.
	MetadataURL string `json:"metadata_url,omitempty"`

	Remote
}

// CaddyModule returns the Caddy module information.
func (*Discovery) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.key_sources.discovery",
		New: func() caddy.Module { return new(Discovery) },
	}
}

// Provision checks the options. The issuer comes with BindIssuer.
func (s *Discovery) Provision(ctx caddy.Context) error {
	if err := s.provision(ctx); err != nil {
		return err
	}
	if s.MetadataURL == "" {
		return nil
	}
	var err error
	if s.MetadataURL, err = caddy.NewReplacer().ReplaceOrErr(s.MetadataURL, true, true); err != nil {
		return fmt.Errorf("metadata_url: %w", err)
	}
	if _, err := s.checkURL(s.MetadataURL); err != nil {
		return fmt.Errorf("metadata_url: %w", err)
	}
	return nil
}

// BindIssuer says whose metadata to look for. Nothing is fetched yet.
func (s *Discovery) BindIssuer(issuer string) error {
	parsed, err := metadata.ParseURL(issuer)
	if err == nil {
		err = s.environment.Permits(parsed) // what it warns of is known already
	}
	if err != nil {
		return fmt.Errorf("discovery: the issuer is not the URL of an authorization server: %w; name a jwks, pem or secret key source instead", err)
	}
	if parsed.RawQuery != "" || parsed.ForceQuery {
		return errors.New("discovery: the issuer's URL has a query; name a jwks key source instead")
	}
	places := metadata.WellKnown(parsed)
	if s.MetadataURL != "" {
		places = []string{s.MetadataURL}
	}
	return s.acquire(remoteKey{issuer, s.MetadataURL, s.environment == token.Development}, issuer, func(ctx context.Context, client *http.Client) ([]token.Key, int, error) {
		address, err := metadata.Find(ctx, client, metadata.JWKSURI, issuer, places, s.environment.Permits)
		if err != nil {
			return nil, 0, fmt.Errorf("discovery: %w", err)
		}
		return fetchKeySet(ctx, client, address)
	})
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	discovery [<metadata_url>] {
//		refresh_interval     <duration>
//		min_refresh_interval <duration>
//		timeout              <duration>
//	}
func (s *Discovery) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if d.NextArg() {
		s.MetadataURL = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	return s.unmarshalBlock(d)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Discovery)(nil)
	_ caddy.CleanerUpper    = (*Discovery)(nil)
	_ caddyfile.Unmarshaler = (*Discovery)(nil)
	_ token.KeySource       = (*Discovery)(nil)
	_ token.IssuerBinder    = (*Discovery)(nil)
)
