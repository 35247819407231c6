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
func (g generator) variants(object func() string, owned bool) (patterns []GrantPattern, both [2]Config) {
	for i := range both {
		both[i] = Config{Roles: []Role{{Name: "r"}}}
		if owned {
			both[i].Visibility = make(map[string]Audience)
			both[i].Teams = map[string][]string{"t": {"a/none"}}
			both[i].Roles[0].Teams = [][]string{nil, {"t"}}[g.Intn(2)]
			patterns = append(patterns, GrantPattern{"none", false, false}, GrantPattern{"none", false, true})
		}
	}
	for range g.Intn(4) + 1 {
		grant := Grant{Permission: "*", Objects: []string{"a/" + object()}}
		_, text, _ := strings.Cut(grant.Objects[0], "/")
		for i := range both {
			r := &both[i].Roles[0]
			kinds := 4
			if owned {
				kinds = 8
			}
			switch g.Intn(kinds) {
			case 0:
				continue
			case 1:
				r.Deny = append(r.Deny, grant)
				patterns = append(patterns, GrantPattern{text, true, false})
			case 4, 5:
				both[i].Visibility[grant.Objects[0]] = Audience{Owner: "somebody"}
				patterns = append(patterns, GrantPattern{text, false, true})
			case 6, 7:
				both[i].Teams["t"] = append(both[i].Teams["t"], grant.Objects[0])
				patterns = append(patterns, GrantPattern{text, false, false}, GrantPattern{text, false, true})
			default:
				r.Allow = append(r.Allow, grant)
				patterns = append(patterns, GrantPattern{text, false, false})
			}
		}
	}
	if g.Intn(4) == 0 || owned && g.Intn(2) == 0 {
		for i := range both {
			r := &both[i].Roles[0]
			r.Allow = append(r.Allow, Grant{Permission: "*", Objects: []string{"a"}})
		}
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
		owned   bool
	}{
		{"names", KindName, mcp.ToolsExecute, func(g generator) string { return g.join(4, "a", "b", "/", "*", "**", `\*`) }, words(5, "a", "b", "/", "*", "q"), 400, 1, false},
		{"URIs", KindURI, mcp.ResourcesRead, func(g generator) string {
			return g.pick("x:/", "x:/", "x:", "**", "*") + g.join(4, "a", "b", "/a", "/", "*", "**", "A", "?", "#", ";a") + g.pick("", "/", "/*", "/**")
		}, func() (uris []string) {
			for _, begin := range []string{"", "x:", "x:/", "X:/"} {
				for _, w := range words(4, "a", "B", "/", "?", "#", ";", "..", "%2f", "//", ".") {
					uris = append(uris, begin+w)
				}
			}
			return uris
		}(), 50, 0.98, false},
		{"owned names", KindName, mcp.ToolsExecute, func(g generator) string { return g.join(4, "a", "b", "/", "*", "**", `\*`) }, words(4, "a", "b", "/", "*", "q"), 200, 1, true},
		{"owned URIs", KindURI, mcp.ResourcesRead, func(g generator) string {
			return g.pick("x:/", "x:/", "y:/", "x:", "q", "q*") + g.join(2, "a", "b", "/a", "/", "*", "A", ";a") + g.pick("", "/", "/*", "/**")
		}, func() (uris []string) {
			for _, begin := range []string{"", "x:", "x:/", "Y:/", "y:", "z:/", "z:"} {
				for _, w := range words(3, "a", "B", "/", "?", ";", "..", "%20", "//", ".") {
					uris = append(uris, begin+w)
				}
			}
			return uris
		}(), 50, 0.95, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			differing, told, partial := 0, 0, 0
			for seed := range tc.pairs {
				g := generator{rand.New(rand.NewSource(int64(seed)))}
				patterns, both := g.variants(func() string { return tc.object(g) }, tc.owned)
				var policies [2]*Policy
				var sets [2]RoleSet
				refused := false
				for i, config := range both {
					p, err := config.Compile()
					refused = refused || err != nil
					if err == nil {
						policies[i], sets[i] = p, p.RolesOf(nil, nil, func(a Audience) bool { return a.Team == "t" })
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
			enough := tc.pairs / 2
			if tc.owned {
				enough = tc.pairs / 4
			}
			if differing < enough || float64(told) < tc.least*float64(differing) {
				t.Errorf("of %d pairs that differ, %d are told apart", differing, told)
			}
			if partial > tc.pairs/20 || tc.least == 1 && partial > 0 {
				t.Errorf("%d pairs have too many regions", partial)
			}
			t.Logf("of %d pairs that differ, %d are told apart; %d have too many regions", differing, told, partial)
		})
	}
}
