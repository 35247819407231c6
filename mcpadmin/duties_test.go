package mcpadmin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// step is a request to an administration, and what it must be answered with.
type step struct {
	method, path string
	body         any
	status       int
	// reason is that of an error, parts are of the body.
	reason string
	parts  []string
}

const (
	get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

	ok, created, gone, bad, missing, taken = http.StatusOK, http.StatusCreated, http.StatusNoContent, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict
)

// steps go through all that can be asked of an administration, one after the other.
var steps = []step{
	{get, "/users", nil, ok, "", []string{`"users":[{`, `"email":"admin@example.com"`, `"email":"bob@example.com"`}},
	{
		post, "/users",
		object{"email": "Cleo@example.com", "full_name": "Cleo", "password": anna},
		created, "",
		[]string{`"email":"cleo@example.com"`, `"is_active":true`, `"is_admin":false`, `"password_change_required":true`},
	},
	{post, "/users", object{"email": "cleo@example.com"}, taken, "user_exists", nil},
	{post, "/users", object{"email": "dora@example.com", "password": "hunter2"}, bad, "password_short", nil},
	{post, "/users", object{"full_name": "Nobody"}, bad, "member_missing", nil},
	{post, "/users", object{"email": nil}, bad, "json_invalid", nil},
	{post, "/users", object{"email": "dora@example.com", "is_active": nil}, bad, "json_invalid", nil},
	{post, "/users", object{"email": "dora@example.com", "is_admin": "true"}, bad, "json_invalid", nil},
	{post, "/users", object{"email": "dora@example.com", "hash": "x"}, bad, "json_invalid", nil},
	{post, "/users", `{"email":"dora@example.com","is_admin":false,"is_admin":true}`, bad, "json_invalid", nil},
	{post, "/users", object{"email": "dora@example.com", "is_active": false, "is_admin": true}, created, "", []string{`"is_active":false`, `"is_admin":true`}},
	{get, "/users?limit=1&offset=1", nil, ok, "", []string{`"next_offset":2`, `bob@example.com`}},
	{get, "/users?limit=1&offset=3", nil, ok, "", []string{`{"users":[{`, `dora@example.com`}},
	{get, "/users?offset=9", nil, ok, "", []string{`{"users":[]}`}},
	{get, "/users?limit=0", nil, bad, "query_invalid", nil},
	{get, "/users?limit=1001", nil, bad, "query_invalid", nil},
	{get, "/users?offset=-1", nil, bad, "query_invalid", nil},
	{get, "/users?limit=1&limit=2", nil, bad, "query_invalid", nil},
	{get, "/users?page=1", nil, bad, "query_invalid", nil},
	{get, "/users/cleo@example.com", nil, ok, "", []string{`"teams":[]`, `"roles":[]`, `"full_name":"Cleo"`}},
	{get, "/users/cleo%40example.com", nil, ok, "", []string{`"full_name":"Cleo"`}},
	{get, "/users/nobody@example.com", nil, missing, "user_unknown", nil},
	{get, "/users/x", nil, missing, "user_unknown", nil},
	{get, "/users/", nil, missing, "not_found", nil},
	{get, "/users/a%2Fb", nil, missing, "user_unknown", nil},
	{patch, "/users/cleo@example.com", object{"full_name": "Cleopatra"}, ok, "", []string{`"full_name":"Cleopatra"`, `"is_active":true`}},
	{patch, "/users/cleo@example.com", object{}, bad, "member_missing", nil},
	{patch, "/users/cleo@example.com", object{"email": "x@example.com"}, bad, "json_invalid", nil},
	{patch, "/users/cleo@example.com", object{"is_admin": nil}, bad, "json_invalid", nil},
	{patch, "/users/nobody@example.com", object{"is_admin": true}, missing, "user_unknown", nil},
	{put, "/users/cleo@example.com/password", object{"password": bobNext}, gone, "", nil},
	{put, "/users/cleo@example.com/password", object{"password": ""}, bad, "member_missing", nil},
	{put, "/users/cleo@example.com/password", object{"password": "abc"}, bad, "password_short", nil},
	{put, "/users/cleo@example.com/password", object{"password": bobNext}, bad, "password_reused", nil},
	{put, "/users/nobody@example.com/password", object{"password": bobNext}, missing, "user_unknown", nil},
	{get, "/users/cleo@example.com/sessions", nil, ok, "", []string{`{"sessions":[]}`}},
	{del, "/users/cleo@example.com/sessions", nil, gone, "", nil},
	{del, "/users/cleo@example.com/sessions/x", nil, missing, "session_unknown", nil},
	{del, "/users/cleo@example.com/tokens", nil, gone, "", nil},
	{del, "/users/nobody@example.com/tokens", nil, missing, "user_unknown", nil},

	{get, "/roles", nil, ok, "", []string{`"roles":["reader"]`, `"assignable":["reader"]`}},
	{get, "/users/bob@example.com/roles", nil, ok, "", []string{`"role":"reader"`, `"is_active":true`}},
	{post, "/users/cleo@example.com/roles", object{"role": "reader"}, ok, "", []string{`"role":"reader"`}},
	{
		post, "/users/cleo@example.com/roles",
		object{"role": "reader", "team_id": "support", "expires_at": "2199-01-01T00:00:00Z"},
		ok, "",
		[]string{`"team_id":"support"`, `"expires_at":"2199-01-01T00:00:00Z"`},
	},
	{post, "/users/cleo@example.com/roles", object{"role": "reader", "expires_at": "2001-01-01T00:00:00Z"}, bad, "expiry_past", nil},
	{post, "/users/cleo@example.com/roles", object{"role": "reader", "expires_at": "soon"}, bad, "json_invalid", nil},
	{post, "/users/cleo@example.com/roles", object{"role": "reader", "team_id": "nobody"}, missing, "team_unknown", nil},
	{post, "/users/cleo@example.com/roles", object{}, bad, "member_missing", nil},
	{del, "/users/cleo@example.com/roles/reader", nil, gone, "", nil},
	{del, "/users/cleo@example.com/roles/reader", nil, missing, "assignment_unknown", nil},
	{get, "/users/cleo@example.com/roles", nil, ok, "", []string{`{"roles":[{`, `"team_id":"support"`}},
	{del, "/users/cleo@example.com/roles/reader?team_id=support", nil, gone, "", nil},
	{get, "/users/cleo@example.com/roles", nil, ok, "", []string{`{"roles":[]}`}},

	{get, "/teams", nil, ok, "", []string{`"id":"support"`}},
	{post, "/teams", object{"id": "sales", "name": "Sales"}, created, "", []string{`"id":"sales"`, `"name":"Sales"`}},
	{post, "/teams", object{"id": "sales"}, taken, "team_exists", nil},
	{post, "/teams", object{"name": "Sales"}, bad, "member_missing", nil},
	{patch, "/teams/sales", object{"description": "They sell"}, ok, "", []string{`"name":"Sales"`, `"description":"They sell"`}},
	{patch, "/teams/sales", object{}, bad, "member_missing", nil},
	{patch, "/teams/nobody", object{"name": "x"}, missing, "team_unknown", nil},
	{put, "/teams/sales/members/cleo@example.com", object{"role": "owner"}, gone, "", nil},
	{put, "/teams/sales/members/cleo@example.com", object{"role": "king"}, bad, "member_role_invalid", nil},
	{put, "/teams/sales/members/nobody@example.com", object{"role": "owner"}, missing, "user_unknown", nil},
	{put, "/teams/nobody/members/cleo@example.com", object{"role": "owner"}, missing, "team_unknown", nil},
	{get, "/teams/sales/members", nil, ok, "", []string{`"email":"cleo@example.com"`, `"role":"owner"`}},
	{get, "/teams/sales", nil, ok, "", []string{`"team":{`, `"members":[{`}},
	{get, "/teams?limit=1", nil, ok, "", []string{`"id":"sales"`, `"next_offset":1`}},
	{del, "/teams/sales/members/cleo@example.com", nil, gone, "", nil},
	{del, "/teams/sales/members/cleo@example.com", nil, missing, "member_unknown", nil},
	{del, "/teams/sales", nil, gone, "", nil},
	{del, "/teams/sales", nil, missing, "team_unknown", nil},
	{get, "/teams/sales", nil, missing, "team_unknown", nil},

	{get, "/keys", nil, ok, "", []string{`"kid":"`, `"signs":true`, `"alg":"ES256"`}},
	{post, "/keys", object{}, created, "", []string{`"kid":"`, `"signs":false`}},
	{post, "/keys", object{"at_once": 1}, bad, "json_invalid", nil},
	{post, "/keys", nil, http.StatusUnsupportedMediaType, "content_type", nil},
	{del, "/keys/nobody", nil, missing, "key_unknown", nil},

	{get, "/revocations", nil, ok, "", []string{`"revocations":`, `"stale":false`}},
	{post, "/revocations", object{"by": "id", "value": "t-1", "issuer": "https://login.example.com"}, gone, "", nil},
	{post, "/revocations", object{"by": "everyone"}, bad, "revocation_invalid", nil},
	{post, "/revocations", object{"by": "id", "value": "t-1", "extra": 1}, bad, "json_invalid", nil},

	{get, "/servers", nil, ok, "", []string{`"name":"tickets"`, `"path":"/mcp"`, `"available":true`, `"tls":false`, `"healthy":true`, `"fails":0`}},
	{get, "/well-known", nil, ok, "", []string{`"path":"/.well-known/jwks.json"`, `"path":"/robots.txt"`, `"path":"/ready"`, `"status":200`, `"answers":true`}},
	{get, "/security", nil, ok, "", []string{`"score":`, `"id":"environment_production"`, `"advice":`}},
	{del, "/security", nil, http.StatusMethodNotAllowed, "method", nil},
	{get, "/nothing", nil, missing, "not_found", nil},
	{get, "", nil, missing, "not_found", nil},

	{del, "/users/cleo@example.com", nil, gone, "", nil},
	{del, "/users/cleo@example.com", nil, missing, "user_unknown", nil},
	{get, "/users/cleo@example.com", nil, missing, "user_unknown", nil},
}

