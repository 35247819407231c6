package keys

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
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
	// empty is an error. A secret that is well known, a placeholder, or made of too
	// few different characters is refused, except in the environment development.
	// Required.
	Value string `json:"value,omitempty"`

	// Verify with a key that is derived from the secret for this environment, so
	// that a token of one environment is no good in another which has the same
	// secret. The key is the 64 lower-case hexadecimal digits of HMAC-SHA256 over
	// "mcpgw-env:" and the environment's name, keyed with the secret, as ContextForge
	// derives it (DERIVE_KEY_PER_ENVIRONMENT). Needs an environment. Default: false.
	DeriveKey bool `json:"derive_key,omitempty"`

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
	secret, environment := []byte(value), token.EnvironmentOf(ctx)
	key, err := token.NewSecretKey("", secret)
	if err != nil {
		return err // never sound, in no environment
	}
	if err := scope.WeakSecret(secret); err != nil {
		if err = environment.Object(ctx.Logger(), err); err != nil {
			return err
		}
	}
	switch {
	case s.DeriveKey && environment == "":
		return errors.New("a key cannot be derived for an environment without a name: write environment NAME into the global option mcp_gateway")
	case s.DeriveKey:
		if key, err = token.NewSecretKey("", scope.DeriveKey(secret, string(environment))); err != nil {
			return err
		}
	case environment != "" && environment != token.Development:
		ctx.Logger().Warn("tokens of this secret are good in every environment that has it; derive a key for each (derive_key), or give each a secret of its own")
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
