// Command xcaddy is Caddy with every standard module and this plugin, for those
// who build with the go command instead of the xcaddy tool:
//
//	go build -o caddy ./xcaddy
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
)

func main() {
	caddycmd.Main()
}
