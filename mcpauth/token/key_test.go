package token_test

import (
	"crypto"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func TestNewPublicKey(t *testing.T) {
	bits := func(n uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), n-1), E: 65537}
	}
	p224 := &ecdsa.PublicKey{Curve: elliptic.P224(), X: big.NewInt(1), Y: big.NewInt(1)}
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	for _, tc := range []struct {
		name   string
		public crypto.PublicKey
		limit  []string
		want   string
		err    string
	}{
		{"RSA", rsaKey().Public(), nil, "RS256 RS384 RS512 PS256 PS384 PS512", ""},
		{"RSA narrowed", rsaKey().Public(), []string{"PS256"}, "PS256", ""},
		{"RSA for encryption", rsaKey().Public(), []string{"RSA-OAEP"}, "", "RSA-OAEP"},
		{"RSA as a secret", rsaKey().Public(), []string{"HS256"}, "", "HS256"},
		{"RSA too short", bits(2047), nil, "", "2047 bits"},
		{"RSA too long", bits(4097), nil, "", "4097 bits"},
		{"RSA exponent 1", &rsa.PublicKey{N: rsaKey().N, E: 1}, nil, "", "exponent"},
		{"RSA exponent even", &rsa.PublicKey{N: rsaKey().N, E: 4}, nil, "", "exponent"},
		{"P-256", ecKey().Public(), nil, "ES256", ""},
		{"P-384", ec384Key().Public(), nil, "ES384", ""},
		{"P-521", ec521Key().Public(), nil, "ES512", ""},
		{"P-256 for ES384", ecKey().Public(), []string{"ES384"}, "", "ES384"},
		{"P-224", p224, nil, "", "unsupported curve"},
		{"not on the curve", offCurve, nil, "", "not a point"},
		{"Ed25519", ed25519Key().Public(), nil, "EdDSA", ""},
		{"Ed25519 too short", ed25519.PublicKey{1}, nil, "", "length"},
		{"private key", rsaKey(), nil, "", "cannot verify"},
		{"bytes", []byte(secret64), nil, "", "cannot verify"},
		{"DSA", &dsa.PublicKey{}, nil, "", "cannot verify"},
		{"nothing", nil, nil, "", "cannot verify"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, err := token.NewPublicKey("k", tc.public, tc.limit...)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("got error %v, want %q", err, tc.err)
			}
			if got := strings.Join(key.Algorithms(), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestKeyEqual(t *testing.T) {
	public := func(id string, key crypto.PublicKey, algorithms ...string) token.Key {
		return must(token.NewPublicKey(id, key, algorithms...))
	}
	secret := func(text string) token.Key { return must(token.NewSecretKey("a", []byte(text))) }
	key := public("a", rsaKey().Public())
	for name, tc := range map[string]struct {
		a, b token.Key
		want bool
	}{
		"same":             {key, public("a", rsaKey().Public()), true},
		"other id":         {key, public("b", rsaKey().Public()), false},
		"other key":        {key, public("a", otherRSA().Public()), false},
		"other type":       {key, public("a", ecKey().Public()), false},
		"other algorithms": {key, public("a", rsaKey().Public(), "RS256"), false},
		"same secret":      {secret(secret64), secret(secret64), true},
		"other secret":     {secret(secret64), secret(secret64[1:] + "x"), false},
		"secret and key":   {secret(secret64), key, false},
		"zero":             {token.Key{}, token.Key{}, false},
	} {
		if got := tc.a.Equal(tc.b); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
