package mcpadmin

import (
	"context"
	"net/http"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

var userDuties = []duty{
	{
		method: http.MethodGet, path: "/users", summary: "Lists the users, by their addresses", query: paging,
		answer: userList{}, status: http.StatusOK, do: listUsers,
	},
	{
		method: http.MethodPost, path: "/users", summary: "Makes a user",
		body: newUser{}, answer: account.User{}, status: http.StatusCreated, do: createUser,
	},
	{
		method: http.MethodGet, path: "/users/{email}", summary: "Tells of a user, with teams and roles",
		answer: userDetails{}, status: http.StatusOK, do: showUser,
	},
	{
		method: http.MethodPatch, path: "/users/{email}", summary: "Changes a user",
		body: userUpdate{}, answer: account.User{}, status: http.StatusOK, do: updateUser,
	},
	{
		method: http.MethodDelete, path: "/users/{email}", summary: "Ends a user, with all sessions and tokens",
		status: http.StatusNoContent, do: deleteUser,
	},
	{
		method: http.MethodPut, path: "/users/{email}/password", summary: "Sets a password, which has to be changed at the next login, and ends all sessions",
		body: newPassword{}, status: http.StatusNoContent, do: setPassword,
	},
	{
		method: http.MethodGet, path: "/users/{email}/sessions", summary: "Lists the interactive sessions of a user",
		answer: loginList{}, status: http.StatusOK, do: listSessions,
	},
	{
		method: http.MethodDelete, path: "/users/{email}/sessions", summary: "Ends all interactive sessions of a user",
		status: http.StatusNoContent, do: endSessions,
	},
	{
		method: http.MethodDelete, path: "/users/{email}/sessions/{session}", summary: "Ends an interactive session of a user",
		status: http.StatusNoContent, do: endSession,
	},
	{
		method: http.MethodDelete, path: "/users/{email}/tokens", summary: "Revokes all tokens of a user that were issued until now, API tokens included, and ends all sessions",
		status: http.StatusNoContent, do: revokeTokens,
	},
}

// userList is a part of the list of users.
type userList struct {
	Users []account.User `json:"users"`
	// NextOffset is where the next part begins; it is left out after the last one.
	NextOffset int `json:"next_offset,omitzero"`
}

// newUser is a user to be. Without a password nobody can log in until one is set; with
// one, it has to be changed at the first login.
type newUser struct {
	Email    text `json:"email"`
	FullName text `json:"full_name,omitzero"`
	Password text `json:"password,omitzero"`
	Admin    bool `json:"is_admin,omitzero"`
	// Active is true unless it is said otherwise.
	Active *bool `json:"is_active,omitzero"`
}

// userDetails is a user with all that belongs to it.
type userDetails struct {
	User  account.User         `json:"user"`
	Teams []account.Membership `json:"teams"`
	Roles []account.Assignment `json:"roles"`
}

// userUpdate is what is to be changed of a user; what is left out stays.
type userUpdate struct {
	FullName *string `json:"full_name,omitzero"`
	// Admin ends the user's sessions when it is false.
	Admin *bool `json:"is_admin,omitzero"`
	// Active ends the user's sessions and tokens when it is false.
	Active *bool `json:"is_active,omitzero"`
}

// newPassword is a password.
type newPassword struct {
	Password text `json:"password"`
}

// loginList is all interactive sessions of a user.
type loginList struct {
	Sessions []login.Session `json:"sessions"`
}

// user is the one in the path.
func (e *errand) user(ctx context.Context) (*login.Desk, account.User, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, account.User{}, err
	}
	user, err := desk.Accounts().User(ctx, e.value("email"))
	return desk, user, err
}

func listUsers(ctx context.Context, e *errand) (any, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	users, next, err := list(e, func(after string, limit int) ([]account.User, string, error) {
		return desk.Accounts().Users(ctx, after, limit)
	})
	return userList{users, next}, err
}

func createUser(ctx context.Context, e *errand) (any, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	var body newUser
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"email": body.Email}); err != nil {
		return nil, err
	}
	return desk.Accounts().Create(ctx, e.by, account.NewUser{
		Email: string(body.Email), FullName: string(body.FullName), Password: string(body.Password), MustChange: true,
		Admin: body.Admin, Active: body.Active == nil || *body.Active,
	})
}

func showUser(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	teams, err := desk.Accounts().TeamsOf(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	for i := range teams {
		teams[i].Email = user.Email
	}
	roles, err := desk.Accounts().Assignments(ctx, user.ID)
	return userDetails{user, teams, roles}, err
}

func updateUser(ctx context.Context, e *errand) (any, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	var body userUpdate
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if body == (userUpdate{}) {
		return nil, &refusal{status: http.StatusBadRequest, reason: "member_missing", message: "the body needs something to change: full_name, is_admin or is_active"}
	}
	user, err := desk.Update(ctx, e.by, e.value("email"), account.Update(body))
	if err != nil {
		return nil, err
	}
	if body.Admin != nil && !*body.Admin {
		// Their tokens say that they are an administrator's. If this fails, it can be
		// tried again.
		err = desk.EndAll(ctx, e.by, user)
	}
	return user, err
}

func deleteUser(ctx context.Context, e *errand) (any, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	return nil, desk.Delete(ctx, e.by, e.value("email"))
}

// errOwnPassword keeps who has found an administrator's session from having the account
// for good.
var errOwnPassword = &refusal{status: http.StatusBadRequest, reason: "own_account", message: "one's own password is changed at /auth/password, which asks for the present one"}

func setPassword(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	if user.ID == e.by.ID {
		return nil, errOwnPassword
	}
	var body newPassword
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"password": body.Password}); err != nil {
		return nil, err
	}
	return nil, desk.SetPassword(ctx, e.by, user.Email, string(body.Password))
}

func listSessions(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	sessions, err := desk.Sessions(ctx, user.ID)
	return loginList{sessions}, err
}

func endSessions(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	return nil, desk.EndAll(ctx, e.by, user)
}

func endSession(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	return nil, desk.End(ctx, e.by, user.ID, e.value("session"))
}

func revokeTokens(ctx context.Context, e *errand) (any, error) {
	desk, user, err := e.user(ctx)
	if err != nil {
		return nil, err
	}
	if err := desk.EndAll(ctx, e.by, user); err != nil {
		return nil, err
	}
	return nil, desk.EndTokens(ctx, e.by, user, time.Now())
}
