package mcpproxy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
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
	header := http.Header{"Content-Type": {"application/json"}, "Date": {"now"}}
	if r.Header.Get("Mcp-Session-Id") == "" {
		header["Mcp-Session-Id"] = []string{"1"}
	}
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        header,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}, err
}

// ways are a tools/call through reverse_proxy alone and through the gateway's handlers,
// without and within a session, over a transport that costs nothing.
type ways struct {
	tb    testing.TB
	serve map[string]func(w http.ResponseWriter, r *http.Request) error
	// token and session go with each request, the session only where it is in use.
	token, session string
}

func newWays(tb testing.TB, app string) *ways {
	tb.Helper()
	const (
		secret  = "0123456789abcdef0123456789abcdef"
		proxied = `"transport": {"protocol": "at_once"}, "upstreams": [{"dial": "127.0.0.1:1"}]`
	)
	configured, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"mcp_gateway": json.RawMessage(app)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(configured)
	tb.Cleanup(cancel)
	load := func(id, config string) caddyhttp.MiddlewareHandler {
		module, err := ctx.LoadModuleByID(id, json.RawMessage(config))
		if err != nil {
			tb.Fatal(err)
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
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		tb.Fatal(err)
	}
	// Before that nothing is known of revocations, and everybody is refused.
	if err := loaded.(*mcpauth.App).Start(); err != nil {
		tb.Fatal(err)
	}

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{
		"iss": "https://issuer.example", "aud": "http://127.0.0.1:8080", "sub": "alice", "jti": "1",
		"exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"g"},
	})
	jws, err := signer.Sign(claims)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	last := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	carry := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return proxy.ServeHTTP(w, r, last) })
	secured := func(w http.ResponseWriter, r *http.Request) error { return auth.ServeHTTP(w, r, carry) }
	all := &ways{tb: tb, token: token, serve: map[string]func(w http.ResponseWriter, r *http.Request) error{
		"plain":   func(w http.ResponseWriter, r *http.Request) error { return plain.ServeHTTP(w, r, last) },
		"secured": secured,
		"session": secured,
	}}
	begun := all.send("secured", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	if all.session = begun.Header().Get("Mcp-Session-Id"); all.session == "" {
		tb.Fatalf("no session: %d %s", begun.Code, begun.Body)
	}
	return all
}

func (all *ways) send(way, session, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/mcp", io.NopCloser(strings.NewReader(body)))
	r.ContentLength = int64(len(body))
	r.Header.Set("Authorization", "Bearer "+all.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	r.Header.Set("User-Agent", "bench")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	if err := all.serve[way](w, r); err != nil || w.Code != http.StatusOK {
		all.tb.Fatal(err, w.Code, w.Body)
	}
	return w
}

func (all *ways) call(way string) {
	session := ""
	if way == "session" {
		session = all.session
	}
	all.send(way, session, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query_orders","arguments":{"region":"eu","limit":10}}}`)
}

// onRedis is the configuration of a node whose sessions others may serve.
func onRedis(tb testing.TB) string {
	return `{"store":{"store":"redis","addresses":["` + redistest.Start(tb).Addr + `"]}}`
}

// BenchmarkCarry compares the ways.
func BenchmarkCarry(b *testing.B) {
	for store, app := range map[string]string{"embedded": `{}`, "redis": onRedis(b)} {
		all := newWays(b, app)
		for _, way := range []string{"plain", "secured", "session"} {
			b.Run(store+"/"+way, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					all.call(way)
				}
			})
		}
	}
}

// TestAllocations: the gateway's handlers cost a call so many allocations beside those of
// reverse_proxy, whatever the store is. In a session that is one more thing to find and a
// header to write, and its answer is not read for that others may serve the session.
func TestAllocations(t *testing.T) {
	for store, app := range map[string]string{"embedded": `{"store":{"store":"embedded","path":"` + t.TempDir() + `/state.db"}}`, "redis": onRedis(t)} {
		t.Run(store, func(t *testing.T) {
			all := newWays(t, app)
			// The least of many: others allocate now and then, and the race detector has
			// pools lose some of what they are given.
			count := func(way string) int {
				least := testing.AllocsPerRun(1, func() { all.call(way) })
				for range 300 {
					least = min(least, testing.AllocsPerRun(1, func() { all.call(way) }))
				}
				return int(least)
			}
			plain := count("plain")
			for way, most := range map[string]int{"secured": 26, "session": 35} {
				if more := count(way) - plain; more > most {
					t.Errorf("%s: %d more than the %d of reverse_proxy, expected %d", way, more, plain, most)
				}
			}
		})
	}
}
