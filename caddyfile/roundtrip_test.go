package caddyfile

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// ours are the places of our modules in the JSON: the key that names a module, and
// the namespace that the name is in. Other modules in such a place are left alone.
var ours = map[string]string{
	"handler": "http.handlers.",
	"source":  "mcp_gateway.key_sources.",
	"store":   "mcp_gateway.stores.",
	"policy":  "http.reverse_proxy.selection_policies.",
}

// modules finds all of our modules in a configuration, each with its JSON without
// the key that names it.
func modules(t *testing.T, config any, found func(id string, object map[string]any)) {
	t.Helper()
	switch value := config.(type) {
	case []any:
		for _, element := range value {
			modules(t, element, found)
		}
	case map[string]any:
		for name, element := range value {
			if app, ok := element.(map[string]any); ok && name == "mcp_gateway" {
				found(name, app)
			}
			modules(t, element, found)
		}
		for key, namespace := range ours {
			name, _ := value[key].(string)
			if strings.HasPrefix(name, "mcp_") || key == "store" && name != "" || key == "source" && name != "" && name != "a" { // a: dynamic upstreams
				object := map[string]any{}
				for k, v := range value {
					if k != key {
						object[k] = v
					}
				}
				found(namespace+name, object)
			}
		}
	}
}

// TestRoundTrip decodes what is adapted strictly into the modules' own types, and
// expects the same from marshalling those.
func TestRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goldens(t) {
		if g.wantsError() {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			modules(t, parse(t, g.expected), func(id string, object map[string]any) {
				seen[id] = true
				info, err := caddy.GetModule(id)
				if err != nil {
					t.Fatal(err)
				}
				module := info.New()
				decoder := json.NewDecoder(bytes.NewReader(marshal(t, object)))
				decoder.DisallowUnknownFields()
				if err := decoder.Decode(module); err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				if again := parse(t, string(marshal(t, module))); !reflect.DeepEqual(again, any(object)) {
					t.Errorf("%s\nwas:   %s\nbecame: %s", id, marshal(t, object), marshal(t, again))
				}
			})
		})
	}
	for _, id := range []string{
		"mcp_gateway", "http.handlers.mcp_well_known", "http.handlers.mcp_auth", "http.handlers.mcp_proxy",
		"http.reverse_proxy.selection_policies.mcp_session",
		"mcp_gateway.key_sources.jwks", "mcp_gateway.key_sources.pem",
		"mcp_gateway.key_sources.secret", "mcp_gateway.key_sources.discovery", "mcp_gateway.key_sources.gateway",
		"http.handlers.mcp_admin", "mcp_gateway.stores.embedded", "mcp_gateway.stores.redis",
	} {
		if !seen[id] {
			t.Errorf("no golden file has %s", id)
		}
	}
}

// refused are the golden files whose JSON is right but cannot be loaded here.
var refused = map[string]string{
	"global_store_redis_tls_client": "no such file or directory",
	"auth_keys_secret_file":         "the secret names a placeholder that is unknown or empty",
	"auth_introspect_full":          "client_secret names a placeholder that is unknown or empty",
}

// TestValidate loads what is adapted, without starting it.
func TestValidate(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{
		"HOME": dir, "XDG_DATA_HOME": dir, "XDG_CONFIG_HOME": dir,
		"GATEWAY_TEST_SECRET":   "2f8Jq0Zs-not-a-secret-Ww3kT9bYh6",
		"GATEWAY_TEST_ADMIN":    "seven Quiet otters 9 row upstream",
		"GATEWAY_TEST_PASSWORD": "Tulip-42 walks sideways",
		"GATEWAY_TEST_URL":      "https://mcp.example.com",
		"GATEWAY_TEST_ISSUER":   "https://login.example.com",
		"GATEWAY_TEST_UPSTREAM": "10.0.0.7:3000",
		"GATEWAY_TEST_NAME":     "Example gateway",
		"GATEWAY_TEST_PROXY":    "192.0.2.7",
		"GATEWAY_TEST_EXPIRES":  "2999-01-01T00:00:00Z",
	} {
		t.Setenv(name, value)
	}
	for _, g := range goldens(t) {
		if g.wantsError() {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			var config caddy.Config
			if err := json.Unmarshal([]byte(g.expected), &config); err != nil {
				t.Fatal(err)
			}
			config.Admin = &caddy.AdminConfig{Disabled: true}
			config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
				"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
			}}
			err := caddy.Validate(&config)
			switch because := refused[g.name]; {
			case because == "" && err != nil:
				t.Error(err)
			case because != "" && (err == nil || !strings.Contains(err.Error(), because)):
				t.Errorf("error %v, expected: %s", err, because)
			}
		})
	}
}

// TestShortForm adapts both forms that the comment of parseGateway shows.
func TestShortForm(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "gateway.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var forms []string
	for _, declared := range file.Decls {
		if f, ok := declared.(*ast.FuncDecl); ok && f.Name.Name == "parseGateway" {
			short, long, ok := strings.Cut(f.Doc.Text(), "is short for")
			if !ok {
				t.Fatal("the comment does not show both forms")
			}
			forms = []string{code(short), code(long)}
		}
	}
	var handlers [2][]any
	for i, form := range forms {
		adapted, err := adapt(t, string(caddyfile.Format([]byte("https://mcp.example.com {\n"+form+"}\n"))))
		if err != nil {
			t.Fatalf("%v in:\n%s", err, form)
		}
		// The lines on which grants are written differ, of course.
		adapted = grantLine.ReplaceAllString(adapted, `"at":""`)
		modules(t, parse(t, adapted), func(id string, object map[string]any) {
			handlers[i] = append(handlers[i], []any{id, object})
		})
	}
	if len(handlers[0]) != 3 || !reflect.DeepEqual(handlers[0], handlers[1]) {
		t.Errorf("short: %s\nlong:  %s", marshal(t, handlers[0]), marshal(t, handlers[1]))
	}
}

var grantLine = regexp.MustCompile(`"at":\s*"[^"]*"`)

// code is the indented part of a comment's text.
func code(comment string) string {
	var b strings.Builder
	for line := range strings.Lines(comment) {
		if strings.HasPrefix(line, "\t") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func parse(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
