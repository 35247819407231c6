package caddymcp_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
)

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// documents are what people read: the README and the pages of docs.
func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("docs has %d documents, %v", len(docs), err)
	}
	return append(docs, "README.md")
}

func readme(t *testing.T, language string) []string {
	t.Helper()
	var blocks []string
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			if m[1] == language {
				blocks = append(blocks, m[2])
			}
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("the README has no %s", language)
	}
	return blocks
}

// TestREADMECaddyfiles loads every Caddyfile of the README as far as it goes
// without the machines it names: it is adapted without a warning, formatted as
// caddy fmt would, and every module of it is provisioned.
func TestREADMECaddyfiles(t *testing.T) {
	t.Setenv("JWT_SECRET", "2f8Jq0Zs-not-a-secret-Ww3kT9bYh6")
	t.Setenv("TICKETS_KEY", "k")
	t.Setenv("REDIS_PASSWORD", "k")
	t.Setenv("ADMIN_PASSWORD", "seven Quiet otters 9 row upstream")
	t.Setenv("BOB_PASSWORD", "Tulip-42 walks sideways")
	t.Setenv("INTROSPECTION_SECRET", "k")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for _, source := range readme(t, "caddyfile") {
		title, _, _ := strings.Cut(source, "\n\t\t\t")
		t.Run(strings.Join(strings.Fields(title), " "), func(t *testing.T) {
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("line %d: %s", w.Line, w.Message)
			}
			var config caddy.Config
			if err := caddy.StrictUnmarshalJSON(adapted, &config); err != nil {
				t.Fatal(err)
			}
			config.Admin = &caddy.AdminConfig{Disabled: true}
			if err := caddy.Validate(&config); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestREADMECommands runs the commands of the README, but for those that another
// test runs and those that need what is not on a test's machine.
func TestREADMECommands(t *testing.T) {
	elsewhere := map[string]string{
		"make run":     "examples/quickstart has a test of it, output included",
		"make test":    "this is it",
		"make cluster": "examples/cluster has a test of it, output included",
		"xcaddy build --with github.com/caddymcp/caddy-mcp-gateway":          "needs the published module; TestImportable has what it needs of ours",
		"xcaddy build --with github.com/caddymcp/caddy-mcp-gateway@v0.0.0=.": "TestImportable does the same with the go command",
	}
	dir := t.TempDir()
	for _, block := range readme(t, "sh") {
		for command := range strings.Lines(block) {
			command = strings.TrimSpace(command)
			if reason, ok := elsewhere[command]; ok {
				t.Logf("%s: %s", command, reason)
				continue
			}
			// The binary is the only thing a command leaves behind.
			args := strings.Fields(strings.NewReplacer("-o caddy", "-o "+filepath.Join(dir, "caddy"), "./caddy ", filepath.Join(dir, "caddy")+" ").Replace(command))
			cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the README's
			cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			if strings.Contains(command, "list-modules") {
				for _, module := range modules {
					if !slices.Contains(strings.Fields(string(out)), module) {
						t.Errorf("%s is not linked", module)
					}
				}
			}
		}
	}
}

// modules are those that the plugin brings.
var modules = []string{
	"mcp_gateway",
	"http.handlers.mcp_auth",
	"http.handlers.mcp_proxy",
	"http.handlers.mcp_well_known",
	"http.matchers.mcp",
	"http.reverse_proxy.selection_policies.mcp_session",
	"mcp_gateway.key_sources.discovery",
	"mcp_gateway.key_sources.jwks",
	"mcp_gateway.key_sources.pem",
	"mcp_gateway.key_sources.secret",
	"http.reverse_proxy.transport.mcp",
	"mcp_gateway.stores.redis",
	"mcp_gateway.stores.embedded",
	"mcp_gateway.key_sources.gateway",
	"http.handlers.mcp_admin",
	"admin.api.mcp_gateway",
}

// TestImportable builds Caddy as xcaddy does: a module of its own that imports the
// plugin's root package, here from this checkout.
func TestImportable(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"go.mod"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^\s*replace\b`).Match(text) {
			t.Errorf("%s has a replace directive, which xcaddy does not see", file)
		}
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	// What the plugin requires, required by another module, with the plugin from here.
	outside := strings.Replace(string(mod), "module github.com/caddymcp/caddy-mcp-gateway", "module caddy", 1) +
		"\nrequire github.com/caddymcp/caddy-mcp-gateway v0.0.0\nreplace github.com/caddymcp/caddy-mcp-gateway v0.0.0 => " + here + "\n"
	main := `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddymcp/caddy-mcp-gateway"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
`
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": outside, "go.sum": string(sums), "main.go": main} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"go", "build", "-mod=mod", "-o", "caddy", "."}, {"./caddy", "list-modules"}} {
		cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // fixed
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		if args[0] == "./caddy" && !strings.Contains(string(out), "http.handlers.mcp_auth") {
			t.Error("the plugin is not linked")
		}
	}
}
