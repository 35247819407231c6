package mcpadmin_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestSession is the life of a session as a client has it.
func TestSession(t *testing.T) {
	w := newWorld(t)
	w.start()

	// The first password is good for nothing but a change.
	r := w.login("bob@example.com", bobFirst).want(http.StatusForbidden, "password_change_required")
	if r.header.Get("X-Password-Change-Required") != "true" || strings.Contains(r.text, "token") {
		t.Errorf("got %v %s", r.header, r.text)
	}
	w.change("bob@example.com", bobFirst, bobFirst).want(http.StatusBadRequest, "password_reused")
	w.change("bob@example.com", bobFirst, "Password1234!").want(http.StatusBadRequest, "password_guessable")
	w.change("bob@example.com", bobNext, bobNext).want(http.StatusUnauthorized, "credentials_invalid")
	w.change("bob@example.com", bobFirst, bobNext).want(http.StatusOK, "")
	w.login("bob@example.com", bobFirst).want(http.StatusUnauthorized, "credentials_invalid")

	session := w.login("BOB@example.com", bobNext).want(http.StatusOK, "")
	token := session.str("access_token")
	if session.str("token_type") != "bearer" || session.body["expires_in"] != 1200.0 || len(session.header["Set-Cookie"]) > 0 {
		t.Errorf("got %v %s", session.header, session.text)
	}
	me := w.get("/auth/me", token).want(http.StatusOK, "")
	for _, part := range []string{`"email":"bob@example.com"`, `"is_admin":false`, `"team_id":"support"`, `"role":"owner"`, `"role":"reader"`} {
		if !strings.Contains(me.text, part) {
			t.Errorf("there is no %s in %s", part, me.text)
		}
	}
	for _, answer := range []*reply{session, me} {
		if strings.Contains(answer.text, "argon2") || strings.Contains(answer.text, "hash") {
			t.Errorf("the answer tells of a hash: %s", answer.text)
		}
	}

	// The token is an access token for the team's server, too.
	w.list(token).want(http.StatusOK, "")
	if w.forwarded() != 1 {
		t.Error("the server has received nothing")
	}

	next := w.post("/auth/refresh", "", object{"refresh_token": session.str("refresh_token")}).want(http.StatusOK, "")
	w.secrets = append(w.secrets, next.str("access_token"), next.str("refresh_token"))
	w.get("/auth/me", token).want(http.StatusUnauthorized, "session_ended")
	token = next.str("access_token")
	out := w.post("/auth/logout", token, nil).want(http.StatusOK, "")
	out.str("revoked_token")
	w.get("/auth/me", token).want(http.StatusUnauthorized, "session_ended")
	w.post("/auth/logout", token, nil).want(http.StatusUnauthorized, "session_ended")
	w.post("/auth/refresh", "", object{"refresh_token": next.str("refresh_token")}).want(http.StatusUnauthorized, "refresh_invalid")
}

// TestReloadAndRestart: what happened outlives both, and the configuration's password
// does not come back.
func TestReloadAndRestart(t *testing.T) {
	w := newWorld(t)
	w.global = accounts
	w.start()
	w.change("admin@example.com", adminFirst, adminNext).want(http.StatusOK, "")
	token := w.login("admin@example.com", adminNext).want(http.StatusOK, "").str("access_token")
	w.get("/auth/me", token).want(http.StatusOK, "")

	w.site += "\n\t\tregistration on"
	w.start()
	w.get("/auth/me", token).want(http.StatusOK, "")
	w.stop()
	w.start()
	w.get("/auth/me", token).want(http.StatusOK, "")
	w.login("admin@example.com", adminFirst).want(http.StatusUnauthorized, "credentials_invalid")

	// A configuration that is refused changes nothing.
	w.global = strings.Replace(accounts, "{env.MCPADMIN_TEST_BOB}", "Password1234!", 1)
	if err := w.load(); err == nil || strings.Contains(err.Error(), "Password1234!") {
		t.Errorf("got %v", err)
	}
	w.get("/auth/me", token).want(http.StatusOK, "")

	// A new account of the configuration is made by a reload.
	w.global = strings.Replace(accounts, "team support", "user anna@example.com {\n\t\t\t\tpassword {env.MCPADMIN_TEST_ANNA}\n\t\t\t}\n\t\t\tteam support", 1)
	t.Setenv("MCPADMIN_TEST_ANNA", anna)
	w.start()
	statetest.Eventually(t, "the new account is made", func() bool {
		log, err := os.ReadFile(w.log)
		return err == nil && strings.Contains(string(log), `"target":"anna@example.com"`)
	})
	w.login("anna@example.com", anna).want(http.StatusForbidden, "password_change_required")
	w.get("/auth/me", token).want(http.StatusOK, "")
}

