package catalogue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Scope is what a token is restricted to, in the form of the claim scopes (behaviour.md
// section 2). What is left out, or null, restricts nothing.
type Scope struct {
	// The name of the only server that the token is for.
	ServerID *string `json:"server_id,omitzero"`
	// What the token permits at most, such as tools.execute, or * for everything. The
	// roles of its user bound it, too. Left out, they alone do.
	Permissions []string `json:"permissions,omitzero"`
	// The addresses and CIDR blocks from which the token can be used.
	IPRestrictions []string `json:"ip_restrictions,omitzero"`
	// When the token can be used.
	TimeRestrictions *TimeRestrictions `json:"time_restrictions,omitzero"`
	// How often the token can be used.
	UsageLimits *UsageLimits `json:"usage_limits,omitzero"`
}

// TimeRestrictions say when a token can be used. All of them must hold.
type TimeRestrictions struct {
	// From and until when in a day, such as 09:00 and 17:00, both inclusive. A window
	// whose start is after its end is one over night.
	StartTime *string `json:"start_time,omitzero"`
	EndTime   *string `json:"end_time,omitzero"`
	// The name of the time zone for them and for the days, such as Europe/Berlin.
	// Default: UTC.
	Timezone *string `json:"timezone,omitzero"`
	// The days, such as Monday.
	Days []string `json:"days,omitzero"`
	// From 09:00 until before 17:00, UTC.
	BusinessHoursOnly *bool `json:"business_hours_only,omitzero"`
	// Monday to Friday, UTC.
	WeekdaysOnly *bool `json:"weekdays_only,omitzero"`
}

// UsageLimits say how often a token can be used.
type UsageLimits struct {
	// How many requests in any hour.
	RequestsPerHour *int64 `json:"requests_per_hour,omitzero"`
	// How many requests in any day.
	RequestsPerDay *int64 `json:"requests_per_day,omitzero"`
}

const (
	// maxList bounds the lists of a scope, maxEntry what is in them, and maxClaim the
	// claim in bytes: a token has to fit into a header.
	maxList  = 100
	maxEntry = 255
	maxClaim = 4 << 10
)

// compiled is a scope as the request path reads it.
type compiled struct {
	// claim is the claim scopes, nil for one that restricts nothing.
	claim jsontext.Value
	// names are the permissions as they are written, nil for no restriction.
	names  []string
	server string
	reads  *scope.Scope
}

// compile makes the claim of a scope, and reads it with the very code that reads tokens:
// what it refuses is refused now, and not when the token is used.
func compile(in Scope, id, issuer string) (*compiled, error) {
	if len(in.IPRestrictions) == 0 {
		in.IPRestrictions = nil
	}
	if in.TimeRestrictions != nil && in.TimeRestrictions.isEmpty() {
		in.TimeRestrictions = nil
	}
	if in.UsageLimits != nil && *in.UsageLimits == (UsageLimits{}) {
		in.UsageLimits = nil
	}
	if len(in.Permissions) > maxList || len(in.IPRestrictions) > maxList {
		return nil, unprocessable("scope_too_large", fmt.Sprintf("a list in the scope has more than %d entries", maxList))
	}
	if err := checkNames(in.Permissions); err != nil {
		return nil, err
	}
	if in.ServerID != nil && len(*in.ServerID) > maxEntry {
		return nil, unprocessable("scope_too_large", "the name of the server is too long")
	}
	in.Permissions = transport(in.Permissions)
	claim, err := json.Marshal(in)
	if err != nil {
		return nil, unprocessable("scope_invalid", "the scope is not valid text")
	}
	if string(claim) == "{}" {
		claim = nil
	}
	if len(claim) > maxClaim {
		return nil, unprocessable("scope_too_large", fmt.Sprintf("the scope has more than %d bytes", maxClaim))
	}
	return parse(claim, id, issuer)
}

func (t *TimeRestrictions) isEmpty() bool {
	return t.StartTime == nil && t.EndTime == nil && t.Timezone == nil && t.Days == nil && t.BusinessHoursOnly == nil && t.WeekdaysOnly == nil
}

// checkNames refuses names of permissions that tokens may have and that nobody should
// write: those that mean more when there are more permissions some day. An empty list
// means nothing to one reader, and everything to another.
func checkNames(names []string) error {
	if names != nil && len(names) == 0 {
		return unprocessable("permissions_empty", "the list of permissions is empty; leave it out for a token that its user's roles alone bound, or name what it is for")
	}
	for _, name := range names {
		if len(name) > maxEntry {
			return unprocessable("scope_too_large", "the name of a permission is too long")
		}
		if name != "*" && strings.Contains(name, "*") {
			return unprocessable("permission_wildcard", "a permission cannot have a star, such as tools.*; name each one, or use * alone")
		}
	}
	return nil
}

// transport adds the permission to connect to a server, without which a token for what
// is on one is of no use.
func transport(names []string) []string {
	if slices.Contains(names, "*") || slices.Contains(names, mcp.ServersUse.String()) {
		return names
	}
	for _, name := range names {
		if category, _, _ := strings.Cut(name, "."); category == "tools" || category == "resources" || category == "prompts" {
			return append(slices.Clip(names), mcp.ServersUse.String())
		}
	}
	return names
}

// parse reads a claim.
func parse(claim jsontext.Value, id, issuer string) (*compiled, error) {
	c := &compiled{claim: claim}
	claims := map[string]any{"jti": id, "iss": issuer}
	if claim != nil {
		var value any
		var written Scope
		if json.Unmarshal(claim, &value) != nil || json.Unmarshal(claim, &written) != nil {
			return nil, unprocessable("scope_invalid", "the scope cannot be read")
		}
		claims["scopes"], c.names = value, written.Permissions
		if written.ServerID != nil {
			c.server = *written.ServerID
		}
	}
	var err error
	c.reads, err = scope.Parse(func(name string) (any, bool) {
		value, ok := claims[name]
		return value, ok
	}, nil, scope.Config{})
	if err != nil {
		// It tells the place, and nothing of what stands there.
		return nil, unprocessable("scope_invalid", err.Error())
	}
	return c, nil
}

// permits reports whether a token with that scope is let do something, as far as the
// scope goes.
func (c *compiled) permits(p mcp.Permission) bool { return c.reads.Permits(scope.Of(p)) }

// within reports whether one scope permits nothing that another does not, and is bound
// to a server if that is.
func (c *compiled) within(other *compiled) bool {
	for _, p := range mcp.Permissions() {
		if c.permits(p) && !other.permits(p) {
			return false
		}
	}
	return (c.names != nil || other.names == nil) && (other.server == "" || other.server == c.server)
}
