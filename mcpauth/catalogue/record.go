// Package catalogue knows the API tokens that the gateway has issued: what each may be
// used for, whose it is, and whether it is good yet. What a token says can only be
// bounded by its record, never widened.
package catalogue

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Record is what is kept of a token (behaviour.md sections 4.3 and 4.4). The token
// itself is not kept, nor can it be had again.
type Record struct {
	// ID is the claim jti, and what the token is known by.
	ID string `json:"id"`
	// Name is unique among the active tokens of the user in the team.
	Name        string   `json:"name"`
	Description string   `json:"description,omitzero"`
	Tags        []string `json:"tags,omitzero"`
	// UserID is the claim sub, the ID of the account that the token speaks for; Email
	// its address when the token was made.
	UserID string `json:"user_id"`
	Email  string `json:"user_email"`
	// Team is the only team whose objects the token may see; empty is that of a
	// personal token.
	Team string `json:"team_id,omitzero"`
	// Scopes bounds the token in the form of the claim scopes (behaviour.md section
	// 2), and may be narrower by now than what the token says; null bounds nothing.
	Scopes jsontext.Value `json:"scopes,omitzero"`
	// Claim is the claim scopes of the token as it was signed. A token never permits
	// more than that, whatever Scopes has become.
	Claim jsontext.Value `json:"claim,omitzero"`
	// Hash is the SHA-256 of the whole token, in hexadecimal digits.
	Hash    string    `json:"hash"`
	Created time.Time `json:"created_at"`
	// By is the ID of the account that had it made.
	By      string    `json:"created_by"`
	Expires time.Time `json:"expires_at"`
	// Active is whether it can be used; unlike a revocation, it can be taken back.
	Active bool `json:"is_active"`
	// Revoked is when it was revoked for good, RevokedBy and Reason by whom, as the
	// audit log calls them, and why.
	Revoked   time.Time `json:"revoked_at,omitzero"`
	RevokedBy string    `json:"revoked_by,omitzero"`
	Reason    string    `json:"revocation_reason,omitzero"`
}

// Records is the table of the tokens. A record expires some time after its token.
var Records = state.Table[Record]{Name: state.TableToken, Version: 1}
