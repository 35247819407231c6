package compare

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// Kind says what became of a permission.
type Kind string

// The kinds of changes.
const (
	// Gained: what was not allowed is now, or is under a condition.
	Gained Kind = "gained"
	// Lost: what was allowed, or was under a condition, is not any more.
	Lost Kind = "lost"
	// Changed: it is allowed under other conditions.
	Changed Kind = "changed"
)

// layerServer is for a server that is there in only one configuration.
const layerServer = "server"

// Change is something that a kind of principal may do under only one of the two
// configurations.
type Change struct {
	// Who is a principal's name, or what its token says: claim=value, with | between
	// values that make no difference.
	Who string `json:"who"`
	// Claims are those of such a token, without what every token has.
	Claims map[string]any `json:"claims"`
	// OldRoles and NewRoles are those that this gives.
	OldRoles []string `json:"old_roles"`
	NewRoles []string `json:"new_roles"`

	Kind Kind `json:"kind"`
	// Permission is * for all of them, Object a pattern, empty for the server and
	// everything on it.
	Permission string `json:"permission"`
	// URL is the public URL of the gateway.
	URL    string `json:"url"`
	Server string `json:"server"`
	Object string `json:"object"`
	// Partly is set if it is not so for everything that the pattern stands for. Example
	// is an object for which it is.
	Partly  bool   `json:"partly"`
	Example string `json:"example,omitempty"`
	// Old and New are the rules that decide, if one does.
	Old *mcpauth.WrittenRule `json:"old,omitempty"`
	New *mcpauth.WrittenRule `json:"new,omitempty"`
	// Layer is what refuses when it is not the roles: token, visibility, token_scope,
	// or server if the server is there in only one of the two.
	Layer string `json:"layer,omitempty"`
	// Hides is what hides the server or the object in one of the two, with the layer
	// visibility.
	Hides *mcpauth.WrittenVisibility `json:"hides,omitempty"`
}

// total reports whether nothing is left of the whole server.
func (c Change) total() bool {
	return c.Kind == Lost && (slices.Contains([]string{layerServer, string(mcpauth.LayerToken)}, c.Layer) ||
		c.Layer == string(mcpauth.LayerVisibility) && (c.Hides == nil || c.Hides.Object == c.Server))
}

// concealed reports whether nothing is left of the objects, because they are hidden.
func (c Change) concealed() bool {
	return c.Kind == Lost && c.Hides != nil && c.Server+"/"+c.Object == c.Hides.Object
}

func (c Change) equal(other Change) bool { return reflect.DeepEqual(c, other) }

// repeats reports whether another change says that nothing is left of the same, for the
// same reason.
func (c Change) repeats(other Change) bool {
	return (c.total() || c.concealed()) && other.Kind == Lost && other.Permission == "*" &&
		c.Layer == other.Layer && c.Object == other.Object && reflect.DeepEqual(c.Hides, other.Hides)
}

// survey compares what one subject may do.
type survey struct {
	*comparison
	subject     subject
	who         string
	claims      map[string]any
	inquiries   [2]*mcpauth.Inquiry
	differences map[spot]difference
	// answers are all of them, by permission and place.
	answers map[spot][2]answer
}

// spot is a permission on an object of its category's chart.
type spot struct {
	perm   mcp.Permission
	region int
}

// answer is what one configuration says.
type answer struct {
	policy.Outlook
	layer string
	// status is the same for answers that are: empty for no.
	status string
}

type difference struct{ older, newer answer }

// inquire asks who has such a token, of each side its own. It returns why no side
// accepts it, and nothing if one does; then nothing is allowed on the other.
func (s *survey) inquire(claims [2]map[string]any) (refused string, err error) {
	accepted := false
	s.sides.each(func(side int, h *mcpauth.Handler) {
		inquiry, failed := h.InquireClaims(claims[side], s.server, mcpauth.Circumstances{Now: s.now})
		if failed != nil {
			err = failed
			return
		}
		s.inquiries[side] = inquiry
		if reason := inquiry.Refused(); reason != "" {
			refused = reason
		} else {
			accepted = true
		}
	})
	if accepted {
		return "", err
	}
	return refused, err
}

