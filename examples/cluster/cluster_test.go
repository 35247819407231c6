package main

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// TestCluster runs the example and looks at all that it shows.
func TestCluster(t *testing.T) {
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	dir := t.TempDir()
	if err := run(t.Context(), options{listen: addr, dir: dir, once: true}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	const (
		allowed = `allowed  \{"celsius":19.5,"name":"kitchen","target":20\}`
		refused = `refused  401 Unauthorized, token_revoked`
	)
	want := strings.NewReplacer("ALLOWED", allowed, "REFUSED", refused).Replace(`
== Through the balancer
  ana  node one  ALLOWED
  ana  node two  ALLOWED
  rob  node one  ALLOWED
  rob  node two  ALLOWED

== Ana's token is revoked on node one
  \$ caddy mcp revoke --address 127.0.0.1:\d+ --id \w+ --issuer https://cluster.example
  refused by node two no later than \S+ afterwards
  ana  node one  REFUSED
  ana  node two  REFUSED
  rob  node one  ALLOWED
  rob  node two  ALLOWED

== Node two is killed, and Rob's token revoked meanwhile
  rob  node one  ALLOWED
  \$ caddy mcp revoke --address 127.0.0.1:\d+ --id \w+ --issuer https://cluster.example

== Node two is started again
  rob  node one  REFUSED
  rob  node two  REFUSED
$`)
	if !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("it shows\n%s\nnot\n%s", out.String(), want)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Errorf("something still listens on %s", addr)
	}

	// Its Caddyfiles are formatted as their readers' are.
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	caddy, err := launch.Build(t.Context(), root, "./xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node", "balancer"} {
		file := filepath.Join(root, "examples", "cluster", name+".caddyfile")
		if printed, err := exec.Command(caddy, "fmt", "--diff", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, printed)
		}
	}
}

// TestListen: only a loopback address is taken.
func TestListen(t *testing.T) {
	for _, listen := range []string{"", "8820", ":8820", "0.0.0.0:8820"} {
		if err := run(t.Context(), options{listen: listen, dir: t.TempDir(), once: true}, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "-listen") {
			t.Errorf("%q: %v", listen, err)
		}
	}
}
