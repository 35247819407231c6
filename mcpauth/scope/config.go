package scope

import "fmt"

// The values of [Config.AbsentTeams] and [Config.EmptyPermissions].
const (
	AbsentUnrestricted = "unrestricted"
	AbsentPublic       = "public"
	EmptyDeny          = "deny"
	EmptyInherit       = "inherit"
)

// Config says how the claims of tokens are read where products differ. The zero
// Config has the defaults.
type Config struct {
	// What an administrator's token without the claim `teams` sees:
	// `unrestricted`, everything but what is private to others, or `public`, only
	// what is public, as ContextForge 1.0 has it. Default: unrestricted. Anybody
	// else's token without the claim sees only what is public.
	AbsentTeams string `json:"absent_teams,omitempty"`

	// What an empty list in `scopes.permissions` means: `deny`, that nothing is
	// permitted, or `inherit`, that nothing is restricted, which is what tokens of
	// ContextForge mean by it. Default: deny.
	EmptyPermissions string `json:"empty_permissions,omitempty"`

	// Whether the OAuth scopes of a token bound what it may do, as the scope map
	// says. A token without scopes may then do nothing. Default: false; scopes
	// are of use only in the conditions of roles.
	ScopePermissions bool `json:"scope_permissions,omitempty"`

	// The permissions that OAuth scopes give, in addition to the built-in names:
	// `mcp:` with any permission or category (`mcp:tools.read`, `mcp:tools`),
	// `mcp:read`, `mcp:write` and `mcp:all`. A permission is written as in a token:
	// `tools.execute`, `tools.*` or `*`. A built-in name that is written here means
	// only what it is given here; an empty list takes it away.
	ScopeMap map[string][]string `json:"scope_map,omitempty"`

	scopes *ScopeMap
}

// Provision checks the configuration and compiles the scope map. It must be called
// before the Config is given to [Parse].
func (c *Config) Provision() error {
	switch c.AbsentTeams {
	case "", AbsentUnrestricted, AbsentPublic:
	default:
		return fmt.Errorf("absent_teams is %q; use %s or %s", c.AbsentTeams, AbsentUnrestricted, AbsentPublic)
	}
	switch c.EmptyPermissions {
	case "", EmptyDeny, EmptyInherit:
	default:
		return fmt.Errorf("empty_permissions is %q; use %s or %s", c.EmptyPermissions, EmptyDeny, EmptyInherit)
	}
	if len(c.ScopeMap) > 0 && !c.ScopePermissions {
		return fmt.Errorf("scope_map has no effect; switch scope_permissions on, or take it away")
	}
	if !c.ScopePermissions {
		c.scopes = nil
		return nil
	}
	scopes, err := NewScopeMap(c.ScopeMap)
	if err != nil {
		return fmt.Errorf("scope_map: %w", err)
	}
	c.scopes = scopes
	return nil
}

// Scopes returns the compiled scope map, or nil when scopes do not bound tokens.
func (c *Config) Scopes() *ScopeMap { return c.scopes }
