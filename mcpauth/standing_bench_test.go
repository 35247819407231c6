package mcpauth

import (
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// holders are tokens of one account, with what finds out who holds them.
func holders(tb testing.TB) (n *node, tokens map[string]string, hold func(token string)) {
	tb.Helper()
	n, _ = startNode(tb, stored(tb), both)
	u := n.user("alice@example.com", false)
	n.team("sales", "alice@example.com")
	n.assign("alice@example.com", "reader", "")
	n.assign("alice@example.com", "writer", "sales")
	tokens = map[string]string{"session": n.session(u, "s1", issue.Session{Teams: []string{"sales"}})}
	tokens["api"], _ = n.token(u, "sales", `{"permissions":["tools.execute"]}`, nil)
	tokens["of another issuer"] = signed(tb, []byte(gateSecret), tokenClaims("reader", nil))
	e := n.handler.endpoints["/servers/crm/mcp"]
	return n, tokens, func(token string) {
		if _, refusal := n.handler.holder(tb.Context(), token, e, time.Now()); refusal != nil {
			tb.Fatal(refusal.Reason)
		}
	}
}

// TestHolderDoesNotAllocate: to ask whether anything has changed costs a request no
// allocation, and does not ask the store.
func TestHolderDoesNotAllocate(t *testing.T) {
	n, tokens, hold := holders(t)
	for name, token := range tokens {
		hold(token)
		known := n.handler.register.cache.Len()
		if got := testing.AllocsPerRun(200, func() { hold(token) }); got > 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
		if n.handler.register.cache.Len() != known {
			t.Errorf("%s: something was read", name)
		}
	}
}

func BenchmarkHolder(b *testing.B) {
	n, tokens, hold := holders(b)
	for name, token := range tokens {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				hold(token)
			}
		})
	}
	b.Run("api, changed each time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.handler.register.cache.Changed("user/alice@example.com")
			hold(tokens["api"])
		}
	})
	p, refusal := n.handler.holder(b.Context(), tokens["api"], n.handler.endpoints["/servers/crm/mcp"], time.Now())
	if refusal != nil {
		b.Fatal(refusal.Reason)
	}
	b.Run("current", func(b *testing.B) {
		now := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			if !p.standing.current(now) {
				b.Fatal("not current")
			}
		}
	})
}

// BenchmarkCount is what a limit costs each request with the embedded store.
func BenchmarkCount(b *testing.B) {
	n, _ := startNode(b, stored(b), nil)
	u := n.user("alice@example.com", false)
	raw, _ := n.token(u, "", `{"usage_limits":{"requests_per_hour":4000000000}}`, nil)
	p, refusal := n.handler.holder(b.Context(), raw, n.handler.endpoints["/servers/notes/mcp"], time.Now())
	if refusal != nil {
		b.Fatal(refusal.Reason)
	}
	b.ReportAllocs()
	for b.Loop() {
		if refusal := n.handler.count(b.Context(), p); refusal != nil {
			b.Fatal(refusal.Reason)
		}
	}
}
