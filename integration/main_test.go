package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/integration/node"
)

// world is what the tests of this package share. Each part is started by the
// first test that needs it and stopped after the last test.
var world struct {
	dir     string   // scratch folder of this run
	closers []func() // in the order of starting
	mu      sync.Mutex
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mcp-gateway-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	world.dir = dir
	if err := makeCertificates(); err != nil {
		fmt.Fprintln(os.Stderr, "making the certificates of the integration tests:", err)
		return 1
	}
	if err := node.Install(context.Background(), nodeDir); err != nil {
		fmt.Fprintln(os.Stderr, "installing the Node packages of the integration tests:", err)
		return 1
	}
	defer func() {
		for _, v := range slices.Backward(world.closers) {
			v()
		}
	}()
	return m.Run()
}

// atEnd has the function called after the last test; the last one first.
func atEnd(stop func()) {
	world.mu.Lock()
	defer world.mu.Unlock()
	world.closers = append(world.closers, stop)
}

// must fails the test when a shared part of the world could not be made.
func must[T any](t testing.TB, part func() (T, error)) T {
	t.Helper()
	made, err := part()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// caddyBinary is the Caddy under test, built with the race detector.
var caddyBinary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("CADDY_BIN"); given != "" {
		return given, nil
	}
	binary := filepath.Join(world.dir, "caddy")
	build := exec.CommandContext(context.Background(), "go", "build", "-race", "-o", binary, "../xcaddy")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return binary, nil
})
