package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// caddyProcess is a running Caddy.
type caddyProcess struct {
	cmd   *exec.Cmd
	ended chan struct{}
	log   tail

	mu    sync.Mutex
	alarm []string // lines that must not be in the log
}

// startCaddy runs Caddy with a Caddyfile until the last test has ended.
func startCaddy(name, caddyfile string) (*caddyProcess, error) {
	binary, err := caddyBinary()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(world.dir, "caddy-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		return nil, err
	}
	c := &caddyProcess{ended: make(chan struct{})}
	c.cmd = exec.CommandContext(context.Background(), binary, "run", "--config", config, "--adapter", "caddyfile")
	c.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			c.line(lines.Text())
			if strings.Contains(lines.Text(), "serving initial configuration") {
				close(ready)
			}
		}
		_ = c.cmd.Wait()
	}()
	select {
	case <-ready:
		atEnd(c.stop)
		return c, nil
	case <-c.ended:
		return nil, fmt.Errorf("caddy does not run with this Caddyfile:\n%s\n%s", caddyfile, &c.log)
	case <-time.After(30 * time.Second):
		c.stop()
		return nil, errors.New("caddy did not start within 30 s")
	}
}

// line keeps a line of the log and looks for what may never be there: a race, a
// panic, or the beginning of a JSON Web Token.
func (c *caddyProcess) line(line string) {
	_, _ = fmt.Fprintln(&c.log, line)
	for _, bad := range []string{"DATA RACE", "panic", "eyJ"} {
		if strings.Contains(line, bad) {
			c.mu.Lock()
			c.alarm = append(c.alarm, line)
			c.mu.Unlock()
		}
	}
}

// check fails the test when the log has a line that may never be there.
func (c *caddyProcess) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.alarm {
		t.Errorf("caddy logs: %s", line)
	}
	if t.Failed() {
		t.Logf("the end of caddy's log:\n%s", &c.log)
	}
}

func (c *caddyProcess) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// freePort is a port of loopback that nobody listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// caddyfile is a Caddyfile of one HTTPS site on localhost.
func caddyfile(port int, site string) string {
	return strings.NewReplacer(
		"{PORT}", strconv.Itoa(port),
		"{CERTIFICATE}", certificateFile(),
		"{KEY}", keyFile(),
		"{SITE}", strings.ReplaceAll(strings.TrimSpace(site), "\n", "\n\t"),
	).Replace(`{
	admin off
	auto_https disable_redirects
	skip_install_trust
	persist_config off
	grace_period 1s
	debug
	servers {
		protocols h1 h2
	}
}

https://localhost:{PORT} {
	bind 127.0.0.1
	tls {CERTIFICATE} {KEY}
	{SITE}
}
`)
}

// proxySite passes every server on with Caddy's own reverse_proxy: the control
// for what of a failure is Caddy's.
func proxySite() (string, error) {
	var site strings.Builder
	for _, name := range serverNames {
		server, err := servers[name]()
		if err != nil {
			return "", err
		}
		host, path := splitURL(server.url)
		fmt.Fprintf(&site, "handle /servers/%s/mcp {\n\trewrite %s\n\treverse_proxy %s\n}\n", name, path, host)
	}
	return site.String(), nil
}

// gatewaySite is the gateway with every server, and two roles by the claim
// "groups": full, and restricted, which lacks the tool admin, the resource
// test://hidden and the prompt secret.
func gatewaySite(port int, issuer string) (string, error) {
	var full, restricted, upstreams strings.Builder
	for _, name := range serverNames {
		server, err := servers[name]()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&upstreams, "\tserver %s %s\n", name, server.url)
		allow := func(permission string, objects ...string) {
			fmt.Fprintf(&restricted, "\t\tallow %s", permission)
			for _, object := range objects {
				fmt.Fprintf(&restricted, " %s/%s", name, object)
			}
			fmt.Fprintln(&restricted)
		}
		allow("tools.execute", "echo", "add", "slow", "release", "notify", "ask", "sample")
		allow("resources.read", "test://a", "test://b/**")
		allow("resources.subscribe", "test://a")
		allow("prompts.execute", "greet")
	}
	for _, permission := range []string{"completions.use", "logging.write", "client.sampling", "client.elicitation"} {
		fmt.Fprintf(&restricted, "\t\tallow %s\n", permission)
	}
	fmt.Fprintln(&full, "\t\tallow *")
	return fmt.Sprintf(`
mcp_gateway {
	public_url https://localhost:%d
	%s
	role full {
		when groups full
%s	}
	role restricted {
		when groups restricted
%s	}
%s	scopes_supported mcp:read mcp:write
	forward_headers %s
}
`, port, strings.ReplaceAll(issuer, "\n", "\n\t"), &full, &restricted, &upstreams, tagHeader), nil
}

func splitURL(url string) (host, path string) {
	host, path, _ = strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return host, "/" + path
}
