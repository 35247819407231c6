package gateways

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway/caddyfile"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy"
	_ "github.com/caddymcp/caddy-mcp-gateway/wellknown"
)

// write makes a file and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func gateway(url, servers string) string {
	return `{"handler":"mcp_auth","public_url":"` + url + `","servers":[` + servers + `],"issuers":[{"issuer":"https://login.example.com"}]}`
}

// TestFindsHandlers: wherever a configuration has them.
func TestFindsHandlers(t *testing.T) {
	nested := func(n string) string { return gateway("https://"+n+".example", `"`+n+`"`) }
	file := write(t, "caddy.json", `{
		"@id": "x",
		"logging": {"logs": {"default": {"writer": {"output": "file", "filename": "/nowhere/that/can/be.log"}}}},
		"storage": {"module": "none_such"},
		"apps": {
			"none_such": {},
			"mcp_gateway": {"environment": "production"},
			"http": {"servers": {
				"one": {
					"listen": [":443"],
					"named_routes": {"n": {"handle": [`+nested("named")+`]}},
					"errors": {"routes": [{"handle": [`+nested("error")+`]}]},
					"routes": [
						{"@id": "y", "match": [{"host": ["a"]}], "handle": [{"handler": "none_such"}, {"handler": "subroute", "routes": [
							{"handle": [{"handler": "subroute", "routes": [{"handle": [`+nested("deep")+`]}]}]}]}]},
						{"handle": [{"handler": "reverse_proxy", "handle_response": [{"routes": [{"handle": [`+nested("answer")+`]}]}]}]},
						{"handle": [`+nested("deep")+`]}]},
				"two": {"routes": [{"handle": [`+nested("two")+`]}]}}}}}`)
	set, err := Load(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, h := range set.All() {
		urls = append(urls, strings.TrimSuffix(strings.TrimPrefix(h.URL(), "https://"), ".example"))
	}
	slices.Sort(urls)
	if got := strings.Join(urls, " "); got != "answer deep error named two" {
		t.Error(got)
	}
}

func TestAt(t *testing.T) {
	site := func(handlers ...string) *Set {
		t.Helper()
		set, err := Load(write(t, "c.json", `{"apps":{"http":{"servers":{"s":{"routes":[{"handle":[`+strings.Join(handlers, ",")+`]}]}}}}}`), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	one := site(gateway("https://a.example", `"crm"`))
	many := site(gateway("https://a.example", `"crm","notes"`), gateway("https://b.example", `"crm"`))
	twice := site(gateway("https://a.example", `"crm"`), gateway("https://a.example", `"crm","notes"`))
	for _, tc := range []struct {
		name        string
		set         *Set
		server, url string
		want        string
	}{
		{"the only one", one, "", "", "https://a.example crm"},
		{"by its name", one, "crm", "", "https://a.example crm"},
		{"by its URL", many, "", "https://b.example/", "https://b.example crm"},
		{"by both", many, "crm", "https://a.example", "https://a.example crm"},
		{"unknown", one, "notes", "", `there is no server "notes"; there are https://a.example crm`},
		{"unknown URL", one, "crm", "https://b.example", "there is no gateway at https://b.example; there are https://a.example"},
		{"several servers", many, "", "", "there are several servers; write which one: https://a.example crm, https://a.example notes, https://b.example crm"},
		{"several gateways", many, "crm", "", "several gateways have a server crm; say which one with --public-url: https://a.example, https://b.example"},
		{"no way to tell", twice, "crm", "", "the configuration has 2 different gateways with a server crm at https://a.example"},
	} {
		h, server, err := tc.set.At(tc.server, tc.url)
		if err == nil {
			err = errors.New(h.URL() + " " + server)
		}
		if got := err.Error(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestLoadCaddyfile(t *testing.T) {
	const text = `
https://mcp.example.com {
	mcp_gateway {
		public_url {env.CAN_URL}
		issuer {$CAN_ISSUER} {
			secret {env.CAN_SECRET}
			algorithms HS256
		}
		role r {
			allow *
		}
		server notes 127.0.0.1:1
	}
}
`
	t.Setenv("CAN_URL", "https://mcp.example.com")
	t.Setenv("CAN_ISSUER", "https://login.example.com")
	file := write(t, "Caddyfile", text)
	set, err := Load(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if h := set.All()[0]; h.URL() != "https://mcp.example.com" || h.Issuers[0].Issuer != "https://login.example.com" || set.File != file {
		t.Errorf("%+v", h)
	}
	// Only where tokens are verified are secrets needed.
	if _, err := Load(file, Options{Keys: true}); err == nil || !strings.Contains(err.Error(), "CAN_SECRET") && !strings.Contains(err.Error(), "secret") {
		t.Errorf("without the secret: %v", err)
	}
	t.Setenv("CAN_SECRET", "0123456789abcdef-can-0123456789abcdef")
	if _, err := Load(file, Options{Keys: true}); err != nil {
		t.Error(err)
	}
	// The Caddyfile in the working directory.
	t.Chdir(filepath.Dir(file))
	if set, err := Load("", Options{}); err != nil || set.File != "Caddyfile" {
		t.Errorf("%+v, %v", set, err)
	}
	t.Chdir(t.TempDir())
	for _, tc := range []struct{ name, file, adapter, want string }{
		{"nothing", "", "", "there is no Caddyfile here; name the configuration with --config"},
		{"no file", "none.json", "", "no such file"},
		{"no adapter", file, "none_such", "unrecognized config adapter: none_such"},
		{"no JSON", write(t, "c.json", "{"), "", "config is not valid JSON"},
		{"no gateway", write(t, "c.json", `{"apps":{"http":{}}}`), "", "the configuration has no mcp_gateway or mcp_auth"},
		{"nothing at all", write(t, "c.json", `{}`), "", "the configuration has no mcp_gateway or mcp_auth"},
		{"a list", write(t, "c.json", `[]`), "", "the configuration has no mcp_gateway or mcp_auth"},
		{"a mistake", write(t, "c.json", `{"apps":{"x":{"handler":"mcp_auth","public_url":"https://a.example"}}}`), "", "no server is named"},
		{"an unknown member", write(t, "c.json", `{"apps":{"x":{"handler":"mcp_auth","none_such":1}}}`), "", "unknown field"},
		{"a mistake in the app", write(t, "c.json", `{"apps":{"mcp_gateway":{"none_such":1},"x":`+gateway("https://a.example", `"crm"`)+`}}`), "", "unknown field"},
		{"a Caddyfile with a mistake", write(t, "Caddyfile", "x {\n\tmcp_gateway\n}\n"), "", "Caddyfile:2"},
	} {
		if _, err := Load(tc.file, Options{Adapter: tc.adapter}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
}