func TestRegistration(t *testing.T) {
	w := newWorld(t)
	w.start()
	body := object{"email": "anna@example.com", "password": anna, "full_name": "Anna"}
	r := w.post("/auth/register", "", body).want(http.StatusForbidden, "registration_off")
	if r.str("error") != "Public registration is disabled. Please contact an administrator to create an account." {
		t.Errorf("got %s", r.text)
	}
	w.site += "\n\t\tregistration on"
	w.start()
	w.post("/auth/register", "", object{"email": "anna@example.com", "password": anna, "is_admin": true}).want(http.StatusBadRequest, "json_invalid")
	w.post("/auth/register", "", object{"email": "anna@example.com", "password": "hunter2"}).want(http.StatusBadRequest, "password_short")
	w.post("/auth/register", "", object{"email": "anna", "password": anna}).want(http.StatusBadRequest, "email_invalid")
	r = w.post("/auth/register", "", body).want(http.StatusCreated, "")
	if user, _ := r.body["user"].(object); user["is_admin"] != false || user["is_active"] != true {
		t.Errorf("got %s", r.text)
	}
	w.post("/auth/register", "", body).want(http.StatusConflict, "user_exists")
	w.login("anna@example.com", anna).want(http.StatusOK, "")
}

// TestOff: what is not switched on is not there.
func TestOff(t *testing.T) {
	w := newWorld(t)
	w.global = quick
	w.site = ""
	w.start()
	for _, path := range []string{"/auth/login", "/auth/me", "/auth/register", "/.well-known/jwks.json"} {
		if r := w.post(path, "", object{}); r.status != http.StatusNotFound {
			t.Errorf("%s is answered with %d %s", path, r.status, r.text)
		}
	}
	w.site, w.global = loginOn, ""
	if err := w.load(); err == nil || !strings.Contains(err.Error(), "accounts") {
		t.Errorf("login without accounts: %v", err)
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t)
	w.global = quick
	w.start()
	for _, path := range []string{"/auth/", "/auth/x", "/auth/login/", "/auth/Login", "/auth/%6cogin", "/auth/me/x"} {
		if r := w.get(path, ""); r.status != http.StatusNotFound {
			t.Errorf("%s is answered with %d %s", path, r.status, r.text)
		}
	}
	r := w.get("/auth/login", "").want(http.StatusMethodNotAllowed, "method")
	if r.header.Get("Allow") != "POST" {
		t.Errorf("allowed are %s", r.header.Get("Allow"))
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := r.header.Get(name); got != value {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Without a session.
	r = w.get("/auth/me", "").want(http.StatusUnauthorized, "token_missing")
	if r.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("the challenge is %q", r.header.Get("WWW-Authenticate"))
	}
	w.get("/auth/me", "x").want(http.StatusUnauthorized, "token_malformed")
	w.get("/auth/me?access_token=x", "").want(http.StatusBadRequest, "token_in_query")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/auth/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header["Authorization"] = []string{"Bearer a", "Bearer b"}
	w.send(request).want(http.StatusBadRequest, "token_several")
	// A cookie is no session.
	request.Header = http.Header{"Cookie": {"jwt_token=x; access_token=x"}}
	w.send(request).want(http.StatusUnauthorized, "token_missing")

	keys := w.get("/.well-known/jwks.json", "")
	if keys.status != http.StatusOK || !strings.Contains(keys.text, `"alg":"ES256"`) || strings.Contains(keys.text, `"d":`) {
		t.Errorf("the keys are %d %s", keys.status, keys.text)
	}
	if keys.header.Get("Cache-Control") != "public, max-age=300" || keys.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("the keys have %v", keys.header)
	}
}

