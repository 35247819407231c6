package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

const (
	issuer        = "https://quickstart.example"
	tokenLifetime = 7 * 24 * time.Hour
	renewBefore   = 24 * time.Hour // a kept token must last at least this long
)

// identity is someone with a token.
type identity struct {
	name, role string
	token      string
}

// claims is what the gateway reads in a token.
type claims struct {
	jwt.Claims
	Roles []string `json:"roles"`
}

// credentials returns the two identities and the file with the key their tokens are
// checked with. What an earlier start left in dir is used again where it still holds.
func credentials(dir, audience string) (ids []identity, publicKeyFile string, err error) {
	keyFile := filepath.Join(dir, "issuer.pem")
	key, err := loadKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			err = launch.WriteKey(keyFile, key)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("signing key %s (delete it to get a new one): %w", keyFile, err)
	}
	ids = []identity{{name: "alice", role: "admin"}, {name: "rob", role: "reader"}}
	for i := range ids {
		id := &ids[i]
		file := filepath.Join(dir, id.role+".token")
		if id.token = keptToken(file, key, *id, audience); id.token != "" {
			continue
		}
		if id.token, err = newToken(key, *id, audience); err != nil {
			return nil, "", err
		}
		if err = os.WriteFile(file, []byte(id.token+"\n"), 0o600); err != nil {
			return nil, "", err
		}
	}
	return ids, keyFile + ".pub", nil
}

func loadKey(file string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an ECDSA key, not %T", key)
	}
	return ec, nil
}

// keptToken returns the token in a file if it is signed by key, says the same and still
// lasts; else the empty string.
func keptToken(file string, key *ecdsa.PrivateKey, id identity, audience string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	token := strings.TrimSpace(string(b))
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return ""
	}
	var c claims
	if err := parsed.Claims(key.Public(), &c); err != nil {
		return ""
	}
	expected := jwt.Expected{Issuer: issuer, Subject: id.name, AnyAudience: jwt.Audience{audience}, Time: time.Now().Add(renewBefore)}
	if c.Expiry == nil || c.ValidateWithLeeway(expected, 0) != nil || !slices.Equal(c.Roles, []string{id.role}) {
		return ""
	}
	return token
}

func newToken(key *ecdsa.PrivateKey, id identity, audience string) (string, error) {
	now := time.Now()
	return launch.Sign(jose.ES256, key, claims{
		Claims: jwt.Claims{
			Issuer:   issuer,
			Subject:  id.name,
			Audience: jwt.Audience{audience},
			IssuedAt: jwt.NewNumericDate(now),
			Expiry:   jwt.NewNumericDate(now.Add(tokenLifetime)),
			ID:       rand.Text(),
		},
		Roles: []string{id.role},
	})
}
