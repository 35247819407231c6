package mcpadmin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

func init() {
	caddy.RegisterModule(AdminAPI{})
}

// AdminAPI is what the gateway adds to Caddy's own admin endpoint: all that
// administrators have below `/admin/`, with the same bodies and answers, below
// `/mcp_gateway/`. Whoever may use that endpoint may do everything, configure Caddy
// anew included, so that there is no login; the audit log calls them `caddy admin`. It
// is there whether or not `/admin/` is switched on, for the configuration that runs.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.mcp_gateway",
		New: func() caddy.Module { return AdminAPI{} },
	}
}

// AdminPath is what the paths on Caddy's admin endpoint begin with.
const AdminPath = "/mcp_gateway"

// Routes returns the routes of the admin endpoint.
func (AdminAPI) Routes() []caddy.AdminRoute {
	t := table{prefix: AdminPath}
	for _, d := range duties() {
		t.add(d.operation("", running))
	}
	return []caddy.AdminRoute{{Pattern: AdminPath + "/", Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
		defer cancel()
		now := t
		now.logger = logger() // that of the configuration that runs
		return now.serve(r.URL.EscapedPath(), w, r.WithContext(ctx))
	})}}
}

func logger() *zap.Logger { return caddy.Log().Named("mcp_gateway.admin") }

// adminTimeout is how long the store may take.
const adminTimeout = 10 * time.Second

var errNoGateway = &refusal{status: http.StatusNotFound, reason: "gateway_off", message: "the running configuration has no MCP gateway"}

// running finds the gateway that runs. The admin endpoint is older than its
// configuration, and outlives one that is refused.
func running(r *http.Request) (*errand, error) {
	configured, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNoGateway
	}
	if err != nil {
		return nil, err
	}
	by := account.Actor{Name: "caddy admin"}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		by.Address = host
	}
	return &errand{by: by, app: configured.(*mcpauth.App), logger: logger()}, nil
}

// Interface guard
var _ caddy.AdminRouter = AdminAPI{}