// TestDuties: both places answer the same.
func TestDuties(t *testing.T) {
	for _, tc := range []struct {
		name, actor string
		at          func(w *world) *place
	}{
		{"admin", "admin@example.com", func(w *world) *place { return w.below(w.administrator()) }},
		{"caddy admin", "caddy admin", func(w *world) *place { return w.caddyAdmin() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newAdminWorld(t)
			w.start()
			p := tc.at(w)
			for _, s := range steps {
				if s.path == "" && p.token == "" {
					continue // Caddy's mux redirects it
				}
				r := p.ask(s.method, s.path, s.body)
				if got, _ := r.body["reason"].(string); r.status != s.status || got != s.reason {
					t.Errorf("%s %s %v: got %d %q, expected %d %q: %s", s.method, s.path, s.body, r.status, got, s.status, s.reason, r.text)
				}
				if s.status == gone && (r.text != "" || r.header.Get("Content-Type") != "") {
					t.Errorf("%s %s is answered with %v %q", s.method, s.path, r.header, r.text)
				}
				if r.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s may be kept: %v", s.method, s.path, r.header)
				}
				for _, part := range s.parts {
					if !strings.Contains(r.text, part) {
						t.Errorf("%s %s: there is no %s in %s", s.method, s.path, part, r.text)
					}
				}
			}
			for _, action := range []string{
				"user_create", "user_update", "user_delete", "password_set", "tokens_revoke", "role_assign", "role_unassign",
				"team_create", "team_update", "team_delete", "member_set", "member_remove", "signing_key_create", "revoke",
			} {
				w.wantLogged(`"action":"`+action+`"`, `"actor":"`+tc.actor+`"`)
			}

			// A key that signs is withdrawn last of all: no session is good after that.
			kids := p.ask(get, "/keys", nil).body["keys"].([]any)
			for _, k := range kids {
				if key := k.(object); key["signs"] == true {
					p.ask(del, "/keys/"+key["kid"].(string), nil).want(gone, "")
				}
			}
			w.wantLogged(`"action":"signing_key_withdraw"`, `"actor":"`+tc.actor+`"`)
			if p.token != "" {
				p.ask(get, "/users", nil).want(http.StatusUnauthorized, "token_key_unknown")
			}
		})
	}
}

