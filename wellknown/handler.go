// Package wellknown publishes what may be known about a gateway without asking
// for permission: where its resources' authorization servers are (RFC 9728),
// whom to tell about a security hole (RFC 9116), what crawlers may do, and
// whether it is alive and ready.
package wellknown

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler answers the public addresses of an MCP gateway and passes every other
// request on:
//
// Path | Answer
// -----|-------
// `/.well-known/oauth-protected-resource...` | protected resource metadata (RFC 9728), one document for each server and one for the gateway as a whole; 404 for any other path below
// `/.well-known/security.txt` | whom to tell about a security hole (RFC 9116), if configured; `/security.txt` redirects to it
// `/.well-known/jwks.json` | the keys of the gateway's own tokens, if switched on
// `/.well-known/NAME` | the configured files
// `/robots.txt` | what crawlers may do
// `/health` | 200 as long as Caddy runs
// `/ready` | 200 if every check of the `mcp_gateway` app succeeds, else 503
//
// Nothing in an answer comes from the request: all documents are made when the
// configuration is loaded, and absolute URLs are made from `public_url`. Paths
// are compared exactly with what the client sent, before any rewriting: an
// encoded spelling, another case or a trailing slash is another path.
//
// String values may use global placeholders such as `{env.NAME}` and
// `{file./path}`, which are replaced when the configuration is loaded.
type Handler struct {
	// The URL by which clients reach the gateway, such as
	// `https://mcp.example.com`. It may have a port and a path prefix; `http` is
	// accepted for loopback hosts only. All resource identifiers begin with it,
	// so it must be what clients are configured with. Required.
	PublicURL string `json:"public_url,omitempty"`

	// The names of the servers behind the gateway. Each has its metadata below
	// the path of its endpoint, `/servers/NAME/mcp`; a single server also has it
	// for `/mcp`. Default: none, only the gateway as a whole has metadata.
	Servers []string `json:"servers,omitempty"`

	// The issuers that clients may get tokens from (RFC 9728,
	// `authorization_servers`), exactly as in their own metadata. MCP clients
	// need at least one to log in. Default: none, the member is left out.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`

	// Whether there is no metadata of resources, because they take no access
	// tokens: its paths are answered with 404. Default: false.
	DisableMetadata bool `json:"disable_metadata,omitempty"`

	// The scopes that a client should ask for at first (RFC 9728,
	// `scopes_supported`): the fewest that are of use, not all there are.
	// Default: none, the member is left out.
	ScopesSupported []string `json:"scopes_supported,omitempty"`

	// The name of the gateway for people to read. Default: left out.
	ResourceName string `json:"resource_name,omitempty"`

	// The URL of a page for developers about the gateway. Default: left out.
	ResourceDocumentation string `json:"resource_documentation,omitempty"`

	// The content of `/robots.txt`. Where line breaks are hard to write, `\n` may
	// be used, provided the text has no real ones. Default: everything is
	// disallowed for everyone.
	RobotsTxt string `json:"robots_txt,omitempty"`

	// The content of `/.well-known/security.txt`. Default: none, the path is
	// passed on.
	SecurityTxt *SecurityTxt `json:"security_txt,omitempty"`

	// More files below `/.well-known/`, by their name: content that begins as a
	// JSON object or array and is one, or whose name ends in `.json`, is served
	// as `application/json`, everything else as `text/plain`. Default: none.
	Files map[string]string `json:"files,omitempty"`

	// How long clients and caches may keep the documents, in whole seconds.
	// Health and readiness are never cached. Default: 1h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Whether `/health` and `/ready` are passed on like any other path, instead
	// of being answered. Default: false.
	DisableHealth bool `json:"disable_health,omitempty"`

	// Whether `/.well-known/jwks.json` has the public keys of the gateway's own
	// tokens, for others who verify them. The `mcp_gateway` app must name the issuer
	// of these. Default: false.
	JWKS bool `json:"jwks,omitempty"`

	keys      keySet
	logger    *zap.Logger
	documents map[string]*document
	metadata  string // the path of the metadata of the gateway as a whole
	origin    string // of the public URL
	ready     readiness
	// development is whether authorization servers without TLS may be published.
	development bool
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_well_known",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision renders every document and finds the app that knows the readiness.
func (h *Handler) Provision(ctx caddy.Context) error {
	if !h.DisableHealth {
		app, err := ctx.App("mcp_gateway")
		if err != nil {
			return fmt.Errorf("/ready asks the mcp_gateway app; build Caddy with it, or set disable_health: %w", err)
		}
		ready, ok := app.(readiness)
		if !ok {
			return fmt.Errorf("/ready asks the mcp_gateway app, but %T cannot tell; build Caddy with the app of this plugin, or set disable_health", app)
		}
		h.ready = ready
	}
	if slices.ContainsFunc(h.AuthorizationServers, func(url string) bool { return !strings.HasPrefix(url, "https://") }) {
		if app, err := ctx.App("mcp_gateway"); err == nil {
			e, ok := app.(environment)
			h.development = ok && e.Development()
		}
	}
	if h.JWKS {
		if err := h.findKeys(ctx); err != nil {
			return err
		}
	}
	if err := h.render(ctx.Logger(), time.Now()); err != nil {
		return err
	}
	h.enter(ctx)
	return nil
}

// Validate checks what the documents do not depend on.
func (h *Handler) Validate() error {
	if h.DisableMetadata && len(h.AuthorizationServers) > 0 {
		return errors.New("authorization_servers are published in the metadata of resources, which is disabled; leave one of the two out")
	}
	if h.MaxAge < 0 {
		return errors.New("max_age must not be negative; write a duration such as 1h")
	}
	return nil
}

// render makes all documents. It is given the time so that tests can choose it.
func (h *Handler) render(logger *zap.Logger, now time.Time) error {
	h.logger = logger
	h.documents = make(map[string]*document)
	repl := caddy.NewReplacer()

	publicURL, err := repl.ReplaceOrErr(h.PublicURL, true, true)
	if err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	base, err := resource.Parse(publicURL)
	if err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	maxAge := time.Duration(h.MaxAge)
	if maxAge == 0 {
		maxAge = time.Hour
	}
	cacheControl := fmt.Sprintf("public, max-age=%d", maxAge/time.Second)

	h.metadata, h.origin = base.MetadataPath(base.Prefix()), base.Origin()
	if err := h.addMetadata(base, repl, cacheControl); err != nil {
		return err
	}
	if err := h.addSecurityTxt(base, repl, now, cacheControl); err != nil {
		return err
	}
	return h.addFiles(repl, cacheControl)
}

// ServeHTTP answers the handler's own paths and calls next for all others.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := originalPath(r)
	if d, ok := h.documents[path]; ok {
		return d.serve(w, r)
	}
	if path == h.metadata || strings.HasPrefix(path, h.metadata) && path[len(h.metadata)] == '/' {
		return noMetadata(w, r)
	}
	if h.JWKS && path == jwksPath {
		return h.serveKeys(w, r)
	}
	if !h.DisableHealth {
		switch path {
		case "/health":
			return serveHealth(w, r)
		case "/ready":
			return h.serveReady(w, r)
		}
	}
	return next.ServeHTTP(w, r)
}

// originalPath returns the path as the client sent it, encoding included. Other
// directives may have rewritten the request's own by now.
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
