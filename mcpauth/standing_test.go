package mcpauth

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// TestStandingOfAccount: what is changed of an account counts for the very next request
// with a token of it, whatever the token says.
func TestStandingOfAccount(t *testing.T) {
	const alice = "alice@example.com"
	all := map[string]string{"notes/list": "received", "crm/read": "received", "crm/team": "received", "desk/read": "received", "notes/write": "not_found"}
	with := func(change map[string]string) map[string]string {
		changed := map[string]string{}
		maps.Copy(changed, all)
		maps.Copy(changed, change)
		return changed
	}
	refused := func(reason string) map[string]string {
		return map[string]string{"notes/list": reason, "crm/read": reason, "desk/read": reason}
	}
	for name, tc := range map[string]struct {
		change       func(n *node)
		session, api map[string]string
	}{
		"nothing": {func(*node) {}, all, all},
		"deactivated": {
			func(n *node) { n.update(alice, account.Update{Active: new(false)}) },
			refused("account_disabled"), refused("account_disabled"),
		},
		"deactivated and active again": {func(n *node) {
			n.update(alice, account.Update{Active: new(false)})
			n.update(alice, account.Update{Active: new(true)})
		}, all, all},
		"deleted": {
			func(n *node) { n.must(n.accounts().Delete(n.t.Context(), operator, alice)) },
			refused("account_unknown"), refused("account_unknown"),
		},
		"made anew with the same address": {func(n *node) {
			n.must(n.accounts().Delete(n.t.Context(), operator, alice))
			n.user(alice, false)
		}, refused("account_unknown"), refused("account_unknown")},
		"out of the team": {
			func(n *node) { n.must(n.accounts().RemoveMember(n.t.Context(), operator, "sales", alice)) },
			with(map[string]string{"crm/read": "forbidden_scope", "crm/team": "forbidden_scope"}), refused("token_membership"),
		},
		"out of the team and back": {func(n *node) {
			n.must(n.accounts().RemoveMember(n.t.Context(), operator, "sales", alice))
			n.must(n.accounts().SetMember(n.t.Context(), operator, "sales", alice, account.Owner))
		}, all, all},
		"the team is gone": {
			func(n *node) { n.must(n.accounts().DeleteTeam(n.t.Context(), operator, "sales")) },
			with(map[string]string{"crm/read": "forbidden_scope", "crm/team": "forbidden_scope"}), refused("token_membership"),
		},
		"the team is another one": {func(n *node) {
			n.must(n.accounts().DeleteTeam(n.t.Context(), operator, "sales"))
			n.team("sales")
		}, with(map[string]string{"crm/read": "forbidden_scope", "crm/team": "forbidden_scope"}), refused("token_membership")},
		"another role": {
			func(n *node) { n.assign(alice, "writer", "") },
			with(map[string]string{"notes/write": "received", "crm/write": "received", "desk/write": "received"}),
			with(map[string]string{"notes/write": "received", "crm/write": "received", "desk/write": "received"}),
		},
		"a role in the team": {
			func(n *node) { n.assign(alice, "writer", "sales") },
			with(map[string]string{"notes/write": "not_found", "crm/write": "received", "desk/write": "not_found"}),
			with(map[string]string{"notes/write": "not_found", "crm/write": "received", "desk/write": "not_found"}),
		},
		"a role in another team": {
			func(n *node) { n.assign(alice, "writer", "support") },
			with(map[string]string{"crm/write": "not_found", "desk/write": "not_found"}),
			with(map[string]string{"crm/write": "not_found", "desk/write": "not_found"}),
		},
		"an inactive role": {func(n *node) {
			n.must(n.accounts().Assign(n.t.Context(), operator, alice, account.Assignment{Role: "writer"}))
		}, all, all},
		"without the role": {
			func(n *node) { n.must(n.accounts().Unassign(n.t.Context(), operator, alice, "reader", "")) },
			with(map[string]string{"notes/list": "forbidden", "crm/read": "not_found", "desk/read": "forbidden", "notes/write": "forbidden"}),
			with(map[string]string{"notes/list": "forbidden", "crm/read": "not_found", "desk/read": "forbidden", "notes/write": "forbidden"}),
		},
		"the role in the team instead": {
			func(n *node) {
				n.must(n.accounts().Unassign(n.t.Context(), operator, alice, "reader", ""))
				n.assign(alice, "reader", "sales")
			},
			with(map[string]string{"notes/list": "forbidden", "crm/read": "received", "desk/read": "forbidden", "notes/write": "forbidden"}),
			with(map[string]string{"notes/list": "forbidden", "crm/read": "received", "desk/read": "forbidden", "notes/write": "forbidden"}),
		},
		"the password has to be changed": {func(n *node) {
			n.must(n.accounts().SetPassword(n.t.Context(), operator, alice, "Tulip-42 walks sideways"))
		}, refused("password_change_required"), all},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t, stored(t), nil)
			u := n.user(alice, false)
			n.team("sales", alice)
			n.team("support")
			n.assign(alice, "reader", "")
			session := n.session(u, "s1", issue.Session{Teams: []string{"sales"}, Roles: []string{"reader", "writer"}})
			api, _ := n.token(u, "sales", "", nil)
			for range 2 { // the second time from the cache
				n.want(session, all)
				n.want(api, all)
			}
			tc.change(n)
			n.want(session, tc.session)
			n.want(api, tc.api)
		})
	}
}

