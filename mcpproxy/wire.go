package mcpproxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	jsonv2 "github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

func init() {
	caddy.RegisterModule(&wire{})
}

// wire is between a server's proxy and its transport, and mcp_proxy puts it there. At the
// level debug, reverse_proxy logs the headers of requests and answers as it knows them.
// What must be in no log is therefore put into a request after that, and taken out of an
// answer before: the credentials that header_up adds, and the server's own session id.
type wire struct {
	// The transport that carries the requests. Required.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// What is done to the headers of requests. Default: nothing.
	Up *headers.HeaderOps `json:"header_up,omitempty"`

	http.RoundTripper `json:"-"`
}

// CaddyModule returns the Caddy module information.
func (*wire) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.mcp_wire",
		New: func() caddy.Module { return new(wire) },
	}
}

// Provision loads the transport.
func (w *wire) Provision(ctx caddy.Context) error {
	loaded, err := ctx.LoadModule(w, "TransportRaw")
	if err != nil {
		return err
	}
	w.RoundTripper = loaded.(http.RoundTripper)
	if w.Up != nil {
		return w.Up.Provision(ctx)
	}
	return nil
}

// wired puts a wire into the configuration of a proxy.
func wired(config json.RawMessage) (json.RawMessage, error) {
	var proxy, headers map[string]json.RawMessage
	if err := jsonv2.Unmarshal(config, &proxy); err != nil {
		return nil, fmt.Errorf("the proxy: %w", err)
	}
	if raw, ok := proxy["headers"]; ok {
		if err := jsonv2.Unmarshal(raw, &headers); err != nil {
			return nil, fmt.Errorf("the proxy's headers: %w", err)
		}
	}
	transport := map[string]json.RawMessage{"protocol": json.RawMessage(`"mcp_wire"`), "transport": proxy["transport"]}
	if len(proxy["transport"]) == 0 {
		transport["transport"] = json.RawMessage(`{"protocol":"mcp"}`)
	}
	if up, ok := headers["request"]; ok {
		transport["header_up"] = up
		delete(headers, "request")
	}
	for name, value := range map[string]any{"headers": headers, "transport": transport} {
		raw, err := jsonv2.Marshal(value)
		if err != nil {
			return nil, err
		}
		proxy[name] = raw
	}
	return jsonv2.Marshal(proxy)
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	x, _ := caddyhttp.GetVar(r.Context(), exchangeVar).(*exchange)
	if x != nil && x.session != nil || w.Up != nil {
		r = r.WithContext(r.Context()) // a copy, as the original is logged
		if w.Up == nil {
			r.Header = maps.Clone(r.Header)
		} else {
			r.Header = r.Header.Clone()
		}
		if x != nil && x.session != nil {
			r.Header[mcp.HeaderSessionID] = []string{x.session.UpstreamID}
		}
		if w.Up != nil {
			w.Up.ApplyToRequest(r)
		}
	}
	answer, err := w.RoundTripper.RoundTrip(r)
	if err == nil && x != nil {
		x.made = answer.Header.Get(mcp.HeaderSessionID)
		answer.Header.Del(mcp.HeaderSessionID)
	}
	return answer, err
}

// OverrideHealthCheckScheme is the transport's, if it has one.
func (w *wire) OverrideHealthCheckScheme(base *url.URL, port string) {
	if t, ok := w.RoundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		t.OverrideHealthCheckScheme(base, port)
	}
}

// DefaultBufferSizes is the transport's, if it has one.
func (w *wire) DefaultBufferSizes() (request, response int64) {
	if t, ok := w.RoundTripper.(reverseproxy.BufferedTransport); ok {
		return t.DefaultBufferSizes()
	}
	return 0, 0
}

// RequestHeaderOps is the transport's, if it has one.
func (w *wire) RequestHeaderOps() *headers.HeaderOps {
	if t, ok := w.RoundTripper.(reverseproxy.RequestHeaderOpsTransport); ok {
		return t.RequestHeaderOps()
	}
	return nil
}

// RequiresContentLength is the transport's, if it has one.
func (w *wire) RequiresContentLength() bool {
	t, ok := w.RoundTripper.(reverseproxy.ContentLengthRequiredTransport)
	return ok && t.RequiresContentLength()
}

// ProxyProtocolEnabled is the transport's, if it has one.
func (w *wire) ProxyProtocolEnabled() bool {
	t, ok := w.RoundTripper.(reverseproxy.ProxyProtocolTransport)
	return ok && t.ProxyProtocolEnabled()
}

// Interface guards
var (
	_ caddy.Provisioner                                = (*wire)(nil)
	_ http.RoundTripper                                = (*wire)(nil)
	_ reverseproxy.BufferedTransport                   = (*wire)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*wire)(nil)
	_ reverseproxy.ContentLengthRequiredTransport      = (*wire)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*wire)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*wire)(nil)
)
