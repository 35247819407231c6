package mcpauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Principal is who a token speaks for at one server, or who was vouched for otherwise,
// and the roles that gives. It is shared by all requests with that token to that
// server and does not change.
type Principal struct {
	*token.Claims
	// Roles are the names of the roles, sorted: those that hold everywhere, and
	// those that hold in a team to which the whole server belongs.
	Roles []string
	// Identity are the headers in which a server is told who the principal is.
	// They must not be changed.
	Identity http.Header

	// revocable is what the token can be revoked by.
	revocable revocation.Token

	// standing is what the gateway knows of the holder of one of its own tokens, nil
	// for everybody else.
	standing *standing

	policy *policy.Policy
	set    policy.RoleSet
	// vouched is whether it has no token.
	vouched bool
	// What is asked of nearly every answer: whether a list needs a filter, and
	// whether the server may ask the client for anything that it can.
	seesAll [jsonrpc.Tasks + 1]bool
	askable bool

	// asked, if set, is told what is asked of the principal.
	asked func(policy.Question)
}

// Owner is the principal as an owner of sessions.
func (p *Principal) Owner() state.Owner {
	return state.Owner{Issuer: p.Issuer, Subject: p.Subject, ClientID: p.ClientID}
}

func (h *Handler) newPrincipal(claims *token.Claims, server string) *Principal {
	return h.newMember(claims, nil, server)
}

// newMember makes a principal whose claims have other values in some of its teams.
func (h *Handler) newMember(claims *token.Claims, inTeams map[string]func(string) []string, server string) *Principal {
	set := h.policy.RolesOfMember(values(claims), inTeams, claims.Scopes, sees(claims))
	p := &Principal{Claims: claims, Roles: h.policy.RoleNamesOn(set, server), Identity: make(http.Header), revocable: Revocable(claims), policy: h.policy, set: set}
	for name, value := range map[string]string{
		"Subject":   p.Subject,
		"Issuer":    p.Issuer,
		"Client-Id": p.ClientID,
		"Roles":     strings.Join(p.Roles, ","),
	} {
		if value != "" {
			p.Identity[IdentityPrefix+name] = []string{mcp.EncodeHeader(value)}
		}
	}
	p.prepare(server)
	return p
}

// prepare answers in advance what nearly every answer of the server asks.
func (p *Principal) prepare(server string) {
	for list := jsonrpc.Tools; list <= jsonrpc.Contents; list++ {
		perm, _ := listed(list)
		p.seesAll[list] = p.Scope.Permits(scope.Of(perm)) && p.policy.AllowsAll(p.set, perm, server) &&
			(list != jsonrpc.Tools || !p.policy.Narrows(p.set, server))
	}
	p.askable = true
	for _, perm := range []mcp.Permission{mcp.ClientSampling, mcp.ClientElicitation, mcp.ClientRoots} {
		p.askable = p.askable && p.may(perm, server, policy.KindNone, "")
	}
}

// IdentityPrefix begins the names of the headers in which a server is told who the
// principal is.
const IdentityPrefix = "X-Mcp-"

// values reads claims as conditions of roles do: what is neither text nor a list
// of texts is no value.
func values(claims *token.Claims) func(string) []string {
	return func(claim string) []string {
		found, _ := claims.Values(claim)
		return found
	}
}

// sees reports whether a token sees what is for an audience: the rule is that of
// servers.
func sees(claims *token.Claims) func(policy.Audience) bool {
	return func(a policy.Audience) bool {
		if a.Owner != "" {
			return claims.Scope.Sees(scope.Private, "", a.Owner, claims.Subject)
		}
		return claims.Scope.Sees(scope.Team, a.Team, "", claims.Subject)
	}
}

// may is the one question: the token must reach that far, and a role must allow it.
// Neither widens the other.
func (p *Principal) may(perm mcp.Permission, server string, kind policy.ObjectKind, object string) bool {
	if p.asked != nil {
		p.asked(policy.Question{Permission: perm, Server: server, Kind: kind, Object: object})
	}
	return p.Scope.Permits(scope.Of(perm)) && p.policy.Allows(p.set, perm, server, kind, object)
}

