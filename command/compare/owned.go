package compare

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// owned returns, by team, what belongs to it on a server, sorted: patterns of objects,
// empty for the server as a whole.
func owned(h *mcpauth.Handler, server string) map[string][]string {
	all := make(map[string][]string)
	add := func(team, object string) {
		pattern, ok := objectOn(object, server)
		if ok && !slices.Contains(all[team], pattern) {
			all[team] = append(all[team], pattern)
		}
	}
	for team, objects := range h.Teams {
		for _, object := range objects {
			add(team, object)
		}
	}
	// What only a team sees belongs to it.
	for object, v := range h.Visibility {
		if v.Level == scope.Team {
			add(v.Team, object)
		}
	}
	for _, patterns := range all {
		slices.Sort(patterns)
	}
	return all
}

// hidden returns the objects of a server that not everybody sees, as they are written,
// sorted.
func hidden(h *mcpauth.Handler, server string) []string {
	var list []string
	for object, v := range h.Visibility {
		if on, _, isObject := strings.Cut(object, "/"); isObject && on == server && v.Level != scope.Public {
			list = append(list, object)
		}
	}
	slices.Sort(list)
	return list
}

// holdsInTeams reports whether any role holds in teams only.
func holdsInTeams(h *mcpauth.Handler) bool {
	return slices.ContainsFunc(h.Roles, func(r policy.Role) bool { return r.Teams != nil })
}

// collectOwned enters what is not for everybody, and if a role asks for it what belongs
// to teams.
func (c *chart) collectOwned(h *mcpauth.Handler, server string) {
	for _, object := range hidden(h, server) {
		c.add(hiding(object))
	}
	if !holdsInTeams(h) {
		return
	}
	teams := owned(h, server)
	for _, team := range slices.Sorted(maps.Keys(teams)) {
		for _, pattern := range teams[team] {
			if pattern != "" {
				// As what is allowed in the team is compared, and as what is denied.
				c.add(policy.GrantPattern{Text: pattern})
				c.add(policy.GrantPattern{Text: pattern, Owned: true})
			}
		}
	}
}

// hiding is the pattern of an object of visibility.
func hiding(object string) policy.GrantPattern {
	_, pattern, _ := strings.Cut(object, "/")
	return policy.GrantPattern{Text: pattern, Owned: true}
}

// teamsOf are the teams in which a role counts on a server, sorted: those to which
// anything there belongs.
func teamsOf(h *mcpauth.Handler, role *policy.Role, server string) []string {
	var list []string
	for team := range owned(h, server) {
		if slices.Contains(role.Teams, "*") || slices.Contains(role.Teams, team) {
			list = append(list, team)
		}
	}
	slices.Sort(list)
	return list
}

// patternsOf are those of a rule: its own, and those of what belongs to the teams in
// which its role holds.
func (s *survey) patternsOf(side int, rule *policy.Rule) []policy.GrantPattern {
	if rule == nil {
		return nil
	}
	var list []policy.GrantPattern
	h, written := s.sides[side], s.sides[side].Written(rule)
	for _, object := range written.Objects {
		if pattern, ok := objectOn(object, s.server); ok {
			list = append(list, policy.GrantPattern{Text: pattern, Deny: rule.Deny})
		}
	}
	if written.Teams == nil {
		return list
	}
	teams := owned(h, s.server)
	for _, team := range teamsOf(h, &policy.Role{Teams: written.Teams}, s.server) {
		for _, pattern := range teams[team] {
			list = append(list, policy.GrantPattern{Text: pattern, Owned: rule.Deny && pattern != ""})
		}
	}
	return list
}

// sights are the ways to see a server and its objects of a category, or not to: for
// each region, what a token has to say to see it in the one configuration, in the
// other, and in both.
func (c *comparison) sights(category string) [][]atom {
	if ways, ok := c.ways[category]; ok {
		return ways
	}
	ways := [][]atom{nil}
	seen := map[string]bool{"": true}
	add := func(way []atom) {
		if key := subject(nil).with(way...).key(); !seen[key] {
			seen[key] = true
			ways = append(ways, way)
		}
	}
	chart := c.atlas.charts[category]
	var objects [2][]string
	c.sides.each(func(side int, h *mcpauth.Handler) { objects[side] = hidden(h, c.server) })
	for n := range chart.regions {
		var both []atom
		c.sides.each(func(side int, h *mcpauth.Handler) {
			way := seeing(h.Visibility[c.server])
			for _, object := range objects[side] {
				if slices.Contains(chart.matching(hiding(object)), n) {
					way = append(way, seeing(h.Visibility[object])...)
				}
			}
			add(way)
			both = append(both, way...)
		})
		add(both)
	}
	c.ways[category] = ways
	return ways
}

// anyTeam stands for any team at all.
const anyTeam = "any"

// inTeams leaves out that a subject is of any team if it is of a certain one.
func (s subject) inTeams() subject {
	certain := slices.ContainsFunc(s, func(a atom) bool { return a.claim == "teams" && a.values[0] != anyTeam })
	return slices.DeleteFunc(s, func(a atom) bool { return certain && a.claim == "teams" && a.values[0] == anyTeam })
}
