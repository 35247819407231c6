package policy

import (
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func TestURIs(t *testing.T) {
	tests := []struct {
		row     string
		pattern string
		allowed []string
		denied  []string
	}{
		{
			"C2 under a prefix", "s/file:///pub/**",
			[]string{
				"file:///pub/", "file:///pub/a", "file:///pub/a/b.md", "file:///pub/...", "file:///pub/.hidden", "file:///pub/a..b",
				"file:///pub/a%20b", "file:///pub/caf%C3%A9", "file:///pub/a@b", "file:///pub/a//b", "file:///pub/%2ehidden",
			},
			[]string{
				"file:///pub", "file:///public", "file:///priv", "xfile:///pub/a",
				"file:///pub/../secret", "file:///pub/a/..", "file:///pub/./a", "file:///pub/.", "file:///pub/..",
				"file:///pub/%2e%2e/secret", "file:///pub/%2E./secret", "file:///pub/.%2e/secret", "file:///pub/%2e/a",
				"file:///pub/%252e%252e/secret", "file:///pub/%25", "file:///pub/a%2500",
				"file:///pub/..;x/secret", "file:///pub/a;../secret", "file:///pub/x=..",
				"file:///pub/..%2fsecret", "file:///pub/a%2Fb", "file:///pub/a%5Cb", "file:///pub/a%5cb",
				`file:///pub/..\secret`, `file:///pub/a\b`, `file:\\\pub\a`,
				"FILE:///pub/a", "File:///pub/a", "file://localhost/pub/a", "file:/pub/a", "file:pub/a",
				"file:///pub/a#frag", "file:///pub/a?q", "file:///pub/?", "file:///pub/#", "file:///pub/a%3fq", "file:///pub/a%23f",
				"file:///pub/a\x00", "file:///pub/a\n", "file:///pub/a\x7f", "file:///pub/a%00", "file:///pub/a%0a", "file:///pub/a%7F",
				"file:///pub/café", "file:///pub/a\xff", "file:///pub/．．/secret", "file:///pub/%c0%ae%c0%ae/secret", "file:///pub/%C1%9c",
				"file:///pub/%", "file:///pub/%2", "file:///pub/%zz", "file:///pub/%2g",
				"file:///pub/https://user@host/",
			},
		},
		{
			"suffix", "s/file:///pub/*.md",
			[]string{"file:///pub/a.md", "file:///pub/.md", "file:///pub/%2emd.md"},
			[]string{"file:///pub/a/b.md", "file:///pub/a.mdx", "file:///pub/secret%00.md", "file:///pub/secret#.md", "file:///pub/secret?.md", "file:///pub/a%2fb.md"},
		},
		{
			"any depth", "s/file:///pub/**/*.md",
			[]string{"file:///pub/a/b.md", "file:///pub/a/b/c.md", "file:///pub//b.md"},
			[]string{"file:///pub/b.md", "file:///pub/a/../b.md"},
		},
		{
			"host", "s/https://*.example.com/**",
			[]string{"https://a.example.com/", "https://a.b.example.com/x/y"},
			[]string{
				"https://example.com/", "https://evil.test/.example.com/", "https://evil.test?.example.com/", "https://evil.test#.example.com/",
				"https://evil.test%2f.example.com/", "https://user@a.example.com/", "https://user:pw@a.example.com/", "https://evil.test%40.example.com/",
				"HTTPS://a.example.com/", "https://a.EXAMPLE.com/",
			},
		},
		{
			"query written out", "s/db://t/*?page=*",
			[]string{"db://t/a?page=", "db://t/a?page=1", "db://t/a?page=1?2", "db://t/?page=1&x=y"},
			[]string{"db://t/a", "db://t/a?page", "db://t/a?x=1&page=1", "db://t/a?page=1#f", "db://t/a#x?page=1", "db://t/a?page=../b", "db://t/a?page=a/b"},
		},
		{
			"wildcards do not hold the question mark", "s/https://*.example.com/**?*",
			[]string{"https://a.example.com/x?y"},
			[]string{"https://evil.test?.example.com/a?b", "https://evil.test#.example.com/a?b"},
		},
		{"fragment written out", "s/doc:*#*", []string{"doc:a#b", "doc:#", "doc:a#b#c", "doc:a#b?c"}, []string{"doc:a", "doc:a?b#c"}},
		{"query and fragment", "s/doc:*?*#*", []string{"doc:a?b#c", "doc:?#"}, []string{"doc:a#b", "doc:a?b", "doc:a#b?c"}},
		{"one path segment", "s/*", []string{"mailto:user@host", "urn:x"}, []string{"a:/b", "..", ".", "%2e", "urn:."}},
		{
			"exact strings are compared raw", "s/file:///a/../b?q#%2f",
			[]string{"file:///a/../b?q#%2f"},
			[]string{"file:///b?q#%2f", "file:///a/../b?q#%2F", "file:///a/../b?q#/", "file:///a/../b"},
		},
		{"exact with user information", "s/ssh://git@host/x", []string{"ssh://git@host/x"}, []string{"ssh://host/x", "ssh://git@HOST/x"}},
		{"everything", "s/**", []string{"file:///pub/../x", "a%2fb", "\x00", "https://u@h/", ""}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			p, rs := granting(t, Grant{Permission: "resources.read", Objects: []string{tt.pattern}}, Grant{Permission: "completions.use", Objects: []string{tt.pattern}})
			for _, perm := range []mcp.Permission{mcp.ResourcesRead, mcp.CompletionsUse} {
				for _, uri := range tt.allowed {
					if !p.Allows(rs, perm, "s", KindURI, uri) {
						t.Errorf("%q does not match %q", tt.pattern, uri)
					}
				}
				for _, uri := range tt.denied {
					if p.Allows(rs, perm, "s", KindURI, uri) {
						t.Errorf("%q matches %q", tt.pattern, uri)
					}
				}
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	tests := []struct {
		pattern string
		visible []string
		hidden  []string
	}{
		{
			"s/file:///pub/**",
			[]string{"file:///pub/{path}", "file:///pub/{+path}", "file:///pub/a/{b}/c", "file:///pub/plain", "file:///pub/{/a,b}"},
			[]string{
				"file:///{dir}/x", "file:///pub{/path}", "file:///{+path}", "{+uri}", "file:///priv/{path}", "file:///pub/../{path}", "file:///pub/{a}/../x",
				"file:///pub/{a}{?q}", "file:///pub/{a}#x", "file:///pub/{a}{#f}", "file:///pub/%2e%2e/{a}", "file:///PUB/{a}", "file:///pub",
			},
		},
		{
			"s/file:///pub/*",
			[]string{"file:///pub/{name}", "file:///pub/{name}.md", "file:///pub/a{b}", "file:///pub/{a}{.ext}", "file:///pub/{_a:3}{;p*}"},
			[]string{"file:///pub/{+path}", "file:///pub/{a}/{b}", "file:///pub/{a}/c", "file:///pub/{/a}", "file:///pub/{a}{+b}", "file:///{dir}", "file:///pub/{", "file:///pub/{!x}", "file:///pub/{a}{"},
		},
		{"s/file:///pub/*.md", []string{"file:///pub/a.md"}, []string{"file:///pub/{name}.md", "file:///pub/{name}"}},
		{"s/file:///*/docs/**", []string{"file:///a/docs/{path}"}, []string{"file:///{user}/docs/{path}", "file:///{user}/docs/x"}},
		{"s/db://rows?table=*", []string{"db://rows?table={t}", "db://rows?table=a{&page}"}, []string{"db://rows{?table}", "db://rows?table={+t}", "db://{x}?table=y"}},
		{"s/file:///{dir}/{+path}", []string{"file:///{dir}/{+path}"}, []string{"file:///{dir}/{path}", "file:///{dir}", "file:///{DIR}/{+path}"}},
		{"s/**", []string{"{+uri}", "file:///../{x}", "a{?q}"}, nil},
		{"s", []string{"{+uri}", "file:///../{x}", "a{?q}"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			p, rs := granting(t, Grant{Permission: "resources.read", Objects: []string{tt.pattern}})
			for _, template := range tt.visible {
				if !p.Allows(rs, mcp.ResourcesRead, "s", KindTemplate, template) {
					t.Errorf("%q hides %q", tt.pattern, template)
				}
			}
			for _, template := range tt.hidden {
				if p.Allows(rs, mcp.ResourcesRead, "s", KindTemplate, template) {
					t.Errorf("%q shows %q", tt.pattern, template)
				}
			}
		})
	}
}

// A template that a glob covers must not make a plain URI outside the glob, for
// values that leave the URI plain and, after an operator that encodes, have
// their reserved characters encoded.
func TestCoveredTemplatesStayInside(t *testing.T) {
	for _, pattern := range []string{"file:///pub/**", "file:///pub/*", "file:///pub/a*", "db://*/**", "x:**/y/**"} {
		g := newURIGlob(tokenize(pattern), pathEnds)
		for _, template := range []string{
			"file:///pub/{a}", "file:///pub/{+a}", "file:///pub/{a}/b", "file:///pub/a{a}", "file:///pub{a}", "file:///{a}/pub/", "db://t/{a}", "db://{a}/t", "x:{a}/y/", "x:/y/{+a}",
		} {
			if !isPlainURI(template) || !g.matchTemplate(template) {
				continue
			}
			for _, value := range []string{"", "a", "b.c", "a%2Fb", "..", "a/b", "/../x", "#", "?x", "..%2f"} {
				if strings.Contains(template, "{a}") && strings.ContainsAny(value, "/?#") {
					continue
				}
				uri := strings.NewReplacer("{a}", value, "{+a}", value).Replace(template)
				if isPlainURI(uri) && !strings.ContainsAny(uri, "?#") && !g.matchURI(uri) {
					t.Errorf("%q covers %q, but not its %q", pattern, template, uri)
				}
			}
		}
	}
}
