package mcpadmin

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// routeLogin switches /auth/ on.
func (h *Handler) routeLogin() {
	h.add(operation{
		method: http.MethodPost, path: "/auth/login", summary: "Begins a session with a password", access: needsNothing,
		body: credentials{}, answer: granted{}, status: http.StatusOK, refusals: []int{401, 403, 429}, act: h.login,
	})
	h.add(operation{
		method: http.MethodPost, path: "/auth/refresh", summary: "Gives a session its next tokens", access: needsNothing,
		body: refreshing{}, answer: granted{}, status: http.StatusOK, refusals: []int{401, 403}, act: h.refresh,
	})
	h.add(operation{
		method: http.MethodPost, path: "/auth/logout", summary: "Ends the session", access: needsSession,
		answer: ended{}, status: http.StatusOK, act: h.logout,
	})
	h.add(operation{
		method: http.MethodGet, path: "/auth/me", summary: "Tells who the session is of", access: takesBasic,
		answer: profile{}, status: http.StatusOK, act: h.me,
	})
	h.add(operation{
		method: http.MethodPost, path: "/auth/password", summary: "Changes a password, and ends all sessions of its user", access: needsNothing,
		body: passwordChange{}, answer: done{}, status: http.StatusOK, refusals: []int{401, 403, 429}, act: h.password,
	})
	h.add(operation{
		method: http.MethodPost, path: "/auth/register", summary: "Makes an account, if registration is on", access: needsNothing,
		body: registration{}, answer: registered{}, status: http.StatusCreated, refusals: []int{403, 409, 429}, act: h.register,
	})
}

// credentials is the body of a login.
type credentials struct {
	// The address of the account, in upper or lower case.
	Email text `json:"email"`
	// Its password.
	Password text `json:"password"`
}

// refreshing is the body of a refresh.
type refreshing struct {
	// The last refresh token of the session; one that was used before ends the session.
	RefreshToken text `json:"refresh_token"`
}

// passwordChange is the body of a change of a password.
type passwordChange struct {
	// The address of the account.
	Email text `json:"email"`
	// Its present password.
	Password text `json:"password"`
	// The next one, which must satisfy the policy.
	NewPassword text `json:"new_password"`
}

// registration is the body of a registration.
type registration struct {
	// The address of the account to be; it is not verified.
	Email text `json:"email"`
	// Its password, which must satisfy the policy.
	Password text `json:"password"`
	// What the user is called.
	FullName text `json:"full_name,omitzero"`
}

// granted is the answer to a login and to a refresh (RFC 6749 section 5.1).
type granted struct {
	// The session token: for this API, and an access token for MCP servers.
	AccessToken string `json:"access_token"`
	// How it is sent: bearer.
	TokenType string `json:"token_type"`
	// For how long the session token is good, in seconds.
	ExpiresIn int64 `json:"expires_in"`
	// By which the next tokens are had, once.
	RefreshToken string `json:"refresh_token"`
	// For how long the refresh token is good, in seconds.
	RefreshExpiresIn int64 `json:"refresh_expires_in"`
	// Who has logged in.
	User account.User `json:"user"`
}

// ended is the answer to a logout.
type ended struct {
	// What was done, for people.
	Message string `json:"message"`
	// The id (jti) of the session token, which is not good any more.
	RevokedToken string `json:"revoked_token"`
}

// profile is who asks.
type profile struct {
	// The account.
	User account.User `json:"user"`
	// The teams that the user is of.
	Teams []account.Membership `json:"teams"`
	// The roles that the user was given.
	Roles []account.Assignment `json:"roles"`
	// The session; not there with basic authentication.
	Session string `json:"session_id,omitzero"`
	// How long the session token is good; not there with basic authentication.
	Expires time.Time `json:"token_expires_at,omitzero"`
}

// done is an answer that has nothing to tell.
type done struct {
	// What was done, for people.
	Message string `json:"message"`
}

// registered is the answer to a registration.
type registered struct {
	// The new account.
	User account.User `json:"user"`
}

func grant(g login.Grant) *answer {
	now := steady.Now()
	seconds := func(until time.Time) int64 { return max(int64(until.Sub(now)/time.Second), 0) }
	return &answer{http.StatusOK, granted{
		g.Access.Raw, "bearer", int64(g.Access.Expires.Sub(g.Access.Issued) / time.Second), g.Refresh, seconds(g.RefreshExpires), g.User,
	}}
}

func (h *Handler) login(w http.ResponseWriter, r *http.Request) (*answer, error) {
	var body credentials
	if err := read(w, r, &body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"email": body.Email, "password": body.Password}); err != nil {
		return nil, err
	}
	if err := h.limit(r); err != nil {
		return nil, err
	}
	g, err := h.desk.Login(r.Context(), string(body.Email), string(body.Password), clientIP(r))
	if err != nil {
		return nil, err
	}
	return grant(g), nil
}

func (h *Handler) refresh(w http.ResponseWriter, r *http.Request) (*answer, error) {
	var body refreshing
	if err := read(w, r, &body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"refresh_token": body.RefreshToken}); err != nil {
		return nil, err
	}
	g, err := h.desk.Refresh(r.Context(), string(body.RefreshToken), clientIP(r))
	if err != nil {
		return nil, err
	}
	return grant(g), nil
}