func (s *survey) answer(side int, perm mcp.Permission, region policy.Region) answer {
	if s.sides[side] == nil {
		return answer{layer: layerServer}
	}
	if s.inquiries[side] == nil {
		return answer{}
	}
	outlook, layer := s.inquiries[side].Outlook(perm, region.Kind, region.Object)
	return answer{outlook, string(layer), status(outlook)}
}

// status tells answers apart: conditions are the same if they are written the same.
func status(o policy.Outlook) string {
	switch o.Reason {
	case policy.Granted:
		return "always"
	case policy.Denied, policy.NoRule, policy.HiddenObject:
		return ""
	default: // it depends on conditions
	}
	texts := func(rules []*policy.Rule) string {
		list := make([]string, len(rules))
		for n, r := range rules {
			list[n] = r.If
		}
		slices.Sort(list)
		return strings.Join(slices.Compact(list), "\n")
	}
	allow := "always"
	if o.Rule == nil {
		allow = "if\n" + texts(o.AllowIf)
	}
	return allow + "\nunless\n" + texts(o.DenyIf)
}

// compare asks both about a permission.
func (s *survey) compare(perm mcp.Permission) {
	for n, region := range s.chart(perm).regions {
		at := spot{perm, n}
		if _, done := s.answers[at]; done {
			continue
		}
		d := difference{s.answer(0, perm, region), s.answer(1, perm, region)}
		s.answers[at] = [2]answer{d.older, d.newer}
		if d.older.status != d.newer.status {
			s.differences[at] = d
		}
	}
}

func (s *survey) chart(perm mcp.Permission) *chart {
	return s.atlas.charts[category(perm.String())]
}

// without takes out what another survey has found, too.
func (s *survey) without(other *survey) {
	for at, d := range s.differences {
		if same, ok := other.differences[at]; ok && same.older.status == d.older.status && same.newer.status == d.newer.status {
			delete(s.differences, at)
		}
	}
}

// group is what is told in one line: the same of some objects, by one permission.
type group struct {
	change  Change
	perm    mcp.Permission
	regions []int
	newer   string
	// same are those that say the same of other permissions, this one included.
	same []*group
}

func (g *group) has(is func(mcp.Permission) bool) bool {
	return slices.ContainsFunc(g.same, func(s *group) bool { return is(s.perm) })
}

// changes tells the differences in as few lines as they can be told.
func (s *survey) changes() []Change {
	var groups []*group
	for _, perm := range mcp.Permissions() {
		for n := range s.chart(perm).regions {
			d, ok := s.differences[spot{perm, n}]
			if !ok {
				continue
			}
			change := s.describe(perm, n, d)
			at := slices.IndexFunc(groups, func(g *group) bool {
				return g.perm == perm && g.newer == d.newer.status && g.change.equal(change)
			})
			if at < 0 {
				at = len(groups)
				groups = append(groups, &group{change: change, perm: perm, newer: d.newer.status})
			}
			groups[at].regions = append(groups[at].regions, n)
		}
	}
	for _, g := range groups {
		s.measure(g)
	}
	return s.shorten(groups)
}

// describe makes a change of a difference, without its permission.
func (s *survey) describe(perm mcp.Permission, region int, d difference) Change {
	c := Change{Who: s.who, Claims: s.claims, URL: s.url, Server: s.server, Kind: Changed}
	c.OldRoles, c.NewRoles = s.roles(0), s.roles(1)
	older, newer := d.older.rule(), d.newer.rule()
	switch {
	case d.older.status == "":
		c.Kind, c.Layer, c.Hides = Gained, d.older.layer, s.hides(0, d.older)
	case d.newer.status == "":
		c.Kind, c.Layer, c.Hides = Lost, d.newer.layer, s.hides(1, d.newer)
		if c.total() {
			return c // whatever it was
		}
	}
	chart := s.chart(perm)
	var patterns []policy.GrantPattern
	if c.Hides != nil && c.Hides.Object != s.server {
		patterns = append(patterns, hiding(c.Hides.Object))
		if c.Kind == Lost {
			if c.Object = chart.narrowest(patterns, region); c.Object != "" {
				return c
			}
		}
	}
	if kinds[category(perm.String())] != nil {
		for side, rule := range []*policy.Rule{older, newer} {
			patterns = append(patterns, s.patternsOf(side, rule)...)
		}
		c.Object = chart.narrowest(patterns, region)
	}
	if older != nil {
		c.Old = s.sides[0].Written(older)
	}
	if newer != nil {
		c.New = s.sides[1].Written(newer)
	}
	return c
}

