package mcpadmin_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// authorized sends a request with what stands in the Authorization header.
func (w *world) authorized(method, path string, authorization ...string) *reply {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header["Authorization"] = authorization
	return w.send(request)
}

// password is the value of the header (RFC 7617 section 2).
func password(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// wantChallenges wants exactly these schemes to be offered.
func (r *reply) wantChallenges(schemes ...string) *reply {
	r.t.Helper()
	var got []string
	for _, value := range r.header.Values("WWW-Authenticate") {
		scheme, _, _ := strings.Cut(value, " ")
		got = append(got, scheme)
	}
	if !slices.Equal(got, schemes) {
		r.t.Errorf("offered are %q, expected %q: %d %s", got, schemes, r.status, r.text)
	}
	return r
}

// TestBasicOff: a password is not even looked at.
func TestBasicOff(t *testing.T) {
	w := newWorld(t)
	w.site = "login on\n\t\tlogin_rate 1\n\t\tdocs on"
	w.start()
	for range 3 {
		for _, credentials := range []string{password("bob@example.com", bobFirst), "Basic", "Basic =", "basic x"} {
			r := w.authorized(http.MethodGet, "/auth/me", credentials).want(http.StatusUnauthorized, "basic_disabled").wantChallenges("Bearer")
			if r.str("error") != "Basic authentication is disabled for API endpoints. Use JWT or API tokens instead." {
				t.Errorf("got %s", r.text)
			}
			w.authorized(http.MethodPost, "/auth/logout", credentials).want(http.StatusUnauthorized, "basic_disabled").wantChallenges("Bearer")
			w.authorized(http.MethodGet, "/docs", credentials).want(http.StatusUnauthorized, "basic_disabled").wantChallenges("Bearer")
		}
	}
	w.login("bob@example.com", bobFirst).want(http.StatusForbidden, "password_change_required")
}

// TestBasic: a password is good where the API needs no session, and for the docs only
// if they say so themselves.
func TestBasic(t *testing.T) {
	w := newWorld(t)
	w.site = loginOn + "\n\t\tdocs on\n\t\tapi_basic_auth on"
	w.start()
	w.authorized(http.MethodGet, "/auth/me", password("bob@example.com", bobFirst)).want(http.StatusForbidden, "password_change_required")
	w.change("bob@example.com", bobFirst, bobNext).want(http.StatusOK, "")

	good := password("Bob@example.com", bobNext)
	me := w.authorized(http.MethodGet, "/auth/me", good).want(http.StatusOK, "")
	for _, member := range []string{"session_id", "token_expires_at"} {
		if me.body[member] != nil {
			t.Errorf("there is a %s in %s", member, me.text)
		}
	}
	if user, _ := me.body["user"].(object); user["email"] != "bob@example.com" {
		t.Errorf("got %s", me.text)
	}
	w.authorized(http.MethodPost, "/auth/logout", good).want(http.StatusForbidden, "session_required")
	w.authorized(http.MethodGet, "/docs", good).want(http.StatusUnauthorized, "basic_disabled").wantChallenges("Bearer")

	w.authorized(http.MethodGet, "/auth/me").want(http.StatusUnauthorized, "token_missing").wantChallenges("Bearer", "Basic")
	w.authorized(http.MethodGet, "/auth/me", "Bearer x").want(http.StatusUnauthorized, "token_malformed").wantChallenges("Bearer", "Basic")
	for _, wrong := range []string{password("bob@example.com", bobFirst), password("nobody@example.com", bobNext), password("bob", bobNext), password("bob@example.com", "\xff")} {
		w.authorized(http.MethodGet, "/auth/me", wrong).want(http.StatusUnauthorized, "credentials_invalid").wantChallenges("Bearer", "Basic")
	}
	encode := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, malformed := range []string{
		"Basic", "Basic ", "Basic !", "Basic YTpi=", encode("nocolon"), encode(""), encode(":"), encode(":" + bobNext), encode("bob@example.com:"),
		"Basic  " + strings.TrimPrefix(good, "Basic "), "Basic " + strings.Repeat("A", 9000),
	} {
		w.authorized(http.MethodGet, "/auth/me", malformed).want(http.StatusUnauthorized, "basic_malformed").wantChallenges("Bearer", "Basic")
	}
	w.authorized(http.MethodGet, "/auth/me", good, good).want(http.StatusBadRequest, "token_several")
	w.authorized(http.MethodGet, "/auth/me", good, "Bearer x").want(http.StatusBadRequest, "token_several")
	w.authorized(http.MethodGet, "/auth/me?access_token=x", good).want(http.StatusBadRequest, "token_in_query")
	w.authorized(http.MethodGet, "/auth/me", "bAsIc "+strings.TrimPrefix(good, "Basic ")).want(http.StatusOK, "")
}

// TestBasicLocks: wrong passwords lock the account, as at a login.
func TestBasicLocks(t *testing.T) {
	w := newSettled(t)
	w.site = loginOn + "\n\t\tapi_basic_auth on"
	w.start()
	for range 5 {
		w.authorized(http.MethodGet, "/auth/me", password("bob@example.com", bobFirst)).want(http.StatusUnauthorized, "credentials_invalid")
	}
	w.authorized(http.MethodGet, "/auth/me", password("bob@example.com", bobNext)).want(http.StatusUnauthorized, "credentials_invalid")
	w.login("bob@example.com", bobNext).want(http.StatusUnauthorized, "credentials_invalid")
}

// TestBasicRate: each request counts like a login from its network.
func TestBasicRate(t *testing.T) {
	w := newWorld(t)
	w.site = "login on\n\t\tlogin_rate 3\n\t\tapi_basic_auth on\n\t\tdocs on\n\t\tdocs_basic_auth on"
	w.start()
	for _, path := range []string{"/auth/me", "/docs", "/openapi.json"} {
		w.authorized(http.MethodGet, path, password("bob@example.com", bobFirst)).want(http.StatusForbidden, "password_change_required")
	}
	for _, path := range []string{"/auth/me", "/docs", "/openapi.json"} {
		r := w.authorized(http.MethodGet, path, password("bob@example.com", bobFirst)).want(http.StatusTooManyRequests, "rate_limited")
		if r.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
	w.login("bob@example.com", bobFirst).want(http.StatusTooManyRequests, "rate_limited")
}

// TestBasicAdministration: where passwords are good for the API, that of an administrator
// is for the administration, also without a login.
func TestBasicAdministration(t *testing.T) {
	w := newSettled(t)
	w.site = "login_rate 1000\n\t\tadmin on\n\t\tapi_basic_auth on"
	w.start()
	good := password("admin@example.com", adminNext)
	w.authorized(http.MethodGet, "/admin/users", good).want(http.StatusOK, "")
	w.authorized(http.MethodPost, "/admin/keys", good).want(http.StatusUnsupportedMediaType, "content_type")
	w.authorized(http.MethodDelete, "/admin/teams/support", good).want(http.StatusNoContent, "")
	w.wantLogged(`"action":"team_delete"`, `"actor":"admin@example.com"`)
	w.authorized(http.MethodGet, "/admin/users", password("bob@example.com", bobNext)).want(http.StatusForbidden, "admin_required")
	w.authorized(http.MethodGet, "/admin/users", password("admin@example.com", adminFirst)).want(http.StatusUnauthorized, "credentials_invalid").wantChallenges("Bearer", "Basic")
	w.authorized(http.MethodGet, "/admin/users").want(http.StatusUnauthorized, "token_missing").wantChallenges("Bearer", "Basic")
	w.authorized(http.MethodGet, "/admin/users", good, "Bearer x").want(http.StatusBadRequest, "token_several")
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, w.url+"/admin/users/bob@example.com", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", good)
		r.Header.Set(name, value)
		w.send(r).want(http.StatusForbidden, "origin_forbidden")
	}
	w.authorized(http.MethodGet, "/admin/users/bob@example.com", good).want(http.StatusOK, "")
	if _, err := w.app().Desk().Accounts().Update(t.Context(), account.Actor{Name: "test"}, "bob@example.com", account.Update{Admin: new(true)}); err != nil {
		t.Fatal(err)
	}
	w.authorized(http.MethodGet, "/admin/users", password("bob@example.com", bobNext)).want(http.StatusOK, "")
}

// everything switches all of the API on.
const everything = loginOn + "\n\t\tregistration on\n\t\ttokens on\n\t\tsessions on\n\t\tadmin on\n\t\tdocs on\n\t\tdocs_basic_auth on\n\t\tapi_basic_auth on"

// TestNobody asks for all there is, with no credential and with none that is good: what
// the table says of an operation's credentials is what it does.
func TestNobody(t *testing.T) {
	w := newWorld(t)
	w.site = everything
	w.start()
	for _, o := range w.contract.operations {
		path := pathValue.ReplaceAllString(o.Path, "x")
		nobody := w.authorized(o.Method, path)
		token := w.authorized(o.Method, path, "Bearer x")
		if o.Open {
			if nobody.status == http.StatusUnauthorized {
				t.Errorf("%s %s needs a credential, and does not say so", o.Method, o.Path)
			}
			continue
		}
		nobody.want(http.StatusUnauthorized, "token_missing")
		token.want(http.StatusUnauthorized, "token_malformed")
		given := w.authorized(o.Method, path, "Basic x")
		if o.Basic {
			given.want(http.StatusUnauthorized, "basic_malformed").wantChallenges("Bearer", "Basic")
		} else if given.status != http.StatusForbidden && given.status != http.StatusUnauthorized || len(given.header.Values("WWW-Authenticate")) > 1 {
			t.Errorf("%s %s with a password: %d %s", o.Method, o.Path, given.status, given.text)
		}
	}
}
