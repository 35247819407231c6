package scope

import (
	"net/http"
	"net/netip"
	"time"
)

// Cause is why a request was refused, for the audit trail. The text is stable. It is
// not for the client, who could otherwise find out piece by piece how a token that
// was stolen is bound.
type Cause string

// The causes, in the order in which they are looked for.
const (
	CauseMembership Cause = "scope_membership"
	CauseVisibility Cause = "scope_visibility"
	CauseServer     Cause = "scope_server"
	CauseAddress    Cause = "scope_address"
	CauseTime       Cause = "scope_time"
	CausePermission Cause = "scope_permission"
	CauseOAuth      Cause = "scope_oauth"
	CauseUsage      Cause = "scope_usage"
	CauseUncounted  Cause = "scope_uncounted"
)

// The reasons that a client may be told. That of visibility, server, address and
// permission is one and the same.
const (
	ReasonMembership   = "token_membership"
	ReasonForbidden    = "forbidden_scope"
	ReasonTime         = "forbidden_time"
	ReasonInsufficient = "insufficient_scope"
	ReasonUsage        = "usage_exceeded"
	ReasonUncounted    = "usage_unavailable"
)

// Refusal is the answer to a request that goes beyond the token. It must not be
// changed: most refusals are shared.
type Refusal struct {
	// Status is the status of the HTTP answer.
	Status int
	// Reason is what the client is told.
	Reason string
	// Cause is what the audit trail is told.
	Cause Cause
	// RetryAfter is when there will be room for another request; 0 unless the
	// cause is the usage.
	RetryAfter time.Duration
}

var (
	refusedVisibility = &Refusal{Status: http.StatusForbidden, Reason: ReasonForbidden, Cause: CauseVisibility}
	refusedServer     = &Refusal{Status: http.StatusForbidden, Reason: ReasonForbidden, Cause: CauseServer}
	refusedAddress    = &Refusal{Status: http.StatusForbidden, Reason: ReasonForbidden, Cause: CauseAddress}
	refusedTime       = &Refusal{Status: http.StatusForbidden, Reason: ReasonTime, Cause: CauseTime}
	refusedPermission = &Refusal{Status: http.StatusForbidden, Reason: ReasonForbidden, Cause: CausePermission}
	refusedOAuth      = &Refusal{Status: http.StatusForbidden, Reason: ReasonInsufficient, Cause: CauseOAuth}
)

// Request is what is asked of a token.
type Request struct {
	// Server is the name of the server.
	Server string
	// Visibility, Team and Owner are those of the server. A server that is for
	// everybody has to say so: see [Visibility].
	Visibility  Visibility
	Team, Owner string
	// Subject is who holds the token, in the form of Owner.
	Subject string
	// ClientIP is the address of the client as Caddy knows it, after its trusted
	// proxies. The zero Addr is an unknown one.
	ClientIP netip.Addr
	// Now is when the request was made.
	Now time.Time
	// Need is all that the request needs, mcp.ServersUse at least.
	Need Permissions
}

// Check answers a request: nil when the token reaches that far. What is looked for,
// and in which order, is fixed (behaviour.md section 2.1): [Scope.Reach], then
// [Scope.Permit]. Then it is counted, if it has to be, see [Scope.Usage]: only if
// nothing else is against it.
func (s *Scope) Check(q *Request) *Refusal {
	if refusal := s.Reach(q); refusal != nil {
		return refusal
	}
	return s.Permit(q.Need)
}

// Reach is the first part of [Scope.Check], for which the body of a request need not
// be known: whether the server is seen, and whether the token is for this server,
// address and time.
func (s *Scope) Reach(q *Request) *Refusal {
	switch {
	case !s.Sees(q.Visibility, q.Team, q.Owner, q.Subject):
		return refusedVisibility
	case !s.AllowsServer(q.Server):
		return refusedServer
	}
	return s.Admits(q.ClientIP, q.Now)
}

// Admits is the part of [Scope.Reach] that has nothing to do with a server: whether the
// token is for this address and time.
func (s *Scope) Admits(client netip.Addr, now time.Time) *Refusal {
	switch {
	case !s.AllowsAddress(client):
		return refusedAddress
	case !s.AllowsTime(now):
		return refusedTime
	}
	return nil
}

// Permit is the second part of [Scope.Check]: whether the token has all permissions
// that are needed. Those of the claim come first: when they are lacking, wider OAuth
// scopes would not help, and the client must not be sent to get them. When the cause
// is [CauseOAuth], they would: see [ScopeMap.Known].
func (s *Scope) Permit(need Permissions) *Refusal {
	switch {
	case s == nil || !s.permissions.Has(need):
		return refusedPermission
	case !s.granted.Has(need):
		return refusedOAuth
	}
	return nil
}

// Permits reports whether [Scope.Permit] has nothing against it.
func (s *Scope) Permits(need Permissions) bool {
	return s != nil && (s.permissions & s.granted).Has(need)
}
