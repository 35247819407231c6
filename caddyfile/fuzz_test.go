package caddyfile

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// FuzzParse gives the parsers of all directives and of the global option any
// tokens: they may refuse them, with file and line, but must not panic.
func FuzzParse(f *testing.F) {
	for _, g := range goldens(f) {
		for i, line := range strings.SplitAfter(g.caddyfile, "\n") {
			if strings.HasPrefix(line, "\tmcp_") {
				body := strings.Join(strings.SplitAfter(g.caddyfile, "\n")[i:], "")
				f.Add(strings.TrimSuffix(body, "}\n"))
			}
		}
	}
	f.Add("mcp_proxy {\nserver")
	f.Add("mcp_proxy {\nserver {\n}\n}")
	f.Add("mcp_gateway")
	f.Add("mcp_auth {\nrole x {\nwhen")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "handle_response") {
			return // reverse_proxy needs more of the adapter than there is here
		}
		parsers := map[string]func(*caddyfile.Dispenser) error{
			"mcp_gateway": func(d *caddyfile.Dispenser) error {
				_, err := parseGateway(httpcaddyfile.Helper{Dispenser: d})
				return err
			},
			"mcp_auth": func(d *caddyfile.Dispenser) error {
				_, err := parseAuth(httpcaddyfile.Helper{Dispenser: d})
				return err
			},
			"mcp_proxy": func(d *caddyfile.Dispenser) error {
				_, err := parseProxy(httpcaddyfile.Helper{Dispenser: d})
				return err
			},
			"mcp_well_known": func(d *caddyfile.Dispenser) error {
				_, err := parseWellKnown(httpcaddyfile.Helper{Dispenser: d})
				return err
			},
			"global option": func(d *caddyfile.Dispenser) error {
				_, err := parseApp(d, nil)
				return err
			},
		}
		for name, parse := range parsers {
			d := caddyfile.NewTestDispenser(text)
			// Without a token there is no place to tell.
			if err := parse(d); err != nil && d.Line() > 0 && !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("%s: an error without a place: %v", name, err)
			}
		}
	})
}