// TestStandingOfAdministrator: whether somebody is an administrator is for the account to
// say, and an API token can only say less.
func TestStandingOfAdministrator(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	const bob = "bob@example.com"
	n.user("root@example.com", true)
	u := n.user(bob, true)
	n.team("sales")
	n.assign(bob, "reader", "")
	session, _ := n.session(u, "s1", issue.Session{}), ""
	api, _ := n.token(u, "", "", nil)
	plain, _ := n.token(account.User{ID: u.ID, Email: bob}, "", "", nil)
	n.want(session, map[string]string{"crm/read": "received"})
	n.want(api, map[string]string{"crm/read": "received"})
	n.want(plain, map[string]string{"crm/read": "forbidden_scope", "notes/list": "received"})
	n.update(bob, account.Update{Admin: new(false)})
	for _, token := range []string{session, api, plain} {
		n.want(token, map[string]string{"crm/read": "forbidden_scope", "notes/list": "received"})
	}
	n.update(bob, account.Update{Admin: new(true)})
	n.want(session, map[string]string{"crm/read": "received"})
	n.want(api, map[string]string{"crm/read": "received"})
	n.want(plain, map[string]string{"crm/read": "forbidden_scope"})
}

// TestStandingOfRecord: the record of an API token bounds it, and so does the token itself.
func TestStandingOfRecord(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	u := n.user("alice@example.com", false)
	other := n.user("other@example.com", false)
	n.team("sales", "alice@example.com")
	n.team("support", "alice@example.com")
	n.assign("alice@example.com", "reader", "")
	fine := map[string]string{"notes/list": "received", "crm/read": "received"}
	all := func(reason string) map[string]string {
		return map[string]string{"notes/list": reason, "crm/read": reason}
	}
	for name, tc := range map[string]struct {
		scopes string
		change func(r *catalogue.Record)
		want   map[string]string
	}{
		"as it was":              {"", func(*catalogue.Record) {}, fine},
		"not active":             {"", func(r *catalogue.Record) { r.Active = false }, all("token_inactive")},
		"revoked":                {"", func(r *catalogue.Record) { r.Revoked = time.Now() }, all("token_revoked")},
		"expired":                {"", func(r *catalogue.Record) { r.Expires = time.Now().Add(-time.Second) }, all("token_expired")},
		"somebody else's":        {"", func(r *catalogue.Record) { r.UserID = other.ID }, all("token_unknown")},
		"of another team":        {"", func(r *catalogue.Record) { r.Team = "support" }, map[string]string{"notes/list": "received", "crm/read": "forbidden_scope", "desk/read": "received"}},
		"of a team without":      {"", func(r *catalogue.Record) { r.Team = "strangers" }, all("token_membership")},
		"personal":               {"", func(r *catalogue.Record) { r.Team = "" }, map[string]string{"notes/list": "received", "crm/read": "forbidden_scope"}},
		"for a server":           {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"server_id":"crm"}`) }, map[string]string{"notes/list": "forbidden_scope", "crm/read": "received"}},
		"for the other server":   {`{"server_id":"crm"}`, func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"server_id":"notes"}`) }, all("forbidden_scope")},
		"widened":                {`{"server_id":"crm"}`, func(r *catalogue.Record) { r.Scopes = nil }, map[string]string{"notes/list": "forbidden_scope", "crm/read": "received"}},
		"widened to null":        {`{"permissions":["tools.read"]}`, func(r *catalogue.Record) { r.Scopes = jsontext.Value(`null`) }, all("not_found")},
		"other permissions":      {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"permissions":["tools.read"]}`) }, all("not_found")},
		"no permissions":         {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"permissions":[]}`) }, all("forbidden")},
		"both permissions":       {`{"permissions":["tools.execute","prompts.read"]}`, func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"permissions":["tools.execute","tools.read"]}`) }, fine},
		"from elsewhere":         {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"ip_restrictions":["192.0.2.0/24"]}`) }, all("forbidden_scope")},
		"an unknown restriction": {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`{"regions":["eu"]}`) }, all("token_scope")},
		"a list":                 {"", func(r *catalogue.Record) { r.Scopes = jsontext.Value(`[]`) }, all("token_scope")},
	} {
		t.Run(name, func(t *testing.T) {
			raw, record := n.token(u, "sales", tc.scopes, nil)
			if tc.scopes == "" {
				n.want(raw, fine)
			}
			tc.change(&record)
			n.put(record)
			n.want(raw, tc.want)
			record.Active, record.Revoked, record.Expires, record.UserID, record.Team, record.Scopes = true, time.Time{}, time.Now().Add(time.Hour), u.ID, "sales", jsontext.Value(tc.scopes)
			if tc.scopes == "" {
				record.Scopes = nil
				n.put(record)
				n.want(raw, fine) // what is taken back was not for good
			}
		})
	}
}

