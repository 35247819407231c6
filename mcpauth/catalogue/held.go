package catalogue

import (
	"fmt"
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Held is what somebody may do at all.
type Held struct {
	// Every is for who holds *, which is an administrator, or somebody to whom a role
	// grants just that.
	Every bool
	// Permissions are what somebody else holds somewhere.
	Permissions scope.Permissions
}

// Holder is whose permissions are asked for: whom a session token speaks for, as the
// accounts know them now.
type Holder struct {
	// Claims are those of the session token.
	Claims *token.Claims
	// Roles are the names of those that the user has everywhere, and in force; Scope is
	// what the session reaches, with the user's present teams.
	Roles []string
	Scope *scope.Scope
}

// Holding tells what somebody who is no administrator holds.
type Holding func(Holder) Held

var errUnbounded = invalid("permission_not_held",
	"without a list of permissions the token would do whatever its user may; name permissions that you hold yourself")

// covers refuses what a scope permits and did not permit before, unless it is held. The
// permissions are looked at in two ways, by their names, since most names mean nothing
// here and could mean something some day or elsewhere; and by what the names come to,
// so that it is what the request path reads which is bounded.
func (h Held) covers(wanted, before *compiled) error {
	if h.Every || wanted.names == nil {
		return nil
	}
	for _, name := range wanted.names {
		if before != nil && (before.names == nil || slices.Contains(before.names, name)) {
			continue
		}
		p, known := mcp.ParsePermission(name)
		if !known || !h.Permissions.Has(scope.Of(p)) {
			return invalid("permission_not_held", fmt.Sprintf("you do not hold the permission %s, and so cannot give it to a token", name))
		}
	}
	for _, p := range mcp.Permissions() {
		if wanted.permits(p) && (before == nil || !before.permits(p)) && !h.Permissions.Has(scope.Of(p)) {
			return invalid("permission_not_held", fmt.Sprintf("you do not hold the permission %s, which comes with another that you named", p))
		}
	}
	return nil
}
