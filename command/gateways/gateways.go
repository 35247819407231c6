// Package gateways loads the mcp_auth handlers of a configuration file, so that they
// can be asked questions. No server is started and no connection made.
package gateways

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// Options say how a configuration is loaded.
type Options struct {
	// Adapter is the name of the configuration's adapter. Default: as for Caddy's own
	// commands, caddyfile for a file whose name begins or ends like that.
	Adapter string
	// Keys has the issuers' keys loaded, for tokens to be verified. Without them, the
	// secrets and key files of the configuration need not be there.
	Keys bool
}

// Set is what a configuration has of gateways. They are kept until the process ends.
type Set struct {
	// File is the configuration's file.
	File     string
	gateways []*mcpauth.Handler
}

// quiet keeps what Caddy says while it loads, other than warnings, out of the output.
func quiet() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: "WARN"}}}}
}

// Load reads a configuration file, or standard input if it is "-", or if it is empty
// the Caddyfile in the working directory, and provisions the gateways that it has. What
// they refer to, such as files and environment variables, is looked up as the server
// would; the rest of the configuration is not looked at.
func Load(file string, options Options) (*Set, error) {
	if _, err := caddy.ProvisionContext(&caddy.Config{Logging: quiet()}); err != nil {
		return nil, err
	}
	config, used, _, err := caddycmd.LoadConfig(file, options.Adapter)
	if err != nil {
		return nil, err
	}
	if len(config) == 0 {
		return nil, errors.New("there is no Caddyfile here; name the configuration with --config")
	}
	set, err := load(config, options.Keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", used, err)
	}
	set.File = used
	return set, nil
}

func load(config []byte, keys bool) (*Set, error) {
	app, handlers, err := find(caddy.RemoveMetaFields(config))
	if err != nil {
		return nil, err
	}
	if len(handlers) == 0 {
		return nil, errors.New("the configuration has no mcp_gateway or mcp_auth")
	}
	provisioned := &caddy.Config{Logging: quiet()}
	if app != nil {
		provisioned.AppsRaw = caddy.ModuleMap{"mcp_gateway": []byte(app)}
	}
	ctx, err := caddy.ProvisionContext(provisioned)
	if err != nil {
		return nil, err
	}
	set := new(Set)
	for _, raw := range handlers {
		if !keys {
			if raw, err = withoutKeys(raw); err != nil {
				return nil, err
			}
		}
		loaded, err := ctx.LoadModuleByID("http.handlers.mcp_auth", []byte(raw))
		if err != nil {
			return nil, err
		}
		set.gateways = append(set.gateways, loaded.(*mcpauth.Handler))
	}
	return set, nil
}

// All returns the gateways, in the order of the configuration.
func (s *Set) All() []*mcpauth.Handler { return s.gateways }

// At returns the gateway that has the server, and the server's name: the only one if
// server is empty. A public URL chooses between several.
func (s *Set) At(server, publicURL string) (*mcpauth.Handler, string, error) {
	publicURL = strings.TrimSuffix(publicURL, "/")
	var found []*mcpauth.Handler
	var names []string
	for _, h := range s.gateways {
		if publicURL != "" && h.URL() != publicURL {
			continue
		}
		for _, name := range h.Servers {
			names = append(names, h.URL()+" "+name)
			if server == "" || name == server {
				found = append(found, h)
			}
		}
	}
	slices.Sort(names)
	list := strings.Join(slices.Compact(names), ", ")
	switch {
	case len(names) == 0:
		return nil, "", fmt.Errorf("there is no gateway at %s; there are %s", publicURL, strings.Join(s.urls(), ", "))
	case len(found) == 1 && server == "":
		return found[0], found[0].Servers[0], nil
	case len(found) == 1:
		return found[0], server, nil
	case server == "":
		return nil, "", fmt.Errorf("there are several servers; write which one: %s", list)
	case len(found) == 0:
		return nil, "", fmt.Errorf("there is no server %q; there are %s", server, list)
	case publicURL == "" && len(s.urls()) > 1:
		return nil, "", fmt.Errorf("several gateways have a server %s; say which one with --public-url: %s", server, strings.Join(s.urls(), ", "))
	}
	return nil, "", fmt.Errorf("the configuration has %d different gateways with a server %s at %s", len(found), server, found[0].URL())
}

func (s *Set) urls() []string {
	var urls []string
	for _, h := range s.gateways {
		if !slices.Contains(urls, h.URL()) {
			urls = append(urls, h.URL())
		}
	}
	return urls
}
