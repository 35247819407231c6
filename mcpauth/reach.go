package mcpauth

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Visibility says who sees a server, or objects of one, by the teams of their tokens
// (behaviour.md section 2.3).
type Visibility struct {
	// Level is public, team or private. Default: public.
	Level scope.Visibility `json:"level,omitempty"`

	// Team is the id of the team that sees it, when the level is team.
	Team string `json:"team,omitempty"`

	// Owner is the subject of who sees it, when the level is private.
	Owner string `json:"owner,omitempty"`

	// At is where this was written, such as Caddyfile:12. It has no meaning beside
	// telling a person.
	At string `json:"at,omitempty"`
}

func (v Visibility) check() error {
	switch {
	case !v.Level.Valid():
		return fmt.Errorf("it must be public, team or private, not %q", v.Level)
	case v.Level == scope.Team && v.Team == "":
		return errors.New("team needs the id of a team")
	case v.Level == scope.Team && v.Team == "*":
		return errors.New("a team's id cannot be *: name the team")
	case v.Level == scope.Private && v.Owner == "":
		return errors.New("private needs an owner")
	}
	return nil
}

func (v Visibility) audience() policy.Audience {
	switch v.Level {
	case scope.Team:
		return policy.Audience{Team: v.Team}
	case scope.Private:
		return policy.Audience{Owner: v.Owner}
	default:
		return policy.Audience{}
	}
}

// CompilePolicy compiles the roles with what belongs to teams and what is not for
// everybody. An error about a role is a [policy.Error], and one about teams or
// visibility a [policy.ObjectError].
func (h *Handler) CompilePolicy() (*policy.Policy, error) {
	config := policy.Config{Roles: h.Roles, Teams: make(map[string][]string), Visibility: make(map[string]policy.Audience)}
	for _, team := range slices.Sorted(maps.Keys(h.Teams)) {
		for _, object := range h.Teams[team] {
			if err := h.checkServer(object); err != nil {
				return nil, &policy.ObjectError{Team: team, Object: object, Reason: err.Error()}
			}
		}
		config.Teams[team] = slices.Clone(h.Teams[team])
	}
	for _, object := range slices.Sorted(maps.Keys(h.Visibility)) {
		visibility := h.Visibility[object]
		if err := h.checkVisibility(object, visibility); err != nil {
			return nil, &policy.ObjectError{Object: object, Reason: err.Error()}
		}
		if strings.Contains(object, "/") {
			config.Visibility[object] = visibility.audience()
		}
		// What only a team sees belongs to it.
		if team := visibility.audience().Team; team != "" {
			config.Teams[team] = append(config.Teams[team], object)
		}
	}
	return config.Compile()
}

func (h *Handler) checkVisibility(object string, visibility Visibility) error {
	if err := h.checkServer(object); err != nil {
		return err
	}
	if err := visibility.check(); err != nil {
		return err
	}
	server, _, isObject := strings.Cut(object, "/")
	if of, ok := h.Visibility[server]; ok && isObject && visibility.Level == scope.Public && of.audience() != (policy.Audience{}) {
		return fmt.Errorf("public makes no exception from %s, which is not public: who sees an object must see its server", server)
	}
	return nil
}

// checkServer refuses what is on a server that there is not.
func (h *Handler) checkServer(object string) error {
	server, _, _ := strings.Cut(object, "/")
	if strings.Contains(server, "*") || slices.Contains(h.Servers, server) {
		return nil // that stars do not stand for servers here, the policy says
	}
	return fmt.Errorf("there is no server %q: there are %s", server, strings.Join(h.Servers, ", "))
}

// provisionVisibility completes the endpoints with who sees their servers.
func (h *Handler) provisionVisibility() {
	for _, e := range h.endpoints {
		e.visibility = Visibility{Level: scope.Public}
		if given, ok := h.Visibility[e.server]; ok {
			e.visibility = given
		}
	}
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
		ClientIP:   clientAddress(r),
		Now:        now,
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
	c.logBeyond(refused.Cause)
	f := refuse(refused.Status, mcp.CodeForbidden, refused.Reason, "this is beyond the access token")
	f.ID = id
	if refused.RetryAfter > 0 {
		f.retryAfter = seconds(refused.RetryAfter)
	}
	return f
}

func (c *Call) logBeyond(cause scope.Cause) {
	c.logger.Info("beyond the token", zap.String("cause", string(cause)), zap.String("server", c.Server),
		zap.String("issuer", c.Principal.Issuer), zap.String("token", c.Principal.TokenID))
}
