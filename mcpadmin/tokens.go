package mcpadmin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

// routeTokens switches /tokens on.
func (h *Handler) routeTokens() {
	changing := []int{http.StatusUnprocessableEntity}
	making := []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	for _, o := range []operation{
		{method: http.MethodPost, path: "/tokens", summary: "Makes an API token", body: TokenRequest{}, answer: TokenMade{}, status: http.StatusCreated, refusals: making, act: h.createToken},
		{method: http.MethodGet, path: "/tokens", summary: "Lists one's own tokens and those of one's teams", query: tokenFilter{}, answer: catalogue.Page{}, status: http.StatusOK, act: h.listTokens},
		{method: http.MethodGet, path: "/tokens/{id}", summary: "Tells what is known of a token", answer: catalogue.Token{}, status: http.StatusOK, act: h.getToken},
		{method: http.MethodPut, path: "/tokens/{id}", summary: "Changes a token, which holds for it at once", body: TokenUpdate{}, answer: catalogue.Token{}, status: http.StatusOK, refusals: changing, act: h.updateToken},
		{method: http.MethodDelete, path: "/tokens/{id}", summary: "Revokes a token for good", body: TokenRevocation{}, optional: true, status: http.StatusNoContent, act: h.revokeToken},
		{method: http.MethodPost, path: "/tokens/teams/{team_id}", summary: "Makes an API token for a team", body: TokenRequest{}, answer: TokenMade{}, status: http.StatusCreated, refusals: making, act: h.createToken},
		{method: http.MethodGet, path: "/tokens/teams/{team_id}", summary: "Lists the tokens of a team", query: tokenFilter{}, answer: catalogue.Page{}, status: http.StatusOK, act: h.listTeamTokens},
		{method: http.MethodGet, path: "/tokens/admin/all", summary: "Lists all tokens, for administrators", query: allFilter{}, answer: catalogue.AllPage{}, status: http.StatusOK, refusals: []int{http.StatusNotFound}, act: h.allTokens},
		{method: http.MethodDelete, path: "/tokens/admin/{id}", summary: "Revokes anybody's token, for administrators", body: TokenRevocation{}, optional: true, status: http.StatusNoContent, act: h.revokeAnyToken},
		// Last of all: teams may have any name.
		{method: http.MethodGet, path: "/tokens/{id}/usage", summary: "Tells how a token was used in the last days", query: usagePeriod{}, answer: catalogue.Statistics{}, status: http.StatusOK, act: h.tokenUsage},
	} {
		h.add(o)
	}
}

// tokenFilter says which tokens are listed.
type tokenFilter struct {
	// How many at most.
	Limit int `json:"limit,omitzero"`
	// How many of them are skipped, from the first one on.
	Offset int `json:"offset,omitzero"`
	// Whether those are listed that cannot be used. Default: false.
	Inactive bool `json:"include_inactive,omitzero"`
}

// allFilter says which of all tokens are listed.
type allFilter struct {
	// How many at most.
	Limit int `json:"limit,omitzero"`
	// The address of the user whose tokens they are. Left out, everybody's.
	User string `json:"user_email,omitzero"`
	// The next of the list before, which this one continues.
	After string `json:"after,omitzero"`
}

// usagePeriod says for which time the use of a token is told.
type usagePeriod struct {
	// For how many days, this one included. Default: 30.
	Days int `json:"days,omitzero"`
}

// TokenRequest is an API token to be.
type TokenRequest struct {
	// What people call it, up to 255 characters, unique among the active tokens of its
	// user in its team. Required.
	Name text `json:"name"`
	// Up to 1000 characters.
	Description *text `json:"description,omitzero"`
	// For how many days it is good, from 1 to the longest life of a token. Required.
	ExpiresInDays *int64 `json:"expires_in_days"`
	// What it is restricted to. Left out, the roles of its user alone bound it.
	Scope *catalogue.Scope `json:"scope,omitzero"`
	// Up to 50 words to find it by.
	Tags []text `json:"tags,omitzero"`
	// The team whose objects it sees. Left out, it is the team of the session, if that
	// is for one only; null is none, which makes a personal token.
	TeamID *text `json:"team_id,omitzero"`
	// Whether it can be used at once. Default: true.
	IsActive *bool `json:"is_active,omitzero"`
	// For an administrator: the address of the user that it is for. Default: one's own.
	UserEmail *text `json:"user_email,omitzero"`
}

