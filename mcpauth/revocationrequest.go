package mcpauth

import (
	"errors"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// RevocationRequest is the body of a request to revoke.
//
// By is id, hash, subject, client or everyone; without an issuer, tokens of every issuer
// are meant. Before spares the tokens of a subject, of a client or of everyone that are
// issued from that moment on; for everyone it is required. When such tokens have expired
// anyhow, the revocation is forgotten; without that time, never.
type RevocationRequest struct {
	By      string    `json:"by"`
	Value   string    `json:"value,omitempty"`
	Issuer  string    `json:"issuer,omitempty"`
	Before  time.Time `json:"before,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

// RevocationStatus is how the set of revocations is.
type RevocationStatus struct {
	// Revocations is how many are known, Streams how many streams and sessions end when
	// their token is revoked.
	Revocations int `json:"revocations"`
	Streams     int `json:"streams"`
	// Age is, in seconds, how long ago everything was known that was revoked; Stale is
	// whether that is too long ago, or never was, so that requests are refused.
	Age   float64 `json:"age"`
	Stale bool    `json:"stale"`
}

// Revocation is what is asked for.
func (r *RevocationRequest) Revocation() (state.Revocation, error) {
	if r.By == state.RevokeEveryone.String() && r.Before.IsZero() {
		return state.Revocation{}, errors.New("to revoke everyone's tokens needs before; without it, nobody could come back")
	}
	made := state.Revocation{Issuer: r.Issuer, Value: r.Value, Before: r.Before, Expires: r.Expires}
	for kind := state.RevokeID; kind <= state.RevokeEveryone; kind++ {
		if kind.String() == r.By {
			made.Kind = kind
			return made, state.CheckRevocation(made)
		}
	}
	return made, errors.New("by must be id, hash, subject, client or everyone")
}
