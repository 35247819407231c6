package scope

import (
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Permissions is a set of permissions.
type Permissions uint32

// Bit 0 stands for what is no permission. It is in no set that a token has, so that
// whoever asks for it is refused.
const allPermissions = Permissions(1)<<mcp.PermissionCount - 2

// One bit for each: this does not compile with more permissions than there are bits.
const _ = uint(32 - mcp.PermissionCount)

// Of returns the set of permissions, as the need of a request. A set with
// something that is no permission, mcp.PermissionNone included, is held by nobody.
func Of(permissions ...mcp.Permission) Permissions {
	var set Permissions
	for _, p := range permissions {
		if p >= mcp.PermissionCount {
			p = mcp.PermissionNone
		}
		set |= 1 << p
	}
	return set
}

// Has reports whether all of need are in the set. Nobody has no need: to ask for
// nothing is a mistake of the caller's, and refused.
func (set Permissions) Has(need Permissions) bool {
	return need != 0 && need&^set == 0
}

// List returns the permissions in the set, in their order.
func (set Permissions) List() []mcp.Permission {
	var list []mcp.Permission
	for _, p := range mcp.Permissions() {
		if set.Has(Of(p)) {
			list = append(list, p)
		}
	}
	return list
}

// readPermissions reads scopes.permissions.
func readPermissions(value any, inherit bool) (Permissions, *Error) {
	const claim = "scopes.permissions"
	names, err := texts(claim, value)
	if err != nil {
		return 0, err
	}
	if len(names) == 0 && inherit {
		return allPermissions, nil
	}
	var set Permissions
	for _, name := range names {
		given, ok := parsePermission(name)
		if !ok {
			return 0, invalid(claim, "has an element that is not the name of a permission")
		}
		set |= given
	}
	return set, nil
}

// onServers are the categories about what servers hold. A permission of one of them
// implies servers.use, so that the token can open a transport: those of
// behaviour.md section 2.5, and those that ContextForge does not have.
var onServers = []string{"tools", "resources", "prompts", "completions", "logging", "tasks", "client"}

// parsePermission returns what a name gives: "*" everything, "category.*" all of a
// category. Names are compared as they are. One that is well formed and means
// nothing here, such as a2a.invoke, gives nothing; one that is not well formed was
// written by mistake, and makes the token invalid.
//
// A permission gives what it implies (see [mcp.Permission.Implies]): whoever may
// call a tool may see it, in this layer as in the other.
func parsePermission(name string) (Permissions, bool) {
	if name == "*" {
		return allPermissions, true
	}
	if !isPermissionName(name) {
		return 0, false
	}
	var set Permissions
	category, action, _ := strings.Cut(name, ".")
	for _, p := range mcp.Permissions() {
		if text := p.String(); text == name || action == "*" && strings.HasPrefix(text, category+".") {
			set |= Of(p)
			if implied := p.Implies(); implied != mcp.PermissionNone {
				set |= Of(implied)
			}
		}
	}
	if slices.Contains(onServers, category) {
		set |= Of(mcp.ServersUse)
	}
	return set, true
}

// isPermissionName reports whether a name has one of the forms category.action,
// category.action:detail, category:action and category.*, the forms of
// behaviour.md section 3.1.
func isPermissionName(name string) bool {
	at := strings.IndexAny(name, ".:")
	if at < 0 || !isWord(name[:at]) {
		return false
	}
	action := name[at+1:]
	if name[at] == ':' {
		return isWord(action)
	}
	if action == "*" {
		return true
	}
	action, detail, detailed := strings.Cut(action, ":")
	return isWord(action) && (!detailed || isWord(detail))
}

// isWord reports whether text is made of lower-case letters, digits, underscores
// and hyphens, a letter first.
func isWord(text string) bool {
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return text != ""
}
