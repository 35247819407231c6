package state

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// RevocationKind is what a revocation goes by. The numbers are kept in stores.
type RevocationKind uint8

const (
	// RevokeID ends the token whose claim jti is Value.
	RevokeID RevocationKind = iota + 1
	// RevokeHash ends the token whose hash is Value, 64 hexadecimal digits: for
	// tokens without a jti.
	RevokeHash
	// RevokeSubject ends the tokens whose claim sub is Value.
	RevokeSubject
	// RevokeClient ends the tokens that were issued to the client Value.
	RevokeClient
	// RevokeEveryone ends all tokens. Value is empty.
	RevokeEveryone
)

// RevocationKinds is how many kinds there are.
const RevocationKinds = int(RevokeEveryone)

// String is the kind's name.
func (k RevocationKind) String() string {
	switch k {
	case RevokeID:
		return "id"
	case RevokeHash:
		return "hash"
	case RevokeSubject:
		return "subject"
	case RevokeClient:
		return "client"
	case RevokeEveryone:
		return "everyone"
	}
	return "unknown"
}

// Revocation ends tokens before they expire. It is for good: there is no taking it
// back, but tokens that are issued later are not concerned.
type Revocation struct {
	Kind RevocationKind
	// Issuer is whose tokens are meant. Empty means those of every issuer.
	Issuer string
	// Value is the token id, hash, subject or client.
	Value string
	// Before, if it is not zero, spares the tokens that were issued at that moment or
	// later, by their claim iat, which only has whole seconds: Before is rounded up
	// to one. Tokens without that claim are not spared. It is not for RevokeID and
	// RevokeHash.
	Before time.Time
	// Expires is when no such token can be used any more anyhow: its exp and the
	// leeway of its issuer, or for all of a subject the longest life of a token.
	// Afterwards the revocation is forgotten. Zero means never.
	Expires time.Time
}

// MaxRevocation bounds the issuer and the value of a revocation, in bytes each.
const MaxRevocation = 16 << 10

// CheckRevocation refuses what no store takes. Implementations call it.
func CheckRevocation(r Revocation) error {
	if len(r.Issuer) > MaxRevocation || len(r.Value) > MaxRevocation {
		return fmt.Errorf("the issuer or the value of a revocation has more than %d bytes", MaxRevocation)
	}
	switch r.Kind {
	case RevokeID, RevokeHash:
		if !r.Before.IsZero() {
			return errors.New("the revocation of one token goes by no issue time; leave Before out")
		}
	case RevokeSubject, RevokeClient:
	case RevokeEveryone:
		if r.Value != "" {
			return errors.New("the revocation of everyone's tokens has no value")
		}
		return nil
	default:
		return fmt.Errorf("unknown kind of revocation %d", r.Kind)
	}
	if r.Value == "" {
		return fmt.Errorf("the revocation by %s does not say which", r.Kind)
	}
	if r.Kind == RevokeHash {
		if b, err := hex.DecodeString(r.Value); err != nil || len(b) != 32 || r.Value != strings.ToLower(r.Value) {
			return errors.New("the hash of a token is 64 hexadecimal digits, in lower case")
		}
	}
	return nil
}

// Same reports whether two revocations go by the same thing, so that stores keep one.
func (r Revocation) Same(other Revocation) bool {
	return r.Kind == other.Kind && r.Issuer == other.Issuer && r.Value == other.Value
}

// Join is the revocation that covers what two do that are the Same.
func (r Revocation) Join(other Revocation) Revocation {
	if other.Before.IsZero() || !r.Before.IsZero() && other.Before.After(r.Before) {
		r.Before = other.Before
	}
	if other.Expires.IsZero() || !r.Expires.IsZero() && other.Expires.After(r.Expires) {
		r.Expires = other.Expires
	}
	return r
}

// Over reports whether the revocation has expired.
func (r Revocation) Over(now time.Time) bool { return !r.Expires.IsZero() && !now.Before(r.Expires) }

// RevocationText begins what stores keep for a revocation:
//
//	mcp_gateway/1 <expires> <before> <kind> <issuer> <value>
//
// where the times are in milliseconds since 1970, 0 for none, and the rest is escaped
// as in a URL's query, with * for every issuer.
const RevocationText = "mcp_gateway/1"

// EncodeText returns it.
func (r Revocation) EncodeText() string {
	return fmt.Sprintf("%s %d %d %d %s %s", RevocationText, Millis(r.Expires), Millis(r.Before), r.Kind, EscapeIssuer(r.Issuer), url.QueryEscape(r.Value))
}

// DecodeRevocation reads what EncodeText made.
func DecodeRevocation(text string) (r Revocation, err error) {
	fields := strings.Split(text, " ")
	if len(fields) != 6 || fields[0] != RevocationText {
		return r, ErrDamaged
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(fields[i+1], 10, 64); err != nil || numbers[i] < 0 {
			return r, ErrDamaged
		}
	}
	r.Expires, r.Before = FromMillis(numbers[0]), FromMillis(numbers[1])
	r.Kind = RevocationKind(min(numbers[2], 255)) // #nosec G115 -- bounded
	if r.Issuer, err = UnescapeIssuer(fields[4]); err != nil {
		return r, ErrDamaged
	}
	if r.Value, err = url.QueryUnescape(fields[5]); err != nil {
		return r, ErrDamaged
	}
	if CheckRevocation(r) != nil {
		return r, ErrDamaged
	}
	return r, nil
}

const everyIssuer = "*"

// EscapeIssuer writes an issuer without spaces; every issuer as *, which no escaped
// text is.
func EscapeIssuer(issuer string) string {
	if issuer == "" {
		return everyIssuer
	}
	return url.QueryEscape(issuer)
}

// UnescapeIssuer reads what EscapeIssuer wrote.
func UnescapeIssuer(text string) (string, error) {
	if text == everyIssuer {
		return "", nil
	}
	return url.QueryUnescape(text)
}
