package scope

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// Lookup returns a top-level claim as it was parsed: a string, a float64, a bool,
// nil, a map[string]any or a []any; false when there is none.
type Lookup func(name string) (any, bool)

// Error says which claim makes a token invalid, and why. It holds nothing of the
// token itself, so that it may be logged. The answer to it is 401 with the reason
// token_scope.
type Error struct {
	// Claim is where the mistake is, such as "scopes.ip_restrictions".
	Claim string
	// Problem is what is wrong with it.
	Problem string
}

// Error returns the claim and the problem.
func (e *Error) Error() string { return e.Claim + " " + e.Problem }

func invalid(claim, problem string) *Error { return &Error{claim, problem} }

// Parse reads what a token may reach. The claims are those of a token that was
// verified, and scopes its OAuth scopes as the verifier read them. Every error is an
// [*Error] and means that the token is invalid.
//
// An absent claim restricts nothing, with the exception of teams. An explicit null
// counts as absent only in teams, where it has a meaning of its own, and in
// scopes.server_id, where ContextForge writes it into every token that is bound to
// no server.
func Parse(claims Lookup, scopes []string, cfg Config) (*Scope, error) {
	s := &Scope{
		publicOnly:  cfg.AbsentTeams != "" && cfg.AbsentTeams != AbsentUnrestricted,
		permissions: allPermissions,
		granted:     allPermissions,
	}
	if err := s.readUser(claims); err != nil {
		return nil, err
	}
	if value, ok := claims("scopes"); ok {
		if err := s.readScopes(value, cfg.EmptyPermissions == EmptyInherit); err != nil {
			return nil, err
		}
	}
	if !s.limits.none() {
		id, _ := claims("jti")
		text, _ := id.(string)
		if text == "" {
			return nil, invalid("scopes.usage_limits", "cannot be counted for a token without a jti")
		}
		issuer, _ := claims("iss")
		name, _ := issuer.(string)
		s.key = UsageKey(name, text)
	}
	if cfg.ScopePermissions {
		s.granted = cfg.scopes.Permissions(scopes)
	}
	return s, nil
}

// readUser reads who the token is for: is_admin, token_use and teams.
func (s *Scope) readUser(claims Lookup) *Error {
	var err *Error
	if s.admin, err = readAdmin(claims); err != nil {
		return err
	}
	if value, ok := claims("token_use"); ok {
		use, ok := value.(string)
		if !ok {
			return invalid("token_use", "is not a string")
		}
		s.session = strings.EqualFold(use, "session")
	}
	value, ok := claims("teams")
	if s.claim, s.named, err = readTeams(value, ok); err != nil {
		return err
	}
	// Who a session is for is known to the accounts alone: without them, nobody is
	// an administrator because a session says so.
	s.admin = s.admin && !s.session
	s.resolve()
	return nil
}

// readAdmin reads is_admin, which is a claim of its own or a member of user. Any
// value but true and false is a mistake: ContextForge took the text "false" for
// true.
func readAdmin(claims Lookup) (bool, *Error) {
	value, top := claims("is_admin")
	admin, ok := value.(bool)
	if top && !ok {
		return false, invalid("is_admin", "is not true or false")
	}
	object, _ := claims("user")
	user, _ := object.(map[string]any)
	value, inner := user["is_admin"]
	if !inner {
		return admin, nil
	}
	other, ok := value.(bool)
	if !ok {
		return false, invalid("user.is_admin", "is not true or false")
	}
	if top && admin != other {
		return false, invalid("user.is_admin", "differs from is_admin")
	}
	return other, nil
}

// readScopes reads the claim scopes.
func (s *Scope) readScopes(value any, inherit bool) *Error {
	members, ok := value.(map[string]any)
	if !ok {
		return invalid("scopes", "is not an object")
	}
	for _, name := range sortedNames(members) {
		var err *Error
		value := members[name]
		switch name {
		case "server_id":
			s.server, err = readServer(value)
		case "permissions":
			s.permissions, err = readPermissions(value, inherit)
		case "ip_restrictions":
			s.addresses, err = readAddresses(value)
		case "time_restrictions":
			s.window, err = readWindow(value)
		case "usage_limits":
			s.limits, err = readLimits(value)
		default:
			err = invalid("scopes", "has an unknown member")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readServer reads server_id. ContextForge takes an empty text for no restriction;
// here it is a mistake, because whoever wrote it meant some server.
func readServer(value any) (string, *Error) {
	if value == nil {
		return "", nil
	}
	name, ok := value.(string)
	if !ok {
		return "", invalid("scopes.server_id", "is not a string")
	}
	if name == "" {
		return "", invalid("scopes.server_id", "is empty")
	}
	return name, nil
}

// readLimits reads usage_limits. An empty object limits nothing.
func readLimits(value any) (Limits, *Error) {
	const claim = "scopes.usage_limits"
	var limits Limits
	members, ok := value.(map[string]any)
	if !ok {
		return limits, invalid(claim, "is not an object")
	}
	for _, name := range sortedNames(members) {
		limit := &limits.PerDay
		switch name {
		case "requests_per_hour":
			limit = &limits.PerHour
		case "requests_per_day":
		default:
			return Limits{}, invalid(claim, "has an unknown member")
		}
		number, ok := members[name].(float64)
		// From 2^53 on, a float64 need not be the number that was written.
		if !ok || !(number >= 1 && number < 1<<53) || number != math.Trunc(number) {
			return Limits{}, invalid(claim+"."+name, "is not a positive integer")
		}
		*limit = uint32(min(number, math.MaxUint32))
	}
	return limits, nil
}

// sortedNames are the names of an object's members in one order, so that of two
// mistakes the same is always reported.
func sortedNames(object map[string]any) []string {
	return slices.Sorted(maps.Keys(object))
}

// texts reads a list of strings.
func texts(claim string, value any) ([]string, *Error) {
	list, ok := value.([]any)
	if !ok {
		return nil, invalid(claim, "is not a list")
	}
	out := make([]string, len(list))
	for i, element := range list {
		if out[i], ok = element.(string); !ok {
			return nil, invalid(claim, "has an element that is not a string")
		}
	}
	return out, nil
}

// Interface guard.
var _ error = (*Error)(nil)
