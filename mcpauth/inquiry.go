package mcpauth

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Circumstances are those of a request beside its token and its message.
type Circumstances struct {
	// Now is when it is made.
	Now time.Time
	// ClientIP is where it comes from; the zero Addr is an unknown address.
	ClientIP netip.Addr
}

// Inquiry is a principal at a server, about whom one asks what it may do. It answers
// with the very functions that decide on requests. Nothing is sent, and nothing is
// counted.
type Inquiry struct {
	handler   *Handler
	endpoint  *endpoint
	at        Circumstances
	principal *Principal
	// refusal is that of the token, and then there is no principal.
	refusal *Refusal
	// beyond is why the principal does not reach the server.
	beyond scope.Cause
}

// URL is the public URL in its one spelling.
func (h *Handler) URL() string {
	for _, e := range h.endpoints {
		return e.audiences[0]
	}
	return ""
}

// endpointOf returns the endpoint of a server by its own path.
func (h *Handler) endpointOf(server string) (*endpoint, error) {
	for path, e := range h.endpoints {
		if e.server == server && strings.HasSuffix(path, "/servers/"+server+"/mcp") {
			return e, nil
		}
	}
	return nil, fmt.Errorf("there is no server %q; the servers are %s", server, strings.Join(h.Servers, ", "))
}

// InquireToken asks about whoever has a token, which is verified as in a request: the
// issuer's keys may have to be fetched. That they cannot be had is an error, and that
// the token is refused is not.
func (h *Handler) InquireToken(ctx context.Context, raw, server string, at Circumstances) (*Inquiry, error) {
	e, err := h.endpointOf(server)
	if err != nil {
		return nil, err
	}
	i := &Inquiry{handler: h, endpoint: e, at: at}
	r := i.request(ctx, nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	i.principal, i.refusal = h.authenticate(r, e, at.Now)
	if i.refusal != nil && i.refusal.Status >= http.StatusInternalServerError {
		return nil, fmt.Errorf("%s: %s", i.refusal.Reason, i.refusal.Message)
	}
	i.reach()
	return i, nil
}

// InquireClaims asks about whoever had a token with these claims. What every token has
// to say may be left out, see [token.Verifier.Suppose].
//
// If the claim iss is `authenticated` or `trusted_header`, or is left out and no issuer
// of tokens is configured, it asks about somebody without a token, for whom this
// vouches: of the claims, sub and those that the configuration reads are heard.
func (h *Handler) InquireClaims(claims map[string]any, server string, at Circumstances) (*Inquiry, error) {
	e, err := h.endpointOf(server)
	if err != nil {
		return nil, err
	}
	i := &Inquiry{handler: h, endpoint: e, at: at}
	if i.principal, i.refusal, err = h.suppose(claims, e, at.Now); err != nil {
		return nil, err
	}
	i.reach()
	return i, nil
}

// Refused says why the token is refused, or nothing if it is not.
func (i *Inquiry) Refused() string {
	if i.refusal == nil {
		return ""
	}
	return i.refusal.Reason + ": " + i.refusal.Message
}

// Roles are the principal's, those that hold only in its teams included.
func (i *Inquiry) Roles() []string {
	if i.principal == nil {
		return nil
	}
	return i.principal.policy.RoleNames(i.principal.set)
}

// reach finds out whether the principal reaches the server at all.
func (i *Inquiry) reach() {
	if i.principal == nil {
		return
	}
	call := i.call(i.principal)
	call.reach(i.request(context.Background(), nil), i.at.Now)
	i.beyond = call.cause
}

func (i *Inquiry) call(p *Principal) *Call {
	return &Call{endpoint: i.endpoint, Server: i.endpoint.server, Principal: p, logger: zap.NewNop()}
}

// request makes a request as Caddy hands it to the handler.
func (i *Inquiry) request(ctx context.Context, body []byte) *http.Request {
	vars := make(map[string]any)
	if i.at.ClientIP.IsValid() {
		vars[caddyhttp.ClientIPVarKey] = i.at.ClientIP.String()
	}
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, vars)
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	// There is nothing in it that could be wrong.
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// Outlook tells what the principal may do to an object, whatever message asks for it:
// which permissions its token has, and then what its roles say. With a layer it is
// refused by that one.
func (i *Inquiry) Outlook(perm mcp.Permission, kind policy.ObjectKind, object string) (policy.Outlook, Layer) {
	none := policy.Outlook{Reason: policy.NoRule}
	switch p := i.principal; {
	case p == nil:
		return none, LayerToken
	case i.beyond != "":
		return none, layerOf(i.beyond)
	case !p.Scope.Permits(scope.Of(mcp.ServersUse, perm)):
		return none, LayerTokenScope
	case !p.policy.AllowsServer(p.set, i.endpoint.server):
		return p.policy.Outlook(p.set, policy.Question{Permission: mcp.ServersUse, Server: i.endpoint.server}), ""
	default:
		outlook, layer := p.policy.Outlook(p.set, policy.Question{Permission: perm, Server: i.endpoint.server, Kind: kind, Object: object}), Layer("")
		if outlook.Reason == policy.HiddenObject {
			layer = LayerVisibility
		}
		return outlook, layer
	}
}

// with asks about the same principal with more scopes in its token; nil when there
// can be no such token.
func (i *Inquiry) with(scopes []string) *Inquiry {
	claims := maps.Clone(i.principal.All())
	wider := append(slices.Clone(i.principal.Scopes), scopes...)
	list := make([]any, len(wider))
	for n, name := range wider {
		list[n] = name
	}
	found := false
	for _, name := range []string{"scope", "scp"} {
		switch claims[name].(type) {
		case string:
			claims[name], found = strings.Join(wider, " "), true
		case []any:
			claims[name], found = list, true
		}
	}
	if !found {
		claims["scope"] = strings.Join(wider, " ")
	}
	more, err := i.handler.InquireClaims(claims, i.endpoint.server, i.at)
	if err != nil || more.principal == nil {
		return nil
	}
	return more
}
