package mcpadmin

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

// basicChallenge asks for an address and a password (RFC 7617 section 2).
const basicChallenge = `Basic realm="MCP gateway", charset="UTF-8"`

// basicError is why somebody was not let in where basic authentication is possible, so
// that a browser asks for an address and a password.
type basicError struct{ err error }

func (e *basicError) Error() string { return e.err.Error() }
func (e *basicError) Unwrap() error { return e.err }

var (
	errBasicDisabled = &refusal{
		status: http.StatusUnauthorized, reason: "basic_disabled",
		message: "Basic authentication is disabled for API endpoints. Use JWT or API tokens instead.",
	}
	errDocsBasicDisabled = &refusal{
		status: http.StatusUnauthorized, reason: "basic_disabled",
		message: "Basic authentication is disabled for the documentation. Use a session token instead.",
	}
	errBasicMalformed = &refusal{status: http.StatusUnauthorized, reason: "basic_malformed", message: "the basic credentials must be an address, a colon and a password, in Base64"}
)

// usesBasic reports whether a request is sent with an address and a password (RFC 7617).
func usesBasic(r *http.Request) bool {
	given := r.Header["Authorization"]
	if len(given) == 0 {
		return false
	}
	scheme, _, _ := strings.Cut(given[0], " ")
	return strings.EqualFold(scheme, "Basic")
}

// identify finds out who sends a request that may come with a session token or, where that
// is switched on, with an address and a password. Who comes with these has no session:
// the visitor's Session and Claims are empty.
func (h *Handler) identify(r *http.Request) (*login.Visitor, error) {
	return h.sessionOrBasic(r, h.APIBasicAuth, errBasicDisabled)
}

// reader does the same for who wants to read about the API, which can be had with API
// tokens, too. A token that is bound to a server is not bound by that here.
func (h *Handler) reader(r *http.Request) error {
	_, err := h.sessionOrBasic(r, h.DocsBasicAuth, errDocsBasicDisabled)
	if errors.Is(err, login.ErrNotSession) && !usesBasic(r) {
		err = offerBasic(h.DocsBasicAuth, h.apiToken(r))
	}
	return err
}

// apiToken refuses a request unless it has a good API token.
func (h *Handler) apiToken(r *http.Request) error {
	raw, refused := mcpauth.Bearer(r)
	if refused != nil {
		return &refusal{status: refused.Status, reason: refused.Reason, message: refused.Message}
	}
	claims, err := h.desk.Verify(r.Context(), raw)
	if err != nil {
		return err
	}
	if refused, again := h.app.CheckServerless(r, claims); refused != nil {
		return &refusal{status: refused.Status, reason: refused.Reason, message: refused.Message, retryAfter: again}
	}
	return nil
}

func (h *Handler) sessionOrBasic(r *http.Request, on bool, disabled error) (*login.Visitor, error) {
	var v *login.Visitor
	var err error
	switch {
	case !usesBasic(r):
		v, err = h.visitor(r)
	case !on:
		return nil, disabled
	default:
		v, err = h.basic(r)
	}
	return v, offerBasic(on, err)
}

// offerBasic has an answer with an error say that there is basic authentication, if there
// is.
func offerBasic(on bool, err error) error {
	if on && err != nil {
		return &basicError{err}
	}
	return err
}

// basic finds out whose address and password a request is sent with, in the one way in
// which passwords are checked: a request is a login, and counts like one. Nothing is
// remembered of it.
func (h *Handler) basic(r *http.Request) (*login.Visitor, error) {
	if _, refused := mcpauth.Bearer(r); refused != nil {
		return nil, &refusal{status: refused.Status, reason: refused.Reason, message: refused.Message}
	}
	email, password, ok := r.BasicAuth()
	if !ok || email == "" || password == "" {
		return nil, errBasicMalformed
	}
	// The page of another site could have a browser send a password that it remembers.
	if h.origins.Check(r) != nil {
		return nil, errForeignOrigin
	}
	if err := h.limit(r); err != nil {
		return nil, err
	}
	proof, err := h.desk.Accounts().Authenticate(r.Context(), email, password, clientIP(r))
	if err != nil {
		return nil, err
	}
	if proof.MustChange {
		return nil, login.ErrMustChange
	}
	return &login.Visitor{User: proof.User()}, nil
}
