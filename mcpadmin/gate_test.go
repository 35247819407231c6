package mcpadmin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// apiToken makes an API token of a user.
func (w *world) apiToken(email string, admin bool, scopes string) string {
	w.t.Helper()
	user, err := w.app().Desk().Accounts().User(w.t.Context(), email)
	if err != nil {
		w.t.Fatal(err)
	}
	api := issue.API{Subject: user.ID, Email: email, Admin: admin, Expires: time.Now().Add(time.Hour)}
	if scopes != "" {
		api.Scopes = jsontext.Value(scopes)
	}
	made, err := w.app().Issuer().API(w.t.Context(), api)
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = append(w.secrets, made.Raw)
	return made.Raw
}

// TestGate: who does not get to the administration, and why. A change is asked for each
// time, which must not be made.
func TestGate(t *testing.T) {
	w := newAdminWorld(t)
	w.site += "\n\t\ttokens on\n\t\trole everybody {\n\t\t\tallow tools.read\n\t\t}"
	w.start()
	admin := w.administrator()
	bob := w.enter("bob@example.com", bobFirst, bobNext).str("access_token")
	_, all := w.issued(admin, object{"name": "all", "expires_in_days": 1})
	_, scoped := w.issued(admin, object{"name": "scoped", "expires_in_days": 1, "scope": object{"server_id": "tickets"}})
	request := func(header http.Header, query string) *reply {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), post, w.url+"/admin/teams"+query, strings.NewReader(`{"id":"intruders"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		r.Header.Set("Content-Type", "application/json")
		return w.send(r)
	}
	bearer := func(tokens ...string) http.Header {
		h := http.Header{}
		for _, token := range tokens {
			h.Add("Authorization", "Bearer "+token)
		}
		return h
	}
	with := func(h http.Header, name, value string) http.Header {
		h.Set(name, value)
		return h
	}
	for _, tc := range []struct {
		name   string
		header http.Header
		query  string
		status int
		reason string
	}{
		{"nobody", http.Header{}, "", 401, "token_missing"},
		{"basic", http.Header{"Authorization": {"Basic YWRtaW46YWRtaW4="}}, "", 401, "basic_disabled"},
		{"empty", http.Header{"Authorization": {"Bearer "}}, "", 401, "token_missing"},
		{"cookies", http.Header{"Cookie": {"jwt_token=" + admin + "; access_token=" + admin}}, "", 401, "token_missing"},
		{"header of no peer", http.Header{"X-Authenticated-User": {"admin@example.com"}}, "", 401, "token_missing"},
		{"in the query", http.Header{}, "?access_token=" + admin, 400, "token_in_query"},
		{"in both", bearer(admin), "?access_token=" + admin, 400, "token_in_query"},
		{"two", bearer(admin, bob), "", 400, "token_several"},
		{"the same twice", bearer(admin, admin), "", 400, "token_several"},
		{"garbage", bearer("x.y.z"), "", 401, "token_malformed"},
		{"without its signature", bearer(admin[:strings.LastIndex(admin, ".")+1]), "", 401, "token_malformed"},
		{"no administrator", bearer(bob), "", 403, "admin_required"},
		{"API token", bearer(all), "", 403, "session_required"},
		{"API token of a server", bearer(scoped), "", 403, "session_required"},
		{"another site", with(bearer(admin), "Sec-Fetch-Site", "cross-site"), "", 403, "origin_forbidden"},
		{"another origin", with(bearer(admin), "Origin", "https://evil.example"), "", 403, "origin_forbidden"},
		{"no origin", with(bearer(admin), "Origin", "null"), "", 403, "origin_forbidden"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(tc.header, tc.query)
			r.t = t
			r.want(tc.status, tc.reason)
			if challenge := r.header.Get("WWW-Authenticate"); tc.status == 401 && !strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("the challenge is %q", challenge)
			}
		})
	}
	// A token of a server is good there, and nowhere else.
	w.list(scoped).want(ok, "")
	if w.forwarded() != 1 {
		t.Error("the server has received nothing")
	}
	for _, path := range []string{"/admin/users", "/admin/keys", "/admin/security"} {
		w.get(path, scoped).want(http.StatusForbidden, "session_required")
	}
	w.get("/auth/me", scoped).want(http.StatusForbidden, "session_required")
	for _, path := range []string{"/tokens", "/admin/tokens"} {
		if r := w.get(path, scoped); r.status < 400 {
			t.Errorf("%s is answered with %d", path, r.status)
		}
	}
	// Other spellings of the path are other paths.
	for _, path := range []string{"/admin", "/admin/", "/admin/users/", "/admin/Users", "/Admin/users", "/%61dmin/users", "/admin/%75sers", "//admin/users", "/admin//users", "/x/../admin/users"} {
		if r := w.get(path, admin); r.status != missing {
			t.Errorf("%s is answered with %d %s", path, r.status, r.text)
		}
	}
	own := with(bearer(admin), "Origin", w.url)
	request(own, "").want(created, "")
	request(bearer(admin), "").want(taken, "team_exists")
}

// TestRightsNow: what counts is what the account is now, and not what a token says.
func TestRightsNow(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	root := w.below(w.administrator())
	session := w.enter("bob@example.com", bobFirst, bobNext)
	bob := func() *reply { return w.get("/admin/users", session.str("access_token")) }
	refresh := func() {
		t.Helper()
		session = w.post("/auth/refresh", "", object{"refresh_token": session.str("refresh_token")}).want(ok, "")
		w.secrets = append(w.secrets, session.str("access_token"), session.str("refresh_token"))
	}
	bob().want(http.StatusForbidden, "admin_required")
	root.ask(patch, "/users/bob@example.com", object{"is_admin": true}).want(ok, "")
	bob().want(http.StatusForbidden, "token_narrowed")
	refresh()
	bob().want(ok, "")
	root.ask(patch, "/users/bob@example.com", object{"is_admin": false}).want(ok, "")
	bob().want(http.StatusUnauthorized, "session_ended")
	w.list(session.str("access_token")).want(http.StatusUnauthorized, "")

	// Of no team, the token sees only what is public.
	root.ask(del, "/teams/support/members/bob@example.com", nil).want(gone, "")
	session = w.login("bob@example.com", bobNext).want(ok, "")
	root.ask(patch, "/users/bob@example.com", object{"is_admin": true}).want(ok, "")
	bob().want(http.StatusForbidden, "token_public_only")
	refresh()
	bob().want(ok, "")
	root.ask(patch, "/users/bob@example.com", object{"is_active": false}).want(ok, "")
	bob().want(http.StatusUnauthorized, "session_ended")
	root.ask(patch, "/users/bob@example.com", object{"is_active": true}).want(ok, "")
	bob().want(http.StatusUnauthorized, "session_ended")

	// Revoked, by whom it is of.
	everyone := state.Revocation{Kind: state.RevokeEveryone, Before: time.Now().Add(time.Minute), Expires: time.Now().Add(time.Hour)}
	if err := w.app().Revocations().Revoke(t.Context(), everyone); err != nil {
		t.Fatal(err)
	}
	root.ask(get, "/users", nil).want(http.StatusUnauthorized, "token_revoked")
}

// TestTrustedHeader: a proxy may name an administrator, whose account must have the
// rights; nobody else may.
func TestTrustedHeader(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	bob := w.enter("bob@example.com", bobFirst, bobNext).str("access_token")
	w.site = "admin on\n\t\tadmin_trusted_header X-Authenticated-User from 127.0.0.1"
	w.start()
	ask := func(method, path string, header http.Header) *reply {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		r.Header.Set("Content-Type", "application/json")
		return w.send(r)
	}
	user := func(values ...string) http.Header { return http.Header{"X-Authenticated-User": values} }
	admin := func() http.Header { return user("admin@example.com") }
	for _, tc := range []struct {
		name   string
		header http.Header
		status int
		reason string
	}{
		{"administrator", admin(), 200, ""},
		{"in other letters", user("Admin@Example.com"), 200, ""},
		{"no administrator", user("bob@example.com"), 403, "admin_required"},
		{"unknown", user("nobody@example.com"), 401, "user_unknown"},
		{"no address", user("root"), 401, "user_unknown"},
		{"empty", user(""), 400, "identity_malformed"},
		{"two", user("admin@example.com", "admin@example.com"), 400, "identity_malformed"},
		{"none", http.Header{}, 401, "token_missing"},
		{"with a token", http.Header{"X-Authenticated-User": {"admin@example.com"}, "Authorization": {"Bearer " + bob}}, 400, "credentials_several"},
		{"with a password", http.Header{"X-Authenticated-User": {"admin@example.com"}, "Authorization": {"Basic YTpi"}}, 400, "credentials_several"},
		{"another spelling", http.Header{"X_authenticated_user": {"admin@example.com"}}, 401, "token_missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ask(get, "/admin/users", tc.header)
			r.t = t
			r.want(tc.status, tc.reason)
		})
	}
	c := w.caddyAdmin()
	// A proxy that knows people by a cookie must not let other sites change anything.
	crossed := admin()
	crossed.Set("Sec-Fetch-Site", "cross-site")
	ask(post, "/admin/keys", crossed).want(http.StatusForbidden, "origin_forbidden")
	ask(post, "/admin/keys", admin()).want(created, "")
	w.wantLogged(`"action":"signing_key_create"`, `"actor":"admin@example.com"`)
	ask(del, "/admin/users/admin@example.com", admin()).want(bad, "own_account")

	c.ask(post, "/users", object{"email": "eve@example.com", "is_admin": true}).want(created, "")
	c.ask(patch, "/users/admin@example.com", object{"is_admin": false}).want(ok, "")
	ask(get, "/admin/users", admin()).want(http.StatusForbidden, "admin_required")
	c.ask(patch, "/users/admin@example.com", object{"is_admin": true, "is_active": false}).want(ok, "")
	ask(get, "/admin/users", admin()).want(http.StatusForbidden, "account_disabled")
	c.ask(post, "/revocations", object{"by": "subject", "value": "eve@example.com", "issuer": "trusted_header"}).want(gone, "")
	for _, spelling := range []string{"eve@example.com", "Eve@Example.com"} {
		ask(get, "/admin/users", user(spelling)).want(http.StatusUnauthorized, "token_revoked")
	}

	// From anybody else, the header counts for nothing.
	w.site = adminOn + "\n\t\tadmin_trusted_header X-Authenticated-User from 192.0.2.1"
	w.start()
	ask(get, "/admin/users", user("eve@example.com")).want(http.StatusUnauthorized, "token_missing")
}

// TestTrustedHeaderIsStripped: who is no peer cannot send the header to anybody after the
// handler either.
func TestTrustedHeaderIsStripped(t *testing.T) {
	var got http.Header
	after := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = io.WriteString(rw, "{}")
	}))
	defer after.Close()
	for from, arrives := range map[string]bool{"192.0.2.1": false, "127.0.0.1": true} {
		t.Run(from, func(t *testing.T) {
			w := newAdminWorld(t)
			addr := strings.TrimPrefix(w.url, "http://")
			for strings.HasSuffix(w.url, addr) || addr == w.endpoint { // none of them listens yet
				var err error
				if addr, err = launch.FreeAddr(); err != nil {
					t.Fatal(err)
				}
			}
			w.global = quick
			w.more = fmt.Sprintf("http://%s {\n\tmcp_admin {\n\t\tpublic_url http://%[1]s\n\t\tadmin on\n\t\tadmin_trusted_header X-User from %s\n\t}\n\treverse_proxy %s\n}\n",
				addr, from, after.Listener.Addr())
			w.start()
			r, err := http.NewRequestWithContext(t.Context(), get, "http://"+addr+"/elsewhere", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"X-User": {"bob@example.com"}, "X_user": {"bob@example.com"}, "X-Other": {"1"}}
			w.send(r).want(ok, "")
			if _, there := got["X-User"]; there != arrives || got.Get("X-Other") != "1" {
				t.Errorf("the next handler gets %v", got)
			}
			if _, there := got["X_user"]; there && !arrives {
				t.Errorf("the next handler gets %v", got)
			}
		})
	}
}
