package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler lets through what a principal may do with MCP servers, and nothing else.
//
// It is an OAuth 2.1 resource server (MCP authorization; RFC 6750, RFC 9728): each
// request needs an access token in its Authorization header, issued by one of the
// issuers for this gateway or for the server; or somebody who is believed vouches
// for the sender, one of Caddy's authenticators or a proxy. The claims give roles,
// and the roles' grants decide on each message. What is not granted is refused, and
// does not reach the server; lists are reduced to what the principal may see.
//
// The servers' endpoints are `/servers/{name}/mcp` and, with a single server,
// `/mcp`, below the path of the public URL. Requests for any other path are
// answered with 404, so use a matcher to have other handlers beside it.
//
// Answers carry a JSON-RPC error whose `data.reason` is a stable word. An object
// (tool, prompt, resource) that is not granted looks like one that does not exist.
//
// Placeholder | Description
// ------------|------------
// `{http.auth.user.id}` | The principal's subject
// `{http.auth.user.roles}` | The names of the principal's roles, separated by commas
// `{http.auth.user.*}` | Any other claim that is text, a number or a boolean
// `{http.mcp.server}` | The server's name
// `{http.mcp.method}` | The MCP method, empty for a batch
// `{http.mcp.name}` | The name or URI that the message is about
// `{http.mcp.decision}` | `allowed` or `refused`
// `{http.mcp.reason}` | The reason of a refusal, as in its answer
type Handler struct {
	// PublicURL is the URL under which clients reach the gateway, such as
	// https://mcp.example.com. The identifiers for which tokens are issued are
	// made from it, and never from a request. Required.
	PublicURL string `json:"public_url,omitempty"`

	// Servers are the names of the MCP servers. At least one is required.
	Servers []string `json:"servers,omitempty"`

	// Visibility says who sees a server, by its name, or some of its tools, prompts
	// and resources, written `server/object` as in a role's grants. It bounds what a
	// token reaches, whatever the roles of its holder: what somebody does not see
	// does not exist for them. Who sees an object must be let by the entry for its
	// server and by every entry that matches the object, so that no entry makes an
	// exception from another, and their order has no meaning. Default: everybody
	// sees everything.
	Visibility map[string]Visibility `json:"visibility,omitempty"`

	// Teams say what belongs to each team beside what only the team sees: by the id
	// of the team, names of servers, and objects written `server/object`. It hides
	// nothing; roles that hold in teams count only for what belongs to these.
	Teams map[string][]string `json:"teams,omitempty"`

	// Instructions says what becomes of servers' instructions, by their names; `*`
	// stands for all that are not named. Default: they are passed on to principals who
	// may see everything of the server, and left out for others.
	Instructions map[string]Instructions `json:"instructions,omitempty"`

	// Issuers are who may issue access tokens. At least one is required, unless
	// principals come from Authenticated or TrustedHeader.
	Issuers []*token.Issuer `json:"issuers,omitempty"`

	// Authenticated lets in whom one of Caddy's own authenticators has let in.
	// Default: off, these users have no meaning here.
	Authenticated *Authenticated `json:"authenticated,omitempty"`

	// TrustedHeader lets in whom a proxy in front of Caddy names in a header.
	// Default: off, no header says who somebody is.
	TrustedHeader *TrustedHeader `json:"trusted_header,omitempty"`

	// Roles say who may do what. A principal has every role whose conditions its
	// token meets; without a role it may do nothing.
	Roles []policy.Role `json:"roles,omitempty"`

	// ScopesSupported are the scopes that a client is told to ask for when it
	// has no valid token: the fewest that are of use. Default: none are named.
	ScopesSupported []string `json:"scopes_supported,omitempty"`

	// AllowedOrigins are the origins, beside that of the public URL, of web pages
	// that may send requests. Requests without an Origin header do not come from
	// a page. Default: none.
	AllowedOrigins []string `json:"allowed_origins,omitempty"`

	// AllowedHosts are the hosts, beside that of the public URL, by which the
	// gateway may be addressed. Default: none.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`

	// MaxBody is the size in bytes up to which a request's body is read.
	// Default: 4 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// BodyTimeout is how long a request's body may take to arrive. Default: 30s.
	BodyTimeout caddy.Duration `json:"body_timeout,omitempty"`

	// MaxAnswer is the size in bytes up to which a server's answer, or one event
	// of its stream, is read when it has to be. Default: 32 MiB.
	MaxAnswer int `json:"max_answer,omitempty"`

	// TokenCache is how many verified tokens are remembered, and as many principals
	// without a token. Default: 10000.
	TokenCache int `json:"token_cache,omitempty"`

	logger    *zap.Logger
	endpoints map[string]*endpoint
	origins   *origins
	policy    *policy.Policy
	verifier  *token.Verifier
	tokens    *token.Cache[*Principal]
	store     state.Store
	tasks     *tasks.Tasks

	revocations *revocation.Set
	// uses counts those of API tokens of the gateway's own.
	uses *catalogue.Usage
	// own is the issuer of the gateway's own tokens, if it is one of the issuers, and
	// register what is known of those who hold them.
	own      *token.Issuer
	register *register
	// running is the configuration that runs, generation that of this one.
	running    *atomic.Pointer[running]
	generation uint64
	rejected   *atomic.Bool
	// streams are all that are open, watches who wants to know of revocations.
	streams *streams
	watches *watches

	// The sources of principals without a token, nil unless configured.
	authenticated *voucher
	trusted       *trusted
	vouched       *lru.Cache[vouchedKey, *Principal]
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision compiles the configuration. Nothing is fetched.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.MaxBody == 0 {
		h.MaxBody = 4 << 20
	}
	if h.BodyTimeout == 0 {
		h.BodyTimeout = caddy.Duration(30 * time.Second)
	}
	if h.MaxAnswer == 0 {
		h.MaxAnswer = 32 << 20
	}
	publicURL, err := caddy.NewReplacer().ReplaceOrErr(h.PublicURL, true, true)
	if err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	base, err := resource.Parse(publicURL)
	if err != nil {
		return err
	}
	if len(h.Servers) == 0 {
		return errors.New("no server is named; name each MCP server that can be reached")
	}
	if h.endpoints, err = endpoints(base, h.Servers); err != nil {
		return err
	}
	h.provisionVisibility()
	if err := h.provisionInstructions(); err != nil {
		return err
	}
	if h.origins, err = newOrigins(base, h.AllowedOrigins, h.AllowedHosts); err != nil {
		return err
	}
	if h.policy, err = h.CompilePolicy(); err != nil {
		return err
	}
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		return err
	}
	app := loaded.(*App)
	for _, issuer := range h.Issuers {
		if err := issuer.Provision(token.WithEnvironment(ctx, token.Environment(app.Environment))); err != nil {
			return fmt.Errorf("issuer %s: %w", issuer.Issuer, err)
		}
	}
	if err := h.provisionOwn(app); err != nil {
		return err
	}
	if err := h.provisionIdentity(); err != nil {
		return err
	}
	if h.verifier, err = token.NewVerifier(h.Issuers, 0); err != nil {
		return err
	}
	h.tokens = token.NewCache[*Principal](h.TokenCache)
	app.Check("keys", h.verifier.Ready)
	h.verifier.Environment = app.Environment
	h.store, h.tasks = app.Store(), app.store.tasks
	h.revocations = app.Revocations()
	h.uses = app.store.uses
	for _, e := range h.endpoints {
		e.cursors, e.requests = app.shared.cursors, metric.For(e.server)
	}
	app.sealing = true
	app.handlers = append(app.handlers, h)
	h.running, h.generation, h.rejected = &app.shared.running, app.generation, &app.rejected
	h.streams, h.watches = &app.shared.streams, &app.shared.watches
	return nil
}