// TestSessionsOfOthers: administrators see and end them.
func TestSessionsOfOthers(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	p := w.below(w.administrator())
	bob := func() *reply { return w.login("bob@example.com", bobNext).want(ok, "") }
	first := w.enter("bob@example.com", bobFirst, bobNext).str("access_token")
	second := bob().str("access_token")
	list := p.ask(get, "/users/bob@example.com/sessions", nil).want(ok, "").body["sessions"].([]any)
	if len(list) != 2 {
		t.Fatalf("there are %v", list)
	}
	id := list[0].(object)["session_id"].(string)
	p.ask(del, "/users/bob@example.com/sessions/"+id, nil).want(gone, "")
	w.get("/auth/me", first).want(http.StatusUnauthorized, "session_ended")
	w.get("/auth/me", second).want(ok, "")
	w.list(first).want(http.StatusUnauthorized, "")
	p.ask(del, "/users/bob@example.com/sessions", nil).want(gone, "")
	w.get("/auth/me", second).want(http.StatusUnauthorized, "session_ended")
	w.list(second).want(http.StatusUnauthorized, "")

	third := bob()
	p.ask(del, "/users/bob@example.com/tokens", nil).want(gone, "")
	w.get("/auth/me", third.str("access_token")).want(http.StatusUnauthorized, "session_ended")
	w.list(third.str("access_token")).want(http.StatusUnauthorized, "")
	w.post("/auth/refresh", "", object{"refresh_token": third.str("refresh_token")}).want(http.StatusUnauthorized, "refresh_invalid")
	if w.forwarded() != 0 {
		t.Error("the server has received something")
	}
	// Who logs in after that gets in at once, although it may be the same second.
	for range 3 {
		p.ask(del, "/users/bob@example.com/tokens", nil).want(gone, "")
		again := bob().str("access_token")
		w.get("/auth/me", again).want(ok, "")
		w.list(again).want(ok, "")
	}
}

