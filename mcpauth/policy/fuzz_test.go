package policy

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"query_*", "query_1"},
		{"a*b**c*d", "axb/yc/d"},
		{"**/*.md", "a/b.md"},
		{`\**\*`, "*x*"},
		{"***", "//"},
		{"ab*ba", "aba"},
		{"*" + strings.Repeat("ab", 40) + "*c", strings.Repeat("ab", 45) + "c"},
		{"**x*y/**", "xx/xy/"},
		{"file:///*?q=**#*", "file:///a?q=b/c#d"},
		{`\`, `\`},
		{`a\\*`, `a\*`},
		{"*\u00e9*", "\u00e9\xff"},
		{"", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > maxGlob || len(s) > 2000 || !utf8.ValidString(pattern) {
			return
		}
		want := naiveMatch(pattern, s)
		g := newGlob(tokenize(pattern))
		if got := g.match(s); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, s, got, want)
		}
		if g.first == 0 {
			return
		}
		var index globIndex[bool]
		index.add(pattern, func() *glob { return g })
		for _, other := range []string{"*", "**", g.prefix + "*", "*" + g.suffix, g.prefix + g.suffix + "**", "*a*", "**b*", "*ab*", "**ba**", "*/**", "*_*"} {
			index.add(other, func() *glob { return newGlob(tokenize(other)) })
		}
		found := false
		c := index.find(s)
		for e := c.next(); e != nil; e = c.next() {
			if e.glob == g && g.matchInner(s) {
				found = true
			}
		}
		if found != want {
			t.Fatalf("%q found for %q: %v, want %v", pattern, s, found, want)
		}
	})
}

func FuzzURI(f *testing.F) {
	for _, seed := range [][2]string{
		{"file:///pub/**", "file:///pub/../x"},
		{"file:///pub/*", "file:///pub/{a}"},
		{"x:*?*#**", "x:a?b#c"},
		{"*", "%2e%2E"},
		{"https://*.a/**", "https://u@b.a/"},
		{"**a", "://x%41a"},
		{"db:*?q=*", "db:{a}?q={b}"},
		{"x:**", "x:{+a}\x00"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, uri string) {
		if len(uri) > 2000 {
			return
		}
		if isPlainURI(uri) != naivePlain(uri) {
			t.Fatalf("%q is plain: %v", uri, isPlainURI(uri))
		}
		roles := []Role{{Name: "r", Allow: []Grant{{Permission: "resources.read", Objects: []string{"s/" + pattern}}}}}
		p, err := Compile(roles)
		if err != nil {
			return
		}
		rs, n := p.RolesOf(nil, nil, nil), newNaive(roles, nil, nil)
		for _, kind := range []ObjectKind{KindURI, KindTemplate} {
			want := n.allows(mcp.ResourcesRead, "s", kind, uri)
			if got := p.Allows(rs, mcp.ResourcesRead, "s", kind, uri); got != want {
				t.Fatalf("%q allows %q (kind %d): %v, want %v", pattern, uri, kind, got, want)
			}
		}
	})
}

// A deny must match what the naive one does, and everything that allow matches by
// a glob.
func FuzzDeniedURI(f *testing.F) {
	for _, seed := range [][2]string{
		{"file:///pub/**", "file:///Pub/../x"},
		{"file:///pub/*", "file:///pub/{a}"},
		{"x:*b?q=*", "x:ab?q=b#c"},
		{"x:/a", "X:/A/"},
		{"**/a*B/", "x:/a/ab"},
		{"https://127.0.0.1/**", "https://127.1/"},
		{"x://h/**", "x://h.:080/%41;"},
		{"db:{a}", "db:{a}"},
		{"x:a*b*c/**", "x:A/b%20cbc//"},
		{"*://h/*", "{a}"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, uri string) {
		if len(uri) > 200 || len(pattern) > 200 || !isASCII(pattern) {
			return
		}
		object := []Grant{{Permission: "resources.read", Objects: []string{"s/" + pattern}}}
		roles := []Role{{Name: "all", Allow: []Grant{{Permission: "*"}}}, {Name: "not", Deny: object}}
		p, err := Compile(roles)
		if err != nil {
			return
		}
		rs, n := p.RolesOf(nil, nil, nil), newNaive(roles, nil, nil)
		for _, kind := range []ObjectKind{KindURI, KindTemplate} {
			want := n.allows(mcp.ResourcesRead, "s", kind, uri)
			got := p.Allows(rs, mcp.ResourcesRead, "s", kind, uri)
			if got != want {
				t.Fatalf("denying %q allows %q (kind %d): %v, want %v", pattern, uri, kind, got, want)
			}
			if other, err := Compile([]Role{{Name: "r", Allow: object}}); err == nil && got && other.Allows(other.RolesOf(nil, nil, nil), mcp.ResourcesRead, "s", kind, uri) {
				t.Fatalf("%q both allows and does not deny %q (kind %d)", pattern, uri, kind)
			}
		}
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Compile must survive any text, and a policy that compiles must survive any
// question.
func FuzzCompile(f *testing.F) {
	f.Add("analyst", "groups", "data", "tools.execute", "s/query_*", "s", "query_1")
	f.Add("a", "scope", "mcp:read", "*", "*/**", "b", "")
	f.Add("", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, name, claim, value, permission, object, server, asked string) {
		p, err := Compile([]Role{{Name: name, When: []Condition{{claim, []string{value}}}, Allow: []Grant{{Permission: permission, Objects: []string{object}}}}})
		if (err == nil) == (p == nil) {
			t.Fatalf("policy %v, error %v", p, err)
		}
		if err != nil {
			return
		}
		all := func(string) []string { return []string{value} }
		rs := p.RolesOf(all, []string{value}, nil)
		for _, perm := range mcp.Permissions() {
			for kind := KindNone; kind <= KindTemplate; kind++ {
				if p.Allows(rs, perm, server, kind, asked) && !p.AllowsServer(rs, server) {
					t.Fatal("allowed on a server that may not be used")
				}
			}
		}
	})
}
