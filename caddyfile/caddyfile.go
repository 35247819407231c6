// Package caddyfile is how people write the gateway: its directives, its global
// option, and the places of the directives in Caddy's order. Every registration
// stands here, so that the order in which Go happens to initialize packages does
// not matter.
package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("mcp_gateway", parseApp)

	httpcaddyfile.RegisterHandlerDirective("mcp_well_known", parseWellKnown)
	httpcaddyfile.RegisterHandlerDirective("mcp_auth", parseAuth)
	httpcaddyfile.RegisterHandlerDirective("mcp_proxy", parseProxy)
	httpcaddyfile.RegisterHandlerDirective("mcp_admin", parseAdmin)
	httpcaddyfile.RegisterDirective("mcp_gateway", parseGateway)

	// What is published is found whatever the site rewrites. The rest comes after
	// Caddy's own authenticators, so that what they protect stays protected. Two
	// directives that are placed after the same one end up in reverse.
	httpcaddyfile.RegisterDirectiveOrder("mcp_well_known", httpcaddyfile.Before, "rewrite")
	httpcaddyfile.RegisterDirectiveOrder("mcp_gateway", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("mcp_auth", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("mcp_admin", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("mcp_proxy", httpcaddyfile.Before, "reverse_proxy")
}