// TokenMade is a new API token.
type TokenMade struct {
	// What is known of it from now on.
	Token catalogue.Token `json:"token"`
	// The token itself, to be sent as a bearer token. It cannot be had again.
	AccessToken string `json:"access_token"`
}

// TokenUpdate is what is to be changed of a token. What is left out stays as it is; null
// is refused, because it could mean that as well as the contrary.
type TokenUpdate struct {
	// Another name.
	Name *text `json:"name,omitzero"`
	// Another description; empty for none.
	Description *text `json:"description,omitzero"`
	// Another scope, instead of the whole scope before. It cannot permit more than the
	// token was made for.
	Scope *catalogue.Scope `json:"scope,omitzero"`
	// Other tags; an empty list for none.
	Tags *[]text `json:"tags,omitzero"`
	// Whether it can be used.
	IsActive *bool `json:"is_active,omitzero"`
}

// TokenRevocation says why a token is revoked. The whole body may be left out.
type TokenRevocation struct {
	// Up to 255 characters.
	Reason *text `json:"reason,omitzero"`
}

var (
	errMethodUnknown = &refusal{
		status: http.StatusForbidden, reason: "auth_method_unknown",
		message: "Token management requires authentication. Authentication method could not be determined.",
	}
	errAnonymous = &refusal{
		status: http.StatusForbidden, reason: "auth_anonymous",
		message: "Token management requires authentication. Anonymous access is not permitted.",
	}
	errNotInteractive = &refusal{
		status: http.StatusForbidden, reason: "session_required",
		message: "Token management requires an interactive session (JWT from web login or SSO). API tokens cannot create, list, or revoke other tokens.",
	}
)

// caller finds out who manages tokens, which is for interactive sessions only: a token
// must not be able to make others. Who sends a header without a credential in it says to
// be nobody; who sends one of another kind, or a token of neither kind, cannot be told.
func (h *Handler) caller(r *http.Request) (catalogue.Caller, error) {
	if given := r.Header["Authorization"]; len(given) == 1 {
		scheme, credential, _ := strings.Cut(given[0], " ")
		switch {
		case scheme == "" || strings.EqualFold(scheme, "Bearer") && strings.Trim(credential, " ") == "":
			return catalogue.Caller{}, errAnonymous
		case !strings.EqualFold(scheme, "Bearer"):
			return catalogue.Caller{}, errMethodUnknown
		}
	}
	v, err := h.visitor(r)
	if errors.Is(err, login.ErrNotSession) {
		err = h.otherKind(r)
	}
	return catalogue.Caller{Visitor: v, Address: clientIP(r)}, err
}

// otherKind is the error for a good token that is not a session's.
func (h *Handler) otherKind(r *http.Request) error {
	_, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if use, err := h.desk.Use(r.Context(), strings.Trim(raw, " ")); err != nil || use != issue.UseAPI {
		return errMethodUnknown
	}
	return errNotInteractive
}

func (h *Handler) createToken(w http.ResponseWriter, r *http.Request) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	body, err := load(w, r, "application/json")
	if err != nil {
		return nil, err
	}
	null, err := nulls(body)
	if err != nil {
		return nil, err
	}
	var asked TokenRequest
	if err := decode(body, &asked); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"name": asked.Name}); err != nil {
		return nil, err
	}
	if asked.ExpiresInDays == nil {
		return nil, &refusal{status: http.StatusBadRequest, reason: "member_missing", message: "the body needs the member expires_in_days: every token ends some day"}
	}
	n := catalogue.NewToken{
		Name: string(asked.Name), Days: *asked.ExpiresInDays, Tags: unwrap(asked.Tags), Active: asked.IsActive == nil || *asked.IsActive,
		Team: (*string)(asked.TeamID),
	}
	if asked.Description != nil {
		n.Description = string(*asked.Description)
	}
	if asked.Scope != nil {
		n.Scope = *asked.Scope
	}
	if asked.UserEmail != nil {
		if n.User = string(*asked.UserEmail); n.User == "" {
			return nil, &refusal{status: http.StatusBadRequest, reason: "email_invalid", message: "user_email is empty; leave it out for a token of your own"}
		}
	}
	if null["team_id"] {
		n.Team = new(string)
	} else if n.Team != nil && *n.Team == "" {
		return nil, &refusal{status: http.StatusBadRequest, reason: "team_invalid", message: "team_id is empty; use null for a token of no team"}
	}
	if team := r.PathValue("team_id"); team != "" {
		if null["team_id"] || n.Team != nil && *n.Team != team {
			return nil, &refusal{status: http.StatusBadRequest, reason: "team_invalid", message: "team_id is another than that of the path"}
		}
		n.Team = &team
	}
	made, raw, err := h.tokens.Create(r.Context(), caller, n)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusCreated, TokenMade{made, raw}}, nil
}