// Validate refuses scopes and sizes that cannot be used.
func (h *Handler) Validate() error {
	for _, scope := range h.ScopesSupported {
		if !token.ValidScope(scope) {
			return fmt.Errorf("scope %q may hold visible ASCII without quotes and backslashes only (RFC 6749 section 3.3)", scope)
		}
	}
	if len(h.ScopesSupported) > 0 && len(h.Issuers) == 0 {
		return errors.New("scopes_supported is about access tokens, and no issuer of them is configured; leave it out, or name an issuer")
	}
	if h.MaxBody < 0 || h.MaxAnswer < 0 || h.BodyTimeout < 0 || h.TokenCache < 0 {
		return errors.New("max_body, max_answer, body_timeout and token_cache must be positive; leave one out for its default")
	}
	return nil
}

const allowedMethods = "POST, GET, DELETE, OPTIONS"

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	call := &Call{logger: h.logger, tasks: h.tasks, handler: h, generation: h.generation, incoming: r, authorization: r.Header["Authorization"]}
	begun := time.Now()
	answered, refusal := h.admit(call, w, r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if call.Principal != nil {
		call.Principal.show(repl)
	}
	repl.Map(call.placeholder)
	if !answered {
		call.count(r, refusal == nil)
	}
	if refusal != nil {
		call.reason, call.issued = refusal.Reason, refusal.issued
		h.log(r, call, refusal)
		h.used(call, r, begun, refusal.Status, false)
		if r.ContentLength != 0 && refusal.Status != http.StatusRequestTimeout {
			// net/http reads over some of an unread body before it sends the
			// answer, and would wait for it for ever.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Duration(h.BodyTimeout)))
		}
		refusal.WriteTo(w)
		return nil
	}
	if answered {
		return nil
	}
	conceal(r.Header)
	h.trusted.forget(r.Header)
	// The server ends the context of each request when it is over, and ours with
	// it; to do so here would only be done twice.
	ctx, cancel := context.WithCancelCause(r.Context())
	caddyhttp.SetVar(ctx, callVar, call)

	a := newAnswer(w, call, h.MaxAnswer, cancel)
	defer a.stop()
	defer func() { h.used(call, r, begun, a.status, a.mode == stream) }()
	if err := next.ServeHTTP(a, call.request(r.WithContext(ctx))); err != nil {
		if a.status == 0 {
			a.status = statusOf(err)
		}
		return err
	}
	return a.finish()
}