// visitor finds out who sends a request in an interactive session.
func (h *Handler) visitor(r *http.Request) (*login.Visitor, error) {
	raw, refused := mcpauth.Bearer(r)
	if refused != nil {
		return nil, &refusal{status: refused.Status, reason: refused.Reason, message: refused.Message}
	}
	if usesBasic(r) {
		if h.APIBasicAuth {
			return nil, login.ErrNotSession
		}
		return nil, errBasicDisabled
	}
	if raw == "" {
		return nil, &refusal{status: http.StatusUnauthorized, reason: "token_missing", message: "a session token is needed; log in"}
	}
	v, err := h.desk.Check(r.Context(), raw)
	if err != nil {
		return nil, err
	}
	return v, h.check(mcpauth.Revocable(v.Claims))
}

var (
	errRevoked        = &refusal{status: http.StatusUnauthorized, reason: "token_revoked", message: "the token was revoked; log in again"}
	errRevokedUnknown = &refusal{status: http.StatusServiceUnavailable, reason: "revocation_unknown", message: "it is not known whether the token was revoked; try again"}
)

// check refuses what was revoked, and everything while it is not known what was.
func (h *Handler) check(t revocation.Token) error {
	switch verdict := h.revocations.Check(&t, steady.Now()); {
	case verdict == revocation.Valid:
		return nil
	case verdict.Revoked():
		return errRevoked
	}
	return errRevokedUnknown
}

func (h *Handler) logout(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	v, err := h.visitor(r)
	if err != nil {
		return nil, err
	}
	if err := h.desk.Logout(r.Context(), v, clientIP(r)); err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, ended{"the session is over", v.Claims.TokenID}}, nil
}

func (h *Handler) me(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	v, err := h.identify(r)
	if err != nil {
		return nil, err
	}
	teams, err := h.desk.Accounts().TeamsOf(r.Context(), v.ID)
	if err != nil {
		return nil, err
	}
	for i := range teams {
		teams[i].Email = v.Email
	}
	roles, err := h.desk.Accounts().Assignments(r.Context(), v.ID)
	if err != nil {
		return nil, err
	}
	who := profile{User: v.User, Teams: teams, Roles: roles, Session: v.Session}
	if v.Claims != nil {
		who.Expires = v.Claims.Expires.UTC()
	}
	return &answer{http.StatusOK, who}, nil
}

// password changes a password. It takes the present one and no session, because who has
// to change it cannot have one; it is the same check as that of a login.
func (h *Handler) password(w http.ResponseWriter, r *http.Request) (*answer, error) {
	var body passwordChange
	if err := read(w, r, &body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"email": body.Email, "password": body.Password, "new_password": body.NewPassword}); err != nil {
		return nil, err
	}
	if len(r.Header["Authorization"]) > 0 {
		v, err := h.visitor(r)
		if err != nil {
			return nil, err
		}
		if email, err := account.Email(string(body.Email)); err != nil || email != v.Email {
			return nil, &refusal{status: http.StatusBadRequest, reason: "credentials_conflict", message: "the session is somebody else's"}
		}
	}
	if err := h.limit(r); err != nil {
		return nil, err
	}
	err := h.desk.ChangePassword(r.Context(), string(body.Email), string(body.Password), string(body.NewPassword), clientIP(r))
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, done{"the password was changed; log in with it"}}, nil
}

var errRegistration = &refusal{
	status: http.StatusForbidden, reason: "registration_off",
	message: "Public registration is disabled. Please contact an administrator to create an account.",
}

func (h *Handler) register(w http.ResponseWriter, r *http.Request) (*answer, error) {
	if !h.Registration {
		return nil, errRegistration
	}
	var body registration
	if err := read(w, r, &body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"email": body.Email, "password": body.Password}); err != nil {
		return nil, err
	}
	if err := h.limit(r); err != nil {
		return nil, err
	}
	by := account.Actor{Name: "registration", Address: clientIP(r)}
	user, err := h.desk.Accounts().Create(r.Context(), by, account.NewUser{
		Email: string(body.Email), FullName: string(body.FullName), Password: string(body.Password), Active: true,
	})
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusCreated, registered{user}}, nil
}

// limit bounds how often passwords are sent from one place, whosever they are.
func (h *Handler) limit(r *http.Request) error {
	return h.limitTo(r, "login_rate", "too many passwords were sent from here; wait")
}

func (h *Handler) limitTo(r *http.Request, what, message string) error {
	wait, err := h.store.Take(r.Context(), state.Key(what, network(clientIP(r))), 1,
		state.Window{Period: time.Minute, Step: 5 * time.Second, Limit: h.LoginRate})
	if err != nil {
		return err
	}
	if wait > 0 {
		return &refusal{status: http.StatusTooManyRequests, reason: "rate_limited", message: message, retryAfter: wait}
	}
	return nil
}

// clientIP is the client's address, as Caddy's trusted_proxies tell it.
func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// network is what an address counts with: one client may have all addresses of an IPv6
// /64.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	prefix, _ := ip.Prefix(64)
	return prefix.Masked().String()
}