// hides is what hides that of which an answer is.
func (s *survey) hides(side int, a answer) *mcpauth.WrittenVisibility {
	switch {
	case a.layer != string(mcpauth.LayerVisibility):
		return nil
	case a.Hidden != "":
		return s.sides[side].Hides(a.Hidden)
	}
	return s.sides[side].Hides(s.server)
}

// roles are those of one side; where the server is not there, those of the other.
func (s *survey) roles(side int) []string {
	if s.sides[side] == nil {
		side = 1 - side
	}
	names := []string{}
	if s.inquiries[side] != nil {
		names = append(names, s.inquiries[side].Roles()...)
	}
	return names
}

// rule is the rule that an answer comes from.
func (a answer) rule() *policy.Rule {
	switch {
	case a.layer != "":
		return nil
	case len(a.DenyIf) > 0:
		return a.DenyIf[0]
	case a.Rule == nil && len(a.AllowIf) > 0:
		return a.AllowIf[0]
	}
	return a.Rule
}

// measure finds out whether a change is one of everything that its pattern stands for,
// and an example of what it is one of.
func (s *survey) measure(g *group) {
	chart := s.chart(g.perm)
	g.change.Example = chart.regions[g.regions[0]].Object
	for n := range chart.regions {
		if !s.stands(chart, g.change, n) {
			continue
		}
		now := s.answers[spot{g.perm, n}][1].status
		switch g.change.Kind {
		case Gained:
			g.change.Partly = g.change.Partly || now == ""
		case Lost:
			g.change.Partly = g.change.Partly || now != ""
		default:
			g.change.Partly = g.change.Partly || now != g.newer
		}
	}
}

// stands reports whether a change's pattern stands for a region.
func (s *survey) stands(c *chart, change Change, region int) bool {
	return slices.ContainsFunc([]policy.GrantPattern{{}, {Deny: true}, {Owned: true}}, func(p policy.GrantPattern) bool {
		p.Text = change.Object
		return slices.Contains(c.matching(p), region)
	})
}

// entirely reports whether everything on the server is allowed now, or nothing.
func (s *survey) entirely(kind Kind) bool {
	for _, perm := range mcp.Permissions() {
		for n := range s.chart(perm).regions {
			now, asked := s.answers[spot{perm, n}]
			if !asked || kind == Changed || (now[1].status != "") != (kind == Gained) {
				return false
			}
		}
	}
	return true
}

// shorten puts permissions together, and leaves out those that others imply.
func (s *survey) shorten(groups []*group) []Change {
	var merged []*group
	for _, g := range groups {
		at := slices.IndexFunc(merged, func(m *group) bool {
			a, b := m.change, g.change
			a.Example, b.Example = "", ""
			return a.equal(b)
		})
		if at < 0 {
			at = len(merged)
			merged = append(merged, g)
		}
		merged[at].same = append(merged[at].same, g)
	}
	// What somebody gains brings what it implies along. What is lost is told in full.
	gains := slices.ContainsFunc(merged, func(g *group) bool {
		return g.change.Kind == Gained && g.has(func(p mcp.Permission) bool { return p != mcp.ServersUse })
	})
	var changes []Change
	for _, g := range merged {
		all := g.change.Object == "" && len(g.same) > 1 && s.entirely(g.change.Kind)
		if all || g.change.total() {
			g.change.Permission, g.change.Example, g.change.Partly = "*", "", false
			changes = append(changes, g.change)
			continue
		}
		if g.change.concealed() {
			g.change.Permission = "*"
			changes = append(changes, g.change)
			continue
		}
		for _, one := range g.same {
			implied := one.perm == mcp.ServersUse && gains || g.has(func(p mcp.Permission) bool { return p.Implies() == one.perm })
			if g.change.Kind != Gained || !implied {
				one.change.Permission = one.perm.String()
				changes = append(changes, one.change)
			}
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Permission, b.Permission), cmp.Compare(a.Object, b.Object))
	})
	return changes
}
