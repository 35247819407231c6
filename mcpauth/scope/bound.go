package scope

import (
	"net/netip"
	"time"
)

// Bound is what bounds a token beside what it says itself: the record of it that is kept
// where it was issued. It can only take away.
type Bound struct {
	// Scopes is what the record says in the form of the claim scopes; nil bounds
	// nothing.
	Scopes *Scope
	// Team is the only team whose objects may be seen. Empty is that of a personal
	// token, which is not for a team.
	Team string
}

// ParseBound reads what a record says in the form of the claim scopes, as it stands in a
// token: what makes a token invalid is an error here, too. It is counted as the token of
// that issuer with that jti.
func ParseBound(scopes any, issuer, jti string, cfg Config) (*Scope, error) {
	claims := map[string]any{"scopes": scopes, "iss": issuer, "jti": jti}
	return Parse(func(name string) (any, bool) {
		value, ok := claims[name]
		return value, ok
	}, nil, Config{EmptyPermissions: cfg.EmptyPermissions})
}

// Within returns the scope as far as the bound reaches, too. It is for a scope after
// [Scope.ForAccount].
func (s *Scope) Within(b Bound) *Scope {
	if s == nil {
		return nil
	}
	bounded := *s
	switch {
	case b.Team == "" && s.view == viewTeams, b.Team != "" && !s.Sees(Team, b.Team, "", ""):
		bounded.view, bounded.teams = viewPublic, nil
	case b.Team != "":
		bounded.view, bounded.teams = viewTeams, []string{b.Team}
	}
	if b.Scopes == nil {
		return &bounded
	}
	bounded.also = b.Scopes
	bounded.permissions &= b.Scopes.permissions
	if bounded.limits = s.limits.within(b.Scopes.limits); s.limits.none() {
		bounded.key = b.Scopes.key
	}
	return &bounded
}

// The rest of what bounds a token cannot be made one: both are asked.

func (s *Scope) alsoServer(name string) bool { return s.also == nil || s.also.AllowsServer(name) }

func (s *Scope) alsoAddress(addr netip.Addr) bool {
	return s.also == nil || s.also.AllowsAddress(addr)
}

func (s *Scope) alsoTime(now time.Time) bool { return s.also == nil || s.also.AllowsTime(now) }
