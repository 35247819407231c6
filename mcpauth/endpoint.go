package mcpauth

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/internal/seal"
)

// endpoint is one address at which a server is reached.
type endpoint struct {
	server, path string
	// id names the server, and no other of any gateway.
	id string
	// audiences are the resource identifiers that a token for it may be for.
	audiences []string
	// metadata is the URL of the metadata about it (RFC 9728), empty if there is no
	// issuer of tokens that it could tell of.
	metadata string
	// visibility says who sees the server.
	visibility Visibility
	// instructions says what becomes of the server's.
	instructions Instructions
	// cursors seals those of lists of which not everything may be seen.
	cursors *seal.Box
	// taskless is whether the server is known not to host tasks, before 2026-07-28
	// and since.
	taskless [2]atomic.Bool
	// requests counts those for it.
	requests *metric.Requests
}

// endpoints returns the endpoints by their path: one for each server, and /mcp for
// a single one.
func endpoints(base resource.Base, servers []string) (map[string]*endpoint, error) {
	byPath := make(map[string]*endpoint)
	for _, server := range servers {
		if err := resource.CheckServer(server); err != nil {
			return nil, err
		}
		paths := []string{base.Endpoint(server)}
		if byPath[paths[0]] != nil {
			return nil, fmt.Errorf("server %s is named twice", server)
		}
		if len(servers) == 1 {
			paths = append(paths, base.Endpoint(""))
		}
		audiences := []string{base.String()}
		for _, path := range paths {
			audiences = append(audiences, base.Identifier(path))
		}
		for _, path := range paths {
			byPath[path] = &endpoint{server: server, path: path, id: base.Identifier(paths[0]), audiences: audiences, metadata: base.MetadataURL(path)}
		}
	}
	return byPath, nil
}

// endpoint finds the one that a request is for, by the URL the client sent and
// not by what a rewrite left of it. Only the exact path will do: every other
// spelling is another path.
func (h *Handler) endpoint(r *http.Request) *endpoint {
	u := r.URL
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		u = original.URL
	}
	if u.RawPath != "" {
		return nil
	}
	return h.endpoints[u.Path]
}

// origins checks whence a request may come: browsers name the page's origin, and
// a page that had its own name resolve to this address is told by Host (MCP
// transports, security warning; DNS rebinding).
type origins struct {
	own     string
	ownHost string
	allowed []string
	hosts   []string
}

func newOrigins(base resource.Base, allowed, hosts []string) (*origins, error) {
	o := &origins{own: base.Origin(), ownHost: base.Host()}
	for _, origin := range allowed {
		if origin == "null" || strings.HasSuffix(origin, "/") || !strings.Contains(origin, "://") || strings.Contains(origin, "*") {
			return nil, fmt.Errorf("allowed origin %q must be a scheme and a host such as https://app.example.com", origin)
		}
		o.allowed = append(o.allowed, strings.ToLower(origin))
	}
	for _, host := range append([]string{base.Hostname()}, hosts...) {
		if host == "" || strings.ContainsAny(host, "/*") {
			return nil, fmt.Errorf("allowed host %q must be a host name or address", host)
		}
		o.hosts = append(o.hosts, hostKey(host))
	}
	return o, nil
}

// check refuses a request from a foreign origin or for a foreign host.
func (o *origins) check(r *http.Request) *Refusal {
	if r.Host != o.ownHost && !slices.Contains(o.hosts, hostKey(r.Host)) {
		return refuse(http.StatusMisdirectedRequest, mcp.CodeForbidden, "host", "this host is not served here")
	}
	given := r.Header["Origin"]
	if len(given) == 0 {
		return nil
	}
	if len(given) > 1 || !o.allows(given[0]) {
		return refuse(http.StatusForbidden, mcp.CodeForbidden, "origin", "requests from this origin are not allowed")
	}
	return nil
}

func (o *origins) allows(origin string) bool {
	origin = strings.ToLower(origin)
	if origin == o.own || slices.Contains(o.allowed, origin) {
		return true
	}
	// The page of a program on this machine, when this is one too.
	_, host, _ := strings.Cut(origin, "://")
	return o.hosts[0] == loopback && hostKey(host) == loopback
}

// loopback stands for every name and address of this machine's loopback.
const loopback = "localhost"

// hostKey is a host without its port, in a form to compare.
func hostKey(host string) string {
	if name, port, err := net.SplitHostPort(host); err == nil && strings.Trim(port, "0123456789") == "" {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return loopback
	}
	return host
}

// exposed are the answer's headers that a browser's client must see.
const exposed = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version"

// allowOrigin lets a page of the origin, which check has allowed, read the answer
// (Fetch standard, CORS protocol). What a server says about that is overruled.
func allowOrigin(h http.Header, origin string) {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	if origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", exposed)
		if !slices.Contains(h["Vary"], "Origin") {
			h.Add("Vary", "Origin")
		}
	}
}

// preflight answers a browser's question whether it may send a request. It needs
// no token, and a wildcard would not cover Authorization.
func preflight(w http.ResponseWriter, r *http.Request) {
	var allow strings.Builder
	allow.WriteString("Authorization, Content-Type, Accept, Mcp-Protocol-Version, Mcp-Session-Id, Last-Event-Id, Mcp-Method, Mcp-Name")
	for wanted := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		wanted = http.CanonicalHeaderKey(strings.TrimSpace(wanted))
		if strings.HasPrefix(wanted, mcp.HeaderParamPrefix) && isToken(wanted) {
			allow.WriteString(", " + wanted)
		}
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", allow.String())
	h.Set("Access-Control-Max-Age", "600")
	h.Set("Allow", allowedMethods)
	w.WriteHeader(http.StatusNoContent)
}

// isToken reports whether a header name is one (RFC 9110 section 5.6.2), letters,
// digits and hyphens at least.
func isToken(name string) bool {
	for _, c := range []byte(name) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
