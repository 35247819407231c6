package caddyfile

import (
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// roleTokens are where a role and its lines stand.
type roleTokens struct {
	name  caddyfile.Token
	when  []caddyfile.Token
	allow []caddyfile.Token
}

func parseRole(b *block, d *caddyfile.Dispenser) error {
	name, err := one(d)
	if err != nil {
		return err
	}
	role := policy.Role{Name: name}
	at := roleTokens{name: d.Token()}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		token := d.Token()
		switch option := d.Val(); option {
		case "when":
			args := d.RemainingArgs()
			if len(args) < 2 {
				return d.Err("when needs a claim and at least one value, such as: when groups data-team")
			}
			role.When = append(role.When, policy.Condition{Claim: args[0], Values: args[1:]})
			at.when = append(at.when, token)
		case "allow":
			args := d.RemainingArgs()
			if len(args) == 0 {
				return d.Err("allow needs a permission, such as: allow tools.execute tickets/search_* (or * for all)")
			}
			grant := policy.Grant{Permission: args[0]}
			if len(args) > 1 {
				grant.Objects = args[1:]
			}
			role.Allow = append(role.Allow, grant)
			at.allow = append(at.allow, token)
		default:
			return unknown(d, "role", "allow, when")
		}
	}
	if len(role.Allow) == 0 {
		return d.Errf("role %s allows nothing; write a line such as: allow tools.execute tickets/search_*", name)
	}
	b.auth.Roles = append(b.auth.Roles, role)
	b.rules = append(b.rules, at)
	return nil
}

// checkRoles compiles the roles, so that what is wrong with them is told with the
// line it stands on.
func (b *block) checkRoles() error {
	_, err := policy.Compile(b.auth.Roles)
	var wrong *policy.Error
	if !errors.As(err, &wrong) {
		return err
	}
	at := b.rules[wrong.RoleIndex]
	token := at.name
	switch {
	case wrong.Grant >= 0:
		token = at.allow[wrong.Grant]
	case wrong.Condition >= 0:
		token = at.when[wrong.Condition]
	}
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}
