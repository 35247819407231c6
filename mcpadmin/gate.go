package mcpadmin

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// routeAdministration switches /admin/ on.
func (h *Handler) routeAdministration() (err error) {
	if h.AdminTrustedHeader != nil {
		if h.peers, err = h.AdminTrustedHeader.Compile(); err != nil {
			return err
		}
	}
	for _, d := range duties() {
		h.add(d.operation("/admin", h.enter))
	}
	return nil
}

func (h *Handler) enter(r *http.Request) (*errand, error) {
	user, err := h.administrator(r)
	if err != nil {
		return nil, err
	}
	return &errand{by: account.By(user, clientIP(r)), app: h.app, logger: h.logger}, nil
}

var (
	errCredentials   = &refusal{status: http.StatusUnauthorized, reason: "token_missing", message: "Authentication required"}
	errSeveral       = &refusal{status: http.StatusBadRequest, reason: "credentials_several", message: "there is more than one credential in this request"}
	errUserGone      = &refusal{status: http.StatusUnauthorized, reason: "user_unknown", message: "User not found"}
	errDisabled      = &refusal{status: http.StatusForbidden, reason: "account_disabled", message: "Account is disabled"}
	errNotAdmin      = &refusal{status: http.StatusForbidden, reason: "admin_required", message: "Admin privileges required"}
	errPublicOnly    = &refusal{status: http.StatusForbidden, reason: "token_public_only", message: "Admin privileges required; this token sees only what is public"}
	errServerScoped  = &refusal{status: http.StatusForbidden, reason: "token_server_scoped", message: "Admin privileges required; this token is bound to a server"}
	errNarrowed      = &refusal{status: http.StatusForbidden, reason: "token_narrowed", message: "Admin privileges required; this token is bound to teams, refresh it or log in again"}
	errForeignOrigin = &refusal{status: http.StatusForbidden, reason: "origin_forbidden", message: "a page of another site cannot change anything here"}
)

// administrator is the one place that decides who gets to /admin/. That is who sends the
// token of an interactive session or, where that is switched on, an address and its
// password, or whom a trusted proxy names; whose account is there, active, and an
// administrator's by now, whatever a token says; and whose token was not revoked and does
// not bound what it reaches. API tokens are refused, whoever they are of, since they are
// made to be handed out.
//
// There are no cookies. But a proxy that names people may know them by one, and browsers
// remember passwords, so that pages of other sites must not have them send changes here.
func (h *Handler) administrator(r *http.Request) (account.User, error) {
	if h.origins.Check(r) != nil {
		return account.User{}, errForeignOrigin
	}
	named, refused := h.peers.Named(r)
	if refused != nil {
		return account.User{}, &refusal{status: refused.Status, reason: refused.Reason, message: refused.Message}
	}
	authorized := len(r.Header["Authorization"]) > 0
	switch {
	case named != "" && authorized:
		return account.User{}, errSeveral
	case named != "":
		return h.named(r, named)
	case !authorized && !r.URL.Query().Has("access_token"):
		return account.User{}, offerBasic(h.APIBasicAuth, errCredentials)
	}
	v, err := h.identify(r)
	if err != nil {
		return account.User{}, err
	}
	if err := administers(v.User); err != nil {
		return account.User{}, err
	}
	if v.Claims == nil { // a password is for all that the account may do
		return v.User, nil
	}
	return v.User, unbounded(v.Claims)
}

// named returns the administrator whom a trusted proxy names.
func (h *Handler) named(r *http.Request, email string) (account.User, error) {
	user, err := h.desk.Accounts().User(r.Context(), email)
	var unknown *account.Error
	if errors.As(err, &unknown) && unknown.Kind == account.Unknown {
		return account.User{}, errUserGone
	}
	if err != nil {
		return account.User{}, err
	}
	// Without a token, it is as if one were issued now. The proxy may write the address
	// in another way than who has revoked it.
	for _, subject := range []string{email, user.Email} {
		if err := h.check(revocation.Token{Issuer: mcpauth.IssuerTrustedHeader, Subject: subject, IssuedAt: time.Now()}); err != nil {
			return account.User{}, err
		}
	}
	return user, administers(user)
}

// administers refuses whoever is not an administrator now.
func administers(user account.User) error {
	switch {
	case !user.Active:
		return errDisabled
	case !user.Admin:
		return errNotAdmin
	}
	return nil
}

// unbounded refuses a token of an administrator that bounds what it reaches. That of an
// administrator's session does not; one from before somebody became an administrator
// does, until it is refreshed.
func unbounded(claims *token.Claims) error {
	reach, refused := claims.Scope.ForAccount(scope.Account{Admin: true})
	teams, _ := claims.Lookup("teams")
	named, listed := teams.([]any)
	switch {
	case refused != nil:
		return errNarrowed
	case reach.ServerScoped():
		return errServerScoped
	case reach.PublicOnly() || listed && len(named) == 0:
		return errPublicOnly
	case !reach.Unrestricted():
		return errNarrowed
	}
	return nil
}
