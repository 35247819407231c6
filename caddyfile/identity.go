package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// parseAuthenticated reads how users of Caddy's own authenticators are let in:
//
//	authenticated {
//		claim <name> <placeholder> [<separator>]
//	}
func parseAuthenticated(b *block, d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("authenticated takes no argument, and '%s' is one; write claims in a block", d.Val())
	}
	b.auth.Authenticated = new(mcpauth.Authenticated)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "claim" {
			return unknown(d, "authenticated", "claim")
		}
		if err := parseClaim(d, &b.auth.Authenticated.Claims, "{http.auth.user.groups}"); err != nil {
			return err
		}
	}
	return nil
}

// parseTrustedHeader reads which proxies are believed, and in which headers:
//
//	trusted_header <name> {
//		from  <peers...>
//		claim <name> <header> [<separator>]
//	}
func parseTrustedHeader(b *block, d *caddyfile.Dispenser) error {
	name, err := one(d)
	if err != nil {
		return err
	}
	trusted := &mcpauth.TrustedHeader{Header: name}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "from":
			var peers []string
			peers, err = list(d)
			trusted.From = append(trusted.From, peers...)
		case "claim":
			err = parseClaim(d, &trusted.Claims, "X-Authenticated-Groups")
		default:
			err = unknown(d, "trusted_header", "claim, from")
		}
		if err != nil {
			return err
		}
	}
	if len(trusted.From) == 0 {
		return d.Errf("trusted_header needs the peers it is believed from; write a line such as: from %s", examples["from"])
	}
	b.auth.TrustedHeader = trusted
	return nil
}

func parseClaim(d *caddyfile.Dispenser, claims *map[string]mcpauth.ClaimSource, example string) error {
	args := d.RemainingArgs()
	if len(args) != 2 && len(args) != 3 {
		return d.Errf("claim needs a name and where it comes from, and may have a separator, such as: claim groups %s", example)
	}
	if _, twice := (*claims)[args[0]]; twice {
		return d.Errf("claim %s is given twice; write it once", args[0])
	}
	if *claims == nil {
		*claims = make(map[string]mcpauth.ClaimSource)
	}
	source := mcpauth.ClaimSource{From: args[1]}
	if len(args) == 3 {
		source.Separator = args[2]
	}
	(*claims)[args[0]] = source
	return nil
}
