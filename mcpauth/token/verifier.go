package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// DefaultMaxSize is the size in bytes up to which the text of a token is read
// unless configured otherwise. Caddy itself reads request headers up to 16 KiB.
const DefaultMaxSize = 16 << 10

// maxCandidates bounds how many keys are tried for one token. With a kid there
// is nearly always one; a token without a kid must not cost as many signatures
// as an issuer has keys.
const maxCandidates = 8

// Verifier judges access tokens. It is safe for use by many requests at once.
type Verifier struct {
	// Environment is what a token's claim env must be, if it has one. Empty means
	// that it is not looked at.
	Environment string

	issuers map[string]*Issuer
	// asked is the issuer of tokens that only it can read, if there is one.
	asked   *Issuer
	maxSize int
	slots   chan struct{}
}

// NewVerifier makes a verifier for the tokens of issuers, which must have been
// provisioned and must differ in their identifier. Texts longer than maxSize
// bytes are refused unread; 0 means [DefaultMaxSize].
func NewVerifier(issuers []*Issuer, maxSize int) (*Verifier, error) {
	if maxSize <= 0 {
		maxSize = DefaultMaxSize
	}
	v := &Verifier{
		issuers: make(map[string]*Issuer, len(issuers)),
		maxSize: maxSize,
		slots:   make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	for _, iss := range issuers {
		if iss.keys == nil && iss.asked == nil {
			return nil, fmt.Errorf("issuer %s is not provisioned", iss.Issuer)
		}
		if _, ok := v.issuers[iss.Issuer]; ok {
			return nil, fmt.Errorf("issuer %s is configured twice; merge the two", iss.Issuer)
		}
		v.issuers[iss.Issuer] = iss
		if iss.asked == nil {
			continue
		}
		if v.asked != nil {
			return nil, fmt.Errorf("both %s and %s are to be asked about tokens; such a token does not say whose it is, and may be shown to no other issuer: leave introspection to one of them", v.asked.Issuer, iss.Issuer)
		}
		v.asked = iss
	}
	return v, nil
}

// Verify returns the claims of a token that may be used at now, which should
// come from time.Now, for one of the audiences. Those are the resource
// identifiers of what the request is for; an issuer's own audiences, if
// configured, replace them. No audience at all accepts no token.
//
// Every error is an [*Error]. When ctx ends before the token is judged, that is
// KeysUnavailable or IntrospectionUnavailable with the cause of the end.
func (v *Verifier) Verify(ctx context.Context, raw string, now time.Time, audiences []string) (*Claims, error) {
	if len(raw) > v.maxSize {
		return nil, refuse(TooLarge)
	}
	tok, refusal := parse(raw)
	if refusal != nil {
		if v.asked != nil && isOpaque(raw) {
			return v.ask(ctx, v.asked, raw, raw, now, audiences)
		}
		return nil, refusal
	}
	name, _ := tok.claims["iss"].(string)
	iss, ok := v.issuers[name]
	if !ok {
		return nil, refuse(UnknownIssuer)
	}
	if iss.keys == nil {
		return v.ask(ctx, iss, raw, tok.signed, now, audiences)
	}
	if !slices.Contains(iss.algorithms, tok.header.Algorithm) {
		return nil, refuse(WrongAlgorithm)
	}
	if !iss.acceptsType(tok.header.Type) {
		return nil, refuse(WrongType)
	}
	epoch, err := v.verifySignature(ctx, iss, tok.header, raw, now)
	if err != nil {
		return nil, err
	}
	claims, refusal := v.judge(iss, tok.claims, audiences, now)
	if refusal != nil {
		return nil, refusal
	}
	claims.Digest = sha256.Sum256([]byte(tok.signed))
	claims.keys, claims.epoch = iss.keys, epoch
	if iss.asked != nil {
		if err := iss.confirm(ctx, claims, raw, now); err != nil {
			return nil, err
		}
	}
	return claims, nil
}

// judge decides on what a token of the issuer says.
func (v *Verifier) judge(iss *Issuer, members map[string]any, audiences []string, now time.Time) (*Claims, *Error) {
	if len(iss.Audiences) > 0 {
		audiences = iss.Audiences
	}
	claims, refusal := iss.judge(members, audiences, now)
	if refusal != nil {
		return nil, refusal
	}
	if err := scope.CheckEnvironment(claims.Lookup, v.Environment); err != nil {
		return nil, NewError(WrongEnvironment, err)
	}
	return claims, nil
}

// verifySignature returns the epoch of the key that made the signature.
func (v *Verifier) verifySignature(ctx context.Context, iss *Issuer, head header, raw string, now time.Time) (epoch uint64, err error) {
	keys, epoch, err := iss.keys.Keys(ctx, head.KeyID, now)
	if err != nil {
		return 0, &Error{Reason: KeysUnavailable, cause: fmt.Errorf("issuer %s: %w", iss.Issuer, err)}
	}
	if len(keys) == 0 {
		return 0, refuse(UnknownKey)
	}
	candidates := make([]Key, 0, 1)
	for _, key := range keys {
		if key.serves(head.Algorithm) {
			candidates = append(candidates, key)
		}
	}
	if len(candidates) == 0 {
		return 0, refuse(WrongAlgorithm)
	}
	if len(candidates) > maxCandidates {
		return 0, refuse(UnknownKey)
	}
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return 0, &Error{Reason: KeysUnavailable, cause: context.Cause(ctx)}
	}
	// The one algorithm that was found acceptable is all that the library may
	// use: the two of us cannot read the header differently.
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{head.Algorithm})
	if err != nil {
		return 0, refuse(Malformed)
	}
	for _, key := range candidates {
		if _, err := jws.Verify(key.material); err == nil {
			return epoch, nil
		}
	}
	return 0, refuse(BadSignature)
}

// Ready returns nil when the keys of every issuer are known, and the issuer that is
// asked about tokens has answered the last time, else what is missing.
// It never waits, and sees to it that missing keys are fetched in the
// background: the app calls it when it starts, for no keys are fetched while a
// configuration is only being loaded.
func (v *Verifier) Ready(now time.Time) error {
	var missing []error
	for name, iss := range v.issuers {
		if iss.keys != nil {
			if err := iss.keys.Ready(now); err != nil {
				missing = append(missing, fmt.Errorf("issuer %s: %w", name, err))
			}
		}
		if iss.asked != nil {
			if err := iss.asked.Ready(now); err != nil {
				missing = append(missing, fmt.Errorf("issuer %s: introspection: %w", name, err))
			}
		}
	}
	return errors.Join(missing...)
}
