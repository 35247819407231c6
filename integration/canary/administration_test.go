package canary

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The passwords that administrators give to others.
const (
	cleoFirst = "canary cleo: Basalt 3 lanterns hum along"
	cleoNext  = "canary cleo: Velvet 8 anchors drift apart"
	doraFirst = "canary other: Copper 6 pigeons whistle low"
)

// provider is an authorization server whose tokens nobody else can read. What it says of
// bad ones repeats all that it was told.
func (w *world) provider() *httptest.Server {
	provider := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		token := r.PostFormValue("token")
		w.mu.Lock()
		fmt.Fprintf(&w.told, "%v %s\n", r.Header, r.PostForm.Encode())
		w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		answer := object{"active": true, "iss": "https://opaque.example.com", "aud": w.url, "sub": "olga", "roles": []string{"reader"}, "jti": "opaque-1", "exp": time.Now().Add(time.Hour).Unix()}
		switch {
		case strings.Contains(token, "good"):
		case strings.Contains(token, "broken"):
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(rw, token+" by "+r.Header.Get("Authorization"))
			return
		case strings.Contains(token, "garbage"):
			_, _ = io.WriteString(rw, `{"active":true,"`+token+`":`)
			return
		case strings.Contains(token, "claims"):
			answer["scopes"] = []string{token, r.Header.Get("Authorization")}
		case strings.Contains(token, "moved"):
			rw.Header().Set("Location", "/elsewhere?token="+token)
			rw.WriteHeader(http.StatusTemporaryRedirect)
			return
		default:
			answer = object{"active": false, "error_description": token}
		}
		_ = json.NewEncoder(rw).Encode(answer)
	}))
	w.t.Cleanup(provider.Close)
	return provider
}

// opaque are tokens that only the provider can read.
func (w *world) opaque() (tokens []string) {
	for _, kind := range []string{"good", "bad", "broken", "garbage", "claims", "moved"} {
		tokens = append(tokens, w.cage.add("a token of the provider: "+kind, "canary-opaque-"+kind+"-"+randomText()))
	}
	return tokens
}

// do sends a request with a JSON object to somewhere, and wants a status.
func (w *world) do(status int, method, address, token string, body any, mayTell ...string) reply {
	w.t.Helper()
	text := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(encoded)
	}
	var header []string
	if token != "" {
		header = append(header, "Authorization: Bearer "+token)
	}
	r := w.ask(w.request(method, address, text, header...), mayTell...)
	if r.status != status {
		w.t.Errorf("%s %s: got %d, expected %d: %s", method, address, r.status, status, r.text)
	}
	return r
}

// made are API tokens that people make for themselves, and administrators for them.
func (w *world) made(admin, bob string) (tokens, ids []string) {
	scope := object{"permissions": []string{"tools.execute", "tools.read"}}
	for _, place := range []struct{ address, token, user string }{
		{w.url + "/tokens", bob, ""},
		{w.url + "/tokens", admin, "bob@example.com"},
		{w.url + "/admin/tokens", admin, "bob@example.com"},
		{w.admin + "/mcp_gateway/tokens", "", "bob@example.com"},
	} {
		body := object{"name": "canary " + randomText(), "expires_in_days": 3, "scope": scope}
		if place.user != "" {
			body["user_email"] = place.user
		}
		r := w.do(http.StatusCreated, http.MethodPost, place.address, place.token, body, "access_token")
		tokens = append(tokens, r.body["access_token"].(string))
		id := r.body["token"].(object)["id"].(string)
		ids = append(ids, id)
		w.do(http.StatusOK, http.MethodGet, w.admin+"/mcp_gateway/tokens/"+id, "", nil)
		w.do(http.StatusOK, http.MethodGet, place.address, place.token, nil)
		if r := w.mcp(tokens[len(tokens)-1], call); r.status != http.StatusOK {
			w.t.Errorf("an API token is answered with %d %s", r.status, r.text)
		}
		// In places where it should not be.
		token := tokens[len(tokens)-1]
		w.ask(w.request(http.MethodGet, place.address, "", "Authorization: Bearer "+token))
		w.ask(w.request(http.MethodPost, place.address, `{"name":"x","expires_in_days":1,"`+token+`":1}`, "Authorization: Bearer "+place.token))
		w.ask(w.request(http.MethodPost, place.address, `{"name":["`+token+`"],"expires_in_days":"`+token+`"}`, "Authorization: Bearer "+place.token))
		w.ask(w.request(http.MethodPut, place.address+"/"+id, `{"is_active":"`+token+`"}`, "Authorization: Bearer "+place.token))
	}
	return tokens, ids
}

