package caddyfile

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseStore reads where the gateway keeps its state: the name of a store, which reads
// the rest of the line and the block itself. So
//
//	store redis redis.internal:6379 {
//		password {file./run/secrets/redis}
//		tls
//	}
func parseStore(d *caddyfile.Dispenser) (json.RawMessage, error) {
	const namespace = "mcp_gateway.stores"
	if !d.NextArg() {
		return nil, d.Err("store needs the name of a store, such as: store redis redis.internal:6379")
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		var names []string
		for _, known := range caddy.GetModules(namespace) {
			names = append(names, known.ID.Name())
		}
		return nil, d.Errf("there is no store '%s'; there are: %s", name, strings.Join(names, ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	return object(module, "store", name), nil
}
