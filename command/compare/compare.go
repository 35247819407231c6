// Package compare tells who may do what under one configuration and not under
// another. It does not look at how the two are written: it asks both, of every kind of
// principal and of objects that stand for all others, and compares the answers.
package compare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// Principal is somebody in particular.
type Principal struct {
	Name   string
	Claims map[string]any
}

// Result is how two configurations differ.
type Result struct {
	Different bool `json:"different"`
	// Changes are what principals gain or lose.
	Changes []Change `json:"changes"`
	// Issuers are those whose tokens are accepted by only one of the two.
	Issuers []IssuerChange `json:"issuers"`
	// Partial names the servers of which not everything could be compared.
	Partial []string `json:"partial"`
}

// IssuerChange is an issuer that is there in only one configuration.
type IssuerChange struct {
	Issuer string `json:"issuer"`
	Kind   Kind   `json:"kind"`
	// URL is the public URL of the gateway.
	URL string `json:"url"`
}

// place is a server in both configurations.
type place struct {
	url, server string
	sides       sides
}

// Configurations compares two configurations: for the principals given, or if there are
// none for every kind of principal that their roles know.
func Configurations(older, newer *gateways.Set, principals []Principal) (*Result, error) {
	places, err := pair(older, newer)
	if err != nil {
		return nil, err
	}
	r := &Result{Changes: []Change{}, Issuers: []IssuerChange{}, Partial: []string{}}
	now := time.Now()
	for _, p := range places {
		c := newComparison(p, now)
		for _, change := range c.issuerChanges() {
			if !slices.Contains(r.Issuers, change) {
				r.Issuers = append(r.Issuers, change)
			}
		}
		var changes []Change
		if principals != nil {
			changes, err = c.ofPrincipals(principals)
		} else {
			changes, err = c.ofKinds()
		}
		if err != nil {
			return nil, err
		}
		r.Changes = append(r.Changes, changes...)
		if c.partial {
			r.Partial = append(r.Partial, p.server)
		}
	}
	slices.SortStableFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Who, b.Who))
	})
	r.Different = len(r.Changes)+len(r.Issuers) > 0
	return r, nil
}

// pair finds the servers of both configurations. Gateways are the same if their public
// URLs are, or if there is only one on either side.
func pair(older, newer *gateways.Set) ([]place, error) {
	alone := true
	for _, set := range []*gateways.Set{older, newer} {
		for _, h := range set.All() {
			alone = alone && h.URL() == set.All()[0].URL()
		}
	}
	var places []place
	for side, set := range []*gateways.Set{older, newer} {
		for _, h := range set.All() {
			url := h.URL()
			if alone {
				url = newer.All()[0].URL()
			}
			for _, server := range h.Servers {
				at := slices.IndexFunc(places, func(p place) bool { return p.url == url && p.server == server })
				if at < 0 {
					at = len(places)
					places = append(places, place{url: url, server: server})
				}
				if places[at].sides[side] != nil {
					return nil, fmt.Errorf("%s has several different gateways with a server %s at %s", set.File, server, url)
				}
				places[at].sides[side] = h
			}
		}
	}
	return places, nil
}

// comparison compares what may be done at one place.
type comparison struct {
	place
	now   time.Time
	atlas *atlas
	// ways are those to see what is of a category.
	ways map[string][][]atom
	// partial is set when there was too much to compare.
	partial bool
}

func newComparison(p place, now time.Time) *comparison {
	c := &comparison{place: p, now: now, atlas: newAtlas(p), ways: make(map[string][][]atom)}
	c.partial = c.atlas.partial
	return c
}

func issuersOf(h *mcpauth.Handler) []string {
	if h == nil {
		return nil
	}
	return h.Sources()
}

func (c *comparison) issuerChanges() []IssuerChange {
	if c.sides[0] == nil || c.sides[1] == nil {
		return nil
	}
	var changes []IssuerChange
	older, newer := issuersOf(c.sides[0]), issuersOf(c.sides[1])
	for _, name := range older {
		if !slices.Contains(newer, name) {
			changes = append(changes, IssuerChange{name, Lost, c.url})
		}
	}
	for _, name := range newer {
		if !slices.Contains(older, name) {
			changes = append(changes, IssuerChange{name, Gained, c.url})
		}
	}
	return changes
}

// issuers returns the issuers whose tokens can be compared: those that both
// configurations have, or if there is one on each side, the one with the other.
func (c *comparison) issuers() [][2]string {
	older, newer := issuersOf(c.sides[0]), issuersOf(c.sides[1])
	switch {
	case c.sides[0] == nil:
		older = newer
	case c.sides[1] == nil:
		newer = older
	}
	var both [][2]string
	for _, name := range older {
		if slices.Contains(newer, name) {
			both = append(both, [2]string{name, name})
		}
	}
	if both == nil && len(older) == 1 && len(newer) == 1 {
		both = [][2]string{{older[0], newer[0]}}
	}
	return both
}

