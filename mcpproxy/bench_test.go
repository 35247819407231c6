package mcpproxy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/go-jose/go-jose/v4"

	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpproxy"
)

func init() {
	caddy.RegisterModule(atOnce{})
}

// atOnce is a transport that answers without a network, so that a benchmark sees
// only what handlers cost.
type atOnce struct{}

func (atOnce) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.at_once", New: func() caddy.Module { return new(atOnce) }}
}

func (atOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}]}}`)
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"application/json"}, "Date": {"now"}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}, err
}

// BenchmarkCarry compares a tools/call through the gateway's handlers with the same
// through reverse_proxy alone, over a transport that costs nothing.
func BenchmarkCarry(b *testing.B) {
	const (
		secret  = "0123456789abcdef0123456789abcdef"
		proxied = `"transport": {"protocol": "at_once"}, "upstreams": [{"dial": "127.0.0.1:1"}]`
	)
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	b.Cleanup(cancel)
	load := func(id, config string) caddyhttp.MiddlewareHandler {
		module, err := ctx.LoadModuleByID(id, json.RawMessage(config))
		if err != nil {
			b.Fatal(err)
		}
		return module.(caddyhttp.MiddlewareHandler)
	}
	auth := load("http.handlers.mcp_auth", `{
		"public_url": "http://127.0.0.1:8080", "servers": ["a"],
		"issuers": [{"issuer": "https://issuer.example", "keys": {"source": "secret", "value": "`+secret+`"}}],
		"roles": [{"name": "r", "when": [{"claim": "groups", "values": ["g"]}],
			"allow": [{"permission": "tools.execute", "objects": ["a/query_*"]}]}]
	}`)
	proxy := load("http.handlers.mcp_proxy", `{"servers": [{"name": "a", "proxy": {"handler": "reverse_proxy", `+proxied+`}}]}`)
	plain := load("http.handlers.reverse_proxy", `{`+proxied+`}`)

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil)
	if err != nil {
		b.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{
		"iss": "https://issuer.example", "aud": "http://127.0.0.1:8080", "sub": "alice", "jti": "1",
		"exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"g"},
	})
	jws, err := signer.Sign(claims)
	if err != nil {
		b.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query_orders","arguments":{"region":"eu","limit":10}}}`)
	last := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	carry := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return proxy.ServeHTTP(w, r, last) })
	for _, way := range []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request) error
	}{
		{"plain", func(w http.ResponseWriter, r *http.Request) error { return plain.ServeHTTP(w, r, last) }},
		{"secured", func(w http.ResponseWriter, r *http.Request) error { return auth.ServeHTTP(w, r, carry) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			server := new(caddyhttp.Server)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/mcp", io.NopCloser(bytes.NewReader(body)))
				r.ContentLength = int64(len(body))
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Accept", "application/json, text/event-stream")
				r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
				r.Header.Set("User-Agent", "bench")
				w := httptest.NewRecorder()
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
				if err := way.serve(w, r); err != nil || w.Code != http.StatusOK {
					b.Fatal(err, w.Code, w.Body)
				}
			}
		})
	}
}
