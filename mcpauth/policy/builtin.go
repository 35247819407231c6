package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// builtInSource is the Source of the grants of built-in roles.
const builtInSource = "built-in"

// builtIn are the permissions of ContextForge's built-in roles (behaviour.md
// section 3.2), as far as there is something here that they permit. Its
// prompts.read permits to fetch a prompt, which is prompts.execute here. Those that
// it calls team roles (team_admin, developer, viewer) hold in teams where the role
// that extends them does.
var builtIn = map[string][]string{
	"platform_admin":  {"*"},
	"platform_viewer": {"servers.use", "tools.read", "resources.read", "prompts.execute"},
	"team_admin":      {"servers.use", "tools.execute", "resources.read", "prompts.execute"},
	"developer":       {"servers.use", "tools.execute", "resources.read", "prompts.execute"},
	"viewer":          {"servers.use", "tools.execute", "resources.read", "prompts.execute"},
}

// BuiltIn returns the built-in role of that name: platform_admin, platform_viewer,
// team_admin, developer or viewer. It has no conditions, and grants what it grants
// on every server; false when there is none.
func BuiltIn(name string) (Role, bool) {
	permissions, ok := builtIn[name]
	if !ok {
		return Role{}, false
	}
	role := Role{Name: name}
	for _, permission := range permissions {
		role.Allow = append(role.Allow, Grant{Permission: permission, Source: builtInSource})
	}
	return role, true
}

// inheritance finds the roles whose grants a role includes.
type inheritance struct {
	roles []Role
	names map[string]int
	// parsed are the grants of the roles themselves.
	parsed []*parsedRole
}

// of returns the sources of the grants of a role: itself, and what it extends, each
// once.
func (h *inheritance) of(i int) ([]*parsedRole, error) {
	var sources []*parsedRole
	seen := make(map[string]bool)
	path := make([]bool, len(h.roles))
	var visit func(i int) error
	visit = func(i int) error {
		r := h.roles[i]
		path[i] = true
		defer func() { path[i] = false }()
		seen[r.Name] = true
		sources = append(sources, h.parsed[i])
		at := place(i, r)
		for e, name := range r.Extends {
			at.Extends = e
			if parent, ok := h.names[name]; ok && parent != i {
				if path[parent] {
					return at.because(fmt.Errorf("the role extends %q, which extends it in turn", name))
				}
				if !seen[name] {
					if err := visit(parent); err != nil {
						return err
					}
				}
				continue
			}
			role, ok := BuiltIn(name)
			if !ok {
				if name == r.Name {
					return at.because(fmt.Errorf("the role extends itself, and there is no built-in role %q", name))
				}
				return at.because(fmt.Errorf("there is no role %q to extend: name a role of the configuration, or one of the built-in roles %s", name, strings.Join(slices.Sorted(maps.Keys(builtIn)), ", ")))
			}
			if key := builtInSource + " " + name; !seen[key] {
				seen[key] = true
				read, err := parseRole(at, role)
				if err != nil {
					return err
				}
				sources = append(sources, read)
			}
		}
		return nil
	}
	return sources, visit(i)
}
