package token

import (
	"errors"
	"time"
)

// Reason names the cause for which a token was refused. The text is stable: it
// is what clients find in an answer, and operators in logs and metrics.
type Reason string

// The reasons for which a token is refused.
const (
	Malformed         Reason = "token_malformed"
	TooLarge          Reason = "token_too_large"
	WrongAlgorithm    Reason = "token_algorithm"
	WrongType         Reason = "token_type"
	CriticalHeader    Reason = "token_critical_header"
	UnknownIssuer     Reason = "token_issuer"
	UnknownKey        Reason = "token_key_unknown"
	BadSignature      Reason = "token_signature"
	WrongAudience     Reason = "token_audience"
	Expired           Reason = "token_expired"
	NotYetValid       Reason = "token_not_yet_valid"
	MissingExpiry     Reason = "token_missing_exp"
	MissingTokenID    Reason = "token_missing_jti"
	MissingSubject    Reason = "token_missing_subject"
	InvalidClaims     Reason = "token_claims"
	NotAccessToken    Reason = "token_not_access_token"
	SenderConstrained Reason = "token_sender_constrained"
	InvalidScope      Reason = "token_scope"
	WrongEnvironment  Reason = "token_environment"
	KeysUnavailable   Reason = "keys_unavailable"

	Inactive                 Reason = "token_inactive"
	Disagreement             Reason = "token_disagreement"
	IntrospectionUnavailable Reason = "introspection_unavailable"
)

// descriptions hold one sentence per reason, made of nothing that a client sent.
var descriptions = map[Reason]string{
	Malformed:         "the access token is not a well-formed signed JWT",
	TooLarge:          "the access token is too large",
	WrongAlgorithm:    "the access token is signed with an algorithm that is not accepted",
	WrongType:         "the access token is of a type that is not accepted",
	CriticalHeader:    "the access token demands an extension that is not supported",
	UnknownIssuer:     "the access token is from an issuer that is not accepted",
	UnknownKey:        "the access token is signed with an unknown key",
	BadSignature:      "the access token has an invalid signature",
	WrongAudience:     "the access token was not issued for this resource",
	Expired:           "the access token has expired",
	NotYetValid:       "the access token is not valid yet",
	MissingExpiry:     "the access token has no expiration time",
	MissingTokenID:    "the access token has no token identifier",
	MissingSubject:    "the access token has no subject",
	InvalidClaims:     "the access token has a claim of the wrong form",
	NotAccessToken:    "the token is not an access token",
	SenderConstrained: "the access token is bound to a key that was not proven",
	InvalidScope:      "the access token's restrictions are of the wrong form",
	WrongEnvironment:  "the access token is for another environment",
	KeysUnavailable:   "the keys of the token's issuer are not available",

	Inactive:                 "the access token is not active",
	Disagreement:             "the access token is not what its issuer says it is",
	IntrospectionUnavailable: "the issuer of the access token cannot be asked about it",
}

// Description is the reason in one fixed sentence, which may be shown to
// anybody. It holds neither quotes nor backslashes, so that it fits into the
// error_description of a challenge (RFC 6750 section 3).
func (r Reason) Description() string {
	if text, ok := descriptions[r]; ok {
		return text
	}
	return "the access token was refused"
}

// Error is the refusal of a token. Every error of [Verifier.Verify] is one.
type Error struct {
	// Reason is the cause. KeysUnavailable and IntrospectionUnavailable do not speak
	// against the token: the answer to them is 503, to all others 401.
	Reason Reason
	// RetryAfter is after which time a token that could not be judged may be; 0 if
	// that is not known.
	RetryAfter time.Duration
	cause      error
}

// Unavailable reports whether the token could not be judged, because its issuer is not
// there.
func (e *Error) Unavailable() bool {
	return e.Reason == KeysUnavailable || e.Reason == IntrospectionUnavailable
}

// NewError returns a refusal for reason. A cause is for the log only; it must
// hold nothing of a token or of a secret.
func NewError(reason Reason, cause error) *Error {
	return &Error{Reason: reason, cause: cause}
}

// Error is meant for logs. What a client may read is Reason and its Description.
func (e *Error) Error() string {
	if e.cause == nil {
		return string(e.Reason) + ": " + e.Reason.Description()
	}
	return string(e.Reason) + ": " + e.Reason.Description() + ": " + e.cause.Error()
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// ReasonOf returns the reason of a refusal, or "" when err is none.
func ReasonOf(err error) Reason {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Reason
	}
	return ""
}

func refuse(reason Reason) *Error { return &Error{Reason: reason} }
