// Package embedded keeps the gateway's state in a file of this machine, with bbolt:
// for one node, and without anything to set up.
package embedded

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

func init() {
	caddy.RegisterModule(new(Embedded))
}

// Embedded keeps the gateway's state in a file of this machine: revocations, issued
// tokens, accounts, sessions and counters. It is for one node: the file is locked,
// and a second process that wants it is refused. What was answered is on the disk,
// but for the counters, which are written once a second and when Caddy stops.
//
// A file that is damaged or truncated stops the configuration from being loaded,
// since without what was in it revoked tokens would be good again.
type Embedded struct {
	// The path of the file. Its folder is made if need be. Placeholders are expanded
	// when the configuration is loaded. Default: mcp_gateway/state.db in Caddy's
	// data directory.
	Path string `json:"path,omitempty"`

	path string
	lazy bool
}

// Default returns the module for a configuration that names no store. The file is made
// when there is something to write into it for the first time, but one that exists is
// read from the start.
func Default() *Embedded { return &Embedded{lazy: true} }

// CaddyModule returns the Caddy module information.
func (*Embedded) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.stores.embedded",
		New: func() caddy.Module { return new(Embedded) },
	}
}

// Provision finds out the path.
func (e *Embedded) Provision(caddy.Context) error {
	path := e.Path
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "mcp_gateway", "state.db")
	} else {
		var err error
		if path, err = caddy.NewReplacer().ReplaceOrErr(path, true, true); err != nil {
			return fmt.Errorf("path: %w", err)
		}
		if path == "" {
			return errors.New("the path of the store is empty")
		}
	}
	var err error
	e.path, err = filepath.Abs(path)
	return err
}

// Key tells stores apart by their files.
func (e *Embedded) Key() string { return "embedded " + e.path }

// NewStore returns the store.
func (e *Embedded) NewStore() state.Store { return newStore(e.path, e.lazy) }

// UnmarshalCaddyfile sets up the store from Caddyfile tokens:
//
//	embedded [<path>]
func (e *Embedded) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if d.NextArg() {
		e.Path = d.Val()
	}
	if d.NextArg() {
		return d.Errf("the embedded store takes one path, and '%s' is a second", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		return d.Errf("the embedded store has no options, and '%s' is one", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Embedded)(nil)
	_ caddyfile.Unmarshaler = (*Embedded)(nil)
	_ state.Module          = (*Embedded)(nil)
)
