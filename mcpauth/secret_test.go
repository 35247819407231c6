package mcpauth

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/seal"
)

// generation is a configuration with a handler, up to where a test brings it.
type generation struct {
	app *App
	// box is the one that the handler seals with.
	box  *seal.Box
	log  *observer.ObservedLogs
	ctx  caddy.Context
	over func()
}

func newGeneration(t *testing.T, storage string) *generation {
	t.Helper()
	raw, _ := json.Marshal(map[string]string{"module": "file_system", "root": storage})
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: raw})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	t.Cleanup(cancel)
	h, err := ctx.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(gateConfig(nil)))
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	g := &generation{app: app.(*App), ctx: ctx, over: cancel}
	core, logged := observer.New(zap.DebugLevel)
	g.app.logger, g.log = zap.New(core), logged
	for _, e := range h.(*Handler).endpoints {
		g.box = e.cursors
	}
	if err := g.app.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// started tells it that the whole configuration has.
func (g *generation) started(t *testing.T) {
	t.Helper()
	events, err := g.ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	events.(*caddyevents.App).Emit(g.ctx, "started", nil)
}

func (g *generation) opens(closed string) bool {
	text, ok := g.box.Open(closed)
	return ok && text == "text"
}

func (g *generation) seal(t *testing.T) string {
	t.Helper()
	closed, err := g.box.Seal("text")
	if err != nil {
		t.Fatal(err)
	}
	return closed
}

func storedIn(dir string) ([]byte, error) {
	return os.ReadFile(filepath.Join(dir, filepath.FromSlash(seal.StorageKey)))
}

// TestSecretOutlivesReloadsAndProcesses, and is made only by a configuration that has
// started.
func TestSecretOutlivesReloadsAndProcesses(t *testing.T) {
	if n := references(); n != 0 {
		t.Fatalf("%d references are held by other tests", n)
	}
	dir, elsewhere := t.TempDir(), t.TempDir()
	first := newGeneration(t, dir)
	early := first.seal(t)
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Fatalf("before it has started, the storage has %v, %v", left, err)
	}
	first.started(t)
	made, err := storedIn(dir)
	if err != nil || len(made) != 32 {
		t.Fatalf("stored: %d bytes, %v", len(made), err)
	}
	late := first.seal(t)

	rejected := newGeneration(t, elsewhere)
	if !rejected.opens(early) || !rejected.opens(late) {
		t.Error("the next generation does not open what the first sealed")
	}
	rejected.over()
	if left, err := filepath.Glob(filepath.Join(elsewhere, "*")); err != nil || len(left) > 0 {
		t.Errorf("a rejected configuration left %v, %v in its storage", left, err)
	}

	first.over()
	if n := references(); n != 0 {
		t.Fatalf("%d references", n)
	}
	next := newGeneration(t, dir) // as after a restart
	between := next.seal(t)
	if next.opens(early) {
		t.Error("it was not a restart")
	}
	next.started(t)
	if !next.opens(early) || !next.opens(late) || !next.opens(between) {
		t.Error("after a restart, what was sealed is not opened")
	}
	if again, err := storedIn(dir); err != nil || string(again) != string(made) {
		t.Errorf("the secret was made anew: %v", err)
	}

	moved := newGeneration(t, elsewhere)
	moved.started(t)
	if kept, err := storedIn(elsewhere); err != nil || string(kept) != string(made) || !moved.opens(early) {
		t.Errorf("the secret did not move with the storage: %v", err)
	}
	for _, g := range []*generation{first, next, moved} {
		for _, entry := range g.log.All() {
			text := fmt.Sprint(entry)
			for _, form := range []string{string(made), hex.EncodeToString(made), base64.StdEncoding.EncodeToString(made), fmt.Sprintf("%d", made)} {
				if strings.Contains(text, form) {
					t.Errorf("the log has the secret: %s", text)
				}
			}
		}
	}
}

// TestStorageThatFails: a warning, and a secret of the process.
func TestStorageThatFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGeneration(t, file)
	closed := g.seal(t)
	g.started(t)
	if warned := g.log.FilterMessageSnippet("can't be kept").FilterField(zap.String("key", "mcp_gateway/secret")).Len(); warned != 1 {
		t.Errorf("%d warnings in %v", warned, g.log.All())
	}
	if !g.opens(closed) || !g.opens(g.seal(t)) {
		t.Error("nothing is sealed any more")
	}
}

// TestNoSecretWithoutNeed: what seals nothing leaves the storage alone.
func TestNoSecretWithoutNeed(t *testing.T) {
	dir := t.TempDir()
	raw, _ := json.Marshal(map[string]string{"module": "file_system", "root": dir})
	config := &caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: raw}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		t.Fatal(err)
	}
	app := new(App)
	if err := app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = app.Cleanup() }()
	if err := app.Handle(t.Context(), caddy.Event{}); err != nil {
		t.Error(err)
	}
	handler, _ := json.Marshal(map[string]any{"http": map[string]any{"servers": map[string]any{"a": map[string]any{
		"routes": []any{map[string]any{"handle": []any{json.RawMessage(`{"handler":"mcp_auth",` + gateConfig(nil)[1:])}}},
	}}}})
	config = &caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: raw}
	if err := json.Unmarshal(handler, &config.AppsRaw); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(config); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("the storage has %v, %v", left, err)
	}
}