// admit decides whether a request may pass, and fills in the call. A preflight is
// answered at once.
func (h *Handler) admit(call *Call, w http.ResponseWriter, r *http.Request) (answered bool, refusal *Refusal) {
	e := h.endpoint(r)
	if e == nil {
		return false, refuse(http.StatusNotFound, mcp.CodeTransport, "no_endpoint", "there is no MCP endpoint here")
	}
	call.endpoint, call.Server = e, e.server
	if refusal := h.origins.check(r); refusal != nil {
		return false, refusal
	}
	call.origin = r.Header.Get("Origin")
	allowOrigin(w.Header(), call.origin)
	switch r.Method {
	case http.MethodOptions:
		preflight(w, r)
		return true, nil
	case http.MethodPost, http.MethodGet, http.MethodDelete:
	default:
		refusal := refuse(http.StatusMethodNotAllowed, mcp.CodeTransport, "method", "this HTTP method is not allowed")
		refusal.allow = allowedMethods
		return false, refusal
	}
	now := steady.Now()
	if call.Principal, refusal = h.authenticate(r, e, now); refusal != nil {
		return false, refusal
	}
	if refusal := h.checkRevoked(call.Principal, e, now); refusal != nil {
		return false, refusal
	}
	if refusal := h.decide(call, w, r, now); refusal != nil {
		return false, refusal
	}
	// What was refused does not count.
	return false, call.beyond(h.count(r.Context(), call.Principal), call.ID())
}

// decide decides on what a principal asks for. Whoever only wants to know asks here
// too, see [Inquiry].
func (h *Handler) decide(call *Call, w http.ResponseWriter, r *http.Request, now time.Time) *Refusal {
	if refusal := call.reach(r, now); refusal != nil {
		return refusal
	}
	if refusal := call.readHeader(r); refusal != nil {
		return refusal
	}
	if r.Method == http.MethodPost {
		if refusal := h.readBody(call, w, r); refusal != nil {
			return refusal
		}
		if refusal := call.checkEra(r); refusal != nil {
			return refusal
		}
	} else if refusal := call.checkBodiless(); refusal != nil {
		return refusal
	}
	return call.judge()
}

// checkBodiless checks a GET or DELETE, which the stateless revisions do not have.
func (c *Call) checkBodiless() *Refusal {
	if _, known := mcp.Known(string(c.Version)); !known {
		return unsupportedVersion("", string(c.Version))
	}
	if c.Version.Modern() {
		refusal := refuse(http.StatusMethodNotAllowed, mcp.CodeTransport, "method", "this protocol version has only POST")
		refusal.allow = http.MethodPost
		return refusal
	}
	return nil
}

// conceal takes out of a request what must not go further: credentials, which are
// for the gateway, and headers by which only the gateway itself may speak.
func conceal(header http.Header) {
	for name := range header {
		if name == "Authorization" || name == "Cookie" || name == "Proxy-Authorization" ||
			strings.HasPrefix(name, IdentityPrefix) {
			delete(header, name)
		}
	}
}

func (h *Handler) log(r *http.Request, c *Call, f *Refusal) {
	entry := h.logger.Check(zap.InfoLevel, "refused")
	if entry == nil {
		return
	}
	fields := []zap.Field{zap.String("reason", f.Reason), zap.Int("status", f.Status), zap.String("server", c.Server)}
	if c.Principal != nil {
		fields = append(fields, zap.String("issuer", c.Principal.Issuer), zap.String("subject", c.Principal.Subject))
	}
	if len(c.Messages) == 1 {
		m := &c.Messages[0]
		_, name := c.object(m)
		fields = append(fields, zap.String("method", clip(m.Method)), zap.String("name", clip(name)))
	}
	if c.rule != nil {
		fields = append(fields, zap.String("role", c.rule.Role), zap.String("rule", c.rule.Source))
	}
	if c.team != "" {
		fields = append(fields, zap.String("team", c.team))
	}
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		fields = append(fields, zap.String("client_ip", ip))
	}
	entry.Write(fields...)
}

// clip bounds what a client can put into a log line.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
