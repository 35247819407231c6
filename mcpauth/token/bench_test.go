package token_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

var rsa4096Key = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 4096)) })

func BenchmarkVerify(b *testing.B) {
	for _, bc := range []struct {
		name, alg, issuer string
		key               func() any
	}{
		{"RS256", "RS256", issuerA, func() any { return rsaKey() }},
		{"RS256-4096", "RS256", issuerB, func() any { return rsa4096Key() }},
		{"ES256", "ES256", issuerA, func() any { return ecKey() }},
		{"EdDSA", "EdDSA", issuerA, func() any { return ed25519Key() }},
		{"HS256", "HS256", issuerS, func() any { return []byte(secret64) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			verifier := newVerifier(b,
				&token.Issuer{Issuer: issuerA, KeysRaw: pemSource(b, rsaKey().Public(), ecKey().Public(), ed25519Key().Public())},
				&token.Issuer{Issuer: issuerB, KeysRaw: pemSource(b, rsa4096Key().Public())},
				&token.Issuer{Issuer: issuerS, KeysRaw: secretSource()},
			)
			raw := signed(bc.alg, bc.key(), goodClaims(object{"iss": bc.issuer}), nil)
			audiences := []string{resource}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(b.Context(), raw, now, audiences); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCacheHit(b *testing.B) {
	verifier := newVerifier(b, &token.Issuer{Issuer: issuerA, KeysRaw: pemSource(b, rsaKey().Public())})
	raw := signed("RS256", rsaKey(), goodClaims(nil), nil)
	claims, err := verifier.Verify(b.Context(), raw, now, []string{resource})
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{10, 10_000} {
		cache := token.NewCache[*token.Claims](size)
		for i := range size - 1 {
			cache.Add(fmt.Sprint(i, raw), resource, claims, claims)
		}
		cache.Add(raw, resource, claims, claims)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := cache.Get(raw, resource, now); !ok {
					b.Fatal("no hit")
				}
			}
		})
		b.Run(fmt.Sprint(size, "/parallel"), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, ok := cache.Get(raw, resource, now); !ok {
						b.Error("no hit")
						return
					}
				}
			})
		})
	}
}
