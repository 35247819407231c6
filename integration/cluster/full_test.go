//go:build unix

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFullDisk: when the disk is full, a revocation is not acknowledged; the gateway that
// was asked refuses the token nevertheless, and serves on. All that was acknowledged is
// there afterwards, with room or without.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, "store embedded "+filepath.Join(w.dir, "state.db"))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", n.config)
	cmd.Env = append(os.Environ(), maxFile+"=131072", "XDG_DATA_HOME="+n.dir, "XDG_CONFIG_HOME="+n.dir)
	if n.process, err = n.group.Start("caddy", filepath.Join(n.dir, "caddy.log"), cmd); err != nil {
		t.Fatal(err)
	}
	n.ready(t)
	tokens := w.good(t, 120)
	l := w.load(t, tokens, n)
	l.await(t, "answers", 20, served(n))
	// Long ids fill the file soon.
	fillers := make([]*token, 100)
	for i := range fillers {
		fillers[i] = &token{id: fmt.Sprint(i, "-", strings.Repeat("x", 8000))}
	}
	refused, next := 0, 0
	for i := 0; refused < 5; i++ {
		if i == len(fillers) {
			t.Fatal("the file never got full")
		}
		failure := n.revoke(t.Context(), fillers[i])
		if failure == nil {
			n.mustRevokeIfRoom(t, tokens[next])
			next++
			continue
		}
		refused++
		if !strings.Contains(failure.Error(), "503") || !strings.Contains(failure.Error(), "store_unavailable") {
			t.Errorf("a revocation without room: %v", failure)
		}
	}
	// Why is for who reads the log, and nobody else.
	if log := n.log(t); !strings.Contains(log, "the store is not available") || !strings.Contains(log, "file too large") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	t.Logf("%d revocations fitted", next)
	l.await(t, "answers while it is full", 100, served(n))
	check := func(when string) {
		t.Helper()
		for _, tk := range tokens[:next] {
			if a := n.call(t.Context(), tk, ""); !tk.acknowledged.IsZero() && a.reason != "token_revoked" {
				t.Errorf("%s, a token that is %s: %s", when, tk.state(a.sent), a)
			}
		}
	}
	check("while it is full")
	n.kill(t)
	n.start(t)
	check("when there is room again")
	n.mustRevoke(t, tokens[next])
	l.await(t, "answers when there is room again", 50, served(n))
	l.end(t)
}

// mustRevokeIfRoom revokes where only a full disk is an excuse.
func (n *node) mustRevokeIfRoom(t *testing.T, tk *token) {
	t.Helper()
	if err := n.revoke(t.Context(), tk); err != nil && !strings.Contains(err.Error(), "503") {
		t.Fatal(err)
	}
}
