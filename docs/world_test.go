package docs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
)

// The places that the page speaks of.
const (
	site     = "mcp.example.com"
	upstream = "10.0.0.7:3000"
	endpoint = "localhost:2019"
)

// gateway is the one of a page's Caddyfile, in this process, in front of the example
// server notes. Only where it listens is another place, and who signs its certificate.
type gateway struct {
	client *http.Client
	// site and endpoint are where it listens, upstream where its server does.
	site, endpoint, upstream string
	dir                      string
}

func start(t *testing.T, caddyfile string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir()}
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(name, g.dir)
	}
	t.Setenv("ADMIN_PASSWORD", "seven Quiet otters 9 row upstream")
	t.Setenv("BOB_PASSWORD", "Tulip-42 walks sideways")
	var plain string
	for _, addr := range []*string{&g.site, &g.endpoint, &g.upstream, &plain} {
		var err error
		if *addr, err = launch.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	g.startServer(t)
	here := fmt.Sprintf(`{
	admin %s
	persist_config off
	storage file_system %s/storage
	https_port %s
	http_port %s
	default_bind 127.0.0.1
	local_certs
	skip_install_trust
	log {
		output file %s/log
	}
`, g.endpoint, g.dir, launch.Port(g.site), launch.Port(plain), g.dir)
	caddyfile = here + strings.TrimPrefix(strings.ReplaceAll(caddyfile, upstream, g.upstream), "{\n")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	g.dial(t)
	statetest.Eventually(t, "the accounts are made", func() bool {
		text, err := os.ReadFile(filepath.Join(g.dir, "log"))
		return err == nil && strings.Contains(string(text), `"target":"bob@example.com"`)
	})
	return g
}

// startServer starts the MCP server.
func (g *gateway) startServer(t *testing.T) {
	t.Helper()
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := launch.Build(t.Context(), root, "./examples/servers/notes")
	if err != nil {
		t.Fatal(err)
	}
	var group launch.Group
	t.Cleanup(group.Stop)
	server, err := group.Start("notes", filepath.Join(g.dir, "notes.log"), exec.Command(bin, "-listen", g.upstream)) //nolint:gosec // ours
	if err != nil {
		t.Fatal(err)
	}
	if err := server.WaitListening(t.Context(), g.upstream); err != nil {
		t.Fatal(err)
	}
}

// dial makes a client that finds the page's places here, by TLS.
func (g *gateway) dial(t *testing.T) {
	t.Helper()
	var root []byte
	statetest.Eventually(t, "there is a certificate", func() bool {
		var err error
		root, err = os.ReadFile(filepath.Join(g.dir, "storage", "pki", "authorities", "local", "root.crt"))
		return err == nil
	})
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(root) {
		t.Fatal("the local authority has no certificate")
	}
	places := map[string]string{site + ":443": g.site, g.endpoint: g.endpoint}
	g.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, places[addr])
		},
	}}
}

// operations are those of the gateway that runs, all of which have to be switched on.
func operations(t *testing.T) []string {
	t.Helper()
	var found []*mcpadmin.Handler
	var walk func(caddyhttp.RouteList)
	walk = func(routes caddyhttp.RouteList) {
		for _, route := range routes {
			for _, handler := range route.Handlers {
				switch handler := handler.(type) {
				case *mcpadmin.Handler:
					found = append(found, handler)
				case *caddyhttp.Subroute:
					walk(handler.Routes)
				}
			}
		}
	}
	loaded, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range loaded.(*caddyhttp.App).Servers {
		walk(server.Routes)
	}
	if len(found) != 1 {
		t.Fatalf("there are %d handlers mcp_admin, not one", len(found))
	}
	v := reflect.ValueOf(found[0]).Elem()
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.Type.Kind() == reflect.Bool && field.IsExported() && !v.Field(i).Bool() {
			t.Errorf("the page's Caddyfile does not switch on %s", field.Tag.Get("json"))
		}
	}
	return found[0].Operations()
}
