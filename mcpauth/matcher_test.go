package mcpauth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func TestMatch(t *testing.T) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_user"}}`)
	messages, _, err := jsonrpc.Read(body)
	if err != nil {
		t.Fatal(err)
	}
	call := &Call{Server: "crm", Version: mcp.V20251125, Messages: messages, Principal: &Principal{Roles: []string{"editor"}}}
	for source, want := range map[string]bool{
		"mcp tools/call":                                     true,
		"mcp tools/call create_*":                            true,
		"mcp tools/call drop_* create_user":                  true,
		"mcp tools/call create":                              false,
		"mcp tools/list":                                     false,
		"mcp {\n server crm other\n}":                        true,
		"mcp {\n server other\n}":                            false,
		"mcp {\n role viewer editor\n}":                      true,
		"mcp {\n role viewer\n}":                             false,
		"mcp {\n permission tools.execute\n}":                true,
		"mcp {\n permission tools.read\n}":                   false,
		"mcp tools/call create_* {\n server crm\n role x\n}": false,
	} {
		t.Run(source, func(t *testing.T) {
			m := new(Match)
			if err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(source)); err != nil {
				t.Fatal(err)
			}
			if err := m.Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			if err := m.Validate(); err != nil {
				t.Fatal(err)
			}
			r := prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
			caddyhttp.SetVar(r.Context(), callVar, call)
			if got, err := m.MatchWithError(r); err != nil || got != want {
				t.Errorf("%v %v, want %v", got, err, want)
			}
		})
	}
}

// Names are matched by the policy's own globs, and what is matched is what is judged.
func TestMatchNames(t *testing.T) {
	tool := `"method":"tools/call","params":{"name":"a/b","uri":"file:///pub/a"}`
	for _, tc := range []struct {
		pattern, message string
		want             bool
	}{
		{"*", tool, false},
		{"**", tool, true},
		{"a/*", tool, true},
		{"a/?", tool, false},
		{"a/[b]", tool, false},
		{"file:///pub/*", tool, false},
		{"file:///pub/*", `"method":"resources/read","params":{"uri":"file:///pub/a"}`, true},
		{"file:///pub/*", `"method":"resources/read","params":{"uri":"file:///pub/a/b"}`, false},
		{"file:///pub/**", `"method":"resources/read","params":{"uri":"file:///pub/a/b"}`, true},
		{"file:///pub/**", `"method":"resources/read","params":{"uri":"file:///pub/../b"}`, false},
		{"file:///pub/**", `"method":"resources/subscribe","params":{"uri":"file:///pub/a"}`, true},
		// A second name is no way past the matcher.
		{"file:///pub/**", `"method":"resources/read","params":{"name":"x","uri":"file:///pub/a"}`, true},
		{"x", `"method":"resources/read","params":{"name":"x","uri":"file:///pub/a"}`, false},
		{"db:*", `"method":"completion/complete","params":{"name":"x","ref":{"type":"ref/resource","uri":"db:{id}"}}`, true},
		{"db:*", `"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"db:{+id}"}}`, false},
		{"open*", `"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"open"}}`, true},
		{"*", `"method":"tools/list"`, false},
		{"**", `"method":"tools/list"`, true},
	} {
		messages, _, err := jsonrpc.Read([]byte(`{"jsonrpc":"2.0","id":1,` + tc.message + `}`))
		if err != nil {
			t.Fatal(err)
		}
		m := &Match{Names: []string{tc.pattern}}
		if err := m.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		r := prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
		caddyhttp.SetVar(r.Context(), callVar, &Call{Version: mcp.V20251125, Messages: messages, Principal: &Principal{}})
		if got, err := m.MatchWithError(r); err != nil || got != tc.want {
			t.Errorf("%s matches %s: %v %v", tc.pattern, tc.message, got, err)
		}
	}
}

// A matcher that cannot know the answer must not say "no match".
func TestMatchWithoutAuth(t *testing.T) {
	_, err := Match{Methods: []string{"tools/call"}}.MatchWithError(prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil)))
	var handled caddyhttp.HandlerError
	if !errors.As(err, &handled) || handled.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %v", err)
	}
}

func TestMatchRefuses(t *testing.T) {
	for _, m := range []Match{{}, {Permissions: []string{"tools.run"}}} {
		if m.Validate() == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
	for _, name := range []string{"", "\xff", "*" + strings.Repeat("a", 2000)} {
		if err := (&Match{Names: []string{name}}).Provision(caddy.Context{}); err == nil {
			t.Errorf("%.20q is accepted", name)
		}
	}
	for _, source := range []string{"mcp {\n tool x\n}", "mcp {\n server\n}"} {
		if new(Match).UnmarshalCaddyfile(caddyfile.NewTestDispenser(source)) == nil {
			t.Errorf("%q is accepted", source)
		}
	}
}

func prepared(r *http.Request) *http.Request {
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
}

// The placeholders tell what was asked and what was decided.
func TestPlaceholders(t *testing.T) {
	messages, _, err := jsonrpc.Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`))
	if err != nil {
		t.Fatal(err)
	}
	call := &Call{Server: "crm", Messages: messages, reason: "not_found"}
	repl := caddy.NewReplacer()
	repl.Map(call.placeholder)
	for text, want := range map[string]string{
		"{http.mcp.server} {http.mcp.method} {http.mcp.name}": "crm resources/read file:///a",
		"{http.mcp.decision}: {http.mcp.reason}":              "refused: not_found",
		"{http.auth.user.id}":                                 "{http.auth.user.id}",
	} {
		if got := repl.ReplaceKnown(text, ""); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}
