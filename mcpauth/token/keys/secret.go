package keys

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func init() {
	caddy.RegisterModule(new(Secret))
}

// Secret verifies tokens with a secret that is shared with the issuer (HS256,
// HS384, HS512). Whoever can verify such tokens can also make them: prefer public
// keys where the issuer offers them.
type Secret struct {
	// The secret, at least 32 bytes; HS384 needs 48 and HS512 needs 64. Write
	// a placeholder here, such as {env.JWT_SECRET} or {file./run/secrets/jwt},
	// since the configuration can be read through the admin API. Placeholders
	// are expanded when the configuration is loaded, and one that is unknown or
	// empty is an error. Required.
	Value string `json:"value,omitempty"`

	keys []token.Key
}

// CaddyModule returns the Caddy module information.
func (*Secret) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.key_sources.secret",
		New: func() caddy.Module { return new(Secret) },
	}
}

// Provision expands the secret into the key. No error repeats any of it, and not
// the placeholder either: a secret that happens to hold braces looks like one.
func (s *Secret) Provision(ctx caddy.Context) error {
	value, err := caddy.NewReplacer().ReplaceOrErr(s.Value, true, true)
	if err != nil {
		return errors.New("the secret names a placeholder that is unknown or empty; escape braces that belong to the secret itself")
	}
	if value != "" && !strings.Contains(s.Value, "{") {
		ctx.Logger().Warn("a secret is written into the configuration, where the admin API shows it; use a placeholder such as {env.JWT_SECRET}")
	}
	key, err := token.NewSecretKey("", []byte(value))
	if err != nil {
		return err
	}
	s.keys = []token.Key{key}
	return nil
}

// Algorithms returns HS256 and, if the secret is long enough, HS384 and HS512.
func (s *Secret) Algorithms() []string { return allAlgorithms(s.keys) }

// Keys returns the secret's key, whatever the kid.
func (s *Secret) Keys(context.Context, string, time.Time) ([]token.Key, uint64, error) {
	return s.keys, s.Epoch(), nil
}

// Epoch never changes: another secret comes with another configuration.
func (s *Secret) Epoch() uint64 { return 0 }

// Ready returns nil: the secret was read when the configuration was loaded.
func (s *Secret) Ready(time.Time) error { return nil }

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	secret <value>
func (s *Secret) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if !d.AllArgs(&s.Value) {
		return d.ArgErr()
	}
	return noBlock(d)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Secret)(nil)
	_ caddyfile.Unmarshaler = (*Secret)(nil)
	_ token.KeySource       = (*Secret)(nil)
)
