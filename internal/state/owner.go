package state

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
)

// Owner is whom a session or a task belongs to. The subject alone would not do: two
// issuers may use the same one, and a client must not take over another client's
// session.
type Owner struct {
	Issuer, Subject, ClientID string
}

// Parts are the owner as the first parts of a key: the person, who is the issuer's
// subject, and the client.
func (o Owner) Parts() (person, client string) {
	return Fingerprint(16, o.Issuer, o.Subject), Fingerprint(10, o.ClientID)
}

// Fingerprint is what stands for texts in a key, in letters and digits: so many bytes of
// their SHA-256 hash.
func Fingerprint(size int, texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		h.Write(binary.AppendUvarint(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:size]))
}
