package caddyfile

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// parseGateway sets up the whole gateway. It takes every word of mcp_well_known,
// mcp_admin, mcp_auth and mcp_proxy; the issuers are the authorization servers, and
// without one no metadata of resources is published. So
//
//	mcp_gateway {
//		public_url https://mcp.example.com
//		issuer     https://login.example.com
//		role analyst {
//			when groups data-team
//			allow tools.execute warehouse/query_*
//		}
//		server warehouse https://warehouse.internal/mcp
//	}
//
// is short for
//
//	route {
//		mcp_well_known {
//			public_url https://mcp.example.com
//			server warehouse
//			authorization_server https://login.example.com
//		}
//		mcp_auth {
//			public_url https://mcp.example.com
//			server warehouse
//			issuer https://login.example.com
//			role analyst {
//				when groups data-team
//				allow tools.execute warehouse/query_*
//			}
//		}
//		mcp_proxy {
//			server warehouse https://warehouse.internal/mcp
//		}
//	}
//
// With a word of mcp_admin in it, that comes before mcp_auth.
//
// It answers every request: the site, or what the matcher leaves of it, is the
// gateway's.
func parseGateway(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // consume directive name, after which the matcher stands
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	b := &block{helper: h}
	h.Next() // once more: the dispenser begins anew
	if err := b.parse(h.Dispenser, gatewayWords, needPublicURL, needIssuer, needUpstream); err != nil {
		return nil, err
	}
	// Without an issuer there is no token to be had, and nothing to tell about it.
	b.wellKnown.DisableMetadata = len(b.auth.Issuers) == 0
	handlers := []json.RawMessage{object(&b.wellKnown, "handler", "mcp_well_known")}
	if a := &b.admin; a.Login || a.Registration || a.LoginRate != 0 || a.Tokens || a.Sessions || a.Admin || a.AdminTrustedHeader != nil ||
		a.Docs || a.DocsBasicAuth || a.APIBasicAuth {
		b.admin.PublicURL = b.auth.PublicURL
		handlers = append(handlers, object(&b.admin, "handler", "mcp_admin"))
	}
	route := caddyhttp.Route{HandlersRaw: append(handlers,
		object(&b.auth, "handler", "mcp_auth"),
		object(&b.proxy, "handler", "mcp_proxy"),
	)}
	if matcher != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matcher}
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// parseApp sets up the mcp_gateway app from the global option. Syntax:
//
//	mcp_gateway {
//		environment                <name>
//		session_idle_timeout       <duration>
//		session_lifetime           <duration>
//		max_sessions               <number>
//		max_sessions_per_principal <number>
//		task_lifetime              <duration>
//		max_tasks                  <number>
//		max_tasks_per_principal    <number>
//		store                      <module> ...
//		allow_stale                <duration>
//		stream_drain               <duration>
//		tokens                     <issuer> { ... }
//		accounts                   { ... }
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume option name
	if existing != nil {
		return nil, d.Err("the global option mcp_gateway is given twice; write it once")
	}
	if d.NextArg() {
		return nil, d.Errf("mcp_gateway takes no argument here, and '%s' is one; write options in a block", d.Val())
	}
	app, limits, tasks := new(mcpauth.App), new(mcpauth.SessionLimits), new(mcpauth.TaskLimits)
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return nil, d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		var err error
		switch option {
		case "environment":
			app.Environment, err = one(d)
		case "session_idle_timeout":
			limits.IdleTimeout, err = duration(d)
		case "session_lifetime":
			limits.Lifetime, err = duration(d)
		case "max_sessions":
			limits.Max, err = number(d)
		case "max_sessions_per_principal":
			limits.MaxPerPrincipal, err = number(d)
		case "task_lifetime":
			tasks.Lifetime, err = duration(d)
		case "max_tasks":
			tasks.Max, err = number(d)
		case "max_tasks_per_principal":
			tasks.MaxPerPrincipal, err = number(d)
		case "store":
			app.StoreRaw, err = parseStore(d)
		case "allow_stale":
			app.AllowStale, err = duration(d)
		case "stream_drain":
			app.StreamDrain, err = duration(d)
		case "tokens":
			err = parseTokens(d, app)
		case "accounts":
			app.Accounts, err = parseAccounts(d)
		default:
			err = unknown(d, "mcp_gateway", "accounts, allow_stale, environment, max_sessions, max_sessions_per_principal, max_tasks, "+
				"max_tasks_per_principal, session_idle_timeout, session_lifetime, store, stream_drain, task_lifetime, tokens")
		}
		if err != nil {
			return nil, err
		}
	}
	if *limits != (mcpauth.SessionLimits{}) {
		app.Sessions = limits
	}
	if *tasks != (mcpauth.TaskLimits{}) {
		app.Tasks = tasks
	}
	return httpcaddyfile.App{Name: "mcp_gateway", Value: caddyconfig.JSON(app, nil)}, nil
}
