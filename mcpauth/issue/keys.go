package issue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// key is one of the issuer's keys.
type key struct {
	jwk jose.JSONWebKey
	// public verifies what the key has signed.
	public token.Key
	// signer is nil once the key only verifies.
	signer  jose.Signer
	created time.Time
	// from is when it begins to sign, until when nothing that it has signed can be
	// good any more; zero for never.
	from, until time.Time
}

// newKey makes a key of a private one, or of a public one that only verifies. Its kid
// is its thumbprint (RFC 7638), so that no two keys have the same.
func newKey(material crypto.PrivateKey) (*key, error) {
	var public crypto.PublicKey = material
	private, signs := material.(crypto.Signer)
	if signs {
		public = private.Public()
	}
	algorithm, err := algorithmOf(public)
	if err != nil {
		return nil, err
	}
	k := &key{jwk: jose.JSONWebKey{Key: public, Algorithm: string(algorithm), Use: "sig"}}
	print, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	k.jwk.KeyID = base64.RawURLEncoding.EncodeToString(print)
	if k.public, err = token.NewPublicKey(k.jwk.KeyID, public, string(algorithm)); err != nil {
		return nil, err
	}
	if signs {
		k.signer, err = jose.NewSigner(
			jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: material, KeyID: k.jwk.KeyID}},
			new(jose.SignerOptions).WithType("JWT"))
	}
	return k, err
}

func algorithmOf(public crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *rsa.PublicKey:
		return jose.RS256, nil
	}
	return "", errors.New("the signing key must be an ECDSA key on P-256, P-384 or P-521, an Ed25519 key or an RSA key")
}

// storedKeys is what the store has: all keys in one record, so that nodes never have
// half of a change.
type storedKeys struct {
	Keys []storedKey `json:"keys"`
}

type storedKey struct {
	// Private is the key in PKCS #8; it is not kept longer than it signs. Public is
	// the key in PKIX.
	Private []byte    `json:"private,omitzero"`
	Public  []byte    `json:"public"`
	Created time.Time `json:"created"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until,omitzero"`
}

var records = state.Table[storedKeys]{Name: state.TableSecret, Version: 1}

// recordKey is what the keys are for.
const recordKey = "signing_keys"

// generate makes a key for ES256.
func generate(now, from time.Time) (storedKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return storedKey{}, err
	}
	s := storedKey{Created: now.UTC(), From: from.UTC()}
	if s.Private, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return storedKey{}, err
	}
	s.Public, err = x509.MarshalPKIXPublicKey(private.Public())
	return s, err
}

// load reads a key. No error repeats any of it.
func (s storedKey) load() (*key, error) {
	var material any
	var err error
	if len(s.Private) > 0 {
		material, err = x509.ParsePKCS8PrivateKey(s.Private)
	} else {
		material, err = x509.ParsePKIXPublicKey(s.Public)
	}
	if err != nil {
		return nil, errors.New("a stored signing key can't be read")
	}
	k, err := newKey(material)
	if err != nil {
		return nil, err
	}
	k.created, k.from, k.until = s.Created, s.From, s.Until
	return k, nil
}

// id is the kid.
func (s storedKey) id() string {
	k, err := s.load()
	if err != nil {
		return ""
	}
	return k.jwk.KeyID
}

// loadFiles reads keys from PEM files, the first of which signs.
func loadFiles(files []string) ([]*key, error) {
	var keys []*key
	for i, file := range files {
		k, err := loadFile(file)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", file, err)
		}
		switch {
		case i == 0 && k.signer == nil:
			return nil, fmt.Errorf("signing key %s: the first file must have a private key", file)
		case slices.ContainsFunc(keys, func(other *key) bool { return other.jwk.KeyID == k.jwk.KeyID }):
			return nil, fmt.Errorf("signing key %s: the same key is in another file", file)
		case i > 0:
			k.signer = nil
		}
		keys = append(keys, k)
	}
	return keys, nil
}

const maxFile = 64 << 10

func loadFile(file string) (*key, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, errors.New("the file is too large for a key")
	}
	content, err := os.ReadFile(file) // #nosec G304 -- the operator named it
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		var material any
		switch block.Type {
		case "PRIVATE KEY":
			material, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			material, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			material, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PUBLIC KEY":
			material, err = x509.ParsePKIXPublicKey(block.Bytes)
		default: // such as EC PARAMETERS
			continue
		}
		if err != nil {
			return nil, errors.New("the key can't be read")
		}
		k, err := newKey(material)
		if err != nil {
			return nil, err
		}
		k.created, k.from = info.ModTime(), info.ModTime()
		return k, nil
	}
	return nil, errors.New("there is no private or public key in PEM in it; encrypted keys are not supported")
}