// ofKinds compares for every kind of principal.
func (c *comparison) ofKinds() ([]Change, error) {
	v := newVocabulary(c.sides, c.server)
	subjects, err := v.subjects(c.sides, c.server)
	if err != nil {
		return nil, err
	}
	issuers := c.issuers()
	byIssuer := make([]map[string][]Change, len(issuers))
	var order []string
	for i, names := range issuers {
		found, err := c.ask(v, subjects, names)
		if err != nil {
			return nil, err
		}
		byIssuer[i] = make(map[string][]Change)
		for _, f := range found {
			byIssuer[i][f.who] = f.changes
			if !slices.Contains(order, f.who) {
				order = append(order, f.who)
			}
		}
	}
	var changes []Change
	for _, who := range order {
		same := true
		for i := range byIssuer {
			same = same && slices.EqualFunc(byIssuer[i][who], byIssuer[0][who], func(a, b Change) bool {
				a.Claims, b.Claims = nil, nil
				return a.equal(b)
			})
		}
		if same {
			changes = append(changes, byIssuer[0][who]...)
			continue
		}
		for i, names := range issuers {
			for _, change := range byIssuer[i][who] {
				if !strings.Contains(" "+who, " iss=") {
					change.Who = strings.TrimPrefix(who+" iss="+names[1], "anybody ")
				}
				changes = append(changes, change)
			}
		}
	}
	return changes, nil
}

// findings are the changes for one kind of principal.
type findings struct {
	who     string
	changes []Change
}

// ask compares for the tokens of one issuer.
func (c *comparison) ask(v vocabulary, subjects []subject, issuers [2]string) ([]findings, error) {
	answers := make(map[string]*survey)
	var order []*survey
	for _, s := range subjects {
		for _, perm := range mcp.Permissions() {
			for _, variant := range v.variants(s, c.sides, issuers, c.sights(category(perm.String())), perm) {
				one := answers[variant.key()]
				if one == nil {
					var err error
					if one, err = c.survey(variant, issuers); err != nil {
						return nil, err
					}
					answers[variant.key()] = one
					order = append(order, one)
				}
				one.compare(perm)
			}
		}
	}
	// Smaller ones first, whose changes are not repeated for those who say more.
	slices.SortStableFunc(order, func(a, b *survey) int { return len(a.subject) - len(b.subject) })
	var found []findings
	for n, one := range order {
		for _, smaller := range order[:n] {
			if smaller.subject.within(one.subject) {
				one.without(smaller)
			}
		}
	}
	told := make([][]Change, len(order))
	for n, one := range order {
		told[n] = one.changes()
		// Where nothing is left for somebody, nothing is for those who say more.
		for m, smaller := range order[:n] {
			if smaller.subject.within(one.subject) {
				told[n] = slices.DeleteFunc(told[n], func(c Change) bool { return slices.ContainsFunc(told[m], c.repeats) })
			}
		}
		if len(told[n]) > 0 {
			found = append(found, findings{one.who, told[n]})
		}
	}
	return found, nil
}

// survey begins to compare for a subject.
func (c *comparison) survey(s subject, issuers [2]string) (*survey, error) {
	one := c.begin(s.label())
	one.subject = s
	var audiences []string
	c.sides.each(func(side int, h *mcpauth.Handler) {
		audiences = append(audiences, h.URL())
		for _, issuer := range h.Issuers {
			if issuer.Issuer == issuers[side] {
				audiences = append(audiences, issuer.Audiences...)
			}
		}
	})
	var claims [2]map[string]any
	for side, issuer := range issuers {
		said, possible := s.claims(issuer, audiences)
		if !possible {
			return one, nil // and nothing is asked
		}
		claims[side] = said
	}
	one.claims = maps.Clone(claims[1])
	if len(issuersOf(c.sides[0])) < 2 && len(issuersOf(c.sides[1])) < 2 {
		delete(one.claims, "iss")
	}
	// What is refused by both is no access token.
	_, err := one.inquire(claims)
	return one, err
}

func (c *comparison) begin(who string) *survey {
	return &survey{comparison: c, who: who, differences: make(map[spot]difference), answers: make(map[spot][2]answer)}
}

// ofPrincipals compares for somebody in particular.
func (c *comparison) ofPrincipals(principals []Principal) ([]Change, error) {
	var changes []Change
	for _, p := range principals {
		one := c.begin(p.Name)
		one.claims = p.Claims
		refused, err := one.inquire([2]map[string]any{p.Claims, p.Claims})
		if err == nil && refused != "" {
			err = fmt.Errorf("no token with these claims is accepted: %s", refused)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		for _, perm := range mcp.Permissions() {
			one.compare(perm)
		}
		changes = append(changes, one.changes()...)
	}
	return changes, nil
}
