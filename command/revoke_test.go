package command_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// TestRevoke: what is revoked on the command line is refused by the running gateway from
// then on, and still is after a restart.
func TestRevoke(t *testing.T) {
	w := newWorld(t)
	gateway, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	// The server is none, so that 502 stands for what was let through.
	w.write(t, "revoke.Caddyfile", `{
	admin `+admin+`
	persist_config off
}
http://`+gateway+` {
	mcp_gateway {
		public_url https://mcp.example.com
		allowed_hosts 127.0.0.1
		issuer https://login.example.com {
			key_file {env.CAN_KEY}
		}
		role all {
			allow *
		}
		server notes 127.0.0.1:1
	}
}
`)
	token, err := os.ReadFile(filepath.Join(w.tmp, "ana.token"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (status int, reason string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gateway+"/mcp",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Error struct{ Data struct{ Reason string } }
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return resp.StatusCode, answer.Error.Data.Reason
	}
	var group launch.Group
	t.Cleanup(func() { group.Stop() })
	start := func(group *launch.Group) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		caddy, err := group.StartCaddy(ctx, w.root, w.tmp, filepath.Join(w.tmp, "revoke.Caddyfile"), "CAN_KEY="+filepath.Join(w.tmp, "key.pem.pub"))
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.WaitReady(ctx, "http://"+gateway+"/ready"); err != nil {
			t.Fatal(err)
		}
	}
	start(&group)

	const revoke = "caddy mcp revoke --address {admin} "
	for _, tc := range []struct {
		line, prints string
		reason       string // of the next request
	}{
		{revoke + "--id another --issuer https://login.example.com", "exit 0", "upstream_unreachable"},
		{revoke + "--id t-1 --issuer https://other.example.com", "exit 0", "upstream_unreachable"},
		{revoke, "name one of --id", "upstream_unreachable"},
		{revoke + "--id a --subject b", "name one of --id", "upstream_unreachable"},
		{revoke + "--everyone", "needs before", "upstream_unreachable"},
		{revoke + "--subject ana --before yesterday", "--before must be a time", "upstream_unreachable"},
		{revoke + "--id t-1 --before 2026-01-01T00:00:00Z", "goes by no issue time", "upstream_unreachable"},
		{revoke + "--hash xyz", "64 hexadecimal digits", "upstream_unreachable"},
		{revoke + "--id t-1 --issuer https://login.example.com", "exit 0", "token_revoked"},
	} {
		printed := w.run(t, strings.ReplaceAll(tc.line, "{admin}", admin))
		if !strings.Contains(printed, tc.prints) || strings.Contains(printed, "exit 0") != (tc.prints == "exit 0") {
			t.Errorf("%s: %s", tc.line, printed)
		}
		status, reason := ask()
		if reason != tc.reason || status != map[string]int{"token_revoked": 401, "upstream_unreachable": 502}[reason] {
			t.Errorf("%s: then %d %s", tc.line, status, reason)
		}
	}

	resp, err := http.Get("http://" + admin + "/mcp_gateway/revocations")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var known struct {
		Revocations int
		Stale       bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&known); err != nil || known.Revocations != 3 || known.Stale {
		t.Errorf("the endpoint tells of %+v, %v", known, err)
	}

	group.Stop()
	var again launch.Group
	t.Cleanup(func() { again.Stop() })
	start(&again)
	if status, reason := ask(); status != 401 || reason != "token_revoked" {
		t.Errorf("after a restart: %d %s", status, reason)
	}
}
