package token

import (
	"slices"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// judge decides whether signed claims make a token that may be used now, for one
// of the audiences. What is asked first is what the token is, then for whom,
// then when, then for its parts.
func (iss *Issuer) judge(members map[string]any, audiences []string, now time.Time) (*Claims, *Error) {
	c := &Claims{Issuer: iss.Issuer, members: members}
	if refusal := judgeKind(members); refusal != nil {
		return nil, refusal
	}
	if refusal := judgeAudience(members, audiences); refusal != nil {
		return nil, refusal
	}
	if refusal := c.judgeTime(now, time.Duration(iss.Leeway)); refusal != nil {
		return nil, refusal
	}
	if refusal := c.judgeIdentity(iss.JTIOptional); refusal != nil {
		return nil, refusal
	}
	if refusal := c.readScopes(); refusal != nil {
		return nil, refusal
	}
	restrictions := c.Lookup
	if iss.TokenScopeOff {
		restrictions = func(string) (any, bool) { return nil, false }
	}
	var err error
	if c.Scope, err = scope.Parse(restrictions, c.Scopes, *iss.TokenScope); err != nil {
		return nil, NewError(InvalidScope, err)
	}
	c.ScopeMap = iss.TokenScope.Scopes()
	return c, nil
}

// judgeKind refuses tokens made for another use: ID tokens (OpenID Connect Core
// section 2), the refresh, offline and ID tokens of issuers that mark them with
// a claim typ or token_use, and tokens bound to a key (RFC 7800), which are no
// bearer tokens: nobody here checked that the sender has the key.
func judgeKind(members map[string]any) *Error {
	if _, bound := members["cnf"]; bound {
		return refuse(SenderConstrained)
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash"} {
		if _, ok := members[name]; ok {
			return refuse(NotAccessToken)
		}
	}
	for _, name := range []string{"typ", "token_use"} {
		value, ok := members[name]
		if !ok {
			continue
		}
		kind, ok := value.(string)
		if !ok {
			return refuse(InvalidClaims)
		}
		switch strings.ToLower(kind) {
		case "id", "id_token", "refresh", "refresh_token", "offline":
			return refuse(NotAccessToken)
		}
	}
	return nil
}

// judgeAudience wants one of the audiences among those of the token (RFC 9068
// section 4).
func judgeAudience(members map[string]any, audiences []string) *Error {
	claim, ok := members["aud"]
	if !ok {
		return refuse(WrongAudience)
	}
	named, ok := stringList(claim)
	if !ok {
		return refuse(InvalidClaims)
	}
	for _, name := range named {
		if slices.ContainsFunc(audiences, func(audience string) bool { return sameAudience(name, audience) }) {
			return nil
		}
	}
	return refuse(WrongAudience)
}

// sameAudience tolerates one final slash: "https://a.example" and
// "https://a.example/" are the same resource, and issuers differ in which of the
// two they write.
func sameAudience(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/")
	return a == b && a != ""
}

func (c *Claims) judgeTime(now time.Time, leeway time.Duration) *Error {
	claim, ok := c.members["exp"]
	if !ok {
		return refuse(MissingExpiry)
	}
	if c.Expires, ok = numericDate(claim); !ok {
		return refuse(InvalidClaims)
	}
	c.deadline = c.Expires.Add(leeway)
	if !now.Before(c.deadline) {
		return refuse(Expired)
	}
	for _, name := range []string{"nbf", "iat"} {
		claim, ok := c.members[name]
		if !ok {
			continue
		}
		from, ok := numericDate(claim)
		if !ok {
			return refuse(InvalidClaims)
		}
		if from.After(now.Add(leeway)) {
			return refuse(NotYetValid)
		}
		if name == "iat" {
			c.IssuedAt = from
		}
	}
	return nil
}

// maxDate is the end of the year 9999. A greater number is a mistake, such as
// milliseconds instead of seconds, and would make a token that never ends.
const maxDate = 253402300799

// numericDate reads seconds since 1970, possibly with a fraction (RFC 7519
// section 2).
func numericDate(value any) (time.Time, bool) {
	seconds, ok := value.(float64)
	if !ok || !(seconds >= 0 && seconds <= maxDate) {
		return time.Time{}, false
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*float64(time.Second))), true
}

func (c *Claims) judgeIdentity(idOptional bool) *Error {
	var refusal *Error
	if c.Subject, refusal = identifier(c.members, "sub"); refusal != nil {
		return refusal
	}
	if c.Subject == "" {
		return refuse(MissingSubject)
	}
	if c.TokenID, refusal = identifier(c.members, "jti"); refusal != nil {
		return refusal
	}
	if c.TokenID == "" && !idOptional {
		return refuse(MissingTokenID)
	}
	if c.ClientID, refusal = identifier(c.members, "client_id"); refusal != nil {
		return refusal
	}
	party, refusal := identifier(c.members, "azp")
	if refusal != nil {
		return refusal
	}
	// Two names for the client that differ leave open which one is meant.
	if c.ClientID != "" && party != "" && c.ClientID != party {
		return refuse(InvalidClaims)
	}
	if c.ClientID == "" {
		c.ClientID = party
	}
	return nil
}

// identifier returns a claim that is a string, or "" when it is absent or null.
// Control characters are refused: identifiers go into headers and logs.
func identifier(members map[string]any, name string) (string, *Error) {
	claim := members[name]
	if claim == nil {
		return "", nil
	}
	text, ok := claim.(string)
	if !ok || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
		return "", refuse(InvalidClaims)
	}
	return text, nil
}

// readScopes reads scope (RFC 8693 section 4.2) and scp, the name that some
// issuers use for it. Either may be a string or an array.
func (c *Claims) readScopes() *Error {
	scope, refusal := scopeList(c.members, "scope")
	if refusal != nil {
		return refusal
	}
	scp, refusal := scopeList(c.members, "scp")
	if refusal != nil {
		return refusal
	}
	switch {
	case scope == nil:
		c.Scopes = scp
	case scp == nil || sameSet(scope, scp):
		c.Scopes = scope
	default:
		// Two lists that differ leave open which one was granted.
		return refuse(InvalidClaims)
	}
	return nil
}

// scopeList returns nil when there is no such claim, an empty list when it
// grants nothing. Scopes are separated by exactly one space, and a tab is no
// separator (RFC 6749 section 3.3).
func scopeList(members map[string]any, name string) ([]string, *Error) {
	claim, ok := members[name]
	if !ok {
		return nil, nil
	}
	list, ok := stringList(claim)
	if !ok {
		return nil, refuse(InvalidClaims)
	}
	if text, ok := claim.(string); ok {
		if list = strings.Split(text, " "); text == "" {
			list = []string{}
		}
	}
	for _, scope := range list {
		if !ValidScope(scope) {
			return nil, refuse(InvalidClaims)
		}
	}
	return list, nil
}

// ValidScope reports whether text is a scope-token of RFC 6749 section 3.3:
// printable ASCII without space, quote and backslash.
func ValidScope(text string) bool {
	for i := range len(text) {
		if char := text[i]; char <= 0x20 || char >= 0x7f || char == '"' || char == '\\' {
			return false
		}
	}
	return text != ""
}

func sameSet(a, b []string) bool {
	within := func(list []string) func(string) bool {
		return func(name string) bool { return !slices.Contains(list, name) }
	}
	return !slices.ContainsFunc(a, within(b)) && !slices.ContainsFunc(b, within(a))
}
