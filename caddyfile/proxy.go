package caddyfile

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/caddy-mcp-gateway/mcpproxy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpproxy/transport"
)

// parseProxy sets up the mcp_proxy handler. Syntax:
//
//	mcp_proxy [<matcher>] {
//		server <name> <upstreams...> {
//			# everything that reverse_proxy has
//		}
//		forward_headers <names...>
//	}
//
// An upstream is what reverse_proxy takes, and may have the path of the server's
// MCP endpoint. The default path is /mcp. Unless told otherwise, a server is sent
// its own address as Host, because many refuse any other.
func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := &block{helper: h}
	h.Next() // consume directive name
	if err := b.parse(h.Dispenser, proxyOnly, needUpstream); err != nil {
		return nil, err
	}
	return &b.proxy, nil
}

var proxyWords = words{
	"server": {parseServer, false},
	"forward_headers": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.proxy.ForwardHeaders, err = list(d)
		return err
	}, true},
}

func parseServer(b *block, d *caddyfile.Dispenser) error {
	segment := d.NextSegment()
	// The name is on the same line; what follows it up to the block are upstreams.
	line := caddyfile.NewDispenser(segment)
	line.Next()
	if !line.NextArg() {
		return line.Err("server needs a name and at least one upstream, such as: server tickets 10.0.0.7:3000")
	}
	name := line.Val()
	if err := b.addServer(line, name); err != nil {
		return err
	}
	server := &mcpproxy.Server{Name: name}

	proxied := []caddyfile.Token{segment[0]}
	proxied[0].Text = "reverse_proxy"
	rest := segment[2:]
	for line.NextArg() {
		upstream := rest[0]
		rest = rest[1:]
		path, err := cutPath(line, &upstream)
		if err != nil {
			return err
		}
		if len(proxied) > 1 && path != server.Path {
			return line.Errf("all upstreams of a server must have the same path; '%s' has another", line.Val())
		}
		server.Path = path
		proxied = append(proxied, upstream)
	}
	proxied = append(proxied, rest...)

	proxy, err := parseReverseProxy(b.helper, caddyfile.NewDispenser(proxied))
	if err != nil {
		return err
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		return line.Errf("server %s needs at least one upstream, such as: server %s 10.0.0.7:3000", name, name)
	}
	if proxy.ResponseBuffers != 0 {
		return line.Errf("server %s: response_buffers would hold back event streams; leave it out", name)
	}
	if len(proxy.Upstreams) > 1 || proxy.DynamicUpstreamsRaw != nil {
		keepSessions(proxy)
	}
	if slices.ContainsFunc(proxy.Upstreams, func(u *reverseproxy.Upstream) bool { return strings.HasPrefix(u.Dial, "unix") }) {
		server.Host = "localhost" // a socket's address is none
	}
	server.ProxyRaw = object(proxy, "handler", "reverse_proxy")
	b.proxy.Servers = append(b.proxy.Servers, server)
	return nil
}

// cutPath takes the path off an upstream that is written as a URL.
func cutPath(d *caddyfile.Dispenser, upstream *caddyfile.Token) (string, error) {
	scheme, rest, isURL := strings.Cut(upstream.Text, "://")
	if !isURL {
		return "", nil
	}
	i := strings.IndexAny(rest, "/?#")
	if i < 0 || strings.HasPrefix(rest, "/") { // as in unix:///run/mcp.sock
		return "", nil
	}
	path := rest[i:]
	if u, err := url.ParseRequestURI(path); err != nil || u.Fragment != "" || strings.Contains(path, "#") {
		return "", d.Errf("upstream '%s' must have a path such as /mcp, or none", upstream.Text)
	}
	upstream.Text = scheme + "://" + rest[:i]
	return path, nil
}

func parseReverseProxy(h httpcaddyfile.Helper, d *caddyfile.Dispenser) (*reverseproxy.Handler, error) {
	proxy := new(reverseproxy.Handler)
	h.Dispenser = d
	if err := proxy.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	if proxy.RequestBuffers == 0 {
		// The body is in memory already. If the proxy knows that, it sends it in
		// one piece with the header, instead of the header first.
		proxy.RequestBuffers = requestBuffers
	}
	proxy.TransportRaw = useTransport(proxy.TransportRaw)
	return proxy, nil
}

// useTransport has our transport in place of Caddy's http, which has the same options.
func useTransport(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return object(new(transport.Transport), "protocol", "mcp")
	}
	var options map[string]json.RawMessage
	if json.Unmarshal(raw, &options) != nil || string(options["protocol"]) != `"http"` {
		return raw
	}
	delete(options, "protocol")
	return caddyconfig.JSONModuleObject(options, "protocol", "mcp", nil)
}

// requestBuffers is the size in bytes of a request that is sent in one piece.
const requestBuffers = 64 << 10

// keepSessions has the requests of a session go to the upstream that made it, and
// all others where the user's own policy wants them.
func keepSessions(proxy *reverseproxy.Handler) {
	if proxy.LoadBalancing == nil {
		proxy.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	policy := mcpproxy.SessionSelection{FallbackRaw: proxy.LoadBalancing.SelectionPolicyRaw}
	proxy.LoadBalancing.SelectionPolicyRaw = object(policy, "policy", "mcp_session")
}
