package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// The bounds of what is accepted as a key. RFC 7518 section 3.3 asks for 2048
// bits; verifying with 4096 already costs twelve times as much. RFC 7518 section
// 3.2 asks for a secret as long as the hash, which is 32 bytes for HS256.
const (
	minRSABits     = 2048
	maxRSABits     = 4096
	MinSecretBytes = 32
)

var (
	rsaAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	macAlgorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
)

// Key verifies signatures, and only with the algorithms that fit what it is: a
// public key never serves as the secret of HS256, nor a secret as anything else.
// Make one with [NewPublicKey] or [NewSecretKey]; the zero Key verifies nothing.
type Key struct {
	id         string
	algorithms []jose.SignatureAlgorithm
	material   any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte of a secret
}

// NewPublicKey makes a key of an RSA key of 2048 to 4096 bits, an ECDSA key on
// P-256, P-384 or P-521, or an Ed25519 key. The id is the kid of the tokens that
// it verifies; a key with an empty id verifies tokens of any kid and of none.
// Algorithms narrow what the type of the key allows; none means all of that.
func NewPublicKey(id string, public crypto.PublicKey, algorithms ...string) (Key, error) {
	key := Key{id: id, material: public}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return Key{}, fmt.Errorf("the RSA key has %d bits; use one of %d to %d", bits, minRSABits, maxRSABits)
		}
		if public.E < 3 || public.E%2 == 0 {
			return Key{}, errors.New("the RSA key has an invalid public exponent")
		}
		key.algorithms = rsaAlgorithms
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			key.algorithms = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			key.algorithms = []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			key.algorithms = []jose.SignatureAlgorithm{jose.ES512}
		default:
			return Key{}, errors.New("the ECDSA key is on an unsupported curve; use P-256, P-384 or P-521")
		}
		if _, err := public.ECDH(); err != nil {
			return Key{}, errors.New("the ECDSA key is not a point of its curve")
		}
	case ed25519.PublicKey:
		if len(public) != ed25519.PublicKeySize {
			return Key{}, errors.New("the Ed25519 key has the wrong length")
		}
		key.algorithms = []jose.SignatureAlgorithm{jose.EdDSA}
	default:
		return Key{}, fmt.Errorf("a key of type %T cannot verify tokens; use an RSA, ECDSA or Ed25519 public key", public)
	}
	if len(algorithms) > 0 {
		possible := key.algorithms
		key.algorithms = nil
		for _, name := range algorithms {
			if !slices.Contains(possible, jose.SignatureAlgorithm(name)) {
				return Key{}, fmt.Errorf("this type of key does not serve the algorithm %q", name)
			}
			key.algorithms = append(key.algorithms, jose.SignatureAlgorithm(name))
		}
	}
	return key, nil
}

// NewSecretKey makes a key of a shared secret of at least 32 bytes. It serves
// HS256, from 48 bytes on HS384 too, and from 64 bytes on HS512 (RFC 7518
// section 3.2). The text of an error never holds any of the secret.
func NewSecretKey(id string, secret []byte) (Key, error) {
	switch {
	case len(secret) == 0:
		return Key{}, errors.New("the secret is empty")
	case len(secret) < MinSecretBytes:
		return Key{}, fmt.Errorf("the secret is too short; use at least %d bytes", MinSecretBytes)
	case strings.Contains(string(secret), "-----BEGIN "):
		return Key{}, errors.New("the secret is a PEM text, which others may know; put public keys into a pem key source")
	case strings.Contains(string(secret), `"kty"`):
		return Key{}, errors.New("the secret is a JSON Web Key, which others may know; name a jwks key source for public keys")
	}
	algorithms := macAlgorithms[:1]
	if len(secret) >= 64 {
		algorithms = macAlgorithms
	} else if len(secret) >= 48 {
		algorithms = macAlgorithms[:2]
	}
	return Key{id: id, algorithms: algorithms, material: slices.Clone(secret)}, nil
}

// AsymmetricAlgorithms returns the names of all algorithms that public keys can
// serve. It is what a source answers that does not know its keys yet.
func AsymmetricAlgorithms() []string {
	return names(append(slices.Clone(rsaAlgorithms), jose.ES256, jose.ES384, jose.ES512, jose.EdDSA))
}

// ID returns the kid of the key, or "" when it verifies tokens of any kid.
func (k Key) ID() string { return k.id }

// Algorithms returns the names of the algorithms that the key may verify.
func (k Key) Algorithms() []string { return names(k.algorithms) }

// Equal reports whether both keys verify exactly the same tokens.
func (k Key) Equal(other Key) bool {
	if k.id != other.id || !slices.Equal(k.algorithms, other.algorithms) {
		return false
	}
	if secret, ok := k.material.([]byte); ok {
		otherSecret, ok := other.material.([]byte)
		return ok && subtle.ConstantTimeCompare(secret, otherSecret) == 1
	}
	public, ok := k.material.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(other.material)
}

// Format prints the id and the algorithms, whatever the verb: a secret must not
// get into a log because somebody printed the structure around it.
func (k Key) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, "key "+k.id+" for "+strings.Join(k.Algorithms(), " "))
}

func (k Key) serves(algorithm jose.SignatureAlgorithm) bool {
	return slices.Contains(k.algorithms, algorithm)
}

func names(algorithms []jose.SignatureAlgorithm) []string {
	list := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		list[i] = string(algorithm)
	}
	return list
}

// Interface guards
var _ fmt.Formatter = Key{}
