package mcpauth

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
	"github.com/go-jose/go-jose/v4"

	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

// BenchmarkServeHTTP is what mcp_auth adds to an ordinary tools/call: a token that
// is known already, the body, the decision, and an answer that passes untouched.
// The handler "nothing" tells how much of it is the benchmark's own.
func BenchmarkServeHTTP(b *testing.B) {
	const secret = "0123456789abcdef0123456789abcdef"
	h := provisioned(b, `{
		"public_url": "http://127.0.0.1:8080", "servers": ["a"],
		"issuers": [{"issuer": "https://issuer.example", "keys": {"source": "secret", "value": "`+secret+`"}}],
		"roles": [{"name": "r", "when": [{"claim": "groups", "values": ["g"]}],
			"allow": [{"permission": "tools.execute", "objects": ["a/query_*"]}]}]
	}`)
	token := signed(b, []byte(secret), map[string]any{
		"iss": "https://issuer.example", "aud": "http://127.0.0.1:8080", "sub": "alice", "jti": "1",
		"exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"g"},
	})
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query_orders","arguments":{"region":"eu","limit":10}}}`)
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}]}}`)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_, err := w.Write(answer)
		return err
	})
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"mcp_auth": func(w http.ResponseWriter, r *http.Request) error { return h.ServeHTTP(w, r, next) },
		"nothing":  next,
	} {
		b.Run(name, func(b *testing.B) {
			server := new(caddyhttp.Server)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/mcp", io.NopCloser(bytes.NewReader(body)))
				r.ContentLength = int64(len(body))
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
				if err := serve(w, r); err != nil || w.Code != http.StatusOK {
					b.Fatal(err, w.Code, w.Body)
				}
			}
		})
	}
}

func provisioned(tb testing.TB, config string) *Handler {
	tb.Helper()
	configured, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	tb.Cleanup(cancel)
	h, err := ctx.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(config))
	if err != nil {
		tb.Fatal(err)
	}
	start(tb, ctx)
	return h.(*Handler)
}

// start starts the app that a handler has brought along: before that nothing is known of
// revocations, and everybody is refused.
func start(tb testing.TB, ctx caddy.Context) {
	tb.Helper()
	app, err := ctx.App("mcp_gateway")
	if err != nil {
		tb.Fatal(err)
	}
	if err := app.(*App).Start(); err != nil {
		tb.Fatal(err)
	}
}

func signed(tb testing.TB, secret []byte, claims map[string]any) string {
	tb.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
