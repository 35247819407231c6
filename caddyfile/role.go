package caddyfile

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// roleTokens are where a role and its lines stand.
type roleTokens struct {
	name, team                 caddyfile.Token
	when, allow, deny, extends []caddyfile.Token
}

// parseRole reads a role:
//
//	role <name> {
//		extends <roles...>
//		team    <ids...>
//		when    <claim> <values...>
//		allow   <permission> [<objects...>] {
//			if <expression>
//		}
//		deny    <permission> [<objects...>] {
//			if <expression>
//		}
//	}
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
		case "extends":
			extended, err := list(d)
			if err != nil {
				return err
			}
			role.Extends = append(role.Extends, extended...)
			for range extended {
				at.extends = append(at.extends, token)
			}
		case "team":
			if role.Teams != nil {
				return d.Err("team is given twice; write it once, with all teams in which the role holds")
			}
			if role.Teams, err = list(d); err != nil {
				return err
			}
			at.team = token
		case "when":
			args := d.RemainingArgs()
			if len(args) < 2 {
				return d.Err("when needs a claim and at least one value, such as: when groups data-team")
			}
			role.When = append(role.When, policy.Condition{Claim: args[0], Values: args[1:]})
			at.when = append(at.when, token)
		case "allow", "deny":
			grant, err := parseGrant(d)
			if err != nil {
				return err
			}
			if option == "deny" {
				role.Deny, at.deny = append(role.Deny, grant), append(at.deny, token)
			} else {
				role.Allow, at.allow = append(role.Allow, grant), append(at.allow, token)
			}
		default:
			return unknown(d, "role", "allow, deny, extends, team, when")
		}
	}
	if len(role.Allow)+len(role.Deny)+len(role.Extends) == 0 {
		return d.Errf("role %s allows nothing; write a line such as: allow tools.execute tickets/search_*", name)
	}
	b.auth.Roles = append(b.auth.Roles, role)
	b.rules = append(b.rules, at)
	return nil
}

func parseGrant(d *caddyfile.Dispenser) (policy.Grant, error) {
	word := d.Val()
	grant := policy.Grant{Source: fmt.Sprintf("%s:%d", d.File(), d.Line())}
	args := d.RemainingArgs()
	if len(args) == 0 {
		return grant, d.Errf("%s needs a permission, such as: %s tools.execute tickets/search_* (or * for all)", word, word)
	}
	grant.Permission = args[0]
	if len(args) > 1 {
		grant.Objects = args[1:]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "if" {
			return grant, unknown(d, word, "if")
		}
		if grant.If != "" {
			return grant, d.Err("if is given twice; join the two with &&")
		}
		expression, err := one(d)
		if err != nil {
			return grant, err
		}
		grant.If = expression
	}
	return grant, nil
}

// checkRoles compiles the roles, and what they depend on, so that what is wrong is
// told with the line it stands on.
func (b *block) checkRoles() error {
	_, err := b.auth.CompilePolicy()
	if wrong, ok := errors.AsType[*policy.ObjectError](err); ok {
		return wrapAt(b.objects[[2]string{wrong.Team, wrong.Object}], err)
	}
	wrong, ok := errors.AsType[*policy.Error](err)
	if !ok {
		return err
	}
	at := b.rules[wrong.RoleIndex]
	token := at.name
	switch {
	case wrong.Team >= 0:
		token = at.team
	case wrong.Grant >= 0 && wrong.Deny:
		token = at.deny[wrong.Grant]
	case wrong.Grant >= 0:
		token = at.allow[wrong.Grant]
	case wrong.Condition >= 0:
		token = at.when[wrong.Condition]
	case wrong.Extends >= 0:
		token = at.extends[wrong.Extends]
	}
	return wrapAt(token, err)
}

// wrapAt adds to an error the place of a token.
func wrapAt(token caddyfile.Token, err error) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}
