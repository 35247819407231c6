package mcpadmin

import (
	"context"
	"net/http"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
)

var tokenDuties = []duty{
	{
		method: http.MethodGet, path: "/tokens", summary: "Lists the API tokens of all users, or of one", query: []string{"user_email", "after", "limit"},
		answer: catalogue.AllPage{}, status: http.StatusOK, refusals: []int{http.StatusNotFound}, do: listAllTokens,
	},
	{
		method: http.MethodPost, path: "/tokens", summary: "Makes an API token for a user",
		body: newToken{}, answer: TokenMade{}, status: http.StatusCreated, refusals: []int{http.StatusNotFound, http.StatusUnprocessableEntity}, do: createUserToken,
	},
	{
		method: http.MethodGet, path: "/tokens/{id}", summary: "Tells what is known of an API token",
		answer: catalogue.Token{}, status: http.StatusOK, do: showToken,
	},
	{
		method: http.MethodPut, path: "/tokens/{id}", summary: "Changes an API token, which holds for it at once",
		body: TokenUpdate{}, answer: catalogue.Token{}, status: http.StatusOK, refusals: []int{http.StatusUnprocessableEntity}, do: changeToken,
	},
	{
		method: http.MethodDelete, path: "/tokens/{id}", summary: "Revokes an API token for good",
		body: TokenRevocation{}, optional: true, status: http.StatusNoContent, do: revokeUserToken,
	},
	{
		method: http.MethodGet, path: "/tokens/{id}/usage", summary: "Tells how an API token was used in the last days", query: []string{"days"},
		answer: catalogue.Statistics{}, status: http.StatusOK, do: showUsage,
	},
}

// newToken is an API token to be, for a user.
type newToken struct {
	// The address of the user that it is for, who must be active. Required.
	UserEmail text `json:"user_email"`
	// What people call it, up to 255 characters, unique among the active tokens of its
	// user in its team. Required.
	Name text `json:"name"`
	// Up to 1000 characters.
	Description text `json:"description,omitzero"`
	// For how many days it is good, from 1 to the longest life of a token. Required.
	ExpiresInDays int64 `json:"expires_in_days"`
	// What it is restricted to. Left out, the roles of its user alone bound it; they
	// do in any case.
	Scope *catalogue.Scope `json:"scope,omitzero"`
	// Up to 50 words to find it by.
	Tags []text `json:"tags,omitzero"`
	// The team whose objects it sees, of which the user is a member. Left out, it is
	// a personal token.
	TeamID text `json:"team_id,omitzero"`
	// Whether it can be used at once. Default: true.
	IsActive *bool `json:"is_active,omitzero"`
}

// office is where the tokens of all are looked after.
func (e *errand) office() (catalogue.Office, error) {
	if tokens := e.app.Catalogue(); tokens != nil {
		return tokens.Office(e.by), nil
	}
	return catalogue.Office{}, errNoAccounts
}

func listAllTokens(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	limit, err := e.number("limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return nil, err
	}
	return office.List(ctx, e.query.Get("user_email"), e.query.Get("after"), limit)
}

func createUserToken(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	var body newToken
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"user_email": body.UserEmail, "name": body.Name}); err != nil {
		return nil, err
	}
	n := catalogue.NewToken{
		User: string(body.UserEmail), Name: string(body.Name), Description: string(body.Description), Days: body.ExpiresInDays,
		Tags: unwrap(body.Tags), Team: (*string)(&body.TeamID), Active: body.IsActive == nil || *body.IsActive,
	}
	if body.Scope != nil {
		n.Scope = *body.Scope
	}
	made, raw, err := office.Create(ctx, n)
	return TokenMade{made, raw}, err
}

func showToken(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	return office.Get(ctx, e.value("id"))
}

func changeToken(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	var body TokenUpdate
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if body == (TokenUpdate{}) {
		return nil, &refusal{status: http.StatusBadRequest, reason: "member_missing", message: "the body needs something to change: name, description, scope, tags or is_active"}
	}
	u := catalogue.Update{Name: (*string)(body.Name), Description: (*string)(body.Description), Scope: body.Scope, Active: body.IsActive}
	if body.Tags != nil {
		tags := unwrap(*body.Tags)
		u.Tags = &tags
	}
	return office.Update(ctx, e.value("id"), u)
}

func revokeUserToken(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	var body TokenRevocation
	if e.r.ContentLength != 0 {
		if err := e.read(&body); err != nil {
			return nil, err
		}
	}
	reason := ""
	if body.Reason != nil {
		reason = string(*body.Reason)
	}
	return nil, office.Revoke(ctx, e.value("id"), reason)
}

func showUsage(ctx context.Context, e *errand) (any, error) {
	office, err := e.office()
	if err != nil {
		return nil, err
	}
	days, err := e.number("days", 30, 1, catalogue.MaxUsageDays)
	if err != nil {
		return nil, err
	}
	return office.Usage(ctx, e.value("id"), days)
}