// TestStandingUnknown: a token without a record, or of a use that there is not, is refused
// although it is signed with the gateway's own key.
func TestStandingUnknown(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	u := n.user("alice@example.com", false)
	n.assign("alice@example.com", "reader", "")
	raw, record := n.token(u, "", "", nil)
	n.want(raw, map[string]string{"notes/list": "received"})
	_, err := n.app.Store().Apply(t.Context(), state.Remove(catalogue.Records.Key(record.ID)))
	n.must(err)
	reason, resp := n.ask(raw, "notes/list")
	if reason != "token_unknown" || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("%s, %d, %v", reason, resp.StatusCode, resp.Header)
	}
	_, err = n.app.Store().Apply(t.Context(), state.Overwrite(catalogue.Records.Key(record.ID), []byte("damaged")))
	n.must(err)
	n.want(raw, map[string]string{"notes/list": "account_unavailable"})

	stranger, _ := n.token(account.User{ID: "NOBODY"}, "", "", nil)
	n.want(stranger, map[string]string{"notes/list": "account_unknown"})
}

// TestStandingOfSession: a session token is good for as long as it is the last one of its
// session.
func TestStandingOfSession(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	u := n.user("alice@example.com", false)
	n.assign("alice@example.com", "reader", "")
	first := n.session(u, "s1", issue.Session{})
	n.want(first, map[string]string{"notes/list": "received"})
	second := n.session(u, "s1", issue.Session{}) // as a refresh does
	n.want(first, map[string]string{"notes/list": "session_ended"})
	n.want(second, map[string]string{"notes/list": "received"})
	_, err := n.app.Store().Apply(t.Context(), state.Remove(state.Key(state.TableLogin, u.ID, "s1")))
	n.must(err)
	n.want(second, map[string]string{"notes/list": "session_ended"})
	third := n.session(u, "s2", issue.Session{})
	n.want(third, map[string]string{"notes/list": "received"})
}

