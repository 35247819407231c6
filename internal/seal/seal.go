// Package seal closes texts that clients carry for the gateway and must neither read
// nor change, and keeps the secret that its keys are made from.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// MaxText is the length in bytes up to which a text is sealed.
	MaxText = 8 << 10
	// block is what a text's length is rounded up to, so that a sealed one does not
	// tell how long it is.
	block = 64
	// markerSize is a multiple of three, which base64 turns into whole characters.
	markerSize = 6
	// head is what stands before the encrypted text, overhead all that it is longer by.
	head     = markerSize + chacha20poly1305.NonceSizeX
	overhead = head + chacha20poly1305.Overhead
)

// MaxSealed is the length in bytes up to which a sealed text can be one.
var MaxSealed = encoding.EncodedLen(overhead + padded(MaxText))

// ErrTooLong is for a text that is longer than MaxText.
var ErrTooLong = errors.New("the text is too long to be sealed")

var encoding = base64.RawURLEncoding.Strict()

// Box seals texts for one purpose, and opens those and no others. Its keys are those
// of its Secret. It may be used by several goroutines at once.
//
// A sealed text is, in base64url without padding: a marker, which tells texts that a
// key of this box has sealed from all others, a nonce, and the text encrypted with
// XChaCha20-Poly1305. Its nonces are long enough to be drawn at random however many
// texts one key seals; with AES-GCM that ends at some billions (NIST SP 800-38D
// section 8.3), and the key here is for ever and of several nodes.
type Box struct {
	keys atomic.Pointer[[]key]
}

// key is one of a Box. The first one seals, all open.
type key struct {
	marker string
	aead   cipher.AEAD
}

// newKey derives the key for a purpose from a root (RFC 5869).
func newKey(root []byte, purpose string) (key, error) {
	made, err := hkdf.Key(sha256.New, root, nil, "caddy-mcp-gateway "+purpose, markerSize+chacha20poly1305.KeySize)
	if err != nil {
		return key{}, err
	}
	aead, err := chacha20poly1305.NewX(made[markerSize:])
	return key{encoding.EncodeToString(made[:markerSize]), aead}, err
}

// Seal seals a text for whom, and what, bound names.
func (b *Box) Seal(text string, bound ...string) (string, error) {
	if len(text) > MaxText {
		return "", ErrTooLong
	}
	k := &(*b.keys.Load())[0]
	plain := make([]byte, padded(len(text)))
	binary.BigEndian.PutUint16(plain, uint16(len(text))) //nolint:gosec // at most MaxText
	copy(plain[2:], text)

	sealed := make([]byte, head, overhead+len(plain))
	_, _ = encoding.Decode(sealed, []byte(k.marker))
	nonce := sealed[markerSize:]
	_, _ = rand.Read(nonce) // never fails
	return encoding.EncodeToString(k.aead.Seal(sealed, nonce, plain, associated(bound))), nil
}

// Sealed reports whether a text is one that this box has sealed, or is made to look
// like one.
func (b *Box) Sealed(text string) bool { return b.find(text) != nil }

// Open opens what was sealed for the same names. ok is false for everything else.
func (b *Box) Open(sealed string, bound ...string) (text string, ok bool) {
	k := b.find(sealed)
	if k == nil || len(sealed) > MaxSealed || strings.ContainsAny(sealed, "\r\n") { // base64 reads over these
		return "", false
	}
	raw, err := encoding.DecodeString(sealed)
	if err != nil || len(raw) < overhead {
		return "", false
	}
	plain, err := k.aead.Open(nil, raw[markerSize:head], raw[head:], associated(bound))
	if err != nil || len(plain) < 2 {
		return "", false
	}
	n := int(binary.BigEndian.Uint16(plain))
	if n > len(plain)-2 {
		return "", false
	}
	return string(plain[2 : 2+n]), true
}

func (b *Box) find(text string) *key {
	keys := *b.keys.Load()
	for i := range keys {
		if strings.HasPrefix(text, keys[i].marker) {
			return &keys[i]
		}
	}
	return nil
}

// padded is the length of what is encrypted for a text of that length.
func padded(n int) int { return (2 + n + block - 1) / block * block }

// associated writes names so that no others are written alike.
func associated(names []string) []byte {
	var out []byte
	for _, name := range names {
		out = binary.AppendUvarint(out, uint64(len(name)))
		out = append(out, name...)
	}
	return out
}
