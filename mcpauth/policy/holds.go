package policy

import "github.com/caddymcp/caddy-mcp-gateway/internal/mcp"

// Holds returns the permissions that the roles give on anything of some of these
// servers, and whether one of the roles grants `*` and all of what that stands for is
// among them. It is asked about tokens, which name permissions without objects: on
// which objects each holds is decided when the token is used.
func (p *Policy) Holds(rs RoleSet, servers []string) (permissions []mcp.Permission, every bool) {
	if !rs.Of(p) {
		return nil, false
	}
	for _, perm := range mcp.Permissions() {
		for _, server := range servers {
			if p.AllowsSome(rs, perm, server) {
				permissions = append(permissions, perm)
				break
			}
		}
	}
	return permissions, p.every.meets(rs.held()) && len(permissions) == len(mcp.Permissions())
}
