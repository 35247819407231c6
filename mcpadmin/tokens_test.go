package mcpadmin_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

const tokensOn = loginOn + "\n\t\ttokens on"

// newTokens is a world with tokens, and bob logged in. His role is reader, which may read
// tools, and he owns the team support.
func newTokens(t *testing.T) (w *world, bob string) {
	t.Helper()
	w = newSettled(t)
	w.site = tokensOn
	w.start()
	return w, w.login("bob@example.com", bobNext).want(http.StatusOK, "").str("access_token")
}

// issued makes a token, and has it be nowhere else.
func (w *world) issued(session string, body object) (id, raw string) {
	w.t.Helper()
	made := w.post("/tokens", session, body).want(http.StatusCreated, "")
	raw = made.str("access_token")
	w.mu.Lock()
	w.secrets = append(w.secrets, raw)
	w.mu.Unlock()
	return made.body["token"].(object)["id"].(string), raw
}

func (w *world) put(id, session string, body string) *reply {
	w.t.Helper()
	return w.do(http.MethodPut, "/tokens/"+id, session, "application/json", body)
}

func (w *world) form(values url.Values) *reply {
	w.t.Helper()
	return w.do(http.MethodPost, "/oauth/revoke", "", "application/x-www-form-urlencoded", values.Encode())
}

// TestTokensLife is the life of an API token as a client has it.
func TestTokensLife(t *testing.T) {
	w, bob := newTokens(t)
	made := w.post("/tokens", bob, object{
		"name": "ci", "description": "the build", "expires_in_days": 30, "tags": []string{"build"}, "team_id": "support",
		"scope": object{
			"server_id": "tickets", "permissions": []string{"tools.read"}, "ip_restrictions": []string{"127.0.0.0/8"},
			"time_restrictions": object{"days": []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}},
			"usage_limits":      object{"requests_per_hour": 100},
		},
	}).want(http.StatusCreated, "")
	raw := made.str("access_token")
	w.secrets = append(w.secrets, raw)
	token := made.body["token"].(object)
	id := token["id"].(string)
	for name, want := range (object{
		"name": "ci", "description": "the build", "user_email": "bob@example.com", "team_id": "support", "server_id": "tickets",
		"resource_scopes": []any{"tools.read", "servers.use"}, "ip_restrictions": []any{"127.0.0.0/8"}, "is_active": true, "is_revoked": false,
		"tags": []any{"build"}, "usage_limits": object{"requests_per_hour": 100.0},
	}) {
		if got, _ := json.Marshal(token[name]); string(got) != string(marshaled(t, want)) {
			t.Errorf("%s is %s", name, got)
		}
	}
	claims := w.claims(raw)
	if claims["jti"] != id || claims["token_use"] != "api" || string(marshaled(t, claims["teams"])) != `["support"]` {
		t.Errorf("got %v", claims)
	}

	w.get("/tokens/"+id, bob).want(http.StatusOK, "")
	list := w.get("/tokens", bob).want(http.StatusOK, "")
	if list.body["total"] != 1.0 || list.body["limit"] != 50.0 || !strings.Contains(list.text, id) {
		t.Errorf("got %s", list.text)
	}
	for _, path := range []string{"/tokens", "/tokens/" + id, "/tokens/teams/support"} {
		if r := w.get(path, bob); strings.Contains(r.text, raw) || strings.Contains(r.text, "hash") || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s tells too much: %s", path, r.text)
		}
	}
	changed := w.put(id, bob, `{"description":"","is_active":false}`).want(http.StatusOK, "")
	if changed.body["is_active"] != false || changed.body["description"] != "" || changed.body["name"] != "ci" {
		t.Errorf("got %s", changed.text)
	}
	if r := w.get("/tokens", bob); r.body["total"] != 0.0 {
		t.Errorf("got %s", r.text)
	}
	if r := w.get("/tokens?include_inactive=true&limit=7&offset=0", bob); r.body["total"] != 1.0 || r.body["limit"] != 7.0 {
		t.Errorf("got %s", r.text)
	}
	w.put(id, bob, `{"is_active":true}`).want(http.StatusOK, "")

	gone := w.do(http.MethodDelete, "/tokens/"+id, bob, "application/json", `{"reason":"lost"}`).want(http.StatusNoContent, "")
	if gone.text != "" || gone.header.Get("Content-Type") != "" {
		t.Errorf("got %v %q", gone.header, gone.text)
	}
	w.do(http.MethodDelete, "/tokens/"+id, bob, "", "").want(http.StatusNoContent, "")
	record := w.get("/tokens/"+id, bob).want(http.StatusOK, "")
	if record.body["is_revoked"] != true || record.body["revocation_reason"] != "lost" || record.body["revoked_by"] != "bob@example.com" {
		t.Errorf("got %s", record.text)
	}
	w.put(id, bob, `{"is_active":true}`).want(http.StatusConflict, "token_revoked")
	w.list(raw).want(http.StatusUnauthorized, "")
	if w.forwarded() != 0 {
		t.Error("the server has received something")
	}

	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"token_create", "token_update", "token_revoke", "token_use"} {
		if !strings.Contains(string(log), `"action":"`+action+`"`) {
			t.Errorf("the audit log has no %s", action)
		}
	}
}

