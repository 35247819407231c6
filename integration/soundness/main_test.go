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
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	// public is called https://mcp.example.com, and small has low limits.
	secure, plain, public, small int
	jwks                         *jwksServer
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
	if err := checkLog(); err != nil {
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
	if err := freePorts(&world.secure, &world.plain, &world.public, &world.small); err != nil {
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
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			return fmt.Errorf("adapting the Caddyfile: %s", w.Message)
		}
	}
	return caddy.Load(config, true)
}

// caddyfile is the configuration under test. more is put into the role "a".
func caddyfile(more string) string {
	return strings.NewReplacer(
		"{DIR}", world.dir,
		"{UP}", world.up.address,
		"{JWKS}", world.jwks.address,
		"{SECURE}", fmt.Sprint(world.secure),
		"{PLAIN}", fmt.Sprint(world.plain),
		"{PUBLIC}", fmt.Sprint(world.public),
		"{SMALL}", fmt.Sprint(world.small),
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
