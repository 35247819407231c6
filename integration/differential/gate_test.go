package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-jose/go-jose/v4"

	_ "github.com/caddymcp/caddy-mcp-gateway"
	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

const (
	secret = "0123456789abcdef-differential-0123456789"
	issuer = "https://issuer.test"
	origin = "http://127.0.0.1"
)

// What the role "some" may see, besides which every name and URI is hidden from it.
var (
	visibleNames = []string{"ok", "read", "ok2"}
	visibleURIs  = []string{"file:///ok", "db:{id}"}
)

// gate is the real mcp_auth handler, without a network: the test plays the client and the
// server.
type gate struct {
	handler *mcpauth.Handler
	// all and some are tokens. With the first everything may be done, so that what is
	// let through depends on how it is read alone; with the second, what is visible may.
	all, some string
}

func newGate() (*gate, error) {
	quiet := map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: []byte(`{"output":"discard"}`)}}}
	configured, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: quiet},
	})
	if err != nil {
		return nil, err
	}
	ctx, _ := caddy.NewContext(configured)
	var names, uris []string
	for _, name := range visibleNames {
		names = append(names, "s/"+name)
	}
	for _, uri := range visibleURIs {
		uris = append(uris, "s/"+uri)
	}
	when := func(role string) []any { return []any{map[string]any{"claim": "roles", "values": []string{role}}} }
	config, err := json.Marshal(map[string]any{
		"public_url": origin,
		"servers":    []string{"s"},
		"issuers": []any{map[string]any{
			"issuer": issuer, "keys": map[string]any{"source": "secret", "value": secret},
		}},
		"token_cache": 1000,
		"roles": []any{
			map[string]any{"name": "all", "when": when("all"), "allow": []any{map[string]any{"permission": "*"}}},
			map[string]any{"name": "some", "when": when("some"), "allow": []any{
				map[string]any{"permission": "tools.execute", "objects": names[:2]},
				// Which changes the tool's schema where it is listed.
				map[string]any{"permission": "tools.execute", "objects": names[2:], "if": `args.schema == "public"`},
				map[string]any{"permission": "prompts.execute", "objects": names},
				map[string]any{"permission": "resources.read", "objects": uris},
			}},
			map[string]any{"name": "equal", "when": when("equal"), "allow": []any{
				map[string]any{"permission": "tools.execute", "objects": []string{"s/same"}, "if": "args == claims.seen"},
				map[string]any{"permission": "tools.execute", "objects": []string{"s/other"}, "if": "args != claims.seen"},
				map[string]any{"permission": "tools.execute", "objects": []string{"s/public"}, "if": `args.schema == "public"`},
				map[string]any{"permission": "tools.execute", "objects": []string{"s/without"}, "if": "!has(args.schema)"},
				map[string]any{"permission": "tools.execute", "objects": []string{"s/rounded"}, "if": "type(args.limit) == int && args.limit in [9007199254740993, -9007199254740993]"},
			}},
		},
	})
	if err != nil {
		return nil, err
	}
	loaded, err := ctx.LoadModuleByID("http.handlers.mcp_auth", config)
	if err != nil {
		return nil, err
	}
	app, err := ctx.App("mcp_gateway")
	if err != nil {
		return nil, err
	}
	if err := app.(caddy.App).Start(); err != nil {
		return nil, err
	}
	g := &gate{handler: loaded.(*mcpauth.Handler)}
	if g.all, err = token("all", nil); err != nil {
		return nil, err
	}
	g.some, err = token("some", nil)
	return g, err
}

// token makes one of somebody with that role, and with a claim "seen" of that value.
func token(role string, seen any) (string, error) {
	return launch.Sign(jose.HS256, []byte(secret), map[string]any{
		"iss": issuer, "aud": origin, "sub": "somebody", "jti": "t",
		"exp": time.Now().Add(24 * time.Hour).Unix(), "roles": []string{role}, "seen": seen,
	})
}

// passed is what the gateway let through.
type passed struct {
	// headers are those of the request.
	headers map[string]string
	// body is what the server got.
	body     []byte
	batch    bool
	messages []seen
}

// versions are the protocol versions of which one is named in a body's header, if any.
var versions = []string{"", "2025-03-26", "2025-06-18", "2025-11-25"}

// request sends a body, as one of the versions with sessions and then as one without, and
// returns what the server got if it got any, or the reason for which it did not.
func (g *gate) request(body []byte) (p *passed, reason string) {
	hash := fnv.New32a()
	_, _ = hash.Write(body)
	headers := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
	if v := versions[hash.Sum32()%uint32(len(versions))]; v != "" {
		headers[mcp.HeaderProtocolVersion] = v
	}
	if p, reason = g.send(body, headers, g.all, answerNothing); p != nil {
		return p, ""
	}
	messages, batch, err := jsonrpc.Read(body)
	if err != nil || batch {
		return nil, reason
	}
	// The headers are those of an honest client: whatever the gateway compares them
	// with, it must be what everybody reads.
	m := &messages[0]
	headers[mcp.HeaderProtocolVersion] = string(mcp.V20260728)
	headers[mcp.HeaderMethod] = m.Method
	switch mcp.MirroredName(m.Method) {
	case "name":
		headers[mcp.HeaderName] = mcp.EncodeHeader(m.Params.Name.Value)
	case "uri":
		headers[mcp.HeaderName] = mcp.EncodeHeader(m.Params.URI.Value)
	}
	return g.send(body, headers, g.all, answerNothing)
}

// send sends a request to the server, which answers with the function.
func (g *gate) send(body []byte, headers map[string]string, token string, answer func(http.ResponseWriter)) (p *passed, reason string) {
	server := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		call := mcpauth.CallOf(r)
		forwarded, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		p = &passed{headers: headers, body: forwarded, batch: call.Batch}
		for i := range call.Messages {
			p.messages = append(p.messages, judged(&call.Messages[i]))
		}
		answer(w)
		return nil
	})
	w := httptest.NewRecorder()
	if err := g.serve(w, body, headers, token, server); err != nil {
		return nil, "error: " + err.Error()
	}
	if p != nil {
		return p, ""
	}
	var refusal struct {
		Error struct{ Data struct{ Reason string } }
	}
	if w.Code == http.StatusAccepted {
		return nil, "dropped"
	}
	if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || refusal.Error.Data.Reason == "" {
		return nil, fmt.Sprintf("status %d: %s", w.Code, w.Body)
	}
	return nil, refusal.Error.Data.Reason
}

func (g *gate) serve(w http.ResponseWriter, body []byte, headers map[string]string, token string, server caddyhttp.HandlerFunc) error {
	r := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/mcp"}, Host: "127.0.0.1", RequestURI: "/mcp", RemoteAddr: "127.0.0.1:1",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(headers)+1),
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	return g.handler.ServeHTTP(w, r, server)
}

func answerNothing(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }
