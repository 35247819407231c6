package policy

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// words are all texts of up to n of the pieces.
func words(n int, pieces ...string) []string {
	all, last := []string{}, []string{""}
	for range n {
		var next []string
		for _, w := range last {
			for _, p := range pieces {
				next = append(next, w+p)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// TestRegionsOfNames: whatever patterns a name matches, there is a region of names that
// match just these, and the one it names does.
func TestRegionsOfNames(t *testing.T) {
	names := words(6, "a", "b", "/", "q")
	for seed := range 300 {
		g := generator{rand.New(rand.NewSource(int64(seed)))}
		var patterns []GrantPattern
		for range g.Intn(5) + 1 {
			patterns = append(patterns, GrantPattern{Text: g.join(4, "a", "b", "/", "*", "**", `\*`), Deny: g.Intn(2) == 0})
		}
		regions, complete := Regions(KindName, patterns)
		if !complete {
			t.Fatalf("%v: not complete", patterns)
		}
		matches := func(name string) []int {
			var list []int
			for i, p := range patterns {
				if naiveMatch(p.Text, name) {
					list = append(list, i)
				}
			}
			return list
		}
		found := make(map[string]bool)
		for _, r := range regions {
			if r.Object == "" || r.Kind != KindName || !slices.Equal(r.Matches, matches(r.Object)) {
				t.Errorf("seed %d: %v: region %+v, want %v", seed, patterns, r, matches(r.Object))
			}
			key := fmt.Sprint(r.Matches)
			if found[key] {
				t.Errorf("seed %d: %v: region %v is there twice", seed, patterns, key)
			}
			found[key] = true
		}
		for _, name := range names {
			if !found[fmt.Sprint(matches(name))] {
				t.Fatalf("seed %d: %v: no region for %q, which matches %v", seed, patterns, name, matches(name))
			}
		}
	}
}

// variants are policies of the same patterns: the grants of the one, of which some are
// left out of the other or deny.
func (g generator) variants(object func() string) (patterns []GrantPattern, both [2][]Role) {
	for i := range both {
		both[i] = []Role{{Name: "r"}}
	}
	for range g.Intn(4) + 1 {
		grant := Grant{Permission: "*", Objects: []string{"a/" + object()}}
		_, text, _ := strings.Cut(grant.Objects[0], "/")
		for i := range both {
			r := &both[i][0]
			switch g.Intn(4) {
			case 0:
				continue
			case 1:
				r.Deny = append(r.Deny, grant)
				patterns = append(patterns, GrantPattern{text, true})
			default:
				r.Allow = append(r.Allow, grant)
				patterns = append(patterns, GrantPattern{text, false})
			}
		}
	}
	if g.Intn(4) == 0 {
		both[0][0].Allow = append(both[0][0].Allow, Grant{Permission: "*"})
		both[1][0].Allow = append(both[1][0].Allow, Grant{Permission: "*"})
	}
	return patterns, both
}

// TestRegionsTellPoliciesApart: where two policies differ about any object, they differ
// about that of a region. Of names that is always so, of URIs nearly always.
func TestRegionsTellPoliciesApart(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kind    ObjectKind
		perm    mcp.Permission
		object  func(g generator) string
		objects []string
		pairs   int
		least   float64
	}{
		{"names", KindName, mcp.ToolsExecute, func(g generator) string { return g.join(4, "a", "b", "/", "*", "**", `\*`) }, words(5, "a", "b", "/", "*", "q"), 400, 1},
		{"URIs", KindURI, mcp.ResourcesRead, func(g generator) string {
			return g.pick("x:/", "x:/", "x:", "**", "*") + g.join(4, "a", "b", "/a", "/", "*", "**", "A", "?", "#", ";a") + g.pick("", "/", "/*", "/**")
		}, func() (uris []string) {
			for _, begin := range []string{"", "x:", "x:/", "X:/"} {
				for _, w := range words(4, "a", "B", "/", "?", "#", ";", "..", "%2f", "//", ".") {
					uris = append(uris, begin+w)
				}
			}
			return uris
		}(), 50, 0.98},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			differing, told, partial := 0, 0, 0
			for seed := range tc.pairs {
				g := generator{rand.New(rand.NewSource(int64(seed)))}
				patterns, both := g.variants(func() string { return tc.object(g) })
				var policies [2]*Policy
				var sets [2]RoleSet
				refused := false
				for i, roles := range both {
					p, err := Compile(roles)
					refused = refused || err != nil
					if err == nil {
						policies[i], sets[i] = p, p.RolesOf(nil, nil, nil)
					}
				}
				if refused {
					continue
				}
				differ := func(kind ObjectKind, object string) bool {
					return policies[0].Allows(sets[0], tc.perm, "a", kind, object) != policies[1].Allows(sets[1], tc.perm, "a", kind, object)
				}
				at := slices.IndexFunc(tc.objects, func(o string) bool { return differ(tc.kind, o) })
				regions, complete := Regions(tc.kind, patterns)
				if !complete {
					partial++
					continue
				}
				tell := slices.ContainsFunc(regions, func(r Region) bool { return differ(r.Kind, r.Object) })
				if at < 0 {
					continue
				}
				differing++
				if tell {
					told++
				} else {
					t.Logf("seed %d: %+v differ about %q", seed, both, tc.objects[at])
				}
			}
			if differing < tc.pairs/2 || float64(told) < tc.least*float64(differing) {
				t.Errorf("of %d pairs that differ, %d are told apart", differing, told)
			}
			if partial > tc.pairs/20 || tc.least == 1 && partial > 0 {
				t.Errorf("%d pairs have too many regions", partial)
			}
			t.Logf("of %d pairs that differ, %d are told apart; %d have too many regions", differing, told, partial)
		})
	}
}
