package mcpauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	gateSecret = "0123456789abcdef-gate-0123456789abcdef"
	gateIssuer = "https://issuer.example"
	gateURL    = "http://127.0.0.1"
)

// gateConfig is a configuration of mcp_auth, with what change says otherwise: nil
// takes a member out.
func gateConfig(change map[string]any) string {
	config := map[string]any{
		"public_url": gateURL,
		"servers":    []string{"notes"},
		"issuers": []any{map[string]any{
			"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret},
		}},
		"roles": []any{
			map[string]any{
				"name":  "admin",
				"when":  []any{map[string]any{"claim": "roles", "values": []string{"admin"}}},
				"allow": []any{map[string]any{"permission": "*"}},
			},
			map[string]any{
				"name": "reader",
				"when": []any{map[string]any{"claim": "roles", "values": []string{"reader"}}},
				"allow": []any{
					map[string]any{"permission": "tools.execute", "objects": []string{"notes/list", "notes/read"}},
					map[string]any{"permission": "resources.read", "objects": []string{"notes/file:///public/**"}},
				},
			},
			map[string]any{
				"name":  "writer",
				"when":  []any{map[string]any{"claim": "scope", "values": []string{"notes:write"}}},
				"allow": []any{map[string]any{"permission": "tools.execute", "objects": []string{"notes/save"}}},
			},
		},
	}
	maps.Copy(config, change)
	maps.DeleteFunc(config, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// tokenOf makes a token of somebody with that role; change overrides its claims.
func tokenOf(t testing.TB, role string, change map[string]any) string {
	t.Helper()
	return signed(t, []byte(gateSecret), tokenClaims(role, change))
}

func tokenClaims(role string, change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": gateIssuer, "aud": gateURL, "sub": "somebody", "jti": "t-1",
		"exp": time.Now().Add(time.Hour).Unix(), "roles": []string{role},
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// gate is mcp_auth in front of a server that the test plays.
type gate struct {
	*httptest.Server
	handler *Handler
	// errs has what the handler returned, one for each request.
	errs chan error
	// before are the handlers that a request passes first.
	before []caddyhttp.MiddlewareHandler
}

func newGate(t *testing.T, change map[string]any, server caddyhttp.HandlerFunc) *gate {
	t.Helper()
	return gateOf(t, provisioned(t, gateConfig(change)), server)
}

func gateOf(t *testing.T, h *Handler, server caddyhttp.HandlerFunc) *gate {
	t.Helper()
	g := &gate{handler: h, errs: make(chan error, 100)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return g.handler.ServeHTTP(w, r, server)
		})
		for _, h := range g.before {
			behind := next
			next = func(w http.ResponseWriter, r *http.Request) error { return h.ServeHTTP(w, r, behind) }
		}
		err := next(w, r)
		g.errs <- err
		if handled, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
			w.WriteHeader(handled.StatusCode)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

// post is a request as a client of 2025-06-18 sends it.
func (g *gate) post(t *testing.T, token, body string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/mcp", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Accept-Encoding", "identity")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// modern is a request as a client of 2026-07-28 sends it, about an object that member
// of its params names; declared are the client's capabilities.
func (g *gate) modern(t *testing.T, token, method, member, object, declared string) *http.Request {
	t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": map[string]any{
		member: object, "_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": json.RawMessage(declared),
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := g.post(t, token, string(body))
	r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", method)
	r.Header.Set("Mcp-Name", object)
	return r
}

// do sends a request and reads the whole answer.
func (g *gate) do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// raw is do for headers that Go's client would mend or refuse.
func (g *gate) raw(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.URL.Path, r.URL.Host, len(body))
	for name, lines := range r.Header {
		for _, line := range lines {
			fmt.Fprintf(&b, "%s: %s\r\n", name, line)
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

// reasonOf is error.data.reason of a refusal.
func reasonOf(body string) string {
	var refusal struct {
		Error struct {
			Data struct{ Reason string }
		}
	}
	if err := json.Unmarshal([]byte(body), &refusal); err != nil {
		return ""
	}
	return refusal.Error.Data.Reason
}
