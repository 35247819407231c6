package resource

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ in, url, host, origin, endpoint, metadata string }{
		{
			"https://mcp.example.com", "https://mcp.example.com", "mcp.example.com", "https://mcp.example.com",
			"/servers/a/mcp", "https://mcp.example.com/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"HTTPS://MCP.Example.COM/", "https://mcp.example.com", "mcp.example.com", "https://mcp.example.com",
			"/servers/a/mcp", "https://mcp.example.com/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"https://h:8443/Team/gw/", "https://h:8443/Team/gw", "h:8443", "https://h:8443",
			"/Team/gw/servers/a/mcp", "https://h:8443/.well-known/oauth-protected-resource/Team/gw/servers/a/mcp",
		},
		{
			"https://h:443", "https://h", "h", "https://h",
			"/servers/a/mcp", "https://h/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"https://h:0443", "https://h", "h", "https://h",
			"/servers/a/mcp", "https://h/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"https://h:80", "https://h:80", "h:80", "https://h:80",
			"/servers/a/mcp", "https://h:80/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443",
			"/servers/a/mcp", "https://[2001:db8::1]:8443/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"http://[::1]:80/x", "http://[::1]/x", "[::1]", "http://[::1]",
			"/x/servers/a/mcp", "http://[::1]/.well-known/oauth-protected-resource/x/servers/a/mcp",
		},
		{
			"http://127.0.0.7:3000", "http://127.0.0.7:3000", "127.0.0.7:3000", "http://127.0.0.7:3000",
			"/servers/a/mcp", "http://127.0.0.7:3000/.well-known/oauth-protected-resource/servers/a/mcp",
		},
		{
			"http://dev.localhost", "http://dev.localhost", "dev.localhost", "http://dev.localhost",
			"/servers/a/mcp", "http://dev.localhost/.well-known/oauth-protected-resource/servers/a/mcp",
		},
	} {
		b, err := Parse(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		for _, pair := range [][2]string{
			{b.String(), tc.url},
			{b.Host(), tc.host},
			{b.Origin(), tc.origin},
			{b.Endpoint("a"), tc.endpoint},
			{b.Endpoint(""), strings.TrimSuffix(tc.endpoint, "/servers/a/mcp") + "/mcp"},
			{b.Identifier(b.Endpoint("a")), tc.url + "/servers/a/mcp"},
			{b.MetadataURL(b.Endpoint("a")), tc.metadata},
			{b.MetadataURL(b.Prefix()), strings.TrimSuffix(tc.metadata, "/servers/a/mcp")},
			{b.Origin() + b.MetadataPath(b.Endpoint("a")), tc.metadata},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: got %s, want %s", tc.in, pair[0], pair[1])
			}
		}
		if again, err := Parse(b.String()); err != nil || again != b {
			t.Errorf("%s: its own spelling reads as %+v, error %v", tc.in, again, err)
		}
	}
}

func TestParseHostname(t *testing.T) {
	b, err := Parse("https://[2001:db8::1]:8443/x")
	if err != nil || b.Hostname() != "2001:db8::1" || b.Scheme() != "https" {
		t.Errorf("got %s %s, error %v", b.Scheme(), b.Hostname(), err)
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "is empty",
		"mcp.example.com":              "https://",
		"//mcp.example.com":            "https://",
		"ftp://h":                      "https://",
		"http://mcp.example.com":       "loopback",
		"http://127.0.0.1.example.com": "loopback",
		"http://localhost.example.com": "loopback",
		"http://notlocalhost":          "loopback",
		"http://10.0.0.1":              "loopback",
		"https:mcp.example.com":        "no host",
		"https://":                     "no host",
		"https://:8443":                "no host",
		"https://user:geheim@h":        "user name",
		"https://h?":                   "query",
		"https://h?a=b":                "query",
		"https://h#":                   "fragment",
		"https://h/#x":                 "fragment",
		"https://h:0":                  "port",
		"https://h:65536":              "port",
		"https://h:port":               "not a URL",
		"https://h.":                   "empty label",
		"https://a..b":                 "empty label",
		"https://müller.example":       "xn--",
		"https://a%2fb":                "not a URL",
		"https://a b":                  "not a URL",
		"https://h\n":                  "not a URL",
		"https://{host}":               "host",
		"https://::1":                  "not a URL",
		"https://[::ffff:127.0.0.1]":   "within",
		"https://123":                  "IPv4",
		"https://10.0.1":               "IPv4",
		"https://a.0x7f":               "IPv4",
		"https://[fe80::1%25eth0]":     "zone",
		"https://[::g]":                "not a URL",
		"https://h//a":                 "plain segments",
		"https://h/a//":                "plain segments",
		"https://h//":                  "plain segments",
		"https://h/a/../b":             "plain segments",
		"https://h/.":                  "plain segments",
		"https://h/a%2Fb":              "plain segments",
		"https://h/a%41":               "plain segments",
		"https://h/a b":                "plain segments",
		`https://h/a\b`:                "plain segments",
		"https://h/a*":                 "plain segments",
	} {
		b, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) || b != (Base{}) {
			t.Errorf("%q: got %+v, error %v, want one with %q", in, b, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the error shows a password", in)
		}
	}
}

func TestCheckServer(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "warehouse": true, "tickets-2-b": true, "9": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, "-a": false, "a/b": false, "a b": false, "a*": false, "ü": false,
		"a%2Fb": false, "a:b": false, "A": false, "a_b": false, "a.b": false, strings.Repeat("x", 65): false,
	} {
		if err := CheckServer(name); (err == nil) != ok {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

// FuzzParse checks that whatever is accepted has one spelling, and that the
// spelling holds nothing that could break out of a header or a JSON string.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://H:443/a/", "http://[::1]:8080", "https://u@h", "https://h?x#y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		b, err := Parse(in)
		if err != nil {
			return
		}
		url := b.MetadataURL(b.Endpoint("a"))
		if strings.ContainsAny(url, "\"\\<>{}?#@%, ") || strings.ToLower(b.Origin()) != b.Origin() {
			t.Fatalf("%q: %s", in, url)
		}
		if again, err := Parse(b.String()); err != nil || again != b {
			t.Fatalf("%q: %s reads as %+v, error %v", in, b, again, err)
		}
	})
}
