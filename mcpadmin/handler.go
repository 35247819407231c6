// Package mcpadmin is the gateway's own API, for those who log in at it: the mcp_admin
// handler. Each part of it is off until it is switched on.
package mcpadmin

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is the gateway's own API in JSON. It answers these paths, below the path of
// the public URL, and every other one below `/auth/`, `/tokens/`, `/reverse-proxy/`,
// `/admin/` and `/docs/` with 404; other requests are passed on:
//
// Request | Body | Answer
// --------|------|-------
// `POST /auth/login` | `email`, `password` | a session: `access_token`, `refresh_token`, ...
// `POST /auth/refresh` | `refresh_token` | the next tokens of the session; those before are not good any more
// `POST /auth/logout` | none | the session is over
// `GET /auth/me` | none | the user, with teams and roles
// `POST /auth/password` | `email`, `password`, `new_password` | the password is another, and all sessions of the user are over
// `POST /auth/register` | `email`, `password`, `full_name` | 201 and a new user, if registration is on
// `POST /oauth/revoke` | `token`, as a form (RFC 7009) | 200: whoever has a token of the gateway's can end it
// `GET /reverse-proxy/sessions` | none | the MCP sessions of the user, or for an administrator all of them
// `DELETE /reverse-proxy/sessions/{id}` | none | the MCP session is over, and its event streams
// `GET /openapi.json` | none | what is switched on, in OpenAPI 3.1, if docs are on
// `GET /docs` | none | the same as a page, if docs are on
//
// With tokens on, these answer to interactive sessions, too, below `/tokens`:
//
// Request | Body | Answer
// --------|------|-------
// `POST /tokens` | `name`, `expires_in_days`, `scope`, ... | 201 and an API token, shown this once
// `GET /tokens` | none | one's own tokens and those of one's teams
// `GET /tokens/{id}` | none | the token's record
// `PUT /tokens/{id}` | what is to be changed | the record; it holds at once for the token in circulation
// `DELETE /tokens/{id}` | `reason`, or none | 204: the token is revoked for good
// `GET /tokens/{id}/usage` | none | how it was used in the last `days`
// `POST` and `GET /tokens/teams/{team_id}` | as above | the same for a team's tokens
// `GET /tokens/admin/all` | none | an administrator sees all tokens, or those of `user_email`
// `DELETE /tokens/admin/{id}` | `reason`, or none | 204: an administrator revokes anybody's token
//
// With `admin`, administrators have the API for their work below `/admin/`: users, teams,
// roles, API tokens, MCP sessions, signing keys, revocations, servers, what is published
// and how safe the configuration is. The same is below `/mcp_gateway/` on Caddy's own admin endpoint,
// without a login.
//
// A session token stands in the `Authorization` header, and nowhere else; there are no
// cookies. It is also an access token for MCP servers, where mcp_auth has an issuer with
// the key source `gateway`. Bodies are read strictly: an unknown, repeated or wrongly
// typed member is an error. An error is an object with `error`, for people, and
// `reason`, a stable word.
type Handler struct {
	// The URL by which clients reach the gateway, such as `https://mcp.example.com`. A
	// path is put in front of the paths above. Placeholders are expanded when the
	// configuration is loaded. Required.
	PublicURL string `json:"public_url,omitempty"`

	// Whether people can log in. The mcp_gateway app must have accounts. Default:
	// false, each path is answered with 404.
	Login bool `json:"login,omitempty"`

	// Whether everybody can make an account, which is no administrator's. Addresses
	// are not verified: whoever comes first has one. Default: false.
	Registration bool `json:"registration,omitempty"`

	// Whether those who log in can make API tokens for themselves. Default: false.
	Tokens bool `json:"tokens,omitempty"`

	// How many passwords can be tried per minute from one IPv4 address or IPv6 /64
	// network, on all nodes together, and how many tokens can be revoked by
	// who holds them. Default: 10.
	LoginRate int `json:"login_rate,omitempty"`

	// Whether people can see and end their MCP sessions, and administrators everybody's.
	// The mcp_gateway app must have accounts. Default: false.
	Sessions bool `json:"sessions,omitempty"`

	// Whether administrators have their API below `/admin/`. The mcp_gateway app must
	// have accounts. It takes the token of an interactive session or, with
	// api_basic_auth, an address and a password, and nothing of the gateway uses
	// cookies. Default: false, each path is answered with 404.
	Admin bool `json:"admin,omitempty"`

	// A header in which a proxy in front of Caddy names an administrator, by the
	// address of the account; the rights are those of the account. It must have no
	// claims. Default: off, no header says who somebody is.
	AdminTrustedHeader *mcpauth.TrustedHeader `json:"admin_trusted_header,omitempty"`

	// Whether the API is described, at `/openapi.json` and `/docs`, to everybody who
	// is logged in. The mcp_gateway app must have accounts. Default: false, both are
	// answered with 404.
	Docs bool `json:"docs,omitempty"`

	// Whether these two can also be had by basic authentication (RFC 7617), with the
	// address and the password of an account, as a browser asks for them. Each
	// request counts as a login does: for login_rate, and for the lockout of the
	// account. Default: false.
	DocsBasicAuth bool `json:"docs_basic_auth,omitempty"`

	// Whether the rest of the API can be used in that way, too, as far as it needs no
	// session: `/auth/me` and, by administrators, `/admin/`. Default: false, the
	// answer is 401.
	APIBasicAuth bool `json:"api_basic_auth,omitempty"`

	table
	// base is the public URL in its one spelling.
	base   string
	app    *mcpauth.App
	desk   *login.Desk
	tokens *catalogue.Service
	// peers are who is believed by admin_trusted_header, origins what web pages may
	// send changes.
	peers   *mcpauth.Peers
	origins *http.CrossOriginProtection
	// revocations are asked beside the session: an administrator may have revoked the
	// token, or all that were issued until some time.
	revocations *revocation.Set
	store       state.Store
	// sessions are the MCP sessions, issuer is whose subjects the accounts are.
	sessions *session.Sessions
	issuer   string
	// described is the API's description in OpenAPI, and page the same for people;
	// both are nil when docs are off.
	described jsontext.Value
	page      *page
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_admin",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the accounts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	publicURL, err := caddy.NewReplacer().ReplaceOrErr(h.PublicURL, true, true)
	if err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	base, err := resource.Parse(publicURL)
	if err != nil {
		return err
	}
	h.prefix, h.base = base.Prefix(), base.String()
	h.origins = http.NewCrossOriginProtection()
	if err := h.origins.AddTrustedOrigin(base.Origin()); err != nil {
		return err
	}
	if h.LoginRate == 0 {
		h.LoginRate = 10
	}
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	h.app = loaded.(*mcpauth.App)
	h.desk, h.store, h.revocations = h.app.Desk(), h.app.Store(), h.app.Revocations()
	h.tokens = h.app.Catalogue()
	if (h.Login || h.Admin || h.Docs || h.APIBasicAuth) && h.desk == nil {
		return errors.New("nobody can log in: declare accounts in the global option mcp_gateway, at least an administrator")
	}
	if h.Registration {
		h.app.Book().Registration = true
	}
	if h.Sessions && h.desk == nil {
		return errors.New("nobody can ask for sessions: declare accounts in the global option mcp_gateway, at least an administrator")
	}
	if h.Login {
		h.routeLogin()
		h.routeOAuth()
	}
	if h.Login && h.Tokens {
		h.routeTokens()
	}
	if h.Sessions {
		h.sessions, h.issuer = h.app.SessionTable(), h.app.Issuer().Name()
		h.routeSessions()
	}
	if h.Admin {
		if err := h.routeAdministration(); err != nil {
			return err
		}
	}
	// Last: it describes the others.
	if h.Docs {
		return h.routeDocs()
	}
	return nil
}

