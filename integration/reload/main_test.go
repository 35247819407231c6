package reload

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/go-jose/go-jose/v4"

	_ "github.com/caddymcp/caddy-mcp-gateway"
)

// asCaddy is the variable that makes this binary be Caddy, with the plugin.
const asCaddy = "RELOAD_TEST_IS_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		os.Args[0] = "caddy"
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

const (
	secret = "recognisable-secret-0123456789abcdef"
	issuer = "https://issuer.test"
)

// process is a Caddy.
type process struct {
	t *testing.T
	// dir is where it keeps its files; port is that of its site, metrics of the other one.
	dir           string
	port, metrics int
	up            *upstream

	cmd   *exec.Cmd
	ended chan struct{}
	err   error
	log   locked
	admin *http.Client
}

// locked is a buffer for two goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// prepare makes a place for one.
func prepare(t *testing.T) *process {
	t.Helper()
	// The name of a socket may not be long.
	dir, err := os.MkdirTemp("", "reload-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &process{t: t, dir: dir, port: freePort(t), metrics: freePort(t), up: newUpstream(t), ended: make(chan struct{})}
	p.admin = &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		},
	}}
	return p
}

// start runs it with a Caddyfile.
func (p *process) start(caddyfile string) {
	p.t.Helper()
	config := filepath.Join(p.dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.Background(), os.Args[0], "run", "--config", config, "--adapter", "caddyfile") //nolint:gosec // this binary
	p.cmd.Env = append(os.Environ(), asCaddy+"=1", "RELOAD_TEST_SECRET="+secret,
		"HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir, "GORACE=halt_on_error=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(p.kill)
	p.eventually("that Caddy runs", func() bool {
		return strings.Contains(p.log.String(), "serving initial configuration")
	})
}

// kill ends it, and looks at its log.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	text := p.log.String()
	for _, bad := range []string{"DATA RACE", "panic", "eyJ", secret} {
		if at := strings.Index(text, bad); at >= 0 {
			p.t.Errorf("caddy logs: %.2000s", text[max(at-200, 0):])
		}
	}
	if p.t.Failed() {
		p.t.Logf("the end of caddy's log:\n%s", text[max(len(text)-4000, 0):])
	}
}

// eventually waits until something is so.
func (p *process) eventually(what string, so func() bool) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-p.ended:
			p.t.Fatalf("%s: Caddy has ended: %v", what, p.err)
		case <-deadline:
			p.t.Fatalf("%s: not in %s", what, patience)
		}
	}
}

// load gives it another configuration, and returns why that was refused.
func (p *process) load(config, kind string) error {
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://127.0.0.1/load", strings.NewReader(config))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Cache-Control", "must-revalidate") // though nothing has changed
	resp, err := p.admin.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return err
}

// reload gives it another Caddyfile, which has to be accepted.
func (p *process) reload(caddyfile string) {
	p.t.Helper()
	if err := p.load(caddyfile, "text/caddyfile"); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends a GET to the admin endpoint.
func (p *process) ask(path string) string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := p.admin.Do(r)
	for range 5 {
		if err == nil {
			break
		}
		// Each reload, also one that is rejected, replaces the admin endpoint, and the
		// one before may take a connection that it then drops.
		resp, err = p.admin.Do(r)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %d %v %s", path, resp.StatusCode, err, text)
	}
	return string(text)
}

// revoke has something revoked on the admin endpoint.
func (p *process) revoke(body string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://127.0.0.1/mcp_gateway/revocations", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := p.admin.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		p.t.Fatalf("%d %s", resp.StatusCode, text)
	}
}

func (p *process) url() string { return "http://127.0.0.1:" + strconv.Itoa(p.port) }

// caddyfile is a configuration with further lines in the global options, in the
// gateway's and in the site.
func (p *process) caddyfile(global, gateway, site string) string {
	return strings.NewReplacer("{DIR}", p.dir, "{PORT}", strconv.Itoa(p.port), "{METRICS}", strconv.Itoa(p.metrics), "{UP}", p.up.address,
		"{GLOBAL}", global, "{GATEWAY}", gateway, "{SITE}", site, "{ISSUER}", issuer).Replace(`{
	admin unix/{DIR}/admin.sock
	persist_config off
	auto_https off
	skip_install_trust
	storage file_system {DIR}/storage
	servers {
		protocols h1 h2c
	}
	{GLOBAL}
	mcp_gateway {
		environment development
		{GATEWAY}
	}
}

http://127.0.0.1:{PORT} {
	bind 127.0.0.1
	mcp_gateway {
		public_url http://127.0.0.1:{PORT}
		issuer {ISSUER} {
			secret {env.RELOAD_TEST_SECRET}
		}
		server main http://{UP}/mcp
		{SITE}
	}
}

http://127.0.0.1:{METRICS} {
	bind 127.0.0.1
	metrics /metrics
}
`)
}

// everything lets everybody do everything.
const everything = `role everybody {
			allow *
		}`

// tokenOf makes an access token.
func (p *process) tokenOf(subject string, change map[string]any) string {
	p.t.Helper()
	claims := map[string]any{
		"iss": issuer, "aud": p.url(), "sub": subject, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(claims, change)
	text, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	jws, err := signer.Sign(text)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// terminate asks it to end, and waits until it has.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		return errors.New("it does not end")
	}
}
