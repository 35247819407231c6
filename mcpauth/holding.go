package mcpauth

import (
	"maps"
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// holding tells what somebody holds who has logged in: what the roles of this
// configuration give to a session token with the roles and teams that the user has now.
// It asks the policies that judge requests, so that the two cannot differ.
//
// A permission is held if any mcp_auth that accepts the gateway's own tokens gives it,
// on any server that the user sees, for whatever objects. A token's list of permissions
// knows neither sites nor servers nor objects, and it gives nothing by itself: wherever
// the token is used, the policy there still has to allow its user that very thing. What
// the list must not do is to name what its maker holds nowhere, and that is what is
// found out here. To ask for what all of them give would keep somebody who may do
// something at one site only from making a token for it.
func (a *App) holding(who catalogue.Holder) catalogue.Held {
	members := maps.Clone(who.Claims.All())
	members["roles"] = anys(who.Roles)
	if _, ok := members["teams"]; ok {
		members["teams"] = anys(who.Scope.Teams())
	}
	claims := token.NewClaims(who.Claims.Issuer, who.Claims.Subject, members, who.Scope)
	var held catalogue.Held
	for _, h := range a.handlers {
		if !slices.ContainsFunc(h.Issuers, func(i *token.Issuer) bool { return i.Issuer == claims.Issuer }) {
			continue
		}
		var servers []string
		for _, e := range h.endpoints {
			v := e.visibility
			if who.Scope.Sees(v.Level, v.Team, v.Owner, claims.Subject) {
				servers = append(servers, e.server)
			}
		}
		permissions, every := h.policy.Holds(h.policy.RolesOf(values(claims), nil, sees(claims)), servers)
		for _, p := range permissions {
			held.Permissions |= scope.Of(p)
		}
		held.Every = held.Every || every
	}
	return held
}

func anys(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}
