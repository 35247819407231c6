package mcpproxy

import (
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
)

// status tells how the servers are. It sends no request: what Caddy's reverse proxy knows
// from its health checks is all there is.
func (h *Handler) status() []report.Server {
	list := make([]report.Server, len(h.Servers))
	for i, s := range h.Servers {
		list[i] = s.status()
	}
	return list
}

func (s *Server) status() report.Server {
	now := report.Server{Name: s.Name, Path: s.target.Path, Upstreams: []report.Upstream{}}
	proxy := s.proxy
	if checks := proxy.HealthChecks; checks != nil {
		now.ActiveChecks, now.PassiveChecks = checks.Active != nil && checks.Active.IsEnabled(), checks.Passive != nil
	}
	if transport, ok := proxy.Transport.(*wire).RoundTripper.(reverseproxy.TLSTransport); ok {
		now.TLS = transport.TLSEnabled()
	}
	now.Dynamic = len(proxy.DynamicUpstreamsRaw) > 0 || proxy.DynamicUpstreams != nil
	now.Available = now.Dynamic
	for _, u := range proxy.Upstreams {
		now.Upstreams = append(now.Upstreams, report.Upstream{
			Address: u.Dial, Healthy: u.Healthy(), Full: u.Full(), Requests: u.NumRequests(), Fails: u.Fails(),
		})
		now.Available = now.Available || u.Available()
	}
	return now
}
