package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

var (
	//go:embed redis.conf
	redisConf string
	//go:embed users.acl
	usersACL string
)

const (
	issuer = "https://cluster.example"
	// life is that of all that is made here, which is made anew by each start.
	life = 24 * time.Hour
)

// redisFiles writes what Redis is started with into dir, an authority of our own
// included, and returns the password of the user gateway.
func redisFiles(dir, addr string) (password string, err error) {
	password = rand.Text()
	hash := sha256.Sum256([]byte(password))
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "redis.conf"), []byte(strings.Replace(redisConf, "{PORT}", launch.Port(addr), 1)), 0o600),
		os.WriteFile(filepath.Join(dir, "users.acl"), []byte(strings.Replace(usersACL, "{HASH}", hex.EncodeToString(hash[:]), 1)), 0o600),
		certificates(dir),
	)
	return password, err
}

// certificates writes an authority, ca.pem, and what it has signed for a server at
// 127.0.0.1, redis.pem with its key. Nobody keeps the authority's key.
func certificates(dir string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "examples/cluster"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(
		write("ca.pem", "CERTIFICATE", caDER),
		write("redis.pem", "CERTIFICATE", serverDER),
		write("redis-key.pem", "PRIVATE KEY", keyDER),
	)
}

// identity is someone with a token, whose id is the claim jti.
type identity struct{ name, id, token string }

// identities writes the key that tokens are checked with, and returns two who have one.
func identities(dir, audience string) ([]identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := launch.WriteKey(filepath.Join(dir, "issuer.pem"), key); err != nil {
		return nil, err
	}
	now := time.Now()
	ids := []identity{{name: "ana"}, {name: "rob"}}
	for i := range ids {
		id := &ids[i]
		id.id = rand.Text()
		id.token, err = launch.Sign(jose.ES256, key, struct {
			jwt.Claims
			Roles []string `json:"roles"`
		}{
			jwt.Claims{
				Issuer: issuer, Subject: id.name, Audience: jwt.Audience{audience}, ID: id.id,
				IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
			},
			[]string{"reader"},
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}
