package caddyfile

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/introspect"
)

// parseIntrospect reads how an issuer is asked about its tokens:
//
//	introspect [<url>] {
//		client_id     <id>
//		client_secret <placeholder>
//		client_auth   basic | post
//		cache         <duration>
//		timeout       <duration>
//		max_rate      <number>
//	}
func parseIntrospect(d *caddyfile.Dispenser) (*introspect.Config, error) {
	config := new(introspect.Config)
	if d.NextArg() {
		config.URL = d.Val()
	}
	if d.NextArg() {
		return nil, d.Errf("introspect takes one address at most, and '%s' is another; write options in a block", d.Val())
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return nil, d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		var err error
		switch option {
		case "client_id":
			config.ClientID, err = one(d)
		case "client_secret":
			config.ClientSecret, err = one(d)
		case "client_auth":
			if config.ClientAuth, err = one(d); err == nil && config.ClientAuth != introspect.Basic && config.ClientAuth != introspect.Post {
				err = d.Errf("client_auth may be %s or %s, not '%s'", introspect.Basic, introspect.Post, config.ClientAuth)
			}
		case "cache":
			if config.Cache, err = duration(d); err == nil && config.Cache > caddy.Duration(introspect.MaxCache) {
				err = d.Errf("cache may be %s at most; that is how late it may be noticed that a token was revoked", introspect.MaxCache)
			}
		case "timeout":
			config.Timeout, err = duration(d)
		case "max_rate":
			config.MaxRate, err = number(d)
		default:
			return nil, unknown(d, "introspect", "cache, client_auth, client_id, client_secret, max_rate, timeout")
		}
		if err != nil {
			return nil, err
		}
	}
	for _, needed := range []string{"client_id", "client_secret"} {
		if !seen[needed] {
			return nil, d.Errf("introspect needs %s, because issuers answer only those they know%s", needed, suchAs(needed))
		}
	}
	return config, nil
}
