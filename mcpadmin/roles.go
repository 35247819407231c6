package mcpadmin

import (
	"context"
	"net/http"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

var roleDuties = []duty{
	{
		method: http.MethodGet, path: "/roles", summary: "Names the roles of the running configuration, and those that make a difference when they are assigned",
		answer: mcpauth.RoleNames{}, status: http.StatusOK, do: listRoles,
	},
	{
		method: http.MethodGet, path: "/users/{email}/roles", summary: "Lists the roles of a user that have not expired",
		answer: roleList{}, status: http.StatusOK, do: listAssignments,
	},
	{
		method: http.MethodPost, path: "/users/{email}/roles", summary: "Assigns a role to a user, or changes how the user has it",
		body: newRole{}, answer: roleList{}, status: http.StatusOK, do: assignRole,
	},
	{
		method: http.MethodDelete, path: "/users/{email}/roles/{role}", summary: "Takes a role from a user: everywhere, or in the team of the query", query: []string{"team_id"},
		status: http.StatusNoContent, do: unassignRole,
	},
}

// roleList is all roles of a user.
type roleList struct {
	Roles []account.Assignment `json:"roles"`
}

// newRole is a role to be assigned.
type newRole struct {
	Role text `json:"role"`
	// Team is where the role is had; left out, it is everywhere.
	Team text `json:"team_id,omitzero"`
	// Expires is when the assignment ends; left out, it does not.
	Expires time.Time `json:"expires_at,omitzero"`
	// Active is true unless it is said otherwise. What is not gives nothing.
	Active *bool `json:"is_active,omitzero"`
}

func listRoles(_ context.Context, e *errand) (any, error) { return e.app.RoleNames(), nil }

func listAssignments(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	roles, err := desk.Accounts().Assignments(ctx, user.ID)
	return roleList{roles}, err
}

func assignRole(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	var body newRole
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"role": body.Role}); err != nil {
		return nil, err
	}
	err = desk.Accounts().Assign(ctx, e.by, user.Email, account.Assignment{
		Role: string(body.Role), Team: string(body.Team), Expires: body.Expires, Active: body.Active == nil || *body.Active,
	})
	if err != nil {
		return nil, err
	}
	return listAssignments(ctx, e)
}

func unassignRole(ctx context.Context, e *errand) (any, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	return nil, desk.Accounts().Unassign(ctx, e.by, e.value("email"), e.value("role"), e.query.Get("team_id"))
}
