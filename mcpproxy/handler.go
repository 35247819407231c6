// Package mcpproxy carries MCP requests to where they go: the mcp_proxy handler,
// its servers and the sessions with them, on Caddy's own reverse proxy.
package mcpproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler carries to MCP servers what mcp_auth has let through. It refuses any
// request that did not pass mcp_auth.
//
// A server gets the bytes that were judged, and never the client's token or
// cookies. Of the client's headers it gets those that MCP defines, Accept,
// Accept-Language, Content-Type, User-Agent, those of tracing, X-Request-Id, what
// reverse_proxy makes of X-Forwarded-For and X-Forwarded-Proto, and those that forward_headers names. Who the principal is stands in these headers, which a client cannot
// set; a value that is not plain text is encoded as MCP 2026-07-28 encodes
// `Mcp-Name`:
//
// Header | Value
// -------|------
// `X-Mcp-Subject` | the token's subject
// `X-Mcp-Issuer` | the token's issuer
// `X-Mcp-Client-Id` | the OAuth client, if the token names one
// `X-Mcp-Roles` | the names of the roles, separated by commas
//
// In the protocol revisions that have sessions, clients get session ids of the
// gateway's own making. Each belongs to the principal and the server it was made
// for; to everybody else it is unknown.
type Handler struct {
	// Servers are the MCP servers. At least one is required.
	Servers []*Server `json:"servers,omitempty"`

	// ForwardHeaders are further headers of the client that the servers get, by
	// name. Default: none.
	ForwardHeaders []string `json:"forward_headers,omitempty"`

	byName   map[string]*Server
	sessions *session.Sessions
	logger   *zap.Logger
}

// Server is one MCP server, on one or more upstreams.
type Server struct {
	// Name is what mcp_auth knows the server by. Required.
	Name string `json:"name,omitempty"`

	// Path is where its endpoint is on the upstreams, with a query if it needs
	// one. The client's own path and query are not sent. Default: /mcp.
	Path string `json:"path,omitempty"`

	// Host is what the upstreams are sent as Host. Default: the address of the
	// upstream that gets the request, because many servers refuse any other.
	Host string `json:"host,omitempty"`

	// ProxyRaw is the handler that carries the requests: Caddy's reverse_proxy,
	// with all its options. Required.
	ProxyRaw json.RawMessage `json:"proxy,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	proxy  *reverseproxy.Handler
	target *url.URL
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_proxy",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision loads the servers' proxies.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	app := loaded.(*mcpauth.App)
	h.sessions = app.SessionTable()
	app.OnLeave(h.leave)
	if len(h.Servers) == 0 {
		return errors.New("no server is configured; name at least one MCP server and its upstream")
	}
	for i, name := range h.ForwardHeaders {
		h.ForwardHeaders[i] = http.CanonicalHeaderKey(name)
		if !mayForward(h.ForwardHeaders[i]) {
			return fmt.Errorf("header %s must not be forwarded; header_up of a server's proxy can set one for it", name)
		}
	}
	h.byName = make(map[string]*Server, len(h.Servers))
	for _, s := range h.Servers {
		if err := s.provision(ctx); err != nil {
			return fmt.Errorf("server %s: %w", s.Name, err)
		}
		if h.byName[s.Name] != nil {
			return fmt.Errorf("server %s is configured twice", s.Name)
		}
		h.byName[s.Name] = s
	}
	app.Book().AddServers(h.status)
	return nil
}

// mayForward refuses the headers that the gateway or HTTP itself speaks in.
func mayForward(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Proxy-Authorization", "Origin", "Host",
		"Connection", "Content-Encoding", "Content-Length", "Expect", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return false
	}
	return !strings.HasPrefix(name, "Mcp-") && !strings.HasPrefix(name, mcpauth.IdentityPrefix)
}

func (s *Server) provision(ctx caddy.Context) error {
	if err := resource.CheckServer(s.Name); err != nil {
		return err
	}
	if s.Path == "" {
		s.Path = "/mcp"
	}
	target, err := url.ParseRequestURI(s.Path)
	if err != nil || !strings.HasPrefix(s.Path, "/") || target.Host != "" {
		return fmt.Errorf("path %q must be an absolute path such as /mcp", s.Path)
	}
	s.target = target
	if len(s.ProxyRaw) == 0 {
		return errors.New("proxy is missing; configure a reverse_proxy handler")
	}
	if s.ProxyRaw, err = wired(s.ProxyRaw); err != nil {
		return err
	}
	loaded, err := ctx.LoadModule(s, "ProxyRaw")
	if err != nil {
		return fmt.Errorf("loading the proxy: %w", err)
	}
	proxy, ok := loaded.(*reverseproxy.Handler)
	if !ok {
		return fmt.Errorf("the proxy is %T, and must be a reverse_proxy handler", loaded)
	}
	s.proxy = proxy
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	call := mcpauth.CallOf(r)
	if call == nil {
		return caddyhttp.Error(http.StatusInternalServerError,
			errors.New("mcp_proxy was reached without mcp_auth; put mcp_auth before it for the same requests"))
	}
	server := h.byName[call.Server]
	if server == nil {
		call.Refuse(http.StatusNotFound, mcp.CodeTransport, "no_server", "there is no such server").WriteTo(w)
		return nil
	}
	x := &exchange{Handler: h, call: call, server: server, request: r}
	return x.carry(w, next)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
