package token

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// base64url is the encoding of RFC 7515 section 2, with one text for one value:
// the loose form ignores stray bits at the end, so that one token would have
// several texts, and whoever revoked one of them by its hash would miss the rest.
var base64url = base64.RawURLEncoding.Strict()

// header is what matters in a JOSE header. The members jku, jwk, x5u and x5c, by
// which a token could bring its own key, are not read at all.
type header struct {
	Algorithm jose.SignatureAlgorithm `json:"alg"`
	Type      string                  `json:"typ"`
	KeyID     string                  `json:"kid"`
	Critical  jsontext.Value          `json:"crit"`
	Base64    jsontext.Value          `json:"b64"`
}

// unverified is a token that was read and not yet believed.
type unverified struct {
	header header
	claims map[string]any
	signed string // the text that the signature is about
}

// parse reads the compact form of a signed JWT (RFC 7515 section 7.1).
func parse(raw string) (unverified, *Error) {
	var tok unverified
	protected, rest, ok := strings.Cut(raw, ".")
	if !ok {
		return tok, refuse(Malformed)
	}
	payload, signature, ok := strings.Cut(rest, ".")
	// The decoder skips line breaks, even when it is strict.
	if !ok || signature == "" || strings.ContainsAny(raw, "\r\n") || strings.Contains(signature, ".") {
		return tok, refuse(Malformed)
	}
	headerText, err := base64url.DecodeString(protected)
	if err != nil {
		return tok, refuse(Malformed)
	}
	if _, err := base64url.DecodeString(signature); err != nil {
		return tok, refuse(Malformed)
	}
	if json.Unmarshal(headerText, &tok.header) != nil {
		return tok, refuse(Malformed)
	}
	if tok.header.Critical != nil || tok.header.Base64 != nil {
		return tok, refuse(CriticalHeader)
	}
	claimsText, err := base64url.DecodeString(payload)
	if err != nil {
		return tok, refuse(Malformed)
	}
	if json.Unmarshal(claimsText, &tok.claims) != nil || tok.claims == nil {
		return tok, refuse(Malformed)
	}
	tok.signed = raw[:len(protected)+1+len(payload)]
	return tok, nil
}
