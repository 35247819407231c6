package scope

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// builtinScopes are the names that need no configuration: `mcp:` and a permission,
// a category, or one of three words. `mcp:read` is to look and read, `mcp:write`
// adds what has an effect, and `mcp:all` adds what a server may ask of the client.
var builtinScopes = func() map[string]Permissions {
	names := map[string]Permissions{"mcp:all": allPermissions}
	for _, p := range mcp.Permissions() {
		category, _, _ := strings.Cut(p.String(), ".")
		one, _ := parsePermission(p.String())
		names["mcp:"+p.String()] |= one
		names["mcp:"+category] |= one
		switch p {
		case mcp.ToolsRead, mcp.ResourcesRead, mcp.ResourcesSubscribe, mcp.PromptsRead, mcp.CompletionsUse, mcp.TasksRead:
			names["mcp:read"] |= one
			names["mcp:write"] |= one
		case mcp.ToolsExecute, mcp.PromptsExecute, mcp.LoggingWrite, mcp.TasksWrite:
			names["mcp:write"] |= one
		default:
		}
	}
	return names
}()

// ScopeMap says which permissions an OAuth scope gives. It is immutable; a nil one
// gives nothing.
type ScopeMap struct {
	given map[string]Permissions
	// known and givers are, by permission, the scopes that give it: those to ask for
	// first, and all.
	known, givers [mcp.PermissionCount][]string
}

// NewScopeMap returns the built-in names with those configured on top, which lead
// from a scope to permissions as they are written in a token.
func NewScopeMap(configured map[string][]string) (*ScopeMap, error) {
	m := &ScopeMap{given: maps.Clone(builtinScopes)}
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		if !isScopeToken(name) {
			return nil, fmt.Errorf("%q is not a scope; use visible ASCII characters other than the quote and the backslash", name)
		}
		m.given[name] = 0
		for _, permission := range configured[name] {
			given, ok := parsePermission(permission)
			if !ok {
				return nil, fmt.Errorf("scope %q: %q is not a permission; use one such as tools.execute, tools.* or *", name, permission)
			}
			if given == 0 {
				return nil, fmt.Errorf("scope %q: there is no permission %q here", name, permission)
			}
			m.given[name] |= given
		}
	}
	for _, p := range mcp.Permissions() {
		m.givers[p] = slices.DeleteFunc(slices.Collect(maps.Keys(m.given)), func(name string) bool { return !m.given[name].Has(Of(p)) })
		slices.SortFunc(m.givers[p], func(a, b string) int { return cmp.Or(m.Weight(a)-m.Weight(b), cmp.Compare(a, b)) })
		m.known[p] = slices.DeleteFunc(slices.Clone(m.givers[p]), func(name string) bool { _, ok := configured[name]; return !ok })
		if len(m.known[p]) == 0 {
			m.known[p] = m.givers[p]
		}
	}
	return m, nil
}

// Permissions returns what scopes give together. One that is unknown gives nothing.
func (m *ScopeMap) Permissions(scopes []string) Permissions {
	var set Permissions
	if m == nil {
		return set
	}
	for _, name := range scopes {
		set |= m.given[name]
	}
	return set
}

// Known returns the scopes that a client may be told to ask for when it lacks a
// permission, narrowest first: those that are configured, because the issuer knows
// them, and the built-in ones only where there is none. They must not be changed.
func (m *ScopeMap) Known(p mcp.Permission) []string {
	if m == nil || p >= mcp.PermissionCount {
		return nil
	}
	return m.known[p]
}

// Givers returns all scopes that give a permission, narrowest first. They must not be
// changed.
func (m *ScopeMap) Givers(p mcp.Permission) []string {
	if m == nil || p >= mcp.PermissionCount {
		return nil
	}
	return m.givers[p]
}

// Weight says how much a scope gives, at least 1: the narrower, the lighter. One that
// gives no permission, and may be known to roles, weighs 1.
func (m *ScopeMap) Weight(scope string) int {
	if m == nil || m.given[scope] == 0 {
		return 1
	}
	weight := 1 + 2*bits.OnesCount32(uint32(m.given[scope]))
	// Of mcp:logging and mcp:logging.write, which are the same, the latter will be so
	// for longer.
	if name, ok := strings.CutPrefix(scope, "mcp:"); !ok || !strings.Contains(name, ".") {
		weight++
	}
	return weight
}

// isScopeToken reports whether text is a scope-token of RFC 6749 section 3.3.
func isScopeToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= 0x20 || c >= 0x7f || c == '"' || c == '\\'
	})
}
