package caddyfile

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// parseVisibility reads who sees a server, or objects of one:
//
//	visibility <server>[/<object>] public
//	visibility <server>[/<object>] team <id>
//	visibility <server>[/<object>] private <subject>
func parseVisibility(b *block, d *caddyfile.Dispenser) error {
	at := d.Token()
	args := d.RemainingArgs()
	const usage = "visibility needs a server and public, team with an id, or private with its owner's subject, such as: visibility tickets team support"
	if len(args) < 2 {
		return d.Err(usage)
	}
	visibility := mcpauth.Visibility{Level: scope.Visibility(args[1]), At: fmt.Sprintf("%s:%d", d.File(), d.Line())}
	switch {
	case visibility.Level == scope.Public && len(args) == 2:
	case visibility.Level == scope.Team && len(args) == 3:
		visibility.Team = args[2]
	case visibility.Level == scope.Private && len(args) == 3:
		visibility.Owner = args[2]
	default:
		return d.Err(usage)
	}
	if _, twice := b.auth.Visibility[args[0]]; twice {
		return d.Errf("visibility of %s is given twice; write it once", args[0])
	}
	if b.auth.Visibility == nil {
		b.auth.Visibility = make(map[string]mcpauth.Visibility)
	}
	b.auth.Visibility[args[0]] = visibility
	b.remember("", args[0], at)
	return nil
}

// parseTeam reads what belongs to a team:
//
//	team <id> <objects...>
func parseTeam(b *block, d *caddyfile.Dispenser) error {
	at := d.Token()
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Err("team needs an id and what belongs to the team, such as: team support tickets crm/support_*")
	}
	team := args[0]
	if b.auth.Teams == nil {
		b.auth.Teams = make(map[string][]string)
	}
	for _, object := range args[1:] {
		if slices.Contains(b.auth.Teams[team], object) {
			return d.Errf("%s is given to team %s twice; write it once", object, team)
		}
		b.auth.Teams[team] = append(b.auth.Teams[team], object)
		b.remember(team, object, at)
	}
	b.remember(team, "", at)
	return nil
}

// remember keeps where something is said about an object, as the errors about it
// name it.
func (b *block) remember(team, object string, at caddyfile.Token) {
	if b.objects == nil {
		b.objects = make(map[[2]string]caddyfile.Token)
	}
	b.objects[[2]string{team, object}] = at
}

// parseTokenScope reads how an issuer's tokens say what they may reach:
//
//	token_scope off
//	token_scope {
//		absent_teams      public
//		empty_permissions inherit
//		scope_permissions on
//		scope <name> [<permissions...>]
//	}
func parseTokenScope(issuer *token.Issuer, d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() != "off" || d.NextArg() {
			return d.Errf("token_scope takes 'off' or a block, not '%s'", d.Val())
		}
		issuer.TokenScopeOff = true
		return nil
	}
	config := new(scope.Config)
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && option != "scope" {
			return d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		if option == "scope" {
			if err := parseScope(config, d); err != nil {
				return err
			}
			continue
		}
		only, known := map[string]string{
			"absent_teams": scope.AbsentPublic, "empty_permissions": scope.EmptyInherit, "scope_permissions": "on",
		}[option]
		if !known {
			return unknown(d, "token_scope", "absent_teams, empty_permissions, scope, scope_permissions")
		}
		value, err := one(d)
		if err != nil {
			return err
		}
		if value != only {
			return d.Errf("%s may only be '%s', not '%s'; leave it out for the default", option, only, value)
		}
		switch option {
		case "absent_teams":
			config.AbsentTeams = value
		case "empty_permissions":
			config.EmptyPermissions = value
		default:
			config.ScopePermissions = true
		}
	}
	if len(seen) == 0 {
		return d.Err("token_scope needs 'off' or a block with options")
	}
	if err := config.Provision(); err != nil {
		return d.WrapErr(err)
	}
	issuer.TokenScope = config
	return nil
}

func parseScope(config *scope.Config, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("scope needs a name and the permissions that it gives, such as: scope crm:read tools.read")
	}
	if _, twice := config.ScopeMap[args[0]]; twice {
		return d.Errf("scope %s is given twice; write it once", args[0])
	}
	if config.ScopeMap == nil {
		config.ScopeMap = make(map[string][]string)
	}
	config.ScopeMap[args[0]] = args[1:]
	return nil
}
