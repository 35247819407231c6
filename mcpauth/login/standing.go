package login

import (
	"context"
	"errors"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Standing is what is known of a session when its token is used.
type Standing struct {
	// Access is the claim jti of the only token that is good. It is empty if there is
	// no such session any more.
	Access string
	// Expires is when the session ends unless it is refreshed.
	Expires time.Time
}

// LookUp reads how a session of a user stands. That there is none is no error.
func LookUp(ctx context.Context, store state.Store, userID, id string) (Standing, error) {
	d := &Desk{store: store}
	entry, err := d.session(ctx, userID, id)
	if errors.Is(err, errNoSession) {
		return Standing{}, nil
	}
	return Standing{entry.Data.Access, entry.Expires}, err
}

// StandingKey is the key of the record that this depends on.
func StandingKey(userID, id string) string { return sessions.Key(userID, id) }
