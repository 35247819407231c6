package token_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// rotating is a key source whose epoch the test changes.
type rotating struct {
	key   token.Key
	epoch uint64
}

func (*rotating) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp_gateway.key_sources.test_rotating", New: func() caddy.Module { return theRotating }}
}
func (*rotating) Algorithms() []string { return []string{"HS256"} }
func (r *rotating) Keys(context.Context, string, time.Time) ([]token.Key, uint64, error) {
	return []token.Key{r.key}, r.epoch, nil
}
func (r *rotating) Epoch() uint64       { return r.epoch }
func (*rotating) Ready(time.Time) error { return nil }

var theRotating = &rotating{key: must(token.NewSecretKey("", []byte(secret64)))}

func init() { caddy.RegisterModule(theRotating) }

func TestCache(t *testing.T) {
	verifier := newVerifier(t, &token.Issuer{
		Issuer: issuerA, KeysRaw: []byte(`{"source":"test_rotating"}`), Leeway: caddy.Duration(5 * time.Second),
	})
	raw := signed("HS256", []byte(secret64), goodClaims(nil), nil)
	remember := func() *token.Cache[string] {
		claims, err := verifier.Verify(t.Context(), raw, now, []string{resource})
		if err != nil {
			t.Fatal(err)
		}
		cache := token.NewCache[string](0)
		cache.Add(raw, resource, claims, "alice")
		return cache
	}
	for _, tc := range []struct {
		name          string
		raw, endpoint string
		at            time.Duration
		rotate        bool
		want          bool
	}{
		{"hit", raw, resource, 0, false, true},
		{"last moment", raw, resource, 305*time.Second - 1, false, true},
		{"expired", raw, resource, 305 * time.Second, false, false},
		{"long expired", raw, resource, time.Hour, false, false},
		{"other endpoint", raw, resource + "2", 0, false, false},
		{"no endpoint", raw, "", 0, false, false},
		{"token that runs into the endpoint", raw + resource[:1], resource[1:], 0, false, false},
		{"other token", raw[:len(raw)-1], resource, 0, false, false},
		{"empty token", "", resource, 0, false, false},
		{"key withdrawn", raw, resource, 0, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := remember()
			if tc.rotate {
				theRotating.epoch++
			}
			value, ok := cache.Get(tc.raw, tc.endpoint, now.Add(tc.at))
			if ok != tc.want || ok != (value == "alice") {
				t.Errorf("got %q, %v; want %v", value, ok, tc.want)
			}
			if tc.raw == raw && tc.endpoint == resource && cache.Len() == 1 != tc.want {
				t.Errorf("the cache holds %d entries", cache.Len())
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	claims := verified(t, secretVerifier(t), nil)
	cache := token.NewCache[int](3)
	for i := range 5 {
		cache.Add(fmt.Sprint(i), "", claims, i)
		cache.Get("0", "", now) // what is used stays
	}
	if cache.Len() != 3 {
		t.Errorf("the cache holds %d entries, want 3", cache.Len())
	}
	for i, want := range []bool{true, false, false, true, true} {
		if _, ok := cache.Get(fmt.Sprint(i), "", now); ok != want {
			t.Errorf("%d: got %v, want %v", i, ok, want)
		}
	}
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	claims := verified(t, secretVerifier(t), nil)
	cache := token.NewCache[*token.Claims](0)
	raw := strings.Repeat("t", 900)
	cache.Add(raw, resource, claims, claims)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := cache.Get(raw, resource, now); !ok {
			t.Error("no hit")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

func TestClaimsNotFromAVerifierAreNotCurrent(t *testing.T) {
	if new(token.Claims).Current() {
		t.Error("empty claims are taken for current")
	}
}
