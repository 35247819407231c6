package mcpauth

import (
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// Posture is what the running configuration says that matters to its security. It only
// tells; what is made of it is for others to know.
type Posture struct {
	// Environment is the name, empty for none.
	Environment string
	// PublicURLs are those under which clients reach the gateway.
	PublicURLs []string
	// Issuers are those whose tokens are accepted.
	Issuers []IssuerPosture
	// Boundless are the roles that give everything on every server to everybody who is
	// let in.
	Boundless []string
	// AllowStale is for how long tokens are accepted while the store is cut off.
	AllowStale time.Duration
	// Store is the name of the store's module; StoreExposed is whether what it keeps
	// goes over a network without TLS.
	Store        string
	StoreExposed bool
}

// IssuerPosture is an issuer whose tokens are accepted.
type IssuerPosture struct {
	Name string
	// Algorithms are those that are accepted.
	Algorithms []string
	// JTIOptional is whether its tokens may have no identifier.
	JTIOptional bool
}

// Posture returns what the configuration says.
func (a *App) Posture() Posture {
	p := Posture{
		Environment: a.Environment, AllowStale: time.Duration(a.AllowStale),
		Store: a.storeKept.name, StoreExposed: a.storeKept.exposed,
	}
	for _, h := range a.handlers {
		p.PublicURLs = append(p.PublicURLs, h.URL())
		for _, iss := range h.Issuers {
			p.Issuers = append(p.Issuers, IssuerPosture{iss.Issuer, iss.Accepted(), iss.JTIOptional})
		}
		for i := range h.Roles {
			if boundless(&h.Roles[i]) {
				p.Boundless = append(p.Boundless, h.Roles[i].Name)
			}
		}
	}
	return p
}

// boundless reports whether a role gives everything to everybody who is let in.
func boundless(r *policy.Role) bool {
	if len(r.When) > 0 || len(r.Teams) > 0 || len(r.Deny) > 0 {
		return false
	}
	return slices.Contains(r.Extends, "platform_admin") || slices.ContainsFunc(r.Allow, func(g policy.Grant) bool {
		everywhere := g.Objects == nil || slices.ContainsFunc(g.Objects, func(o string) bool { return o == "*" || o == "*/**" })
		return g.Permission == "*" && everywhere && g.If == ""
	})
}

// RoleNames are the names that have to do with roles in the running configuration.
type RoleNames struct {
	// Roles are those of the policies.
	Roles []string `json:"roles"`
	// Assignable are the names that the policies' conditions on the claim roles ask for:
	// to assign one of these to a user makes a difference.
	Assignable []string `json:"assignable"`
}

// RoleNames returns them, sorted.
func (a *App) RoleNames() RoleNames {
	roles, assignable := map[string]bool{}, map[string]bool{}
	for _, h := range a.handlers {
		for _, r := range h.Roles {
			roles[r.Name] = true
			for _, c := range r.When {
				if c.Claim != "roles" {
					continue
				}
				for _, value := range c.Values {
					assignable[value] = true
				}
			}
		}
	}
	return RoleNames{slices.Sorted(maps.Keys(roles)), slices.Sorted(maps.Keys(assignable))}
}

// Book is where the handlers of this configuration enter what they can tell.
func (a *App) Book() *report.Book { return &a.book }

// kept is how a store keeps what it is given.
type kept struct {
	name    string
	exposed bool
}

// exposable is a store that is reached over a network.
type exposable interface {
	// Exposed reports whether that is without TLS, beyond this machine.
	Exposed() bool
}

func keptOf(module state.Module) (k kept) {
	if m, ok := module.(caddy.Module); ok {
		k.name = m.CaddyModule().ID.Name()
	}
	if e, ok := module.(exposable); ok {
		k.exposed = e.Exposed()
	}
	return k
}
