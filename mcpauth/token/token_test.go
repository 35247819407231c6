package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

func TestMain(m *testing.M) {
	if err := os.Setenv("TOKEN_TEST_SECRET", secret64); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const (
	issuerA  = "https://a.example"
	issuerB  = "https://b.example"
	issuerS  = "shared-secret-issuer"
	resource = "https://mcp.example.com/servers/warehouse/mcp"
	secret64 = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqr"
)

var (
	now        = time.Unix(1_800_000_000, 0)
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey      = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ec384Key   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	ec521Key   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	ed25519Key = sync.OnceValue(func() ed25519.PrivateKey {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// object is a JSON object to be written into a token.
type object map[string]any

// goodClaims are claims that issuer A's tokens are accepted with; change
// overrides them, and deletes those it sets to remove.
func goodClaims(change object) object {
	claims := object{
		"iss": issuerA, "sub": "alice", "aud": resource, "jti": "t-1",
		"exp": now.Unix() + 300, "iat": now.Unix() - 10, "scope": "mcp:read mcp:write", "client_id": "inspector",
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == remove })
	return claims
}

type removal struct{}

var remove any = removal{}

// signed makes a token of claims, with a header of alg, typ at+jwt and what
// change says.
func signed(alg string, key any, claims object, change object) string {
	header := object{"alg": alg, "typ": "at+jwt"}
	maps.Copy(header, change)
	maps.DeleteFunc(header, func(_ string, value any) bool { return value == remove })
	return signedText(alg, key, string(must(json.Marshal(header))), string(must(json.Marshal(claims))))
}

// signedText signs whatever texts it is given, by the standard library alone.
func signedText(alg string, key any, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(alg, key, input))
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func signature(alg string, key any, input string) []byte {
	if alg == "EdDSA" {
		return ed25519.Sign(key.(ed25519.PrivateKey), []byte(input))
	}
	if alg == "none" {
		return []byte{0}
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if secret, ok := key.([]byte); ok {
		mac := hmac.New(hash.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	digest := hash.New()
	digest.Write([]byte(input))
	sum := digest.Sum(nil)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(nil, key, hash, sum))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			panic(err)
		}
		size := (key.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	}
	panic("no way to sign " + alg)
}

// publicPEM is the text of a public key, which everybody may know.
func publicPEM(public crypto.PublicKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))})
}

// pemSource configures the pem key source with files that hold the keys.
func pemSource(tb testing.TB, public ...crypto.PublicKey) json.RawMessage {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys.pem")
	var text []byte
	for _, key := range public {
		text = append(text, publicPEM(key)...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return must(json.Marshal(object{"source": "pem", "files": []string{path}}))
}

func secretSource() json.RawMessage {
	return []byte(`{"source":"secret","value":"{env.TOKEN_TEST_SECRET}"}`)
}

// newVerifier provisions the issuers as Caddy would.
func newVerifier(tb testing.TB, issuers ...*token.Issuer) *token.Verifier {
	tb.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: tb.Context()})
	tb.Cleanup(cancel)
	for _, iss := range issuers {
		if err := iss.Provision(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	verifier, err := token.NewVerifier(issuers, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return verifier
}

// standardVerifier knows issuer A with an RSA, three ECDSA and an Ed25519 key,
// issuer B with another RSA key, and an issuer with a shared secret.
func standardVerifier(tb testing.TB) *token.Verifier {
	return newVerifier(tb,
		&token.Issuer{Issuer: issuerA, KeysRaw: pemSource(tb, rsaKey().Public(), ecKey().Public(),
			ec384Key().Public(), ec521Key().Public(), ed25519Key().Public())},
		&token.Issuer{Issuer: issuerB, KeysRaw: pemSource(tb, otherRSA().Public())},
		&token.Issuer{Issuer: issuerS, KeysRaw: secretSource()},
	)
}

func toPublic(keys []any) []crypto.PublicKey {
	list := make([]crypto.PublicKey, len(keys))
	for i, key := range keys {
		list[i] = key
	}
	return list
}

// publicJWK is the JSON form of an RSA key.
func publicJWK(key *rsa.PublicKey) object {
	return object{
		"kty": "RSA", "e": "AQAB",
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
	}
}