// maySome reports whether there could be an object for which may says yes.
func (p *Principal) maySome(perm mcp.Permission, server string) bool {
	return p.Scope.Permits(scope.Of(perm)) && p.policy.AllowsSome(p.set, perm, server)
}

// maySee asks the same for an item of a list.
func (p *Principal) maySee(server string, list jsonrpc.List, key string) bool {
	perm, kind := listed(list)
	return p.may(perm, server, kind, key)
}

func listed(list jsonrpc.List) (mcp.Permission, policy.ObjectKind) {
	switch list {
	case jsonrpc.Tools:
		return mcp.ToolsRead, policy.KindName
	case jsonrpc.Prompts:
		return mcp.PromptsRead, policy.KindName
	case jsonrpc.ResourceTemplates:
		return mcp.ResourcesRead, policy.KindTemplate
	default:
		return mcp.ResourcesRead, policy.KindURI
	}
}

// bearer takes the token out of a request: from the Authorization header and
// nowhere else (RFC 6750 section 2.1, MCP authorization). An empty token means
// that there is none.
func bearer(r *http.Request) (string, *Refusal) {
	given := r.Header["Authorization"]
	if len(given) > 1 {
		return "", refuse(http.StatusBadRequest, mcp.CodeTransport, "token_several", "there is more than one Authorization header")
	}
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		// The access log would show it to whoever may read logs.
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
		return "", refuse(http.StatusBadRequest, mcp.CodeTransport, "token_in_query", "an access token must be sent in the Authorization header")
	}
	if len(given) == 0 {
		return "", nil
	}
	scheme, text, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	return strings.Trim(text, " "), nil
}

// authenticate finds out who sends a request to an endpoint.
func (h *Handler) authenticate(r *http.Request, e *endpoint, now time.Time) (*Principal, *Refusal) {
	raw, refusal := bearer(r)
	if refusal != nil {
		refusal.challenge = e.challenge("invalid_request", refusal.Message, nil)
		return nil, refusal
	}
	if p, refusal := h.vouch(r, e, raw != ""); p != nil || refusal != nil {
		return p, refusal
	}
	if raw == "" || len(h.Issuers) == 0 {
		return nil, h.tokenMissing(e)
	}
	return h.holder(r.Context(), raw, e, now)
}

// retryKeys is after which time a client may try again whose token's keys are missing.
const retryKeys = 5 * time.Second

// holder finds out who holds a token.
func (h *Handler) holder(ctx context.Context, raw string, e *endpoint, now time.Time) (*Principal, *Refusal) {
	if p, ok := h.tokens.Get(raw, e.server, now); ok {
		if p.standing.current(now) {
			return p, nil
		}
		return h.holderOfOwn(ctx, raw, p.standing.token, e, now)
	}
	claims, err := h.verifier.Verify(ctx, raw, now, e.audiences)
	if err != nil {
		reason := token.ReasonOf(err)
		if down, ok := errors.AsType[*token.Error](err); ok && down.Unavailable() {
			h.logger.Warn("token can't be verified", zap.Error(err))
			refusal := refuse(http.StatusServiceUnavailable, mcp.CodeUnauthorized, string(reason), reason.Description())
			refusal.retryAfter = seconds(cmp.Or(down.RetryAfter, retryKeys))
			return nil, refusal
		}
		refusal := refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, string(reason), reason.Description())
		refusal.challenge = e.challenge("invalid_token", reason.Description(), h.ScopesSupported)
		return nil, refusal
	}
	if h.isOwn(claims) {
		return h.holderOfOwn(ctx, raw, claims, e, now)
	}
	p := h.newPrincipal(claims, e.server)
	h.tokens.Add(raw, e.server, claims, p)
	return p, nil
}
