package caddyfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

var update = flag.Bool("update", false, "write what the Caddyfiles in testdata adapt to into their files")

// golden is a file of testdata: a Caddyfile, a line of ten dashes, and the JSON it
// adapts to or the error it gives.
type golden struct {
	name, path, caddyfile, expected string
}

const dashes = "----------\n"

func (g *golden) wantsError() bool { return strings.HasPrefix(g.name, "error_") }

func goldens(t testing.TB) []*golden {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.caddyfiletest"))
	if err != nil || len(paths) == 0 {
		t.Fatal("there are no golden files:", err)
	}
	all := make([]*golden, len(paths))
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, after, ok := strings.Cut(string(content), "\n"+dashes)
		if !ok {
			t.Fatalf("%s has no line of ten dashes", path)
		}
		all[i] = &golden{
			name:      strings.TrimSuffix(filepath.Base(path), ".caddyfiletest"),
			path:      path,
			caddyfile: before + "\n",
			expected:  strings.TrimSuffix(after, "\n"),
		}
	}
	return all
}

// adapt returns the indented JSON that a Caddyfile adapts to, or its error.
func adapt(t testing.TB, text string) (string, error) {
	t.Helper()
	result, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return "", err
	}
	for _, warning := range warnings {
		t.Errorf("warning: %s", warning)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, result, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String(), nil
}

// located is how an error of the adapter tells file and line.
var located = regexp.MustCompile(`(, at Caddyfile:[1-9][0-9]*( import chain \[.*\])?|^Caddyfile:[1-9][0-9]*: .*)$`)

func TestAdapt(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			today := inHalfAYear()
			got, err := adapt(t, g.caddyfile)
			switch {
			case g.wantsError() && err == nil:
				t.Fatalf("adapts, but should not, to:\n%s", got)
			case !g.wantsError() && err != nil:
				t.Fatal(err)
			case err != nil:
				got = err.Error()
				if !located.MatchString(got) {
					t.Errorf("the error does not end in file and line: %s", got)
				}
				// The dates that errors suggest follow the calendar.
				got = strings.NewReplacer(today, "<in half a year>", inHalfAYear(), "<in half a year>").Replace(got)
			}
			if *update {
				if err := os.WriteFile(g.path, []byte(g.caddyfile+dashes+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != g.expected {
				t.Errorf("got:\n%s\nexpected:\n%s", got, g.expected)
			}
		})
	}
}

// TestEveryWordIsShown keeps the golden files complete: each word of a directive
// is adapted by one, and refused by another when it is repeated or has no value.
func TestEveryWordIsShown(t *testing.T) {
	adapted := map[string]bool{}
	all := map[string]bool{}
	for _, g := range goldens(t) {
		all[g.name] = true
		if g.wantsError() {
			continue
		}
		for line := range strings.Lines(g.caddyfile) {
			if fields := strings.Fields(line); len(fields) > 0 {
				adapted[fields[0]] = true
			}
		}
	}
	for name, word := range join(gatewayWords, wellKnownOnly, authOnly, proxyOnly, adminOnly) {
		if !adapted[name] {
			t.Errorf("no golden file adapts %s", name)
		}
		if !word.once {
			continue
		}
		if !all["error_repeated_"+name] {
			t.Errorf("no golden file repeats %s", name)
		}
		if !all["error_missing_value_"+name] && name != "security_txt" {
			t.Errorf("no golden file has %s without a value", name)
		}
	}
}
