package token

import (
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Claims are what a verified token says. They are shared by all requests of that
// token and must not be changed.
type Claims struct {
	// Issuer and Subject together name the principal; Subject alone does not,
	// because two issuers may use the same one.
	Issuer  string
	Subject string

	// ClientID is the OAuth client the token was issued to, from the claim
	// client_id (RFC 9068) or azp. Empty if the token names none.
	ClientID string

	// TokenID is the claim jti. Empty only where the issuer may leave it out.
	TokenID string

	// Scopes are the scopes of the claims scope and scp, in the token's order.
	Scopes []string

	// Scope is what the token may reach at all.
	Scope *scope.Scope

	// ScopeMap is what OAuth scopes permit, nil when they do not bound the token.
	ScopeMap *scope.ScopeMap

	// Expires is the claim exp.
	Expires time.Time

	// IssuedAt is the claim iat, or the zero time.
	IssuedAt time.Time

	// Digest is the SHA-256 of the signed part of the token, its header and
	// payload. It tells tokens without a jti apart. The signature is left out,
	// because the holder of a token signed with ECDSA can make a second valid
	// signature of it.
	Digest [32]byte

	members  map[string]any
	deadline time.Time
	keys     KeySource
	epoch    uint64
	// fresh is until when the issuer need not be asked again, the zero time if it was
	// not asked.
	fresh time.Time
}

// NewClaims returns the claims of a principal that has no token, and for whom somebody
// else than an issuer of tokens vouches. They do not expire: the deadline is the zero
// time. The members are those that Lookup finds, and are not copied.
func NewClaims(issuer, subject string, members map[string]any, reach *scope.Scope) *Claims {
	return &Claims{Issuer: issuer, Subject: subject, Scope: reach, members: members}
}

// Bounded returns the claims as somebody else bounds them who knows more: with another
// scope, and with members in place of those of the token. The members are those that
// Lookup finds, and are not copied.
func (c *Claims) Bounded(reach *scope.Scope, members map[string]any) *Claims {
	bounded := *c
	bounded.Scope, bounded.members = reach, members
	return &bounded
}

// Deadline is the moment from which the token is refused: Expires and the
// issuer's leeway. Streams that the token opened end then. It is the zero time where
// there is no token.
func (c *Claims) Deadline() time.Time { return c.deadline }

// Current reports whether no key of the issuer was withdrawn since the token was
// verified. If one was, the token has to be verified again.
func (c *Claims) Current() bool {
	if c.keys == nil {
		return !c.fresh.IsZero() // the issuer itself has verified it
	}
	return c.keys.Epoch() == c.epoch
}

// FreshUntil is the moment from which the issuer has to be asked about the token again,
// by verifying it again. It is the zero time if the issuer is not asked.
func (c *Claims) FreshUntil() time.Time { return c.fresh }

// Stale reports whether the issuer has to be asked again at now.
func (c *Claims) Stale(now time.Time) bool { return !c.fresh.IsZero() && !now.Before(c.fresh) }

// Lookup returns a claim as it was parsed: a string, a float64, a bool, nil, a
// map[string]any or a []any, none of which may be changed. The path is the exact
// name of a claim, dots included, or else the names of members inside each other
// with dots between: "realm_access.roles".
func (c *Claims) Lookup(path string) (any, bool) {
	return lookup(c.members, path)
}

// All returns every claim, as Lookup would. It must not be changed.
func (c *Claims) All() map[string]any { return c.members }

func lookup(members map[string]any, path string) (any, bool) {
	if value, ok := members[path]; ok {
		return value, true
	}
	name, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil, false
	}
	inner, ok := members[name].(map[string]any)
	if !ok {
		return nil, false
	}
	return lookup(inner, rest)
}

// Values returns the values of the claim at path (see Lookup): one for a string,
// its elements for an array of strings. It reports false for a claim that is
// absent or of any other form, an array with one element of another type
// included: roles must not be granted on a surprise.
func (c *Claims) Values(path string) ([]string, bool) {
	value, ok := c.Lookup(path)
	if !ok {
		return nil, false
	}
	return stringList(value)
}

func stringList(value any) ([]string, bool) {
	switch value := value.(type) {
	case string:
		return []string{value}, true
	case []any:
		list := make([]string, len(value))
		for i, element := range value {
			text, ok := element.(string)
			if !ok {
				return nil, false
			}
			list[i] = text
		}
		return list, true
	}
	return nil, false
}