// TestPasswordOfOthers: a password that is set has to be changed before anything else.
func TestPasswordOfOthers(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	p := w.below(w.administrator())
	bob := w.enter("bob@example.com", bobFirst, bobNext).str("access_token")
	p.ask(put, "/users/bob@example.com/password", object{"password": anna}).want(gone, "")
	w.get("/auth/me", bob).want(http.StatusUnauthorized, "session_ended")
	w.login("bob@example.com", bobNext).want(http.StatusUnauthorized, "credentials_invalid")
	w.login("bob@example.com", anna).want(http.StatusForbidden, "password_change_required")
	p.ask(put, "/users/admin@example.com/password", object{"password": anna}).want(bad, "own_account")
}

// TestAdministratorsStay: nobody demotes themselves, and nobody the last one.
func TestAdministratorsStay(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	p, c := w.below(w.administrator()), w.caddyAdmin()
	for _, s := range []step{
		{method: patch, path: "/users/admin@example.com", body: object{"is_admin": false}},
		{method: patch, path: "/users/admin@example.com", body: object{"is_active": false}},
		{method: patch, path: "/users/admin@example.com", body: object{"is_active": false, "is_admin": false}},
		{method: del, path: "/users/admin@example.com"},
	} {
		p.ask(s.method, s.path, s.body).want(bad, "own_account")
		c.ask(s.method, s.path, s.body).want(bad, "last_administrator")
	}
	p.ask(get, "/users", nil).want(ok, "")
	// Another one who is not active does not count.
	c.ask(post, "/users", object{"email": "eve@example.com", "is_admin": true, "is_active": false}).want(created, "")
	c.ask(del, "/users/admin@example.com", nil).want(bad, "last_administrator")
	c.ask(patch, "/users/eve@example.com", object{"is_active": true}).want(ok, "")
	c.ask(del, "/users/admin@example.com", nil).want(gone, "")
	p.ask(get, "/users", nil).want(http.StatusUnauthorized, "session_ended")
	c.ask(del, "/users/eve@example.com", nil).want(bad, "last_administrator")
}