// revoked ends API tokens in each way, after which they are used again.
func (w *world) revoked(admin string, tokens, ids []string) {
	form := func(status int, values url.Values) {
		r := w.request(http.MethodPost, w.url+"/oauth/revoke", values.Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if answer := w.ask(r); answer.status != status {
			w.t.Errorf("a token is revoked with %d: %s", answer.status, answer.text)
		}
	}
	for _, token := range append(w.opaque(), tokens[0]+"x") {
		form(http.StatusOK, url.Values{"token": {token}})
	}
	form(http.StatusBadRequest, url.Values{"token": {tokens[0], tokens[1]}})
	form(http.StatusBadRequest, url.Values{"tokens": {tokens[0]}})
	form(http.StatusOK, url.Values{"token": {tokens[0]}, "token_type_hint": {"access_token"}})
	w.do(http.StatusNoContent, http.MethodDelete, w.url+"/tokens/admin/"+ids[1], admin, object{"reason": "canary"})
	w.do(http.StatusOK, http.MethodPut, w.url+"/admin/tokens/"+ids[2], admin, object{"is_active": false})
	w.do(http.StatusNoContent, http.MethodDelete, w.admin+"/mcp_gateway/tokens/"+ids[3], "", nil)
	for _, token := range tokens {
		if r := w.mcp(token, call); r.status != http.StatusUnauthorized {
			w.t.Errorf("a dead token is answered with %d %s", r.status, r.text)
		}
	}
	for _, id := range ids {
		w.do(http.StatusOK, http.MethodGet, w.url+"/admin/tokens/"+id+"/usage", admin, nil)
	}
}

// administration is what administrators do, in both places.
func (w *world) administration(admin string) {
	for i, place := range []struct{ base, token string }{{w.url + "/admin", admin}, {w.admin + "/mcp_gateway", ""}} {
		email := fmt.Sprintf("cleo%d@example.com", i)
		user := place.base + "/users/" + email
		for _, bad := range []object{
			{"email": email, "password": []string{cleoFirst}},
			{"email": email, "password": cleoFirst, cleoNext: true},
			{"email": cleoFirst, "password": cleoFirst},
			{"email": "short@example.com", "password": "canary"},
		} {
			w.do(http.StatusBadRequest, http.MethodPost, place.base+"/users", place.token, bad)
		}
		w.ask(w.request(http.MethodPost, place.base+"/users", `{"email":"`+email+`","password":"`+cleoFirst, "Authorization: Bearer "+place.token))
		w.do(http.StatusCreated, http.MethodPost, place.base+"/users", place.token, object{"email": email, "password": cleoFirst})
		w.do(http.StatusConflict, http.MethodPost, place.base+"/users", place.token, object{"email": email, "password": cleoFirst})
		w.do(http.StatusBadRequest, http.MethodPut, user+"/password", place.token, object{"password": cleoFirst})
		w.do(http.StatusBadRequest, http.MethodPut, user+"/password", place.token, object{"password": cleoNext, "again": cleoNext})
		w.do(http.StatusNoContent, http.MethodPut, user+"/password", place.token, object{"password": cleoNext})
		w.do(http.StatusOK, http.MethodPost, user+"/roles", place.token, object{"role": "reader"})
		for _, path := range []string{"/users", "/users/" + email, "/users/bob@example.com/sessions", "/roles", "/teams", "/keys", "/revocations", "/servers", "/well-known", "/security", "/tokens", "/mcp-sessions"} {
			w.do(http.StatusOK, http.MethodGet, place.base+path, place.token, nil)
		}
		w.do(http.StatusCreated, http.MethodPost, place.base+"/keys", place.token, object{})
		sessions, _ := w.do(http.StatusOK, http.MethodGet, place.base+"/mcp-sessions?user=bob@example.com", place.token, nil).body["sessions"].([]any)
		if len(sessions) == 0 {
			w.t.Error("bob has no MCP session")
			continue
		}
		w.do(http.StatusNoContent, http.MethodDelete, place.base+"/mcp-sessions/"+sessions[0].(object)["session_id"].(string), place.token, nil)
		w.do(http.StatusNoContent, http.MethodDelete, user+"/tokens", place.token, nil)
		w.do(http.StatusNoContent, http.MethodDelete, user, place.token, nil)
	}
	mine := w.do(http.StatusOK, http.MethodGet, w.url+"/reverse-proxy/sessions", admin, nil).body["sessions"].([]any)
	w.do(http.StatusOK, http.MethodDelete, w.url+"/reverse-proxy/sessions/"+mine[0].(object)["session_id"].(string), admin, nil)
}

// commands are those of the command line that take or print a secret.
func (w *world) commands() {
	address := strings.TrimPrefix(w.admin, "http://")
	run := func(input string, good bool, args ...string) string {
		w.t.Helper()
		cmd := w.command(w.t.Context(), append(args, "--address", address)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if (err == nil) != good {
			w.t.Errorf("caddy %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for _, step := range []struct {
		input string
		good  bool
		args  []string
	}{
		{doraFirst + "\n" + doraFirst + "\n", false, []string{"mcp", "user", "add", "dora@example.com", "--password", "-"}},
		{doraFirst + "\n", true, []string{"mcp", "user", "add", "dora@example.com", "--password", "-"}},
		{doraFirst + "\n", false, []string{"mcp", "user", "add", "dora@example.com", "--password", "-"}},
		{doraFirst + "\n", false, []string{"mcp", "user", "password", "dora@example.com"}},
		{"", true, []string{"mcp", "user", "show", "dora@example.com", "--json"}},
		{"", true, []string{"mcp", "session", "list"}},
	} {
		w.cage.look(w.t, "caddy "+strings.Join(step.args, " "), []byte(run(step.input, step.good, step.args...)))
	}
	out := run("", true, "mcp", "token", "create", "bob@example.com", "canary", "--days", "3", "--permission", "tools.execute")
	token := regexp.MustCompile(`(?m)^eyJ[\w-]+\.[\w-]+\.[\w-]+$`).FindString(out)
	if token == "" || w.mcp(w.cage.addToken("a token of the command line", token), call).status != http.StatusOK {
		w.t.Fatalf("no good token is printed: %s", out)
	}
	w.cage.look(w.t, "the rest of what is printed with a token", []byte(strings.Replace(out, token, "", 1)))
	for _, args := range [][]string{{"mcp", "token", "list"}, {"mcp", "token", "list", "--json"}} {
		w.cage.look(w.t, "caddy "+strings.Join(args, " "), []byte(run("", true, args...)))
	}
}

// lookAtProvider: it is told its own tokens by its own client, and nothing else.
func (w *world) lookAtProvider() {
	w.mu.Lock()
	text := w.told.String()
	w.mu.Unlock()
	if !strings.Contains(text, "canary-opaque-good") || strings.Contains(text, "eyJ") {
		w.t.Errorf("the provider was told %s", text)
	}
	for _, b := range w.cage.birds {
		if strings.HasPrefix(b.name, "a token of the provider") || b.name == "CANARY_CLIENT" {
			for _, form := range b.forms {
				text = strings.ReplaceAll(text, string(form), "")
			}
		}
	}
	w.cage.look(w.t, "what the provider was told", []byte(text))
}
