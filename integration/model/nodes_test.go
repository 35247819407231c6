//go:build unix

package model

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

const (
	publicURL = "https://mcp.example.com"
	rootEmail = "root@example.com"
	// firstPassword is what root begins with.
	firstPassword = "seven Quiet otters 9 row upstream"
	// promise is how soon the other node knows what was acknowledged on one.
	promise = time.Second
	// patience is how long a test waits for what has no other bound.
	patience = 30 * time.Second
)

const configuration = `{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	mcp_gateway {
		store {STORE}
		tokens {URL}
		accounts {
			administrator {ROOT} {
				password {env.MODEL_TEST_ROOT}
			}
			team sales
			team support
		}
	}
}

http://:{PORT} {
	bind 127.0.0.1
	mcp_gateway {
		public_url {URL}
		allowed_hosts 127.0.0.1
		issuer {URL} {
			keys gateway
		}
		role reader {
			when roles reader
			allow tools.execute notes/read crm/read
		}
		role writer {
			when roles writer
			allow tools.execute notes/write crm/write
		}
		server notes {NOTES}/mcp
		server crm {CRM}/mcp
		visibility crm team sales
		login on
		login_rate 1000000
		tokens on
		sessions on
		admin on
	}
}
`

// world is some nodes, and the servers behind them.
type world struct {
	dir, root string
	up        *upstream
	nodes     []*node
}

// newWorld starts so many nodes with that store.
func newWorld(t *testing.T, store string, nodes int) *world {
	t.Helper()
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir(), root: root, up: newUpstream(t)}
	for i := range nodes {
		n := &node{w: w, name: fmt.Sprintf("node %d", i+1), dir: t.TempDir(), group: new(launch.Group)}
		if n.addr, err = launch.FreeAddr(); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("{STORE}", store, "{URL}", publicURL, "{ROOT}", rootEmail, "{PORT}", launch.Port(n.addr),
			"{NOTES}", w.up.servers["notes"].URL, "{CRM}", w.up.servers["crm"].URL).Replace(configuration)
		n.config = filepath.Join(n.dir, "Caddyfile")
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.group.Stop() })
		w.nodes = append(w.nodes, n)
		n.start(t)
	}
	return w
}

// node is a Caddy process. Its address stays when it is started again.
type node struct {
	w                       *world
	name, dir, config, addr string
	group                   *launch.Group
	process                 *launch.Process
}

// start starts it, and waits until it is ready. All nodes share Caddy's storage.
func (n *node) start(t *testing.T) {
	t.Helper()
	process, err := n.group.StartCaddy(t.Context(), n.w.root, n.dir, n.config, "MODEL_TEST_ROOT="+firstPassword, "XDG_DATA_HOME="+n.w.dir)
	if err != nil {
		t.Fatal(err)
	}
	n.process = process
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := process.WaitReady(ctx, "http://"+n.addr+"/ready"); err != nil {
		t.Fatal(err)
	}
}

// end ends it: in the middle of whatever it does, or as an operator does.
func (n *node) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(n.process.PID(), signal); err != nil {
		t.Fatal(err)
	}
	<-n.process.Done()
	clients.CloseIdleConnections()
}

// clients is how requests are sent: connections stay open, as those of a balancer do.
var clients = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 15 * time.Second}

type object = map[string]any

// reply is an answer. The reason is that of the API's errors and of MCP's.
type reply struct {
	status  int
	session string
	reason  string
	text    string
	body    object
}

func (r *reply) String() string { return fmt.Sprintf("%d %s %s", r.status, r.reason, r.text) }

// str is a member of the answer that is a string.
func (r *reply) str(member string) string {
	text, _ := r.body[member].(string)
	return text
}

// send sends a request and reads the answer.
func (n *node) send(t *testing.T, method, path, raw, body string, header ...string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if raw != "" {
		req.Header.Set("Authorization", "Bearer "+raw)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := clients.Do(req)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", n.name, method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", n.name, method, path, err)
	}
	r := &reply{status: resp.StatusCode, session: resp.Header.Get("Mcp-Session-Id"), text: string(text)}
	if len(text) == 0 {
		return r
	}
	if err := json.Unmarshal(text, &r.body); err != nil {
		t.Fatalf("%s: %s %s is answered with %d %s", n.name, method, path, r.status, text)
	}
	r.reason = r.str("reason")
	if failed, ok := r.body["error"].(object); ok {
		data, _ := failed["data"].(object)
		r.reason, _ = data["reason"].(string)
	}
	return r
}

// api asks the gateway's own API.
func (n *node) api(t *testing.T, method, path, raw string, body object) *reply {
	t.Helper()
	if body == nil {
		return n.send(t, method, path, raw, "")
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return n.send(t, method, path, raw, string(text))
}

// mcp sends a message to a server, or a DELETE if there is none.
func (n *node) mcp(t *testing.T, server, raw, session, message string) *reply {
	t.Helper()
	header := []string{"Accept", "application/json, text/event-stream", "Mcp-Protocol-Version", "2025-11-25"}
	if session != "" {
		header = append(header, "Mcp-Session-Id", session)
	}
	method := http.MethodPost
	if message == "" {
		method = http.MethodDelete
	}
	return n.send(t, method, "/servers/"+server+"/mcp", raw, message, header...)
}
