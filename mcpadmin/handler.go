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
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is the gateway's own API in JSON. It answers these paths, below the path of
// the public URL, and every other one below `/auth/` and `/docs/` with 404; other
// requests are passed on:
//
// Request | Body | Answer
// --------|------|-------
// `POST /auth/login` | `email`, `password` | a session: `access_token`, `refresh_token`, ...
// `POST /auth/refresh` | `refresh_token` | the next tokens of the session; those before are not good any more
// `POST /auth/logout` | none | the session is over
// `GET /auth/me` | none | the user, with teams and roles
// `POST /auth/password` | `email`, `password`, `new_password` | the password is another, and all sessions of the user are over
// `POST /auth/register` | `email`, `password`, `full_name` | 201 and a new user, if registration is on
// `GET /openapi.json` | none | what is switched on, in OpenAPI 3.1, if docs are on
// `GET /docs` | none | the same as a page, if docs are on
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

	// How many passwords can be tried per minute from one IPv4 address or IPv6 /64
	// network, on all nodes together. Default: 10.
	LoginRate int `json:"login_rate,omitempty"`

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
	// session: `/auth/me`. Default: false, the answer is 401.
	APIBasicAuth bool `json:"api_basic_auth,omitempty"`

	logger *zap.Logger
	prefix string
	// base is the public URL in its one spelling.
	base string
	desk *login.Desk
	// revocations are asked beside the session: an administrator may have revoked the
	// token, or all that were issued until some time.
	revocations *revocation.Set
	store       state.Store
	// operations are all that are switched on, routes the same by path and method, and
	// patterns those paths that stand for several.
	operations []*operation
	routes     map[string]map[string]*operation
	patterns   []string
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
	if h.LoginRate == 0 {
		h.LoginRate = 10
	}
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	app := loaded.(*mcpauth.App)
	h.desk, h.store, h.revocations = app.Desk(), app.Store(), app.Revocations()
	if (h.Login || h.Docs || h.APIBasicAuth) && h.desk == nil {
		return errors.New("nobody can log in: declare accounts in the global option mcp_gateway, at least an administrator")
	}
	h.routes = make(map[string]map[string]*operation)
	if h.Login {
		h.routeLogin()
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
	if h.Docs && !h.Login && !h.DocsBasicAuth {
		return errors.New("nobody can read the docs: switch login or docs_basic_auth on, too")
	}
	if h.DocsBasicAuth && !h.Docs {
		return errors.New("docs_basic_auth makes no sense without docs; switch that on, too")
	}
	if h.LoginRate < 0 {
		return errors.New("login_rate must be positive; leave it out for its default")
	}
	return nil
}

// own are the paths that are answered, with 404 if need be. One with a slash at its end
// stands for all below it, and for itself without the slash.
var own = []string{"/auth/", "/docs/", "/openapi.json"}

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
		return next.ServeHTTP(w, r)
	}
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
