package token_test

import (
	"fmt"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// BenchmarkGarbage is what tokens cost that nobody has issued, each of them another one.
func BenchmarkGarbage(b *testing.B) {
	o := newOracle(b)
	o.says(object{"active": false})
	v := newVerifier(b,
		&token.Issuer{Issuer: issuerA, Introspection: o.config()},
		&token.Issuer{Issuer: issuerB, KeysRaw: pemSource(b, otherRSA().Public())},
	)
	rsa := signed("RS256", rsaKey(), goodClaims(object{"iss": issuerB}), nil)
	for name, text := range map[string]func(i int) string{
		"no token":   func(i int) string { return fmt.Sprint("not a token ", i) },
		"opaque":     func(i int) string { return fmt.Sprint("opaque-", i) },
		"RS256":      func(int) string { return rsa },
		"a stranger": func(i int) string { return fmt.Sprintf("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.AA%d", i) },
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := v.Verify(b.Context(), text(i), now, []string{resource}); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
