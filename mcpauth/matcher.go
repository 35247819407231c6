package mcpauth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

func init() {
	caddy.RegisterModule(Match{})
}

// Match matches requests by what mcp_auth has read in them, so that any other
// handler of Caddy can act on MCP traffic. It must come after mcp_auth; where it
// cannot know the answer it fails the request, rather than to say "no match", which
// under `not` would be a yes.
//
// Every list that is given must match, by one of its entries; a batch matches if one
// of its messages does. A GET or DELETE has no method and no name.
type Match struct {
	// Methods are MCP methods, such as tools/call.
	Methods []string `json:"methods,omitempty"`

	// Names are names of tools and prompts, or URIs of resources, as the request
	// has them; exact, or globs by the rules of a role's objects: `*` stands for any
	// text without a slash, `**` for any text, `\*` for a star. A URI that could be
	// read in two ways matches no glob but `**`. A request that is about no object
	// matches `**` alone.
	Names []string `json:"names,omitempty"`

	// Servers are the servers' names.
	Servers []string `json:"servers,omitempty"`

	// Roles are names of roles that the principal has.
	Roles []string `json:"roles,omitempty"`

	// Permissions are those that the request needs, such as tools.execute.
	Permissions []string `json:"permissions,omitempty"`

	names []*policy.Pattern
}

// CaddyModule returns the Caddy module information.
func (Match) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.mcp",
		New: func() caddy.Module { return new(Match) },
	}
}

// Provision compiles the names.
func (m *Match) Provision(caddy.Context) error {
	m.names = make([]*policy.Pattern, len(m.Names))
	for i, name := range m.Names {
		var err error
		if m.names[i], err = policy.NewPattern(name); err != nil {
			return fmt.Errorf("name %q: %w", name, err)
		}
	}
	return nil
}

// Validate refuses what could never match.
func (m Match) Validate() error {
	if len(m.Methods)+len(m.Names)+len(m.Servers)+len(m.Roles)+len(m.Permissions) == 0 {
		return errors.New("the mcp matcher needs something to match, such as a method")
	}
	for _, name := range m.Permissions {
		if _, ok := mcp.ParsePermission(name); !ok {
			return errors.New("unknown permission " + name)
		}
	}
	return nil
}

// UnmarshalCaddyfile sets up the matcher from Caddyfile tokens. The names after a
// method are optional, and so is the block:
//
//	mcp [<method> [<names...>]] {
//		method     <methods...>
//		name       <names...>
//		server     <names...>
//		role       <names...>
//		permission <permissions...>
//	}
func (m *Match) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if d.NextArg() {
			m.Methods = append(m.Methods, d.Val())
			m.Names = append(m.Names, d.RemainingArgs()...)
		}
		lists := map[string]*[]string{
			"method": &m.Methods, "name": &m.Names, "server": &m.Servers, "role": &m.Roles, "permission": &m.Permissions,
		}
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			list, ok := lists[d.Val()]
			if !ok {
				return d.Errf("unrecognized mcp matcher option '%s'; it has: method, name, permission, role, server", d.Val())
			}
			values := d.RemainingArgs()
			if len(values) == 0 {
				return d.ArgErr()
			}
			*list = append(*list, values...)
		}
	}
	return nil
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m Match) MatchWithError(r *http.Request) (bool, error) {
	call := CallOf(r)
	if call == nil {
		return false, caddyhttp.Error(http.StatusInternalServerError,
			errors.New("the mcp matcher was reached without mcp_auth; put mcp_auth before it for the same requests"))
	}
	if len(m.Servers) > 0 && !slices.Contains(m.Servers, call.Server) ||
		len(m.Roles) > 0 && !slices.ContainsFunc(m.Roles, func(role string) bool { return slices.Contains(call.Principal.Roles, role) }) {
		return false, nil
	}
	if len(m.Methods)+len(m.Names)+len(m.Permissions) == 0 {
		return true, nil
	}
	for i := range call.Messages {
		if m.matchMessage(call, i) {
			return true, nil
		}
	}
	return false, nil
}

func (m Match) matchMessage(call *Call, i int) bool {
	message := &call.Messages[i]
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, message.Method) {
		return false
	}
	if len(m.Names) > 0 {
		kind, name := call.object(message)
		if !slices.ContainsFunc(m.names, func(p *policy.Pattern) bool { return p.Match(kind, name) }) {
			return false
		}
	}
	if len(m.Permissions) == 0 {
		return true
	}
	method := mcp.Lookup(message.Method, mcp.Client, message.Kind, call.Version)
	return method != nil && slices.Contains(m.Permissions, method.Permission.String())
}

// Interface guards
var (
	_ caddy.Provisioner                 = (*Match)(nil)
	_ caddy.Validator                   = (*Match)(nil)
	_ caddyfile.Unmarshaler             = (*Match)(nil)
	_ caddyhttp.RequestMatcherWithError = (*Match)(nil)
)