func unwrap(texts []text) []string {
	list := make([]string, len(texts))
	for i, t := range texts {
		list[i] = string(t)
	}
	return list
}

func (h *Handler) updateToken(w http.ResponseWriter, r *http.Request) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	body, err := load(w, r, "application/json")
	if err != nil {
		return nil, err
	}
	null, err := nulls(body)
	if err != nil {
		return nil, err
	}
	if len(null) > 0 {
		return nil, &refusal{status: http.StatusBadRequest, reason: "member_null", message: "a member of the body is null; leave it out to have it stay as it is, or give what it is to be"}
	}
	var asked TokenUpdate
	if err := decode(body, &asked); err != nil {
		return nil, err
	}
	u := catalogue.Update{Name: (*string)(asked.Name), Description: (*string)(asked.Description), Scope: asked.Scope, Active: asked.IsActive}
	if asked.Tags != nil {
		tags := unwrap(*asked.Tags)
		u.Tags = &tags
	}
	changed, err := h.tokens.Update(r.Context(), caller, r.PathValue("id"), u)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, changed}, nil
}

func (h *Handler) listTokens(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	return h.list(r, func(caller catalogue.Caller, f catalogue.Filter) (any, error) {
		return h.tokens.List(r.Context(), caller, f)
	})
}

func (h *Handler) listTeamTokens(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	return h.list(r, func(caller catalogue.Caller, f catalogue.Filter) (any, error) {
		return h.tokens.ListTeam(r.Context(), caller, r.PathValue("team_id"), f)
	})
}

func (h *Handler) allTokens(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	return h.list(r, func(caller catalogue.Caller, f catalogue.Filter) (any, error) {
		query := r.URL.Query()
		return h.tokens.All(r.Context(), caller, query.Get("user_email"), query.Get("after"), f.Limit)
	})
}

// list reads what every list can be asked for.
func (h *Handler) list(r *http.Request, list func(catalogue.Caller, catalogue.Filter) (any, error)) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	var f catalogue.Filter
	if f.Limit, err = numberOf(r, "limit", 0); err != nil {
		return nil, err
	}
	if f.Offset, err = numberOf(r, "offset", 0); err != nil {
		return nil, err
	}
	switch inactive := r.URL.Query().Get("include_inactive"); inactive {
	case "", "false":
	case "true":
		f.Inactive = true
	default:
		return nil, &refusal{status: http.StatusBadRequest, reason: "query_invalid", message: "include_inactive is true or false"}
	}
	listed, err := list(caller, f)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, listed}, nil
}

// numberOf reads a number from the query.
func numberOf(r *http.Request, name string, otherwise int) (int, error) {
	given := r.URL.Query().Get(name)
	if given == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(given, 10, 32)
	if err != nil {
		return 0, &refusal{status: http.StatusBadRequest, reason: "query_invalid", message: name + " is a number"}
	}
	return int(n), nil
}

func (h *Handler) getToken(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	found, err := h.tokens.Get(r.Context(), caller, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, found}, nil
}

func (h *Handler) tokenUsage(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	days, err := numberOf(r, "days", 30)
	if err != nil {
		return nil, err
	}
	stats, err := h.tokens.Usage(r.Context(), caller, r.PathValue("id"), days)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, stats}, nil
}

func (h *Handler) revokeToken(w http.ResponseWriter, r *http.Request) (*answer, error) {
	return h.revoke(w, r, h.tokens.Revoke)
}

func (h *Handler) revokeAnyToken(w http.ResponseWriter, r *http.Request) (*answer, error) {
	return h.revoke(w, r, h.tokens.RevokeAny)
}

func (h *Handler) revoke(w http.ResponseWriter, r *http.Request, revoke func(context.Context, catalogue.Caller, string, string) error) (*answer, error) {
	caller, err := h.caller(r)
	if err != nil {
		return nil, err
	}
	var asked TokenRevocation
	if r.ContentLength != 0 {
		if err := read(w, r, &asked); err != nil {
			return nil, err
		}
	}
	reason := ""
	if asked.Reason != nil {
		reason = string(*asked.Reason)
	}
	if err := revoke(r.Context(), caller, r.PathValue("id"), reason); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}
