package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// parseInstructions reads what becomes of servers' instructions, of all servers that
// no other line names if it names none:
//
//	instructions pass        [<servers...>]
//	instructions drop        [<servers...>]
//	instructions text <text> [<servers...>]
func parseInstructions(b *block, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("instructions needs pass, drop, or text with the text, such as: instructions pass tickets")
	}
	instructions := mcpauth.Instructions{Mode: args[0]}
	servers := args[1:]
	switch instructions.Mode {
	case mcpauth.InstructionsPass, mcpauth.InstructionsDrop:
	case mcpauth.InstructionsText:
		if len(servers) == 0 || servers[0] == "" {
			return d.Err(`instructions text needs the text, such as: instructions text "Search before you ask." tickets`)
		}
		instructions.Text, servers = servers[0], servers[1:]
	default:
		return d.Errf("instructions may be pass, drop or text, not '%s'; servers are named after that", args[0])
	}
	if len(servers) == 0 {
		servers = []string{mcpauth.EveryServer}
	}
	for _, server := range servers {
		if _, twice := b.auth.Instructions[server]; twice {
			if server == mcpauth.EveryServer {
				return d.Err("instructions of all servers are given twice; write them once, or name servers")
			}
			return d.Errf("instructions of %s are given twice; write them once", server)
		}
		if b.auth.Instructions == nil {
			b.auth.Instructions = make(map[string]mcpauth.Instructions)
		}
		b.auth.Instructions[server] = instructions
	}
	return nil
}
