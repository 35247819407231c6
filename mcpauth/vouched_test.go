package mcpauth

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A principal is remembered under all that it was made of, and not for ever.
func TestVouchedCache(t *testing.T) {
	change := trusting(believed)
	change["token_cache"] = 3
	change["servers"] = []string{"notes", "other"}
	h := provisioned(t, gateConfig(change))
	ask := func(server string, words ...string) *Principal {
		r := prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
		r.RemoteAddr = "127.0.0.1:1"
		for i, name := range []string{"X-Authenticated-User", "X-Authenticated-Groups", "X-Authenticated-Teams"}[:len(words)] {
			if words[i] != "-" {
				r.Header.Set(name, words[i])
			}
		}
		p, refusal := h.vouch(r, &endpoint{server: server}, false)
		if refusal != nil {
			t.Fatal(refusal.Reason)
		}
		return p
	}
	seen := map[*Principal]bool{}
	for i, words := range [][]string{
		{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"a", "", "bc"}, {"a", "-", "bc"}, {"a", "bc", "-"}, {"a", "-", "-"}, {"a", "", ""},
	} {
		for _, server := range []string{"notes", "other"} {
			p := ask(server, words...)
			if seen[p] {
				t.Errorf("%d: %q at %s is somebody else", i, words, server)
			}
			seen[p] = true
			if again := ask(server, words...); again != p {
				t.Errorf("%q at %s is not remembered", words, server)
			}
		}
	}
	if n := h.vouched.Len(); n != 3 {
		t.Errorf("%d are remembered, and 3 may be", n)
	}
}

// To find a remembered principal allocates nothing.
func TestVouchedAllocations(t *testing.T) {
	h := provisioned(t, gateConfig(trusting(believed)))
	r := prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Authenticated-User", "alice")
	r.Header.Set("X-Authenticated-Groups", "sales,reader")
	e := &endpoint{server: "notes"}
	if n := testing.AllocsPerRun(100, func() {
		if p, _ := h.vouch(r, e, false); p == nil {
			t.Fatal("nobody")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	h = provisioned(t, gateConfig(map[string]any{"authenticated": map[string]any{}}))
	r = prepared(httptest.NewRequest(http.MethodPost, "/mcp", nil))
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", "alice")
	if n := testing.AllocsPerRun(100, func() {
		if p, _ := h.vouch(r, e, false); p == nil {
			t.Fatal("nobody")
		}
	}); n > 0 {
		t.Errorf("%v allocations for an authenticated user", n)
	}
}
