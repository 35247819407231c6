package soundness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
)

// world is what all tests share. They run one after the other, because they share
// the server behind the gateway too.
var world struct {
	dir string
	// up is the recording server, seen through the sites as "main".
	up *upstream
	// secure is the TLS site with the one server main; plain has two servers,
	// public is called https://mcp.example.com, and small has low limits. teams is
	// another TLS site with two servers, of which teams see more than others.
	secure, plain, public, small, teams int
	jwks                                *jwksServer
	// loaded is when a configuration was loaded last, in the future while one is.
	loaded atomic.Int64
	// generation counts them.
	generation atomic.Int64
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the gateway under test:", err)
		_ = os.RemoveAll(world.dir)
		return 1
	}
	code := m.Run()
	stop()
	if err := errors.Join(checkLog(), checkCoverage(), checkPeers()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func start() (stop func(), err error) {
	dir, err := os.MkdirTemp("", "soundness-")
	if err != nil {
		return nil, err
	}
	world.dir = dir
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"} {
		if err := os.Setenv(name, dir); err != nil {
			return nil, err
		}
	}
	if err := makeCertificate(); err != nil {
		return nil, err
	}
	if err := makeKeys(); err != nil {
		return nil, err
	}
	if world.up, err = newUpstream(); err != nil {
		return nil, err
	}
	if world.jwks, err = newJWKSServer(); err != nil {
		return nil, err
	}
	if err := freePorts(&world.secure, &world.plain, &world.public, &world.small, &world.teams); err != nil {
		return nil, err
	}
	if err := load(caddyfile("")); err != nil {
		return nil, err
	}
	return func() {
		_ = caddy.Stop()
		world.up.close()
		world.jwks.close()
	}, nil
}

// load runs a Caddyfile through the real adapter and makes it the running one.
func load(text string) error {
	// What tells one configuration from the next, where nothing else has to.
	const site = "scopes_supported mcp:call"
	mark := fmt.Sprintf("generation-%d", world.generation.Add(1))
	marked := strings.Contains(text, site)
	text = strings.Replace(text, site, site+"\n\t\twell_known_text generation "+mark, 1)
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			return fmt.Errorf("adapting the Caddyfile: %s", w.Message)
		}
	}
	world.loaded.Store(time.Now().Add(patience).UnixNano()) // connections may be reset from now on
	err = caddy.Load(config, true)
	world.loaded.Store(time.Now().UnixNano())
	if err != nil || !marked {
		return err
	}
	return settle(mark)
}

// settle waits until new connections come to the configuration with that mark. Caddy
// closes the old listeners shortly after a reload, and until then they may accept a few.
func settle(mark string) error {
	for same, deadline := 0, time.Now().Add(patience); same < 8; {
		if time.Now().After(deadline) {
			return fmt.Errorf("connections do not come to %s", mark)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig.Clone(), DisableKeepAlives: true}, Timeout: patience}
		resp, err := client.Get(fmt.Sprintf("https://localhost:%d/.well-known/generation", world.secure))
		if err != nil {
			same = 0
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if same++; strings.TrimSpace(string(body)) != mark {
			same = 0
		}
	}
	return nil
}

// caddyfile is the configuration under test. more is put into the role "a".
func caddyfile(more string) string {
	return strings.NewReplacer(
		"{DIR}", world.dir,
		"{UP}", world.up.address,
		"{CONFUSING}", "issuer http://"+world.jwks.address+"/honest\n\tissuer "+strings.Join(confusing("http://"+world.jwks.address), "\n\tissuer "),
		"{JWKS}", world.jwks.address,
		"{SECURE}", fmt.Sprint(world.secure),
		"{PLAIN}", fmt.Sprint(world.plain),
		"{PUBLIC}", fmt.Sprint(world.public),
		"{SMALL}", fmt.Sprint(world.small),
		"{TEAMS}", fmt.Sprint(world.teams),
		"{SECRET}", sharedSecret,
		"{MORE}", more,
	).Replace(template)
}

