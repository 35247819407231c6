package catalogue

import (
	"time"

	"github.com/go-json-experiment/json"
)

// Token is what is told of a token. The token itself is not in it.
type Token struct {
	// What the token is known by, its claim jti.
	ID string `json:"id"`
	// What people call it, unique among the active tokens of its user in its team.
	Name        string `json:"name"`
	Description string `json:"description"`
	// The address of the user that it speaks for.
	UserEmail string `json:"user_email"`
	// The team whose objects it sees; none for a personal token.
	TeamID string `json:"team_id,omitzero"`
	// The only server it is for; none for any.
	ServerID string `json:"server_id,omitzero"`
	// What it permits at most. Left out, the roles of its user alone bound it.
	ResourceScopes []string `json:"resource_scopes,omitzero"`
	// From where it can be used. Left out, from anywhere.
	IPRestrictions []string `json:"ip_restrictions,omitzero"`
	// When it can be used. Left out, at any time.
	TimeRestrictions *TimeRestrictions `json:"time_restrictions,omitzero"`
	// How often it can be used. Left out, any number of times.
	UsageLimits *UsageLimits `json:"usage_limits,omitzero"`
	CreatedAt   time.Time    `json:"created_at"`
	ExpiresAt   time.Time    `json:"expires_at"`
	// When it was used last, as of some minutes ago.
	LastUsed time.Time `json:"last_used,omitzero"`
	// Whether it can be used. Unlike a revocation, this can be taken back.
	IsActive bool `json:"is_active"`
	// Whether it was revoked for good, when, by whom and why.
	IsRevoked        bool      `json:"is_revoked"`
	RevokedAt        time.Time `json:"revoked_at,omitzero"`
	RevokedBy        string    `json:"revoked_by,omitzero"`
	RevocationReason string    `json:"revocation_reason,omitzero"`
	Tags             []string  `json:"tags"`
}

// show is what is told of a record.
func show(r *Record, used time.Time) Token {
	t := Token{
		ID: r.ID, Name: r.Name, Description: r.Description, UserEmail: r.Email, TeamID: r.Team, CreatedAt: r.Created, ExpiresAt: r.Expires,
		LastUsed: used, IsActive: r.Active, IsRevoked: !r.Revoked.IsZero(), RevokedAt: r.Revoked, RevokedBy: r.RevokedBy,
		RevocationReason: r.Reason, Tags: r.Tags,
	}
	var scope Scope
	if r.Scopes != nil && json.Unmarshal(r.Scopes, &scope) == nil {
		if scope.ServerID != nil {
			t.ServerID = *scope.ServerID
		}
		t.ResourceScopes, t.IPRestrictions = scope.Permissions, scope.IPRestrictions
		t.TimeRestrictions, t.UsageLimits = scope.TimeRestrictions, scope.UsageLimits
	}
	return t
}
