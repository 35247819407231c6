package mcpauth

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Visibility says who sees a server, by the teams of their tokens (behaviour.md
// section 2.3).
type Visibility struct {
	// Level is public, team or private. Default: public.
	Level scope.Visibility `json:"level,omitempty"`

	// Team is the id of the team that sees it, when the level is team.
	Team string `json:"team,omitempty"`

	// Owner is the subject of who sees it, when the level is private.
	Owner string `json:"owner,omitempty"`
}

func (v Visibility) check() error {
	switch {
	case !v.Level.Valid():
		return fmt.Errorf("visibility must be public, team or private, not %q", v.Level)
	case v.Level == scope.Team && v.Team == "":
		return fmt.Errorf("visibility team needs the id of a team")
	case v.Level == scope.Private && v.Owner == "":
		return fmt.Errorf("visibility private needs an owner")
	}
	return nil
}

// provisionVisibility completes the endpoints with who sees their servers.
func (h *Handler) provisionVisibility() error {
	for server, visibility := range h.Visibility {
		if !slices.Contains(h.Servers, server) {
			return fmt.Errorf("visibility of %s: there is no such server", server)
		}
		if err := visibility.check(); err != nil {
			return fmt.Errorf("server %s: %w", server, err)
		}
	}
	for _, e := range h.endpoints {
		e.visibility = Visibility{Level: scope.Public}
		if given, ok := h.Visibility[e.server]; ok {
			e.visibility = given
		}
	}
	return nil
}

// reach decides whether the token reaches the server at all, from where and when the
// request comes.
func (c *Call) reach(r *http.Request, now time.Time) *Refusal {
	request := scope.Request{
		Server:     c.Server,
		Visibility: c.endpoint.visibility.Level,
		Team:       c.endpoint.visibility.Team,
		Owner:      c.endpoint.visibility.Owner,
		Subject:    c.Principal.Subject,
		Now:        now,
	}
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		request.ClientIP, _ = netip.ParseAddr(ip)
	}
	return c.beyond(c.Principal.Scope.Reach(&request), "")
}

// beyond answers for what is beyond the token. Which of its restrictions that was is
// told to the log only.
func (c *Call) beyond(refused *scope.Refusal, id jsonrpc.ID) *Refusal {
	if refused == nil {
		return nil
	}
	c.cause = refused.Cause
	c.logger.Info("beyond the token", zap.String("cause", string(refused.Cause)), zap.String("server", c.Server),
		zap.String("issuer", c.Principal.Issuer), zap.String("token", c.Principal.TokenID))
	f := refuse(refused.Status, mcp.CodeForbidden, refused.Reason, "this is beyond the access token")
	f.ID = id
	if refused.RetryAfter > 0 {
		// Rounded up, so that who waits that long is not too early.
		f.retryAfter = strconv.FormatInt(int64((refused.RetryAfter+time.Second-1)/time.Second), 10)
	}
	return f
}