func marshaled(t *testing.T, value any) []byte {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) claims(raw string) object {
	w.t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		w.t.Fatal(err)
	}
	var claims object
	if err := json.Unmarshal(payload, &claims); err != nil {
		w.t.Fatal(err)
	}
	return claims
}

// TestTokensUsed: requests are counted with the token that they had, also those that are
// refused; what a session does is not.
func TestTokensUsed(t *testing.T) {
	w, bob := newTokens(t)
	// Without a claim that a role asks for, the token of a member only gets to connect.
	w.stop()
	w.site = strings.Replace(tokensOn, "login on", "role all {\n\t\t\tallow tools.read\n\t\t}\n\t\tlogin on", 1)
	w.start()
	id, raw := w.issued(bob, object{"name": "ci", "expires_in_days": 1})
	w.list(raw).want(http.StatusOK, "")
	w.list(raw).want(http.StatusOK, "")
	w.list(bob).want(http.StatusOK, "")
	w.do(http.MethodPost, "/mcp", raw, "text/plain", "x")
	w.do(http.MethodDelete, "/tokens/"+id, bob, "", "").want(http.StatusNoContent, "")
	w.list(raw).want(http.StatusUnauthorized, "")
	// They are written when all is over, at the latest.
	w.stop()
	w.start()
	r := w.get("/tokens/"+id+"/usage?days=2", bob).want(http.StatusOK, "")
	if r.body["total_requests"] != 4.0 || r.body["successful_requests"] != 2.0 || r.body["blocked_requests"] != 2.0 || r.body["success_rate"] != 0.5 ||
		r.body["period_days"] != 2.0 || r.body["average_response_time_ms"] == 0.0 || !strings.Contains(r.text, `[{"endpoint":"POST /mcp","requests":4}]`) {
		t.Errorf("got %s", r.text)
	}
	if r := w.get("/tokens/"+id, bob); r.body["last_used"] == nil {
		t.Errorf("got %s", r.text)
	}
	for days, reason := range map[string]string{"0": "days_invalid", "91": "days_invalid", "x": "query_invalid", "-1": "days_invalid"} {
		w.get("/tokens/"+id+"/usage?days="+days, bob).want(http.StatusBadRequest, reason)
	}
	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	var used []object
	for line := range strings.Lines(string(log)) {
		var entry object
		if json.Unmarshal([]byte(line), &entry) == nil && entry["action"] == "token_use" {
			used = append(used, entry)
		}
	}
	if len(used) != 4 || used[0]["status"] != 200.0 || used[0]["method"] != "tools/list" || used[0]["path"] != "/mcp" || used[0]["target"] != id ||
		used[0]["client_ip"] != "127.0.0.1" || used[3]["blocked"] != "revoked_or_expired" || used[3]["reason"] != "token_revoked" {
		t.Errorf("the audit log has %v", used)
	}
}

