package compare

import (
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// atlas has, for each category of permissions, the objects of a server that are asked
// about.
type atlas struct {
	server string
	charts map[string]*chart
	// partial is set when a category has too many patterns.
	partial bool
}

// chart are the objects of one category, and the patterns by which they were found.
type chart struct {
	patterns []policy.GrantPattern
	regions  []policy.Region
	// matched remembers what matching says.
	matched map[policy.GrantPattern][]int
}

func category(perm string) string {
	name, _, _ := strings.Cut(perm, ".")
	return name
}

// kinds are what the objects of a category are. The others have none.
var kinds = map[string][]policy.ObjectKind{
	"tools":       {policy.KindName},
	"prompts":     {policy.KindName},
	"resources":   {policy.KindURI},
	"completions": {policy.KindName, policy.KindURI},
}

func newAtlas(p place) *atlas {
	a := &atlas{server: p.server, charts: make(map[string]*chart)}
	for _, perm := range mcp.Permissions() {
		name := category(perm.String())
		if a.charts[name] != nil {
			continue
		}
		c := &chart{matched: make(map[policy.GrantPattern][]int)}
		a.charts[name] = c
		if kinds[name] == nil {
			c.regions = []policy.Region{{Kind: policy.KindNone}}
			continue
		}
		p.sides.each(func(_ int, h *mcpauth.Handler) {
			for _, role := range h.Roles {
				c.collect(role.Allow, false, name, p.server)
				c.collect(role.Deny, true, name, p.server)
			}
			c.collectOwned(h, p.server)
		})
		for _, kind := range kinds[name] {
			regions, complete := policy.Regions(kind, c.patterns)
			c.regions = append(c.regions, regions...)
			a.partial = a.partial || !complete
		}
	}
	return a
}

func (c *chart) collect(grants []policy.Grant, deny bool, name, server string) {
	for _, g := range grants {
		if g.Permission != "*" && category(g.Permission) != name {
			continue
		}
		for _, object := range g.Objects {
			if pattern, ok := objectOn(object, server); ok && pattern != "" {
				c.add(policy.GrantPattern{Text: pattern, Deny: deny})
			}
		}
	}
}

func (c *chart) add(p policy.GrantPattern) {
	if !slices.Contains(c.patterns, p) {
		c.patterns = append(c.patterns, p)
	}
}

// objectOn returns the pattern of an object if it is one of the server's: empty for all
// of it.
func objectOn(object, server string) (string, bool) {
	on, pattern, _ := strings.Cut(object, "/")
	if !policy.ServerMatches(on, server) {
		return "", false
	}
	if len(pattern) > 1 && strings.Trim(pattern, "*") == "" {
		return "", true
	}
	return pattern, true
}

// matching returns the places of the regions to which a pattern applies.
func (c *chart) matching(pattern policy.GrantPattern) []int {
	list, known := c.matched[pattern]
	if known {
		return list
	}
	at := slices.Index(c.patterns, pattern)
	for n, r := range c.regions {
		if pattern.Text == "" || at >= 0 && slices.Contains(r.Matches, at) {
			list = append(list, n)
		}
	}
	c.matched[pattern] = list
	return list
}

// narrowest returns the pattern that applies to a region and to the fewest others; empty
// for everything if none does.
func (c *chart) narrowest(patterns []policy.GrantPattern, region int) string {
	best, fewest := "", len(c.regions)+1
	for _, pattern := range patterns {
		if on := c.matching(pattern); slices.Contains(on, region) && len(on) < fewest {
			best, fewest = pattern.Text, len(on)
		}
	}
	return best
}
