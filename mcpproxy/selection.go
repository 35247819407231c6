package mcpproxy

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(&SessionSelection{})
}

// SessionSelection selects, for a request of an MCP session, the upstream that
// made the session, and no other: the others do not know it. When it is not
// available, the client is told that its session is unknown, and begins another.
// A request about a task, without a session, goes to the upstream that made the task
// if that is available. All other requests are left to another policy.
//
// A hash of the session id could not do this, because the request that begins a
// session has none. Outside mcp_proxy the policy leaves every request to the
// other.
type SessionSelection struct {
	// FallbackRaw is the policy for requests without a session. Default: random.
	FallbackRaw json.RawMessage `json:"fallback,omitempty" caddy:"namespace=http.reverse_proxy.selection_policies inline_key=policy"`

	fallback reverseproxy.Selector
}

// CaddyModule returns the Caddy module information.
func (*SessionSelection) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.mcp_session",
		New: func() caddy.Module { return new(SessionSelection) },
	}
}

// Provision loads the other policy.
func (s *SessionSelection) Provision(ctx caddy.Context) error {
	if len(s.FallbackRaw) == 0 {
		s.fallback = new(reverseproxy.RandomSelection)
		return nil
	}
	loaded, err := ctx.LoadModule(s, "FallbackRaw")
	if err != nil {
		return fmt.Errorf("loading the fallback policy: %w", err)
	}
	selector, ok := loaded.(reverseproxy.Selector)
	if !ok {
		return fmt.Errorf("the fallback %T is not a selection policy", loaded)
	}
	s.fallback = selector
	return nil
}

// Select implements reverseproxy.Selector.
func (s *SessionSelection) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	x, _ := caddyhttp.GetVar(r.Context(), exchangeVar).(*exchange)
	if x != nil && x.session != nil && x.session.Upstream != "" {
		upstream := available(pool, x.session.Upstream)
		x.gone = upstream == nil
		return upstream
	}
	var selected *reverseproxy.Upstream
	if x != nil && x.call != nil && x.chosen == "" { // not when it is tried again
		selected = available(pool, x.call.Prefer)
	}
	if selected == nil {
		selected = s.fallback.Select(pool, r, w)
	}
	if x != nil && selected != nil {
		x.chosen = selected.String()
		if x.call != nil {
			x.call.Upstream = x.chosen
		}
	}
	return selected
}

// available returns the upstream of that address, nil when it can't be sent anything.
func available(pool reverseproxy.UpstreamPool, address string) *reverseproxy.Upstream {
	for _, upstream := range pool {
		if upstream.String() == address && upstream.Available() {
			return upstream
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*SessionSelection)(nil)
	_ reverseproxy.Selector = (*SessionSelection)(nil)
)
