package mcpadmin

import (
	"net/http"
	"net/url"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// revokePath is the endpoint of RFC 7009.
const revokePath = "/oauth/revoke"

// routeOAuth switches /oauth/revoke on.
func (h *Handler) routeOAuth() {
	h.add(operation{
		method: http.MethodPost, path: revokePath, status: http.StatusOK, act: h.revokeHeld,
		summary: "Revokes a token of the gateway's that the sender has (RFC 7009)", body: RevocationForm{},
		access: needsNothing, form: true, refusals: []int{http.StatusTooManyRequests}, failures: map[int]any{http.StatusBadRequest: oauthError{}},
	})
}

// RevocationForm is a request to end a token, as an HTML form sends one
// (application/x-www-form-urlencoded). A session or refresh token ends its session, an
// API token only itself.
type RevocationForm struct {
	// The token.
	Token string `json:"token"`
	// What it is, access_token or refresh_token. It is not needed, and not looked at.
	TokenTypeHint string `json:"token_type_hint,omitzero"`
}

// oauthError is an error as OAuth has it (RFC 6749 section 5.2).
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// revokeHeld ends a token that is shown to it. Nobody has to say who they are: clients
// of the gateway's tokens have no secret of their own, and who has a token could use it.
// What is no good token of the gateway's is answered as if it had been one (RFC 7009
// section 2.2), so that nobody learns anything here.
func (h *Handler) revokeHeld(w http.ResponseWriter, r *http.Request) (*answer, error) {
	body, err := load(w, r, "application/x-www-form-urlencoded")
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["token"]) != 1 || form.Get("token") == "" || len(form["token_type_hint"]) > 1 {
		return &answer{http.StatusBadRequest, oauthError{"invalid_request", "the form needs exactly one token"}}, nil
	}
	if err := h.limitTo(r, "revoke_rate", "too many tokens were revoked from here; wait"); err != nil {
		return nil, err
	}
	claims, err := h.desk.Revoke(r.Context(), form.Get("token"), clientIP(r))
	if err == nil && claims != nil {
		by := account.Actor{Name: "holder of the token", Address: clientIP(r)}
		err = h.tokens.RevokeHeld(r.Context(), by, claims.TokenID, claims.Expires)
	}
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK}, nil
}
