package scope

import (
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
	// best is the name of the narrowest scope that gives a permission, or empty.
	best [mcp.PermissionCount]string
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
		m.best[p] = m.narrowest(p, configured)
	}
	return m, nil
}

// narrowest finds the scope that gives the fewest permissions with p among them. One
// that is configured comes before any built-in one, because the issuer knows it.
func (m *ScopeMap) narrowest(p mcp.Permission, configured map[string][]string) string {
	best, rank := "", 0
	for _, name := range slices.Sorted(maps.Keys(m.given)) {
		given := m.given[name]
		if !given.Has(Of(p)) {
			continue
		}
		// Of mcp:logging and mcp:logging.write, which are the same, the latter will
		// be so for longer.
		r := 2 * bits.OnesCount32(uint32(given))
		if name != "mcp:"+p.String() {
			r++
		}
		if _, ok := configured[name]; !ok {
			r += 4 * int(mcp.PermissionCount)
		}
		if best == "" || r < rank {
			best, rank = name, r
		}
	}
	return best
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

// ScopeFor returns the scope that gives a permission and the fewest others; false
// when none does.
func (m *ScopeMap) ScopeFor(p mcp.Permission) (string, bool) {
	if m == nil || p >= mcp.PermissionCount {
		return "", false
	}
	return m.best[p], m.best[p] != ""
}

// ScopesFor returns the scopes that a token with the scopes held lacks for what a
// request needs, sorted: for each missing permission the narrowest scope, without
// those that the others make superfluous. It returns nil when nothing is missing,
// and when no scope would help.
func (m *ScopeMap) ScopesFor(held []string, need Permissions) []string {
	has := m.Permissions(held)
	missing := need &^ has
	if missing == 0 || missing&^allPermissions != 0 {
		return nil
	}
	var names []string
	for _, p := range missing.List() {
		name, ok := m.ScopeFor(p)
		if !ok {
			return nil
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i := len(names) - 1; i >= 0 && len(names) > 1; i-- {
		others := slices.Delete(slices.Clone(names), i, i+1)
		if (has | m.Permissions(others)).Has(need) {
			names = others
		}
	}
	return names
}

// isScopeToken reports whether text is a scope-token of RFC 6749 section 3.3.
func isScopeToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= 0x20 || c >= 0x7f || c == '"' || c == '\\'
	})
}