// TestStandingInTime: what ends at a time ends then, though nobody changes anything.
func TestStandingInTime(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	const alice = "alice@example.com"
	u := n.user(alice, false)
	n.assign(alice, "reader", "")
	end := time.Now().Add(700 * time.Millisecond)
	n.must(n.accounts().Assign(t.Context(), operator, alice, account.Assignment{Role: "writer", Active: true, Expires: end}))
	raw, _ := n.token(u, "", "", nil)
	got := n.call(raw, "notes/write")
	if time.Now().Before(end) && got != "received" {
		t.Errorf("before the end: %s", got)
	}
	<-time.After(time.Until(end))
	n.want(raw, map[string]string{"notes/write": "not_found", "notes/list": "received"})
}

// TestOwnTokensAreBound: nothing in the configuration makes an exception.
func TestOwnTokensAreBound(t *testing.T) {
	off := []any{map[string]any{"issuer": ownName, "token_scope_off": true, "keys": map[string]any{"source": "gateway"}}}
	_, _, err := appWith(t, `{"tokens":{"name":"`+ownName+`"}}`, gateConfig(map[string]any{"issuers": off}))
	if err == nil || !strings.Contains(err.Error(), "token_scope off") {
		t.Errorf("got %v", err)
	}
	// The same issuer, with keys from elsewhere.
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	secret := []any{map[string]any{"issuer": ownName, "keys": map[string]any{"source": "secret", "value": gateSecret}}}
	n, _ := newNode(t, stored(t), map[string]any{"issuers": secret})
	u := n.user("alice@example.com", false)
	n.assign("alice@example.com", "reader", "")
	for use, want := range map[string]string{"api": "token_unknown", "session": "session_ended", "Session": "token_unknown", "": "token_unknown"} {
		raw := tokenOf(t, "writer", map[string]any{"iss": ownName, "sub": u.ID, "token_use": use, "jti": "forged"})
		n.want(raw, map[string]string{"notes/write": want})
	}
	raw := tokenOf(t, "writer", map[string]any{"iss": ownName, "sub": u.ID})
	n.want(raw, map[string]string{"notes/write": "token_unknown"})
}

// TestStandingTold: what the servers and the conditions are told is what the account says.
func TestStandingTold(t *testing.T) {
	roles := []any{map[string]any{
		"name": "reader", "when": []any{map[string]any{"claim": "roles", "values": []string{"reader"}}},
		"allow": []any{map[string]any{"permission": "tools.execute", "if": `claims.is_admin == false && "sales" in claims.teams && !("writer" in claims.roles)`}},
	}}
	n, _ := newNode(t, stored(t), map[string]any{"roles": roles})
	const alice = "alice@example.com"
	n.user("root@example.com", true)
	u := n.user(alice, false)
	n.team("sales")
	n.assign(alice, "reader", "")
	session := n.session(u, "s1", issue.Session{Teams: []string{"sales"}, Roles: []string{"writer"}})
	n.want(session, map[string]string{"notes/list": "not_found"}) // not of the team
	n.must(n.accounts().SetMember(t.Context(), operator, "sales", alice, account.Member))
	n.want(session, map[string]string{"notes/list": "received"})
	if !slices.Equal(n.roles, []string{"reader"}) {
		t.Errorf("the server is told of %v", n.roles)
	}
	n.update(alice, account.Update{Admin: new(true)})
	n.want(session, map[string]string{"notes/list": "not_found"})
	n.update(alice, account.Update{Admin: new(false)})
}

// TestOthersAreNotBound: tokens of other issuers have no account here.
func TestOthersAreNotBound(t *testing.T) {
	issuers := []any{
		map[string]any{"issuer": ownName, "keys": map[string]any{"source": "gateway"}},
		map[string]any{"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret}},
	}
	n, _ := newNode(t, stored(t), map[string]any{"issuers": issuers})
	raw := tokenOf(t, "reader", map[string]any{"token_use": "api"})
	n.want(raw, map[string]string{"notes/list": "received"})
	statetest.Eventually(t, "nothing is watched", func() bool { return n.handler.register.cache.Len() == 0 })
}