// TestBodies: what is not exactly what it should be is refused, before any password is
// looked at.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	w.global = quick
	w.start()
	const json = "application/json"
	for _, tc := range []struct {
		name, kind, body string
		status           int
		reason           string
	}{
		{"nothing", json, ``, 400, "json_invalid"},
		{"null", json, `null`, 400, "json_invalid"},
		{"array", json, `[]`, 400, "json_invalid"},
		{"not JSON", json, `{"email":`, 400, "json_invalid"},
		{"two values", json, `{"email":"a","password":"b"}{}`, 400, "json_invalid"},
		{"unknown member", json, `{"email":"a","password":"b","admin":true}`, 400, "json_invalid"},
		{"member in another case", json, `{"Email":"a","password":"b"}`, 400, "json_invalid"},
		{"twice", json, `{"email":"a","password":"b","password":"c"}`, 400, "json_invalid"},
		{"number", json, `{"email":"a","password":1}`, 400, "json_invalid"},
		{"null password", json, `{"email":"a","password":null}`, 400, "json_invalid"},
		{"array of passwords", json, `{"email":"a","password":["b","c"]}`, 400, "json_invalid"},
		{"bad UTF-8", json, "{\"email\":\"a\",\"password\":\"\xff\"}", 400, "json_invalid"},
		{"half a surrogate", json, `{"email":"a","password":"\ud800"}`, 400, "json_invalid"},
		{"byte order mark", json, "\ufeff" + `{"email":"a","password":"b"}`, 400, "json_invalid"},
		{"no password", json, `{"email":"a"}`, 400, "member_missing"},
		{"empty password", json, `{"email":"a","password":""}`, 400, "member_missing"},
		{"form", "application/x-www-form-urlencoded", `email=a&password=b`, 415, "content_type"},
		{"no type", "", `{"email":"a","password":"b"}`, 415, "content_type"},
		{"other charset", "application/json; charset=utf-16", `{"email":"a","password":"b"}`, 415, "content_type"},
		{"large", json, `{"email":"a","password":"` + strings.Repeat("b", 65<<10) + `"}`, 413, "body_too_large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, path := range []string{"/auth/login", "/auth/password", "/auth/refresh"} {
				r := w.do(http.MethodPost, path, "", tc.kind, tc.body)
				if reason := r.body["reason"]; r.status != tc.status || reason != tc.reason && path == "/auth/login" {
					t.Errorf("%s: got %d %v, expected %d %s", path, r.status, reason, tc.status, tc.reason)
				}
			}
		})
	}
}

// TestRate: after too many passwords from one place, none is looked at.
func TestRate(t *testing.T) {
	w := newWorld(t)
	w.global = quick
	w.site = "login on\n\t\tlogin_rate 2"
	w.start()
	for range 2 {
		w.login("nobody@example.com", bobFirst).want(http.StatusUnauthorized, "credentials_invalid")
	}
	for _, path := range []string{"/auth/login", "/auth/password"} {
		r := w.post(path, "", object{"email": "bob@example.com", "password": bobFirst, "new_password": bobNext})
		if path == "/auth/login" {
			r = w.login("bob@example.com", bobFirst)
		}
		r.want(http.StatusTooManyRequests, "rate_limited")
		if r.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
}

// TestPasswordOfAnotherSession: a session and an address that disagree are an error.
func TestPasswordOfAnotherSession(t *testing.T) {
	w := newSettled(t)
	w.start()
	token := w.login("bob@example.com", bobNext).str("access_token")
	body := object{"email": "admin@example.com", "password": adminNext, "new_password": anna}
	w.post("/auth/password", token, body).want(http.StatusBadRequest, "credentials_conflict")
	w.post("/auth/password", "", body).want(http.StatusOK, "")
	w.get("/auth/me", token).want(http.StatusOK, "")
	w.post("/auth/password", token, object{"email": "bob@example.com", "password": bobNext, "new_password": anna}).want(http.StatusOK, "")
	w.get("/auth/me", token).want(http.StatusUnauthorized, "session_ended")
}
