// Package transport sends requests to MCP servers: Caddy's own HTTP transport, with a
// shorter way for the common case and a clean end for event streams.
package transport

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

func init() {
	caddy.RegisterModule(&Transport{})
}

// Transport is Caddy's `http` transport with all its options, and two differences.
//
// Requests over HTTP/1.1 without TLS are written and their answers read by the goroutine
// that serves the client. net/http's client hands them to two others, which costs more
// than all the rest of a proxied request. It is done where no option asks for more than
// that client alone can do; everything else goes through net/http's.
//
// When an event stream must end, because its token has or the gateway is about to, the
// answer ends as if the server had ended it. The client then sees a complete answer, and
// not a broken connection.
type Transport struct {
	reverseproxy.HTTPTransport

	direct *client
}

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.mcp",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision sets up Caddy's transport and, if the options allow it, the short way.
func (t *Transport) Provision(ctx caddy.Context) error {
	plain := t.plain()
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	if plain {
		t.direct = newClient(t.Transport)
	}
	return nil
}

// plain reports whether no option is set that only net/http's client knows. What is about
// connecting is left to its dialer, which both have in common.
func (t *Transport) plain() bool {
	return canProbe && t.TLS == nil && len(t.Versions) == 0 && t.KeepAlive == nil &&
		(t.Compression == nil || !*t.Compression) && t.MaxConnsPerHost == 0 && t.ProxyProtocol == "" &&
		len(t.NetworkProxyRaw) == 0 && t.ForwardProxyURL == "" &&
		t.ResponseHeaderTimeout == 0 && t.ExpectContinueTimeout == 0 &&
		t.MaxResponseHeaderSize == 0 && t.WriteBufferSize == 0 && t.ReadBufferSize == 0
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.SetScheme(r)
	response, err := t.roundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &stream{response.Body, r.Context()}
	return response, nil
}

func (t *Transport) roundTrip(r *http.Request) (*http.Response, error) {
	if t.direct != nil && r.URL.Scheme == "http" {
		// A proxy that the environment names is for net/http's client.
		if proxy, err := t.HTTPTransport.Transport.Proxy(r); proxy == nil && err == nil {
			return t.direct.roundTrip(r)
		}
	}
	return t.HTTPTransport.RoundTrip(r)
}

// Cleanup closes the connections that are idle. Those in use are closed when their
// answers have been read.
func (t *Transport) Cleanup() error {
	if t.direct != nil {
		t.direct.close()
	}
	return t.HTTPTransport.Cleanup()
}

// stream is the body of an answer. If the gateway ends the request, it ends.
type stream struct {
	io.ReadCloser
	ctx context.Context
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF && errors.Is(context.Cause(s.ctx), mcpauth.ErrStreamOver) {
		err = io.EOF
	}
	return n, err
}

// Interface guards
var (
	_ caddy.Provisioner                                = (*Transport)(nil)
	_ caddy.CleanerUpper                               = (*Transport)(nil)
	_ http.RoundTripper                                = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
)
