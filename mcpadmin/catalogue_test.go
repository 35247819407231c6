package mcpadmin_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// TestTokensPaths: what there is, and that there is nothing of it unless it is switched
// on.
func TestTokensPaths(t *testing.T) {
	w, bob := newTokens(t)
	admin := w.login("admin@example.com", adminNext).want(http.StatusOK, "").str("access_token")
	id, _ := w.issued(bob, object{"name": "ci", "expires_in_days": 1})
	for path, want := range map[string]int{
		"/tokens/": 404, "/tokens//": 404, "/tokens/" + id + "/": 404, "/tokens/" + id + "/usage/x": 404, "/Tokens": 404,
		"/tokens/%2e%2e": 404, "/tokens/" + id + "%2fusage": 404, "/tokens/" + strings.ToLower(id): 404, "/tokens/admin/" + id: 405,
		"/tokens/admin": 404, "/tokens/teams": 404, "/tokens/teams/usage": 404, "/tokens/teams/red": 404, "/oauth/revoke": 405, "/oauth/revoke/": 404,
		"/tokens/admin/all": 403, "/tokens/{id}": 404,
	} {
		if r := w.get(path, bob); r.status != want {
			t.Errorf("%s: %d %s, expected %d", path, r.status, r.text, want)
		}
	}
	w.get("/tokens/"+id, admin).want(http.StatusNotFound, "token_unknown")
	if r := w.get("/tokens/admin/all?user_email=bob@example.com", admin).want(http.StatusOK, ""); !strings.Contains(r.text, id) {
		t.Errorf("got %s", r.text)
	}
	w.get("/tokens/admin/all?user_email=nobody@example.com", admin).want(http.StatusNotFound, "user_unknown")
	w.do(http.MethodDelete, "/tokens/admin/"+id, bob, "", "").want(http.StatusForbidden, "admin_required")
	w.do(http.MethodDelete, "/tokens/admin/"+id, admin, "", "").want(http.StatusNoContent, "")
	team := w.post("/tokens/teams/support", bob, object{"name": "team", "expires_in_days": 1}).want(http.StatusCreated, "")
	w.secrets = append(w.secrets, team.str("access_token"))
	w.post("/tokens/teams/support", bob, object{"name": "team2", "expires_in_days": 1, "team_id": "red"}).want(http.StatusBadRequest, "team_invalid")
	w.do(http.MethodPost, "/tokens/teams/support", bob, "application/json", `{"name":"x","expires_in_days":1,"team_id":null}`).want(http.StatusBadRequest, "team_invalid")
	w.post("/tokens/teams/red", bob, object{"name": "x", "expires_in_days": 1}).want(http.StatusBadRequest, "team_invalid")
	if r := w.get("/tokens/teams/support", admin).want(http.StatusOK, ""); r.body["total"] != 1.0 {
		t.Errorf("got %s", r.text)
	}
	delegated := w.post("/tokens", admin, object{"name": "made for bob", "expires_in_days": 1, "user_email": "BOB@example.com"}).want(http.StatusCreated, "")
	w.secrets = append(w.secrets, delegated.str("access_token"))
	if claims := w.claims(delegated.str("access_token")); claims["user"].(object)["is_admin"] != false || claims["teams"] != nil {
		t.Errorf("got %v", claims)
	}

	w.site = loginOn
	w.start()
	for _, path := range []string{"/tokens", "/tokens/" + id, "/tokens/admin/all"} {
		w.get(path, bob).want(http.StatusNotFound, "not_found")
	}
	w.post("/tokens", bob, object{"name": "late", "expires_in_days": 1}).want(http.StatusNotFound, "not_found")

	w.site = "tokens on"
	if err := w.load(); err == nil || !strings.Contains(err.Error(), "tokens make no sense without login") {
		t.Errorf("got %v", err)
	}
}

