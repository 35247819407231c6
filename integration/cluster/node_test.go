//go:build unix

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// world is some nodes, what is behind them, and who comes to them.
type world struct {
	*mint
	dir, root string
	up        *upstream
	nodes     []*node
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir(), root: root, up: newUpstream(t)}
	w.mint = newMint(t, w.dir)
	return w
}

// node is a Caddy process. Its addresses stay when it is started again.
type node struct {
	w                 *world
	name, dir, config string
	addr, admin       string
	// bound is how long a revocation may take to be known to it.
	bound time.Duration

	group   *launch.Group
	process *launch.Process

	mu    sync.Mutex
	downs []down
}

// down is from when until when a node need not answer; until is zero if it still need not.
type down struct{ from, until time.Time }

const configuration = `{
	admin {ADMIN}
	persist_config off
	grace_period 1s
	mcp_gateway {
		{GLOBAL}
	}
}

http://:{PORT} {
	bind 127.0.0.1
	mcp_gateway {
		public_url {AUDIENCE}
		allowed_hosts 127.0.0.1
		issuer {ISSUER} {
			key_file {DIR}/key.pem.pub
		}
		role all {
			allow *
		}
		server main {UPSTREAM}/mcp
		{SITE}
	}
}
`

// node makes one whose store is that, with more options of the app.
func (w *world) node(t *testing.T, global string) *node { return w.nodeWith(t, global, "") }

// nodeWith makes one with more options of its site, too.
func (w *world) nodeWith(t *testing.T, global, site string) *node {
	t.Helper()
	n := &node{w: w, name: fmt.Sprintf("node %d", len(w.nodes)+1), dir: t.TempDir(), bound: promise, group: new(launch.Group)}
	for _, addr := range []*string{&n.addr, &n.admin} {
		var err error
		if *addr, err = launch.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	n.config = filepath.Join(n.dir, "Caddyfile")
	text := strings.NewReplacer("{ADMIN}", n.admin, "{GLOBAL}", global, "{SITE}", site, "{PORT}", launch.Port(n.addr),
		"{AUDIENCE}", audience, "{ISSUER}", issuer, "{DIR}", w.dir, "{UPSTREAM}", w.up.URL).Replace(configuration)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.group.Stop() })
	w.nodes = append(w.nodes, n)
	return n
}

// launch starts it, and does not wait.
func (n *node) launch(t *testing.T) {
	t.Helper()
	process, err := n.group.StartCaddy(t.Context(), n.w.root, n.dir, n.config, "CLUSTER_PASSWORD="+password)
	if err != nil {
		t.Fatal(err)
	}
	n.process = process
}

// start starts it, and waits until it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.launch(t)
	n.ready(t)
}

// ready waits until it is.
func (n *node) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.process.WaitReady(ctx, "http://"+n.addr+"/ready"); err != nil {
		t.Fatal(err)
	}
	n.back()
}

// back notes that it has to answer.
func (n *node) back() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.downs) - 1; last >= 0 && n.downs[last].until.IsZero() {
		n.downs[last].until = time.Now()
	}
}

// kill ends it in the middle of whatever it does.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	n.downs = append(n.downs, down{from: time.Now()})
	n.mu.Unlock()
	if err := syscall.Kill(n.process.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-n.process.Done()
}

// excused reports whether it need not answer between two moments.
func (n *node) excused(sent, came time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.downs, func(d down) bool {
		return came.After(d.from) && (d.until.IsZero() || sent.Before(d.until))
	})
}

// log is what it has logged since it was started last.
func (n *node) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// revoke has the node revoke a token, through its admin endpoint. The oracle knows what
// was asked, and what was acknowledged.
func (n *node) revoke(ctx context.Context, tk *token) error {
	body, err := json.Marshal(map[string]any{"by": "id", "value": tk.id, "issuer": issuer, "expires": time.Now().Add(2 * time.Hour)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.admin+"/mcp_gateway/revocations", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	tk.begun()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	tk.done()
	return nil
}

// mustRevoke revokes where that cannot fail.
func (n *node) mustRevoke(t *testing.T, tk *token) {
	t.Helper()
	if err := n.revoke(t.Context(), tk); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

// answer is what came back for a request.
type answer struct {
	node       *node
	token      *token
	nonce      string
	sent, came time.Time
	status     int
	reason     string
	err        error
}

// String is what answers are counted by.
func (a *answer) String() string {
	switch {
	case a.err != nil:
		return a.node.name + " no answer"
	case a.reason != "":
		return fmt.Sprintf("%s %d %s", a.node.name, a.status, a.reason)
	}
	return fmt.Sprintf("%s %d", a.node.name, a.status)
}

// clients is how requests are sent: connections stay open, as those of a balancer do.
var clients = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 15 * time.Second}

// request makes one in protocol version 2025-11-25.
func (n *node) request(ctx context.Context, method string, tk *token, session, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.addr+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+tk.raw)
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	return req, nil
}

// call sends a call of a tool with a nonce, and returns the answer.
func (n *node) call(ctx context.Context, tk *token, nonce string) *answer {
	a := &answer{node: n, token: tk, nonce: nonce, sent: time.Now()}
	defer func() { a.came = time.Now() }()
	req, err := n.request(ctx, http.MethodPost, tk, "", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","arguments":{"nonce":%q}}}`, nonce))
	if err != nil {
		a.err = err
		return a
	}
	resp, err := clients.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.err = err
		return a
	}
	a.status = resp.StatusCode
	var read struct {
		Result *struct{}
		Error  *struct{ Data struct{ Reason string } }
	}
	switch err := json.Unmarshal(body, &read); {
	case err != nil:
		a.err = fmt.Errorf("%s: %s: %w", resp.Status, body, err)
	case read.Error != nil:
		a.reason = read.Error.Data.Reason
	case read.Result == nil:
		a.err = errors.New("an answer without result and error: " + string(body))
	}
	return a
}
