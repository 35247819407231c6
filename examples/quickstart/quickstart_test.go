package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

func TestQuickstart(t *testing.T) {
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	opts := options{listen: addr, dir: t.TempDir(), once: true}
	start := func() string {
		t.Helper()
		var out bytes.Buffer
		if err := run(t.Context(), opts, &out); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		return out.String()
	}

	first := start()
	for _, want := range []string{
		`alice \(admin\) at notes, protocol 2025-11-25
  tools/list  notes_add, notes_delete, notes_list, notes_read
  tools/call  notes_add \{.*\}
    allowed   added note 3: Heating \(by alice\)
`,
		`alice \(admin\) at thermostat, protocol 2026-07-28
  tools/list  rooms_list, temperature_read, temperature_set
  tools/call  temperature_read \{.*\}
    allowed   \{"celsius":19.5,"name":"kitchen","target":20\}
  tools/call  temperature_set \{.*\}
    allowed   \{"celsius":19.5,"name":"kitchen","target":21\}
`,
		`rob \(reader\) at notes, protocol 2025-11-25
  tools/list  notes_list, notes_read
  tools/call  notes_add \{.*\}
    refused   -32602 .*notes_add.*
`,
		`rob \(reader\) at thermostat, protocol 2026-07-28
  tools/list  rooms_list, temperature_read
  tools/call  temperature_read \{.*\}
    allowed   \{"celsius":19.5,"name":"kitchen","target":21\}
  tools/call  temperature_set \{.*\}
    refused   -32602 .*temperature_set.*
`,
		`    refused   401 Unauthorized
 +WWW-Authenticate: Bearer .*resource_metadata="http://` + regexp.QuoteMeta(addr) + `/\.well-known/oauth-protected-resource/servers/notes/mcp"`,
		`claude mcp add --transport http notes http://` + regexp.QuoteMeta(addr) + `/servers/notes/mcp --header "Authorization: Bearer `,
		`"servers": \{`,
		`"mcpServers": \{`,
	} {
		if !regexp.MustCompile(want).MatchString(first) {
			t.Errorf("the output lacks\n%s\nin\n%s", want, first)
		}
	}

	// Started again it works again, with the same tokens.
	if second := start(); second != first {
		t.Errorf("the second start printed\n%s\nthe first\n%s", second, first)
	}
}

func TestStaysUpUntilStopped(t *testing.T) {
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, options{listen: addr, dir: t.TempDir()}, w)
		ended <- err
		_ = w.CloseWithError(errors.New("ended"))
	}()
	var out strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(out.String(), "Ctrl-C stops it") {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v: %v\n%s", err, <-ended, out.String())
		}
	}
	if err := checkFree(addr); err == nil || !strings.Contains(err.Error(), "-listen") {
		t.Errorf("a taken address is reported as %v", err)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Errorf("something still listens on %s", addr)
	}
}

func TestTokensAreRenewed(t *testing.T) {
	dir := t.TempDir()
	tokens := func(audience string) string {
		t.Helper()
		ids, _, err := credentials(dir, audience)
		if err != nil {
			t.Fatal(err)
		}
		return ids[0].token + " " + ids[1].token
	}
	first := tokens("http://a")
	if again := tokens("http://a"); again != first {
		t.Error("good tokens were not kept")
	}
	moved := tokens("http://b")
	if moved == first {
		t.Error("tokens for another address were kept")
	}
	if err := os.Remove(filepath.Join(dir, "issuer.pem")); err != nil {
		t.Fatal(err)
	}
	if tokens("http://b") == moved {
		t.Error("tokens of another key were kept")
	}
	if err := os.WriteFile(filepath.Join(dir, "issuer.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := credentials(dir, "http://b"); err == nil {
		t.Error("a broken key file was accepted")
	}
	for _, file := range []string{"issuer.pem", "issuer.pem.pub", "admin.token", "reader.token"} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", file, info.Mode())
		}
	}
}

// TestCaddyfiles checks every Caddyfile under examples as its reader would.
func TestCaddyfiles(t *testing.T) {
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	caddy, err := launch.Build(t.Context(), root, "./xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "examples", "*", "*Caddyfile"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Caddyfile found: %v", err)
	}
	for _, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{
				{"adapt", "--validate", "--adapter", "caddyfile", "--config", name},
				{"fmt", "--diff", name}, // fails when there is a difference
			} {
				cmd := exec.Command(caddy, args...)
				cmd.Dir = root
				cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("caddy %s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
		})
	}
}
