package mcpadmin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// tokenSteps go through all that can be asked about API tokens. {id} stands for bob's
// token, which is made first of all.
var tokenSteps = []step{
	{get, "/tokens", nil, ok, "", []string{`"id":"{id}"`, `"user_email":"bob@example.com"`}},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "ci", "expires_in_days": 30, "team_id": "support"}, taken, "name_taken", nil},
	{post, "/tokens", object{"name": "ci", "expires_in_days": 30}, bad, "member_missing", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "expires_in_days": 30}, bad, "member_missing", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x"}, bad, "expiry_invalid", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 1_000_000}, bad, "expiry_max", nil},
	{post, "/tokens", object{"user_email": "nobody@example.com", "name": "x", "expires_in_days": 30}, bad, "user_unknown", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 30, "team_id": "nobody"}, bad, "team_invalid", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 30, "team_id": nil}, bad, "json_invalid", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 30, "scope": object{"permissions": []string{}}}, http.StatusUnprocessableEntity, "permissions_empty", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 30, "scope": object{"server_id": nil}}, bad, "json_invalid", nil},
	{post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 30, "id": "x"}, bad, "json_invalid", nil},
	{post, "/tokens", nil, http.StatusUnsupportedMediaType, "content_type", nil},

	{get, "/tokens?user_email=bob@example.com&limit=1", nil, ok, "", []string{`"id":"{id}"`}},
	{get, "/tokens?user_email=admin@example.com", nil, ok, "", []string{`{"tokens":[]}`}},
	{get, "/tokens?user_email=nobody@example.com", nil, missing, "user_unknown", nil},
	{get, "/tokens?after={id}", nil, ok, "", []string{`{"tokens":[]}`}},
	{get, "/tokens?limit=0", nil, bad, "query_invalid", nil},
	{get, "/tokens?offset=1", nil, bad, "query_invalid", nil},
	{get, "/tokens?limit=1&limit=2", nil, bad, "query_invalid", nil},

	{get, "/tokens/{id}", nil, ok, "", []string{`"name":"ci"`, `"team_id":"support"`, `"resource_scopes":["tools.read","tools.execute","servers.use"]`, `"is_active":true`}},
	{get, "/tokens/nobody", nil, missing, "token_unknown", nil},
	{get, "/tokens/{id}/usage", nil, ok, "", []string{`"token_id":"{id}"`, `"period_days":30`}},
	{get, "/tokens/{id}/usage?days=90", nil, ok, "", []string{`"period_days":90`}},
	{get, "/tokens/{id}/usage?days=91", nil, bad, "query_invalid", nil},
	{get, "/tokens/nobody/usage", nil, missing, "token_unknown", nil},

	{put, "/tokens/{id}", object{"scope": object{"permissions": []string{"tools.read"}}, "tags": []string{"build"}}, ok, "", []string{`"resource_scopes":["tools.read","servers.use"]`, `"tags":["build"]`}},
	{put, "/tokens/{id}", object{"scope": object{"permissions": []string{"*"}}}, bad, "beyond_token", nil},
	{put, "/tokens/{id}", object{"scope": object{}}, bad, "beyond_token", nil},
	{put, "/tokens/{id}", object{"is_active": nil}, bad, "json_invalid", nil},
	{put, "/tokens/{id}", object{}, bad, "member_missing", nil},
	{put, "/tokens/{id}", object{"user_email": "admin@example.com"}, bad, "json_invalid", nil},
	{put, "/tokens/nobody", object{"is_active": false}, missing, "token_unknown", nil},

	{del, "/tokens/nobody", nil, missing, "token_unknown", nil},
	{del, "/tokens/{id}", object{"reason": strings.Repeat("x", 256)}, bad, "reason_invalid", nil},
	{del, "/tokens/{id}", object{"why": "x"}, bad, "json_invalid", nil},
	{del, "/tokens/{id}", object{"reason": "it leaked"}, gone, "", nil},
	{del, "/tokens/{id}", nil, gone, "", nil},
	{get, "/tokens/{id}", nil, ok, "", []string{`"is_revoked":true`, `"revocation_reason":"it leaked"`, `"is_active":false`}},
	{put, "/tokens/{id}", object{"is_active": true}, taken, "token_revoked", nil},
}

// at goes through steps, in which {id} stands for something.
func (p *place) at(steps []step, id string) {
	p.t.Helper()
	for _, s := range steps {
		path := strings.ReplaceAll(s.path, "{id}", id)
		r := p.ask(s.method, path, s.body)
		if got, _ := r.body["reason"].(string); r.status != s.status || got != s.reason {
			p.t.Errorf("%s %s %v: got %d %q, expected %d %q: %s", s.method, path, s.body, r.status, got, s.status, s.reason, r.text)
		}
		if s.status == gone && r.text != "" {
			p.t.Errorf("%s %s is answered with %q", s.method, path, r.text)
		}
		for _, part := range s.parts {
			if part = strings.ReplaceAll(part, "{id}", id); !strings.Contains(r.text, part) {
				p.t.Errorf("%s %s: there is no %s in %s", s.method, path, part, r.text)
			}
		}
	}
}

