// Package caddymcp links every module of the MCP gateway into Caddy. It is the
// path to give to xcaddy:
//
//	xcaddy build --with github.com/caddymcp/caddy-mcp-gateway
package caddymcp

import (
	_ "github.com/caddymcp/caddy-mcp-gateway/caddyfile"
	_ "github.com/caddymcp/caddy-mcp-gateway/command"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy/transport"
	_ "github.com/caddymcp/caddy-mcp-gateway/wellknown"
)
