package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// parseAdmin sets up the mcp_admin handler. Syntax:
//
//	mcp_admin [<matcher>] {
//		public_url   <url>
//		login        on
//		registration on
//		tokens       on
//		login_rate   <number>
//		admin        on
//		admin_trusted_header <name> from <peers...>
//		sessions     on
//		docs         on
//		docs_basic_auth on
//		api_basic_auth  on
//	}
func parseAdmin(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := &block{helper: h}
	h.Next() // consume directive name
	if err := b.parse(h.Dispenser, adminOnly, needPublicURL, needLogin); err != nil {
		return nil, err
	}
	b.admin.PublicURL = b.auth.PublicURL
	return &b.admin, nil
}

// adminWords are those of the gateway's own API. Who switches the login on publishes
// the keys of the tokens that are had by it.
var adminWords = words{
	"login": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Login, b.wellKnown.JWKS = true, true
		return on(d)
	}, true},
	"registration": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Registration = true
		return on(d)
	}, true},
	"admin": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Admin = true
		return on(d)
	}, true},
	"admin_trusted_header": {parseAdminTrustedHeader, true},
	"sessions": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Sessions = true
		return on(d)
	}, true},
	"tokens": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Tokens = true
		return on(d)
	}, true},
	"login_rate": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.admin.LoginRate, err = number(d)
		return err
	}, true},
	"docs": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.Docs = true
		return on(d)
	}, true},
	"docs_basic_auth": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.DocsBasicAuth = true
		return on(d)
	}, true},
	"api_basic_auth": {func(b *block, d *caddyfile.Dispenser) error {
		b.admin.APIBasicAuth = true
		return on(d)
	}, true},
}

// parseAdminTrustedHeader reads which proxies may name an administrator.
func parseAdminTrustedHeader(b *block, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 3 || args[1] != "from" {
		return d.Errf("admin_trusted_header needs a header, and the peers it is believed from%s", suchAs("admin_trusted_header"))
	}
	b.admin.AdminTrustedHeader = &mcpauth.TrustedHeader{Header: args[0], From: args[2:]}
	return nil
}

// on reads the argument of a switch.
func on(d *caddyfile.Dispenser) error {
	word := d.Val()
	args := d.RemainingArgs()
	switch {
	case len(args) != 1:
		return d.Errf("%s takes exactly one argument, such as: %s on", word, word)
	case args[0] != "on":
		return d.Errf("%s may only be 'on', not '%s'; without it, it is off", word, args[0])
	}
	return nil
}