// grant makes a token for a user, and has it be nowhere else.
func (p *place) grant(body object) (id, raw string) {
	p.t.Helper()
	made := p.ask(post, "/tokens", body).want(created, "")
	raw = made.str("access_token")
	p.secrets = append(p.secrets, raw)
	return made.body["token"].(object)["id"].(string), raw
}

// bothPlaces runs a test below /admin and on Caddy's admin endpoint.
func bothPlaces(t *testing.T, test func(t *testing.T, w *world, p *place, actor string)) {
	for actor, at := range map[string]func(w *world) *place{
		"admin@example.com": func(w *world) *place { return w.below(w.administrator()) },
		"caddy admin":       (*world).caddyAdmin,
	} {
		t.Run(actor, func(t *testing.T) {
			w := newAdminWorld(t)
			w.start()
			statetest.Eventually(t, "bob is of the team", func() bool {
				return strings.Contains(w.caddyAdmin().ask(get, "/teams/support/members", nil).text, "bob@example.com")
			})
			test(t, w, at(w), actor)
		})
	}
}

// TestTokenDuties: administrators look after the tokens of all, and what they do counts
// for the token in circulation. What its user may not do, no token can.
func TestTokenDuties(t *testing.T) {
	bothPlaces(t, func(t *testing.T, w *world, p *place, actor string) {
		id, raw := p.grant(object{
			"user_email": "Bob@example.com", "name": "ci", "expires_in_days": 30, "team_id": "support",
			"scope": object{"permissions": []string{"tools.read", "tools.execute"}},
		})
		if claims := w.claims(raw); claims["jti"] != id || string(marshaled(t, claims["teams"])) != `["support"]` {
			t.Errorf("got %v", claims)
		}
		w.list(raw).want(ok, "")
		p.ask(put, "/tokens/"+id, object{"is_active": false}).want(ok, "")
		w.list(raw).want(http.StatusUnauthorized, "")
		p.ask(put, "/tokens/"+id, object{"is_active": true}).want(ok, "")
		w.list(raw).want(ok, "")
		served := w.forwarded()
		p.at(tokenSteps, id)
		w.list(raw).want(http.StatusUnauthorized, "")
		if w.forwarded() != served {
			t.Error("the server has received something by a token that was revoked")
		}
		for _, action := range []string{"token_create", "token_update", "token_revoke"} {
			w.wantLogged(`"action":"`+action+`"`, `"target":"`+id+`"`, `"actor":"`+actor+`"`)
		}

		// Whatever a token may be for, it is for nothing if its user may nothing.
		p.ask(post, "/users", object{"email": "cleo@example.com"}).want(created, "")
		_, nothing := p.grant(object{"user_email": "cleo@example.com", "name": "all", "expires_in_days": 1, "scope": object{"permissions": []string{"*"}}})
		w.list(nothing).want(http.StatusForbidden, "")
		if r := p.ask(post, "/tokens", object{"user_email": "cleo@example.com", "name": "x", "expires_in_days": 1, "team_id": "support"}); r.status != bad {
			t.Errorf("a token for a team that its user is not of: %d %s", r.status, r.text)
		}
		_, own := p.grant(object{"user_email": "admin@example.com", "name": "own", "expires_in_days": 1})
		p.ask(patch, "/users/cleo@example.com", object{"is_active": false}).want(ok, "")
		p.ask(post, "/tokens", object{"user_email": "cleo@example.com", "name": "x", "expires_in_days": 1}).want(bad, "user_unknown")
		if w.forwarded() != served {
			t.Error("the server has received something")
		}
		// No token of the gateway's but a session's gets in here.
		w.below(own).ask(get, "/tokens", nil).want(http.StatusForbidden, "session_required")
		w.below(own).ask(post, "/tokens", object{"user_email": "bob@example.com", "name": "x", "expires_in_days": 1}).want(http.StatusForbidden, "session_required")
	})
}

// TestTokenPages: the list goes on after the last one of a part.
func TestTokenPages(t *testing.T) {
	w := newAdminWorld(t)
	w.start()
	p := w.caddyAdmin()
	want := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		id, _ := p.grant(object{"user_email": "bob@example.com", "name": name, "expires_in_days": 1})
		want[id] = true
	}
	for _, user := range []string{"", "&user_email=bob@example.com"} {
		seen, after := map[string]bool{}, ""
		for range 3 {
			page := p.ask(get, "/tokens?limit=2"+user+after, nil).want(ok, "")
			for _, token := range page.body["tokens"].([]any) {
				seen[token.(object)["id"].(string)] = true
			}
			next, more := page.body["next"].(string)
			if !more {
				break
			}
			after = "&after=" + next
		}
		if len(seen) != len(want) {
			t.Errorf("saw %v, there are %v", seen, want)
		}
	}
}
