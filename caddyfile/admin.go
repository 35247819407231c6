package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseAdmin sets up the mcp_admin handler. Syntax:
//
//	mcp_admin [<matcher>] {
//		public_url      <url>
//		login           on
//		registration    on
//		login_rate      <number>
//		docs            on
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

// on reads the argument of a switch.
func on(d *caddyfile.Dispenser) error {
	word := d.Val()
	value, err := one(d)
	if err == nil && value != "on" {
		err = d.Errf("%s may only be 'on', not '%s'; without it, it is off", word, value)
	}
	return err
}