// Validate refuses what cannot be meant.
func (h *Handler) Validate() error {
	if h.Registration && !h.Login {
		return errors.New("registration makes no sense without login; switch that on, too")
	}
	if h.Admin && !h.Login && h.AdminTrustedHeader == nil && !h.APIBasicAuth {
		return errors.New("admin makes no sense if nobody can come in; switch login or api_basic_auth on, or name an admin_trusted_header")
	}
	if h.AdminTrustedHeader != nil && !h.Admin {
		return errors.New("admin_trusted_header makes no sense without admin; switch that on, too")
	}
	if h.Tokens && !h.Login {
		return errors.New("tokens make no sense without login, which they are had by; switch that on, too")
	}
	if h.Docs && !h.Login && !h.DocsBasicAuth {
		return errors.New("nobody can read the docs: switch login or docs_basic_auth on, too")
	}
	if h.DocsBasicAuth && !h.Docs {
		return errors.New("docs_basic_auth makes no sense without docs; switch that on, too")
	}
	if h.APIBasicAuth && !h.Login && !h.Admin {
		return errors.New("api_basic_auth makes no sense without login or admin; switch one of them on, too")
	}
	if h.LoginRate < 0 {
		return errors.New("login_rate must be positive; leave it out for its default")
	}
	return nil
}

// own are the paths that are answered, with 404 if need be. One with a slash at its end
// stands for all below it, and for itself without the slash.
var own = []string{"/auth/", "/tokens/", revokePath + "/", "/reverse-proxy/", "/admin/", "/docs/", "/openapi.json"}

// owns reports whether a path is the handler's to answer.
func (h *Handler) owns(path string) bool {
	rest, ok := strings.CutPrefix(path, h.prefix)
	return ok && slices.ContainsFunc(own, func(first string) bool {
		return strings.HasSuffix(first, "/") && strings.HasPrefix(rest, first) || rest == strings.TrimSuffix(first, "/")
	})
}

// bodyTimeout is how long a client may take to send a body.
const bodyTimeout = 10 * time.Second

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := originalPath(r)
	if !h.owns(path) {
		h.peers.Strip(r)
		return next.ServeHTTP(w, r)
	}
	return h.serve(path, w, r)
}

// serve answers a request for an operation of the table.
func (h *table) serve(path string, w http.ResponseWriter, r *http.Request) error {
	methods := h.find(path, r)
	if methods == nil {
		h.refuse(w, r, errNoPath)
		return nil
	}
	asked := methods[r.Method]
	if asked == nil {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		h.refuse(w, r, errMethod)
		return nil
	}
	if r.ContentLength != 0 {
		// net/http reads over some of an unread body before it sends the answer.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	answer, err := asked.act(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return nil
	}
	h.write(w, answer)
	return nil
}

// originalPath returns the path as the client sent it, encoding included: every other
// spelling of a path is another path.
func originalPath(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.URL.EscapedPath()
	}
	return r.URL.EscapedPath()
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
