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
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is the gateway's own API in JSON. It answers these paths, below the path of
// the public URL, and every other one below `/auth/` and `/reverse-proxy/` with 404; other requests are passed
// on:
//
// Request | Body | Answer
// --------|------|-------
// `POST /auth/login` | `email`, `password` | a session: `access_token`, `refresh_token`, ...
// `POST /auth/refresh` | `refresh_token` | the next tokens of the session; those before are not good any more
// `POST /auth/logout` | none | the session is over
// `GET /auth/me` | none | the user, with teams and roles
// `POST /auth/password` | `email`, `password`, `new_password` | the password is another, and all sessions of the user are over
// `POST /auth/register` | `email`, `password`, `full_name` | 201 and a new user, if registration is on
// `GET /reverse-proxy/sessions` | none | the MCP sessions of the user, or for an administrator all of them
// `DELETE /reverse-proxy/sessions/{id}` | none | the MCP session is over, and its event streams
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

	// Whether people can see and end their MCP sessions, and administrators everybody's.
	// The mcp_gateway app must have accounts. Default: false.
	Sessions bool `json:"sessions,omitempty"`

	logger *zap.Logger
	prefix string
	desk   *login.Desk
	// revocations are asked beside the session: an administrator may have revoked the
	// token, or all that were issued until some time.
	revocations *revocation.Set
	store       state.Store
	// sessions are the MCP sessions, issuer is whose subjects the accounts are.
	sessions *session.Sessions
	issuer   string
	// operations are all that are switched on, routes the same by path and method, and
	// patterns those paths that stand for several.
	operations []*operation
	routes     map[string]map[string]*operation
	patterns   []string
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
	h.prefix = base.Prefix()
	if h.LoginRate == 0 {
		h.LoginRate = 10
	}
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	app := loaded.(*mcpauth.App)
	h.desk, h.store, h.revocations = app.Desk(), app.Store(), app.Revocations()
	if h.Login && h.desk == nil {
		return errors.New("nobody can log in: declare accounts in the global option mcp_gateway, at least an administrator")
	}
	if h.Sessions && h.desk == nil {
		return errors.New("nobody can ask for sessions: declare accounts in the global option mcp_gateway, at least an administrator")
	}
	h.routes = make(map[string]map[string]*operation)
	if h.Login {
		h.routeLogin()
	}
	if h.Sessions {
		h.sessions, h.issuer = app.SessionTable(), app.Issuer().Name()
		h.routeSessions()
	}
	return nil
}

// Validate refuses what cannot be meant.
func (h *Handler) Validate() error {
	if h.Registration && !h.Login {
		return errors.New("registration makes no sense without login; switch that on, too")
	}
	if h.LoginRate < 0 {
		return errors.New("login_rate must be positive; leave it out for its default")
	}
	return nil
}

// own are the first segments of the paths that are answered, with 404 if need be.
var own = []string{"/auth/", "/reverse-proxy/"}

// owns reports whether a path is the handler's to answer.
func (h *Handler) owns(path string) bool {
	rest, ok := strings.CutPrefix(path, h.prefix)
	return ok && slices.ContainsFunc(own, func(first string) bool {
		return strings.HasPrefix(rest, first) || rest == strings.TrimSuffix(first, "/")
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
