package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

const secret64 = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqr"

func provision(tb testing.TB, module caddy.Provisioner) error {
	tb.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: tb.Context()})
	tb.Cleanup(cancel)
	return module.Provision(ctx)
}

func block(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestPEM(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix1, err1 := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	pkix2, err2 := x509.MarshalPKIXPublicKey(&ecKey.PublicKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: time.Unix(1, 0)}
	certificate, err3 := x509.CreateCertificate(rand.Reader, template, template, edPublic, edKey)
	private, err4 := x509.MarshalPKCS8PrivateKey(ecKey)

	dir := t.TempDir()
	t.Setenv("KEYS_TEST_DIR", dir)
	const rsaNames = "RS256 RS384 RS512 PS256 PS384 PS512"
	for i, tc := range []struct {
		files []string
		want  string
		err   string
	}{
		{[]string{block("PUBLIC KEY", pkix1, err1)}, rsaNames, ""},
		{[]string{block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey), nil)}, rsaNames, ""},
		{[]string{block("CERTIFICATE", certificate, err3)}, "EdDSA", ""},
		{[]string{"# two keys\n" + block("PUBLIC KEY", pkix1, err1) + block("PUBLIC KEY", pkix2, err2)}, rsaNames + " ES384", ""},
		{[]string{block("PUBLIC KEY", pkix2, err2), block("CERTIFICATE", certificate, err3)}, "ES384 EdDSA", ""},
		{nil, "", "files is empty"},
		{[]string{""}, "", "no PEM block"},
		{[]string{"just text"}, "", "no PEM block"},
		{[]string{block("PRIVATE KEY", private, err4)}, "", "private key"},
		{[]string{block("PUBLIC KEY", pkix1, err1) + block("EC PRIVATE KEY", private, err4)}, "", "private key"},
		{[]string{block("PUBLIC KEY", pkix1[:20], nil)}, "", "asn1"},
		{[]string{block("CERTIFICATE", certificate[:20], nil)}, "", "certificate"},
		{[]string{block("CERTIFICATE REQUEST", certificate, nil)}, "", "CERTIFICATE REQUEST"},
		{[]string{strings.Repeat(" ", metadata.MaxBody+1)}, "", "larger than"},
	} {
		source := new(PEM)
		for j, text := range tc.files {
			name := fmt.Sprintf("%d-%d.pem", i, j)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			source.Files = append(source.Files, "{env.KEYS_TEST_DIR}/"+name)
		}
		err := provision(t, source)
		if got := errorText(err); (got == "") != (tc.err == "") || !strings.Contains(got, tc.err) {
			t.Errorf("Test %d: got error %q, want %q", i, got, tc.err)
		}
		if err != nil {
			continue
		}
		if got := strings.Join(source.Algorithms(), " "); got != tc.want {
			t.Errorf("Test %d: got %q, want %q", i, got, tc.want)
		}
		if keys, _, err := source.Keys(t.Context(), "any", start); err != nil || len(keys) == 0 || source.Ready(start) != nil {
			t.Errorf("Test %d: got %v, %v", i, keys, err)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such file",
		"{env.KEYS_TEST_UNSET}/key":  "is empty",
	} {
		if err := provision(t, &PEM{Files: []string{path}}); !strings.Contains(errorText(err), want) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret64+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYS_TEST_SECRET", secret64)
	t.Setenv("KEYS_TEST_EMPTY", "")
	for _, tc := range []struct{ value, want, err string }{
		{"{env.KEYS_TEST_SECRET}", "HS256 HS384 HS512", ""},
		{"{file." + file + "}", "HS256 HS384 HS512", ""},
		{secret64[:32], "HS256", ""},
		{"", "", "empty"},
		{"{env.KEYS_TEST_EMPTY}", "", "unknown or empty"},
		{"{env.KEYS_TEST_UNSET}", "", "unknown or empty"},
		{"{file." + file + ".absent}", "", "unknown or empty"},
		{secret64[:31], "", "too short"},
		{"s3cret{s3cret}" + secret64, "", "unknown or empty"},
		{`s3cret\{s3cret\}` + secret64, "HS256 HS384 HS512", ""},
		{"-----BEGIN PUBLIC KEY-----\n" + secret64, "", "PEM"},
	} {
		source := &Secret{Value: tc.value}
		err := provision(t, source)
		got := errorText(err)
		if (got == "") != (tc.err == "") || !strings.Contains(got, tc.err) {
			t.Errorf("%s: got error %q, want %q", tc.value, got, tc.err)
		}
		if strings.Contains(got, secret64[:8]) || strings.Contains(got, "s3cret") {
			t.Errorf("the error shows the secret: %s", got)
		}
		if names := strings.Join(source.Algorithms(), " "); names != tc.want {
			t.Errorf("%s: got %q, want %q", tc.value, names, tc.want)
		}
		if strings.HasPrefix(tc.value, "{") && strings.Contains(fmt.Sprintf("%+v %#v", source, *source), secret64[:8]) {
			t.Error("printing the source shows the secret")
		}
	}
}

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, tc := range []struct {
		module caddyfile.Unmarshaler
		text   string
		want   string // what the module's fields print as
		err    string
	}{
		{new(JWKS), `jwks https://a.example/jwks`, "https://a.example/jwks 0s 0s 0s", ""},
		{new(JWKS), "jwks https://a.example/jwks {\nrefresh_interval 1h\nmin_refresh_interval 1m\ntimeout 3s\n}", "https://a.example/jwks 1h0m0s 1m0s 3s", ""},
		{new(JWKS), `jwks`, "", "wrong argument count"},
		{new(JWKS), `jwks a b`, "", "wrong argument count"},
		{new(JWKS), "jwks a {\nretries 3\n}", "", "unrecognized key source option 'retries'"},
		{new(JWKS), "jwks a {\ntimeout\n}", "", "wrong argument count"},
		{new(JWKS), "jwks a {\ntimeout soon\n}", "", "not a positive duration"},
		{new(JWKS), "jwks a {\ntimeout 0s\n}", "", "not a positive duration"},
		{new(JWKS), "jwks a {\ntimeout 1s\ntimeout 1s\n}", "", "already specified"},
		{new(Discovery), `discovery`, " 0s 0s 0s", ""},
		{new(Discovery), "discovery {\ntimeout 3s\n}", " 0s 0s 3s", ""},
		{new(Discovery), `discovery https://a.example/meta`, "https://a.example/meta 0s 0s 0s", ""},
		{new(Discovery), `discovery a b`, "", "wrong argument count"},
		{new(PEM), `pem a.pem {env.KEY}`, "[a.pem {env.KEY}]", ""},
		{new(PEM), `pem`, "", "wrong argument count"},
		{new(PEM), "pem a {\nkid b\n}", "", "unrecognized key source option 'kid'"},
		{new(Secret), `secret {env.HOME}`, "{env.HOME}", ""},
		{new(Secret), `secret`, "", "wrong argument count"},
		{new(Secret), `secret a b`, "", "wrong argument count"},
		{new(Secret), "secret a {\nb\n}", "", "unrecognized key source option 'b'"},
	} {
		err := tc.module.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.text))
		if got := errorText(err); (got == "") != (tc.err == "") || !strings.Contains(got, tc.err) {
			t.Errorf("%s: got error %q, want %q", tc.text, got, tc.err)
		}
		if err != nil {
			continue
		}
		var got string
		times := func(r Remote) string {
			return fmt.Sprint(time.Duration(r.RefreshInterval), time.Duration(r.MinRefreshInterval), time.Duration(r.Timeout))
		}
		switch module := tc.module.(type) {
		case *JWKS:
			got = module.URL + " " + times(module.Remote)
		case *Discovery:
			got = module.MetadataURL + " " + times(module.Remote)
		case *PEM:
			got = fmt.Sprint(module.Files)
		case *Secret:
			got = module.Value
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.text, got, tc.want)
		}
	}
}

// The four sources are there for others to find under their names.
func TestModulesAreRegistered(t *testing.T) {
	for _, name := range []string{"discovery", "jwks", "pem", "secret"} {
		info, err := caddy.GetModule("mcp_gateway.key_sources." + name)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, ok := info.New().(token.KeySource); !ok {
			t.Errorf("%s is not a key source", name)
		}
	}
}
