package mcp

import (
	"testing"
	"unicode/utf8"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

// specified is every method of the specification, by revision (schema.ts of each),
// with the first and last that has it.
var specified = []struct {
	name        string
	from        From
	kind        jsonrpc.Kind
	since, last Version
}{
	{"initialize", Client, request, V20241105, V20251125},
	{"ping", Client, request, V20241105, V20251125},
	{"ping", Server, request, V20241105, V20251125},
	{"tools/list", Client, request, V20241105, V20260728},
	{"tools/call", Client, request, V20241105, V20260728},
	{"resources/list", Client, request, V20241105, V20260728},
	{"resources/templates/list", Client, request, V20241105, V20260728},
	{"resources/read", Client, request, V20241105, V20260728},
	{"resources/subscribe", Client, request, V20241105, V20251125},
	{"resources/unsubscribe", Client, request, V20241105, V20251125},
	{"prompts/list", Client, request, V20241105, V20260728},
	{"prompts/get", Client, request, V20241105, V20260728},
	{"completion/complete", Client, request, V20241105, V20260728},
	{"logging/setLevel", Client, request, V20241105, V20251125},
	{"server/discover", Client, request, V20260728, V20260728},
	{"subscriptions/listen", Client, request, V20260728, V20260728},
	{"notifications/initialized", Client, notification, V20241105, V20251125},
	{"notifications/cancelled", Client, notification, V20241105, V20260728}, // of no use over HTTP, yet sent
	{"notifications/progress", Client, notification, V20241105, V20251125},
	{"notifications/roots/list_changed", Client, notification, V20241105, V20251125},
	{"sampling/createMessage", Server, request, V20241105, V20251125},
	{"roots/list", Server, request, V20241105, V20251125},
	{"elicitation/create", Server, request, V20250618, V20251125},
	{"notifications/message", Server, notification, V20241105, V20260728},
	{"notifications/progress", Server, notification, V20241105, V20260728},
	{"notifications/cancelled", Server, notification, V20241105, V20260728},
	{"notifications/tools/list_changed", Server, notification, V20241105, V20260728},
	{"notifications/prompts/list_changed", Server, notification, V20241105, V20260728},
	{"notifications/resources/list_changed", Server, notification, V20241105, V20260728},
	{"notifications/resources/updated", Server, notification, V20241105, V20260728},
	{"notifications/subscriptions/acknowledged", Server, notification, V20260728, V20260728},
	{"notifications/elicitation/complete", Server, notification, V20251125, V20251125},
	{"tasks/get", Client, request, V20251125, V20260728}, // since 2026-07-28 in an extension
	{"tasks/result", Client, request, V20251125, V20251125},
	{"tasks/list", Client, request, V20251125, V20251125},
	{"tasks/cancel", Client, request, V20251125, V20260728},
	{"tasks/update", Client, request, V20260728, V20260728},
	{"notifications/tasks/status", Server, notification, V20251125, V20251125},
	{"notifications/tasks", Server, notification, V20260728, V20260728},
}

// notCarried are those that the table leaves out on purpose: the tasks that a client
// hosts for a server, because nothing binds them to whom they are for.
var notCarried = []struct {
	name string
	from From
	kind jsonrpc.Kind
}{
	{"tasks/get", Server, request}, {"tasks/result", Server, request}, {"tasks/cancel", Server, request},
	{"tasks/list", Server, request}, {"notifications/tasks/status", Client, notification},
}

func TestTableIsComplete(t *testing.T) {
	rows := 0
	for _, s := range specified {
		for _, v := range Versions {
			want := s.since <= v && v <= s.last
			if got := Lookup(s.name, s.from, s.kind, v) != nil; got != want {
				t.Errorf("%s in %s: in the table %v, want %v", s.name, v, got, want)
			}
		}
		if other := Lookup(s.name, s.from, request+notification-s.kind, s.last); other != nil {
			t.Errorf("%s is in the table both as request and notification", s.name)
		}
		rows++
	}
	for _, m := range Methods() {
		if m.From == Client|Server {
			rows--
		}
	}
	if rows != len(Methods()) {
		t.Errorf("the table has %d rows, the specification %d", len(Methods()), rows)
	}
	for _, m := range notCarried {
		for _, v := range Versions {
			if Lookup(m.name, m.from, m.kind, v) != nil {
				t.Errorf("%s is carried in %s", m.name, v)
			}
		}
	}
}

// Every row must say what is judged: a request without a permission would be
// open to everybody.
func TestTableDecides(t *testing.T) {
	for _, m := range Methods() {
		if m.Kind == request || m.From&Client != 0 {
			if m.Permission == PermissionNone {
				t.Errorf("%s needs no permission", m.Name)
			}
		}
		if m.Object == Resource && m.Permission == PermissionNone {
			t.Errorf("%s names a resource and needs no permission", m.Name)
		}
	}
}

// Row A20: a method has one spelling.
func TestLookupIsExact(t *testing.T) {
	for _, name := range []string{"tools/Call", "TOOLS/CALL", "tools/call/", " tools/call", "tools/call ", "tools//call", "", "tools/invoke", "vendor/exec", "rpc.discover"} {
		for _, v := range Versions {
			if Lookup(name, Client, request, v) != nil {
				t.Errorf("%q is known in %s", name, v)
			}
		}
	}
	if !IsRequest("tools/call") || IsRequest("notifications/initialized") || IsRequest("sampling/createMessage") || IsRequest("x") {
		t.Error("IsRequest is for the requests of clients")
	}
}

func TestVersions(t *testing.T) {
	for i, v := range Versions {
		if i > 0 && v >= Versions[i-1] {
			t.Errorf("%s is not older than %s", v, Versions[i-1])
		}
		if known, ok := Known(string(v)); !ok || known != v {
			t.Errorf("%s is not known", v)
		}
		if v.Modern() != (v == V20260728) || v.Batches() != (v == V20250326) {
			t.Errorf("%s: modern %v, batches %v", v, v.Modern(), v.Batches())
		}
	}
	for _, name := range []string{"", "2025-11-26", "2026-07-28 ", "draft", "9999-01-01"} {
		if _, ok := Known(name); ok {
			t.Errorf("%q is known", name)
		}
	}
}

func TestPermissionNames(t *testing.T) {
	for _, p := range Permissions() {
		if parsed, ok := ParsePermission(p.String()); !ok || parsed != p {
			t.Errorf("%d: %q is parsed as %v", p, p, parsed)
		}
	}
	for _, name := range []string{"", "none", "tools", "tools.Execute", "tools.*", "*"} {
		if _, ok := ParsePermission(name); ok {
			t.Errorf("%q is a permission", name)
		}
	}
	if PermissionNone.String() != "none" || PermissionCount.String() != "none" {
		t.Error("what is no permission has a name")
	}
}

// Row F5: the header names just what is judged.
func TestMirroredName(t *testing.T) {
	members := map[Object]string{Tool: "name", Prompt: "name", Resource: "uri", Task: "taskId"}
	for _, m := range Methods() {
		want := ""
		if m.From == Client && m.Kind == request && m.in(V20260728) {
			want = members[m.Object]
		}
		if got := MirroredName(m.Name); m.in(V20260728) && got != want {
			t.Errorf("%s: Mcp-Name mirrors %q, want %q", m.Name, got, want)
		}
	}
}

// Rows B10 to B12.
func TestDecodeHeader(t *testing.T) {
	for _, tc := range []struct {
		value, want string
		ok          bool
	}{
		{"ok", "ok", true},
		{"", "", true},
		{"=?base64?YWRtaW4=?=", "admin", true},
		{"=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, 世界", true},
		{"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", "=?base64?literal?=", true},
		{"=?base64??=", "", true},
		{"=?BASE64?YWRtaW4=?=", "=?BASE64?YWRtaW4=?=", true}, // not the marker: literal
		{"=?base64?YWRtaW4=", "=?base64?YWRtaW4=", true},
		{"=?base64?YWRtaW4?=", "", false},    // padding
		{"=?base64?YWRtaW4==?=", "", false},  // too much of it
		{"=?base64?YWRtaW5=?=", "", false},   // bits beyond the text
		{"=?base64?YWR_aW4-?=", "", false},   // the other alphabet
		{"=?base64?YWRt\naW4=?=", "", false}, // a line end
		{"=?base64?YWRt aW4=?=", "", false},
	} {
		if got, ok := DecodeHeader(tc.value); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %q %v, want %q %v", tc.value, got, ok, tc.want, tc.ok)
		}
	}
}

func FuzzEncodeHeader(f *testing.F) {
	for _, seed := range []string{"", "ok", " ok", "ok ", "=?base64?b2s=?=", "日本", "a\tb", "a\r\nb", "\x7f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		value := EncodeHeader(text)
		for i := range len(value) {
			if value[i] < 0x20 || value[i] > 0x7e {
				t.Fatalf("%q is not plain", value)
			}
		}
		if got, ok := DecodeHeader(value); !ok || got != text {
			t.Errorf("%q came back as %q from %q", text, got, value)
		}
	})
}
