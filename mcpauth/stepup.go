package mcpauth

import (
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// mayServer decides on what is about the server as a whole.
func (c *Call) mayServer(perm mcp.Permission) bool {
	if c.wanted != nil {
		*c.wanted = append(*c.wanted, policy.Question{Permission: perm, Server: c.Server})
		return true
	}
	return c.Principal.may(perm, c.Server, policy.KindNone, "")
}

// stepUp returns the scopes that would allow the whole of a call that was refused, all
// of its messages and all that each of them needs: a client is told once. None means
// that no scope would help, and then the client must not be sent for any.
//
// Which of the scopes that the token has are told too depends on what clients of the
// revision do. One of 2026-07-28 adds what it is told to what it has asked for before,
// so it is told the scopes that the operation needs and no other (MCP 2026-07-28,
// "Scope Challenge Handling"; RFC 6750 section 3.1). One of the revisions before asks
// anew for exactly what it is told, and would lose what it is not (MCP 2025-11-25, the
// "recommended approach").
func (c *Call) stepUp() []string {
	p := c.Principal
	if p.scopeless() {
		return nil
	}
	asked, ok := c.wants()
	if !ok {
		return nil
	}
	missing := p.missingScopes(asked)
	if len(missing) == 0 {
		return nil
	}
	// offline_access is between client and issuer (MCP 2026-07-28, "Refresh Tokens").
	held := slices.DeleteFunc(slices.Clone(p.Scopes), func(s string) bool { return s == "offline_access" })
	if c.Version.Modern() {
		held = p.neededScopes(asked, held, missing)
	}
	return append(held, missing...)
}

// wants judges the messages anew and has it noted what is asked. It fails for a call
// that would be refused whatever is allowed.
func (c *Call) wants() ([]policy.Question, bool) {
	var asked []policy.Question
	c.wanted = &asked
	defer func() { c.wanted = nil }()
	c.mayServer(mcp.ServersUse)
	for i := range c.Messages {
		if c.judgeMessage(&c.Messages[i]) != nil {
			return nil, false
		}
	}
	return asked, true
}

// missingScopes returns the scopes that the principal lacks for all that is asked.
func (p *Principal) missingScopes(asked []policy.Question) []string {
	need := policy.Need{Asked: asked, Weight: p.ScopeMap.Weight}
	refusal := p.Scope.Permit(permissionsOf(asked))
	if refusal == nil {
		return p.policy.ScopesForAll(values(p.Claims), p.Scopes, sees(p.Claims), need)
	}
	if refusal.Cause != scope.CauseOAuth {
		return nil
	}
	for _, propose := range []func(mcp.Permission) []string{p.ScopeMap.Known, p.ScopeMap.Givers} {
		need.OneOf = nil
		for _, perm := range permissionsOf(asked).List() {
			given := func(s string) bool { return p.ScopeMap.Permissions([]string{s}).Has(scope.Of(perm)) }
			need.OneOf = append(need.OneOf, policy.OneOf{Propose: propose(perm), Given: given})
		}
		if scopes := p.policy.ScopesForAll(values(p.Claims), p.Scopes, sees(p.Claims), need); scopes != nil {
			return scopes
		}
	}
	return nil
}

// maxHeld is of how many scopes it is found out which of them an operation needs.
const maxHeld = 50

// neededScopes returns those of the scopes held without which the missing ones would
// not suffice.
func (p *Principal) neededScopes(asked []policy.Question, held, missing []string) []string {
	if len(held) > maxHeld {
		return held
	}
	needed := held
	for _, scope := range slices.Backward(held) {
		fewer := slices.DeleteFunc(slices.Clone(needed), func(other string) bool { return other == scope })
		if p.wouldAllow(asked, append(slices.Clone(fewer), missing...)) {
			needed = fewer
		}
	}
	return needed
}

// wouldAllow reports whether everything that is asked would be allowed if the token's
// scopes were those.
func (p *Principal) wouldAllow(asked []policy.Question, scopes []string) bool {
	if p.ScopeMap != nil && !p.ScopeMap.Permissions(scopes).Has(permissionsOf(asked)) {
		return false
	}
	set := p.policy.RolesOf(values(p.Claims), scopes, sees(p.Claims))
	return !slices.ContainsFunc(asked, func(q policy.Question) bool { return !p.policy.Judge(set, q).Allowed })
}

func permissionsOf(asked []policy.Question) (all scope.Permissions) {
	for i := range asked {
		all |= scope.Of(asked[i].Permission)
	}
	return all
}