const template = `{
	admin off
	persist_config off
	auto_https off
	skip_install_trust
	grace_period 1s
	storage file_system {DIR}/storage
	log {
		output file {DIR}/caddy.log
		level DEBUG
	}
	servers {
		protocols h1 h2
	}
}

(issuers) {
	issuer https://rsa.test {
		key_file {DIR}/rsa.pem
		algorithms RS256 PS256
	}
	issuer https://ec.test {
		key_file {DIR}/ec.pem
	}
	issuer https://ed.test {
		key_file {DIR}/ed.pem
	}
	issuer https://hs.test {
		secret {SECRET}
	}
	issuer https://jwks.test {
		jwks_url http://{JWKS}/keys
	}
	issuer https://dead.test {
		jwks_url http://127.0.0.1:1/keys
	}
	issuer https://moved.test {
		jwks_url http://{JWKS}/moved
	}
	{CONFUSING}
}

(roles) {
	role a {
		when groups a
		allow tools.read main
		allow tools.execute main/ok main/db_*
		allow prompts.execute main/open
		allow resources.read main/file:///pub/** main/db:{id}
		allow resources.subscribe main/file:///pub/**
		allow completions.use main
		{MORE}
	}
	role viewer {
		when groups viewer
		allow tools.execute main/ok
		allow prompts.execute main/open
		allow resources.read main/file:///pub/**
		allow completions.use main
	}
	role asked {
		when groups asked
		allow tools.execute main/ok
		allow client.elicitation main
	}
	role both {
		when groups both
		allow tools.execute main/ok other/ok
	}
	role scoped {
		when scope mcp:call mcp:all
		when scope mcp:write
		when groups scoped
		allow tools.execute main/ok
	}
	role worker {
		when groups worker
		allow tools.execute main/ok
		allow tools.execute main/db_*
		allow tasks.read main other
		allow tasks.write main other
		allow client.elicitation main
	}
	role follower {
		when groups follower
		allow tools.execute main/ok
		allow tasks.read main
	}
	role lapsed {
		when groups lapsed
		allow tools.execute main/db_*
		allow tasks.read main
		allow tasks.write main
	}
	role limited {
		when groups limited
		allow tools.execute main/ok {
			if "args.limit <= 10"
		}
		allow tasks.read main
		allow tasks.write main
	}
	role empty {
		when groups empty
		allow tools.execute nowhere/ok
	}
	role full {
		when groups full
		allow *
	}
}

https://:{SECURE} {
	tls {DIR}/cert.pem {DIR}/cert-key.pem
	mcp_gateway {
		public_url https://localhost:{SECURE}
		import issuers
		import roles
		server main http://{UP}/mcp
		scopes_supported mcp:call
		body_timeout 1s
		max_answer 256KiB
	}
}

https://:{TEAMS} {
	tls {DIR}/cert.pem {DIR}/cert-key.pem
	mcp_gateway {
		public_url https://localhost:{TEAMS}
		import issuers
		role full {
			when groups full
			allow *
		}
		role lead {
			team *
			when groups lead
			allow *
		}
		server main http://{UP}/mcp
		server other http://{UP}/other
		visibility main/*admin team vault
		visibility main/hidden* team vault
		visibility main/file:///secret/** team vault
		visibility main/mine_* private vera
		team blue main
		team red other
	}
}

http://:{PLAIN} {
	mcp_gateway {
		public_url http://127.0.0.1:{PLAIN}
		import issuers
		import roles
		server main http://{UP}/mcp
		server other http://{UP}/other
		instructions text "Use \"ok\"." main
		instructions pass other
	}
}

http://:{PUBLIC} {
	mcp_gateway {
		public_url https://mcp.example.com
		import issuers
		import roles
		server main http://{UP}/mcp
		allowed_origins https://app.example.com
		instructions drop
	}
}

http://:{SMALL} {
	mcp_gateway {
		public_url http://127.0.0.1:{SMALL}/prefix
		import issuers
		import roles
		server main h2c://{UP} {
			header_down X-Checked yes
		}
		max_body 1KiB
	}
}
`

// checkLog looks for what may never be logged: a token, or the secret.
func checkLog() error {
	text, err := os.ReadFile(filepath.Join(world.dir, "caddy.log"))
	if err != nil {
		return err
	}
	secrets := []string{"eyJ", sharedSecret}
	made, err := os.ReadFile(filepath.Join(world.dir, "storage", "mcp_gateway", "secret"))
	if err != nil {
		return err
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		secrets = append(secrets, encoding.EncodeToString(made)[:40])
	}
	secrets = append(secrets, hex.EncodeToString(made), string(made))
	for _, secret := range secrets {
		if before, _, found := bytes.Cut(text, []byte(secret)); found {
			from := bytes.LastIndexByte(before, '\n') + 1
			return fmt.Errorf("the log holds a secret: %.400s", text[from:])
		}
	}
	return os.RemoveAll(world.dir)
}

// makeCertificate writes a certificate for localhost, signed by itself.
func makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM("cert.pem", "CERTIFICATE", der); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots.AddCert(certificate)
	tlsConfig = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	return writePEM("cert-key.pem", "PRIVATE KEY", private)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(world.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// freePorts finds ports of loopback that nobody listens on, each another.
func freePorts(ports ...*int) error {
	for _, port := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return nil
}