// TestEveryDutyIsAsked keeps the steps complete.
func TestEveryDutyIsAsked(t *testing.T) {
	w := newAdminWorld(t)
	w.global = quick
	w.start()
	c := w.caddyAdmin()
	asked := append(slices.Concat(steps, tokenSteps, sessionSteps),
		step{method: post, path: "/tokens", status: created},         // by TestTokenDuties itself
		step{method: del, path: "/keys/x", status: gone},             // by TestDuties itself
		step{method: del, path: "/users/x/sessions/y", status: gone}) // by TestSessionsOfOthers
	for _, path := range []string{
		"/users", "/users/x", "/users/x/password", "/users/x/sessions", "/users/x/sessions/y", "/users/x/tokens", "/users/x/roles", "/users/x/roles/y",
		"/tokens", "/tokens/x", "/tokens/x/usage", "/mcp-sessions", "/mcp-sessions/x", "/roles", "/teams", "/teams/x", "/teams/x/members", "/teams/x/members/y", "/keys", "/keys/x", "/revocations", "/servers", "/well-known", "/security",
	} {
		// A method that is not there is answered with those that are.
		allowed := c.ask("PROPFIND", path, nil).want(http.StatusMethodNotAllowed, "method").header.Get("Allow")
		for method := range strings.SplitSeq(allowed, ", ") {
			if !slices.ContainsFunc(asked, func(s step) bool {
				return s.method == method && like(path, s.path) && s.status < 300 || method == del && path == "/keys/x" || strings.HasSuffix(path, "/sessions/y")
			}) {
				t.Errorf("nothing asks %s %s", method, path)
			}
		}
	}
}

// like reports whether a path has the segments of another but for its letters x and y.
func like(pattern, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	wanted, given := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(wanted, given, func(a, b string) bool { return a == b || a == "x" || a == "y" })
}

// TestCaddyAdminWithout: without a gateway, without accounts, without tokens.
func TestCaddyAdminWithout(t *testing.T) {
	w := newAdminWorld(t)
	w.site, w.global = "", ""
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	c := w.caddyAdmin()
	c.ask(get, "/users", nil).want(missing, "accounts_off")
	c.ask(get, "/teams", nil).want(missing, "accounts_off")
	c.ask(get, "/servers", nil).want(ok, "")
	c.ask(get, "/security", nil).want(ok, "")
	c.ask(get, "/keys", nil).want(ok, "")
	c.ask(get, "/tokens", nil).want(missing, "accounts_off")
	c.ask(get, "/mcp-sessions", nil).want(ok, "")
	c.ask(get, "/mcp-sessions?user=bob@example.com", nil).want(missing, "accounts_off")
	// The administration by login is off.
	w.get("/admin/users", "").want(missing, "")
	w.site, w.global = loginOn, quick
	w.start()
	c.ask(get, "/users", nil).want(ok, "")
	if r := w.get("/admin/users", "x").want(missing, "not_found"); strings.Contains(r.text, "bob") {
		t.Error(r.text)
	}
	for site, want := range map[string]string{
		"admin on": "nobody can come in",
		"login on\n\t\tadmin_trusted_header X-User from 127.0.0.1":                      "without admin",
		"login on\n\t\tadmin on\n\t\tadmin_trusted_header Authorization from 127.0.0.1": "another meaning",
		"login on\n\t\tadmin on\n\t\tadmin_trusted_header X-User from 0.0.0.0/0":        "everybody",
	} {
		w.site = site
		if err := w.load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", site, err)
		}
	}
	w.site, w.global = adminOn, ""
	if err := w.load(); err == nil || !strings.Contains(err.Error(), "accounts") {
		t.Errorf("administration without accounts: %v", err)
	}
	none := fmt.Sprintf(`{"admin":{"listen":%q,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"file","filename":%q}}}}}`, w.endpoint, w.log)
	request, err := http.NewRequestWithContext(t.Context(), post, "http://"+w.endpoint+"/load", strings.NewReader(none))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	w.send(request).want(ok, "")
	c.ask(get, "/users", nil).want(missing, "gateway_off")
}
