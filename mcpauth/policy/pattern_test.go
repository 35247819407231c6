package policy

import (
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		kind    ObjectKind
		object  string
		want    bool
	}{
		{"create_*", KindName, "create_user", true},
		{"create_*", KindName, "create_a/b", false},
		{"create_**", KindName, "create_a/b", true},
		{"create", KindName, "create_user", false},
		{"[a-z]?", KindName, "ab", false}, // these were special to path.Match
		{"[a-z]?", KindName, "[a-z]?", true},
		{`\*`, KindName, "*", true},
		{`\*`, KindName, "a", false},
		{"*", KindName, "", true},
		{"*", KindNone, "", false},
		{"**", KindNone, "", true},
		{"file:///pub/*", KindURI, "file:///pub/a", true},
		{"file:///pub/*", KindURI, "file:///pub/a/b", false},
		{"file:///pub/**", KindURI, "file:///pub/a/b", true},
		{"file:///pub/**", KindURI, "file:///pub/../secret", false},
		{"file:///pub/**", KindURI, "file:///pub/%2e%2e/secret", false},
		{"file:///pub/**", KindURI, "file:///pub/a?x=1", false},
		{"file:///pub/**", KindName, "file:///pub/../secret", true}, // a tool may have such a name
		{"file:///pub/../secret", KindURI, "file:///pub/../secret", true},
		{"**", KindURI, "file:///pub/../secret", true},
		{"db:*", KindTemplate, "db:{id}", true},
		{"db:*", KindTemplate, "db:{+path}", false},
	} {
		p, err := NewPattern(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(tc.kind, tc.object); got != tc.want {
			t.Errorf("%s matches %q (%d): %v", tc.pattern, tc.object, tc.kind, got)
		}
	}
	for _, pattern := range []string{"", "\xff", "*" + strings.Repeat("a", maxGlob)} {
		if _, err := NewPattern(pattern); err == nil {
			t.Errorf("%.20q is accepted", pattern)
		}
	}
	if _, err := NewPattern(strings.Repeat("a", maxGlob+1)); err != nil {
		t.Errorf("an exact pattern has no bound: %v", err)
	}
}

// FuzzPattern holds what a Pattern matches against what a grant of it allows.
func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"query_*", "query_1"},
		{"a*b**c*d", "axb/yc/d"},
		{"file:///pub/**", "file:///pub/a?b#c"},
		{"file:///*?q=**#*", "file:///a?q=b/c#d"},
		{"db:*", "db:{id}"},
		{"**", "x:%2e%2e/"},
		{"x:a", "x:a"},
		{`\**`, "*a"},
		{"***", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, object string) {
		if len(object) > 2000 {
			return
		}
		p, err := NewPattern(pattern)
		for _, q := range []struct {
			perm mcp.Permission
			kind ObjectKind
		}{{mcp.ToolsExecute, KindName}, {mcp.ResourcesRead, KindURI}, {mcp.ResourcesRead, KindTemplate}} {
			granted, refused := Compile([]Role{{Name: "r", Allow: []Grant{{Permission: q.perm.String(), Objects: []string{"s/" + pattern}}}}})
			if refused != nil {
				// A grant may be refused as one that never matches.
				if err == nil && p.Match(q.kind, object) && object != p.exact {
					t.Fatalf("%q matches %q, and its grant is refused: %v", pattern, object, refused)
				}
				continue
			}
			if err != nil {
				t.Fatalf("the grant of %q is accepted, the pattern is not: %v", pattern, err)
			}
			roles := granted.RolesOf(func(string) []string { return nil }, nil)
			if got, want := p.Match(q.kind, object), granted.Allows(roles, q.perm, "s", q.kind, object); got != want {
				t.Fatalf("%q matches %q (%d): %v, and its grant allows it: %v", pattern, object, q.kind, got, want)
			}
		}
	})
}
