package account

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Standing is what is known of an account when a token speaks for it.
type Standing struct {
	// Known is whether there is such a user. Without one, there is nothing else.
	Known bool
	User  User
	// Teams are the IDs of those that the user is a member of, sorted.
	Teams []string
	// Assignments are the roles of the user, those included that are not active.
	Assignments []Assignment
}

// LookUp reads how the account with an ID stands. That there is none is no error.
//
// The keys are those of the records that this depends on beside those of StandingKeys.
// What it does not depend on can never be of importance to it later: no team or user
// ever comes back.
func LookUp(ctx context.Context, store state.Store, id string) (standing Standing, keys []string, err error) {
	s := &Service{store: store, now: time.Now}
	user, err := s.UserByID(ctx, id)
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.Kind == Unknown {
		return Standing{}, nil, nil
	}
	if err != nil {
		return Standing{}, nil, err
	}
	standing = Standing{Known: true, User: user}
	if standing.Teams, err = s.teamIDs(ctx, id); err != nil {
		return Standing{}, nil, err
	}
	if standing.Assignments, err = s.Assignments(ctx, id); err != nil {
		return Standing{}, nil, err
	}
	keys = append(keys, users.Key(user.Email))
	for _, team := range standing.Teams {
		keys = append(keys, teams.Key(team))
	}
	for _, a := range standing.Assignments {
		if key := teams.Key(a.Team); a.Team != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return standing, keys, nil
}

// StandingKeys are the keys of records that how an account stands depends on whatever is
// read: those that end with a slash are what such keys begin with.
func StandingKeys(id string) []string {
	return []string{userIDs.Key(id), state.Prefix(memberOf.Name, id), state.Prefix(assignments.Name, id)}
}