// TestTokensHeld: a permission is held as the roles of the configuration give it to the
// user now, wherever they do.
func TestTokensHeld(t *testing.T) {
	w := newSettled(t)
	w.site = tokensOn + `
		role team {
			team support
			when roles team
			allow prompts.execute
		}
		role one {
			when roles one
			allow tools.execute tickets/create_*
		}
		role hidden {
			when roles hidden
			allow resources.read
			deny resources.read
		}
		role all {
			when roles all
			allow *
		}
		role most {
			when roles most
			allow *
			deny tools.execute
		}
		role some {
			when roles some
			allow * tickets/x
		}
		role ours {
			when email bob@example.com
			allow logging.write
		}`
	w.start()
	bob := w.login("bob@example.com", bobNext).want(http.StatusOK, "").str("access_token")
	app, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	accounts := app.(*mcpauth.App).Desk().Accounts()
	by := account.Actor{Name: "test"}
	for role, want := range map[string]map[string]bool{
		"":       {"tools.read": true, "servers.use": true, "logging.write": true, "tools.execute": false, "prompts.execute": false, "*": false, "a2a.read": false},
		"one":    {"tools.execute": true, "prompts.execute": false},
		"team":   {"prompts.execute": true, "prompts.read": true, "resources.read": false},
		"hidden": {"resources.read": false},
		"all":    {"*": true, "a2a.read": true, "client.roots": true},
		"most":   {"*": false, "prompts.execute": true, "tools.execute": false, "a2a.read": false},
		"some":   {"tools.execute": true, "prompts.execute": true, "*": false},
		"ghost":  {"tools.execute": false},
	} {
		if role != "" {
			if err := accounts.Assign(t.Context(), by, "bob@example.com", account.Assignment{Role: role, Active: true}); err != nil {
				t.Fatal(err)
			}
		}
		for permission, held := range want {
			r := w.post("/tokens", bob, object{"name": permission + " of " + role + ".", "expires_in_days": 1, "scope": object{"permissions": []string{permission}}})
			if (r.status == http.StatusCreated) != held {
				t.Errorf("with the role %q, %s: %d %s", role, permission, r.status, r.text)
			}
			if r.status == http.StatusCreated {
				w.secrets = append(w.secrets, r.str("access_token"))
			}
		}
		if role != "" {
			if err := accounts.Unassign(t.Context(), by, "bob@example.com", role, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTokensRace: two who ask for the same name at the same time.
func TestTokensRace(t *testing.T) {
	w, bob := newTokens(t)
	var racing sync.WaitGroup
	replies := make([]*reply, 8)
	for i := range replies {
		racing.Go(func() { replies[i] = w.post("/tokens", bob, object{"name": "ci", "expires_in_days": 1}) })
	}
	racing.Wait()
	made := 0
	for _, r := range replies {
		if r.status == http.StatusCreated {
			made++
			w.secrets = append(w.secrets, r.str("access_token"))
		} else {
			r.want(http.StatusConflict, "name_taken")
		}
	}
	if made != 1 {
		t.Errorf("%d were made", made)
	}
}

// TestOAuthRevoke is RFC 7009: whoever has a token can end it, and nobody learns whether
// it was one.
func TestOAuthRevoke(t *testing.T) {
	w, bob := newTokens(t)
	id, raw := w.issued(bob, object{"name": "ci", "expires_in_days": 1})
	ok := func(values url.Values) {
		t.Helper()
		if r := w.form(values).want(http.StatusOK, ""); r.text != "" {
			t.Errorf("got %q", r.text)
		}
	}
	ok(url.Values{"token": {"nonsense"}})
	ok(url.Values{"token": {raw + "x"}})
	ok(url.Values{"token": {"mcpr_" + strings.Repeat("A", 26) + "." + strings.Repeat("A", 26) + "." + strings.Repeat("A", 26)}})
	w.get("/tokens/"+id, bob).want(http.StatusOK, "")
	ok(url.Values{"token": {raw}, "token_type_hint": {"refresh_token"}})
	if r := w.get("/tokens/"+id, bob); r.body["is_revoked"] != true || r.body["revoked_by"] != "holder of the token" {
		t.Errorf("got %s", r.text)
	}
	w.list(raw).want(http.StatusUnauthorized, "")
	ok(url.Values{"token": {raw}})

	// A session token ends its session, and so does a refresh token.
	session := w.login("bob@example.com", bobNext)
	ok(url.Values{"token": {session.str("access_token")}})
	w.get("/auth/me", session.str("access_token")).want(http.StatusUnauthorized, "session_ended")
	w.post("/auth/refresh", "", object{"refresh_token": session.str("refresh_token")}).want(http.StatusUnauthorized, "refresh_invalid")
	session = w.login("bob@example.com", bobNext)
	ok(url.Values{"token": {session.str("refresh_token")}, "token_type_hint": {"unheard_of"}})
	w.get("/auth/me", session.str("access_token")).want(http.StatusUnauthorized, "session_ended")
	w.list(session.str("access_token")).want(http.StatusUnauthorized, "")
	// One that was refreshed since is not good any more, and ends nothing.
	session = w.login("bob@example.com", bobNext)
	next := w.post("/auth/refresh", "", object{"refresh_token": session.str("refresh_token")}).want(http.StatusOK, "")
	w.secrets = append(w.secrets, next.str("access_token"), next.str("refresh_token"))
	ok(url.Values{"token": {session.str("access_token")}})
	w.get("/auth/me", next.str("access_token")).want(http.StatusOK, "")
	w.get("/auth/me", bob).want(http.StatusOK, "")

	for _, values := range []url.Values{{}, {"token": {""}}, {"token": {raw, raw}}, {"token": {raw}, "token_type_hint": {"a", "b"}}} {
		r := w.form(values)
		if r.status != http.StatusBadRequest || r.body["error"] != "invalid_request" {
			t.Errorf("got %d %s", r.status, r.text)
		}
	}
	w.post("/oauth/revoke", "", object{"token": raw}).want(http.StatusUnsupportedMediaType, "content_type")

	w.site = strings.Replace(tokensOn, "login_rate 1000", "login_rate 3", 1)
	w.start()
	limited := 0
	for range 5 {
		if r := w.form(url.Values{"token": {"nonsense"}}); r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") != "" {
			limited++
		}
	}
	if limited < 2 {
		t.Errorf("%d of 5 were too many", limited)
	}
	statetest.Eventually(t, "the audit log tells of it", func() bool {
		log, err := os.ReadFile(w.log)
		return err == nil && strings.Contains(string(log), `"actor":"holder of the token"`)
	})
}