// TestTokensWho: who may manage tokens at all (behaviour.md section 4.2).
func TestTokensWho(t *testing.T) {
	w, bob := newTokens(t)
	id, raw := w.issued(bob, object{"name": "ci", "expires_in_days": 1})
	w.mu.Lock()
	w.secrets = append(w.secrets, "Ym9iOnNlY3JldA")
	w.mu.Unlock()
	for name, tc := range map[string]struct {
		authorization  []string
		status         int
		reason, saying string
	}{
		"nobody":      {nil, http.StatusUnauthorized, "token_missing", ""},
		"a session":   {[]string{"Bearer " + bob}, 0, "", ""},
		"case":        {[]string{"bEaReR " + bob}, 0, "", ""},
		"API token":   {[]string{"Bearer " + raw}, http.StatusForbidden, "session_required", "Token management requires an interactive session (JWT from web login or SSO). API tokens cannot create, list, or revoke other tokens."},
		"anonymous":   {[]string{"Bearer"}, http.StatusForbidden, "auth_anonymous", "Token management requires authentication. Anonymous access is not permitted."},
		"empty":       {[]string{""}, http.StatusForbidden, "auth_anonymous", "Token management requires authentication. Anonymous access is not permitted."},
		"basic":       {[]string{"Basic Ym9iOnNlY3JldA=="}, http.StatusForbidden, "auth_method_unknown", "Token management requires authentication. Authentication method could not be determined."},
		"garbage":     {[]string{"Bearer x.y.z"}, http.StatusUnauthorized, "token_malformed", ""},
		"two of them": {[]string{"Bearer " + bob, "Bearer " + bob}, http.StatusBadRequest, "token_several", ""},
	} {
		for _, request := range []struct{ method, path, body string }{
			{"POST", "/tokens", `{"name":"x","expires_in_days":1}`},
			{"GET", "/tokens", ""},
			{"GET", "/tokens/" + id, ""},
			{"PUT", "/tokens/" + id, `{}`},
			{"GET", "/tokens/" + id + "/usage", ""},
			{"DELETE", "/tokens/" + strings.Repeat("A", 26), ""},
			{"GET", "/tokens/teams/support", ""},
			{"POST", "/tokens/teams/support", `{"name":"y","expires_in_days":1}`},
			{"GET", "/tokens/admin/all", ""},
			{"DELETE", "/tokens/admin/" + id, ""},
		} {
			t.Run(name+" "+request.method+" "+request.path, func(t *testing.T) {
				r, err := http.NewRequestWithContext(t.Context(), request.method, w.url+request.path, strings.NewReader(request.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header["Authorization"] = tc.authorization
				if request.body != "" {
					r.Header.Set("Content-Type", "application/json")
				}
				got := w.send(r)
				switch {
				case tc.status == 0 && (got.status == http.StatusUnauthorized || got.status == http.StatusForbidden && !strings.Contains(request.path, "admin")):
					t.Errorf("got %d %s", got.status, got.text)
				case tc.status != 0:
					got.t = t
					got.want(tc.status, tc.reason)
					if said, _ := got.body["error"].(string); tc.saying != "" && said != tc.saying {
						t.Errorf("got %s", got.text)
					}
				}
				if value, ok := got.body["access_token"].(string); ok {
					w.mu.Lock()
					w.secrets = append(w.secrets, value)
					w.mu.Unlock()
				}
			})
		}
	}
	w.get("/tokens/"+id, bob).want(http.StatusOK, "")
	if r := w.get("/tokens/"+id, bob); r.body["is_revoked"] != false {
		t.Errorf("got %s", r.text)
	}
}

// TestTokensBody: null, what is left out, and what is of the wrong type.
func TestTokensBody(t *testing.T) {
	w, bob := newTokens(t)
	for name, tc := range map[string]struct {
		body, reason string
		status       int
	}{
		"no name":             {`{"expires_in_days":1}`, "member_missing", 400},
		"null name":           {`{"name":null,"expires_in_days":1}`, "json_invalid", 400},
		"no expiry":           {`{"name":"a"}`, "member_missing", 400},
		"null expiry":         {`{"name":"a","expires_in_days":null}`, "member_missing", 400},
		"expiry of a half":    {`{"name":"a","expires_in_days":1.5}`, "json_invalid", 400},
		"expiry as text":      {`{"name":"a","expires_in_days":"1"}`, "json_invalid", 400},
		"expiry of none":      {`{"name":"a","expires_in_days":0}`, "expiry_invalid", 400},
		"expiry too far":      {`{"name":"a","expires_in_days":91}`, "expiry_max", 400},
		"unknown member":      {`{"name":"a","expires_in_days":1,"nam":1}`, "json_invalid", 400},
		"repeated member":     {`{"name":"a","name":"b","expires_in_days":1}`, "json_invalid", 400},
		"unknown in scope":    {`{"name":"a","expires_in_days":1,"scope":{"permission":["*"]}}`, "json_invalid", 400},
		"permissions as text": {`{"name":"a","expires_in_days":1,"scope":{"permissions":"*"}}`, "json_invalid", 400},
		"wildcard":            {`{"name":"a","expires_in_days":1,"scope":{"permissions":["tools.*"]}}`, "permission_wildcard", 422},
		"null permission":     {`{"name":"a","expires_in_days":1,"scope":{"permissions":[null]}}`, "scope_invalid", 422},
		"bad address":         {`{"name":"a","expires_in_days":1,"scope":{"ip_restrictions":["x"]}}`, "scope_invalid", 422},
		"bad time":            {`{"name":"a","expires_in_days":1,"scope":{"time_restrictions":{"start_time":"09:00"}}}`, "scope_invalid", 422},
		"unknown time":        {`{"name":"a","expires_in_days":1,"scope":{"time_restrictions":{"start":"09:00"}}}`, "json_invalid", 400},
		"limit of none":       {`{"name":"a","expires_in_days":1,"scope":{"usage_limits":{"requests_per_day":0}}}`, "scope_invalid", 422},
		"not held":            {`{"name":"a","expires_in_days":1,"scope":{"permissions":["tools.execute"]}}`, "permission_not_held", 400},
		"* not held":          {`{"name":"a","expires_in_days":1,"scope":{"permissions":["*"]}}`, "permission_not_held", 400},
		"for others":          {`{"name":"a","expires_in_days":1,"user_email":"admin@example.com"}`, "admin_required", 403},
		"empty address":       {`{"name":"a","expires_in_days":1,"user_email":""}`, "email_invalid", 400},
		"empty team":          {`{"name":"a","expires_in_days":1,"team_id":""}`, "team_invalid", 400},
		"no such team":        {`{"name":"a","expires_in_days":1,"team_id":"red"}`, "team_invalid", 400},
		"team left out":       {`{"name":"inherited","expires_in_days":1}`, "", 201},
		"no team":             {`{"name":"inherited","expires_in_days":1,"team_id":null}`, "", 201},
		"nulls":               {`{"name":"nulls","expires_in_days":1,"description":null,"scope":null,"tags":null,"is_active":null,"user_email":null}`, "", 201},
		"nulls in scope":      {`{"name":"nulls2","expires_in_days":1,"scope":{"server_id":null,"permissions":null,"ip_restrictions":null,"time_restrictions":null,"usage_limits":null}}`, "", 201},
		"held":                {`{"name":"held","expires_in_days":1,"scope":{"permissions":["tools.read"]}}`, "", 201},
		"not active":          {`{"name":"idle","expires_in_days":1,"is_active":false}`, "", 201},
	} {
		r := w.do(http.MethodPost, "/tokens", bob, "application/json", tc.body)
		if r.status != tc.status || r.body["reason"] != nil && r.body["reason"] != tc.reason || r.body["reason"] == nil && tc.reason != "" {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
		if r.status != http.StatusCreated {
			continue
		}
		w.secrets = append(w.secrets, r.str("access_token"))
		made := r.body["token"].(object)
		if team := made["team_id"]; (team == "support") == (name == "no team") {
			t.Errorf("%s: the team is %v", name, team)
		}
		claims := w.claims(r.str("access_token"))
		if _, scoped := claims["scopes"]; scoped != (name == "held") || made["is_active"] != (name != "not active") {
			t.Errorf("%s: got %v %v", name, claims, made)
		}
		id := made["id"].(string)
		for body, reason := range map[string]string{
			`{"name":null}`:                     "member_null",
			`{"description":null}`:              "member_null",
			`{"scope":null}`:                    "member_null",
			`{"tags":null}`:                     "member_null",
			`{"is_active":null}`:                "member_null",
			`{"id":"x"}`:                        "json_invalid",
			`{"user_email":"x"}`:                "json_invalid",
			`{"tags":[null]}`:                   "json_invalid",
			`{"name":""}`:                       "name_invalid",
			`{"is_active":"true"}`:              "json_invalid",
			`[]`:                                "json_invalid",
			`{"scope":{"server_id":"x"}} {}`:    "json_invalid",
			`{"scope":{"server_id":"x","a":1}}`: "json_invalid",
		} {
			w.put(id, bob, body).want(http.StatusBadRequest, reason)
		}
		if name == "held" {
			w.put(id, bob, `{"scope":{"permissions":["*"]}}`).want(http.StatusBadRequest, "beyond_token")
			w.put(id, bob, `{"scope":{}}`).want(http.StatusBadRequest, "beyond_token")
		}
	}
	w.post("/tokens", bob, object{"name": "held", "expires_in_days": 1}).want(http.StatusConflict, "name_taken")
	w.do(http.MethodPost, "/tokens", bob, "text/plain", `{}`).want(http.StatusUnsupportedMediaType, "content_type")
	for _, query := range []string{"limit=x", "offset=1.5", "include_inactive=yes", "limit=99999999999"} {
		w.get("/tokens?"+query, bob).want(http.StatusBadRequest, "query_invalid")
	}
}
