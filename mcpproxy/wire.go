package mcpproxy

import (
	"maps"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// wire is between a server's proxy and its transport. At the level debug, reverse_proxy
// logs the headers of requests and answers as it knows them. What must be in no log is
// therefore put into a request after that, and taken out of an answer before: the
// credentials that header_up adds, and the server's own session id.
type wire struct {
	http.RoundTripper
	up *headers.HeaderOps
}

// tap puts a wire into a proxy.
func tap(proxy *reverseproxy.Handler) {
	w := &wire{RoundTripper: proxy.Transport}
	if proxy.Headers != nil && proxy.Headers.Request != nil {
		rest := *proxy.Headers
		w.up, rest.Request = rest.Request, nil
		proxy.Headers = &rest
	}
	proxy.Transport = w
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	x, _ := caddyhttp.GetVar(r.Context(), exchangeVar).(*exchange)
	if x != nil && x.session != nil || w.up != nil {
		r = r.WithContext(r.Context()) // a copy, as the original is logged
		if w.up == nil {
			r.Header = maps.Clone(r.Header)
		} else {
			r.Header = r.Header.Clone()
		}
		if x != nil && x.session != nil {
			r.Header[mcp.HeaderSessionID] = []string{x.session.UpstreamID}
		}
		if w.up != nil {
			w.up.ApplyToRequest(r)
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

// ProxyProtocolEnabled is the transport's, if it has one.
func (w *wire) ProxyProtocolEnabled() bool {
	t, ok := w.RoundTripper.(reverseproxy.ProxyProtocolTransport)
	return ok && t.ProxyProtocolEnabled()
}

// Interface guards
var (
	_ http.RoundTripper                                = (*wire)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*wire)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*wire)(nil)
)
