package command_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

var update = flag.Bool("update", false, "rewrite the sessions in testdata")

// world is where the sessions of testdata take place: the built Caddy, run in the
// module's folder, with tokens in {tmp}.
type world struct {
	caddy, root, tmp string
	env              []string
	// secrets must be in no output.
	secrets []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{root: root, tmp: t.TempDir()}
	if w.caddy, err = launch.Build(t.Context(), root, "./xcaddy"); err != nil {
		t.Fatal(err)
	}
	key, other := newKey(t), newKey(t)
	if err := launch.WriteKey(filepath.Join(w.tmp, "key.pem"), key); err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
		_ = json.NewEncoder(w).Encode(set)
	}))
	t.Cleanup(issuer.Close)
	token := func(name string, key *ecdsa.PrivateKey, change map[string]any) {
		t.Helper()
		claims := map[string]any{
			"iss": "https://login.example.com", "aud": "https://mcp.example.com", "sub": "ana", "jti": "t-1",
			"exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"data-team"},
		}
		maps.Copy(claims, change)
		raw, err := launch.Sign(jose.ES256, key, claims)
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, name, raw+"\n")
		w.secrets = append(w.secrets, strings.Split(raw, ".")[1:]...)
	}
	token("ana.token", key, nil)
	token("expired.token", key, map[string]any{"exp": 1})
	token("forged.token", other, nil)
	token("remote.token", key, map[string]any{"iss": "https://remote.example.com"})
	token("down.token", key, map[string]any{"iss": "https://down.example.com"})
	token("staging.token", key, map[string]any{"env": "staging"})
	w.write(t, "empty.token", "\n")
	w.env = append(os.Environ(),
		"XDG_DATA_HOME="+w.tmp, "XDG_CONFIG_HOME="+w.tmp,
		"CAN_KEY="+filepath.Join(w.tmp, "key.pem.pub"), "CAN_JWKS="+issuer.URL)
	return w
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.tmp, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// words divides a command line as a shell does: single quotes keep blanks.
func words(line string) []string {
	var list []string
	for n, part := range strings.Split(line, "'") {
		if n%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// run runs a command line that begins with caddy, and returns what it prints, standard
// output first, and its exit code. What Caddy logs is left out.
func (w *world) run(t *testing.T, line string) string {
	t.Helper()
	line, input, _ := strings.Cut(strings.ReplaceAll(line, "{tmp}", w.tmp), " < ")
	args := words(line)
	cmd := exec.CommandContext(t.Context(), w.caddy, args[1:]...)
	cmd.Dir, cmd.Env = w.root, w.env
	if input != "" {
		file, err := os.Open(filepath.Join(w.root, input))
		if filepath.IsAbs(input) {
			file, err = os.Open(input)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd.Stdin = file
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	for _, secret := range w.secrets {
		if strings.Contains(out.String()+errs.String(), secret) {
			t.Errorf("%s prints a part of a token:\n%s%s", line, out.String(), errs.String())
		}
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, `{"level":`) {
			out.WriteString(line)
		}
	}
	return strings.ReplaceAll(out.String(), w.tmp, "{tmp}") + fmt.Sprintf("exit %d\n", code)
}

// TestSessions runs the command lines of each file in testdata, and expects what
// follows them there.
func TestSessions(t *testing.T) {
	w := newWorld(t)
	files, err := filepath.Glob("testdata/*.session")
	if err != nil || len(files) == 0 {
		t.Fatalf("no session found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".session"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, part := range strings.Split("\n"+string(text), "\n$ ")[1:] {
				line, want, _ := strings.Cut(part, "\n")
				printed := w.run(t, line)
				if strings.TrimRight(printed, "\n") != strings.TrimRight(want, "\n") && !*update {
					t.Errorf("$ %s\n%s\nwant\n%s", line, printed, want)
				}
				if got.Len() > 0 {
					got.WriteString("\n")
				}
				fmt.Fprintf(&got, "$ %s\n%s", line, printed)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
