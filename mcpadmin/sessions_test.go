package mcpadmin_test

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// mcp sends an MCP request of 2025-06-18, in a session if one is named, and returns the
// session of the answer.
func (w *world) mcp(token, session, body string) (status int, begun string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/mcp", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"Mcp-Protocol-Version": "2025-06-18", "Mcp-Session-Id": session,
	} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	r := w.send(request)
	return r.status, r.header.Get("Mcp-Session-Id")
}

// begin begins an MCP session.
func (w *world) begin(token string) string {
	w.t.Helper()
	status, id := w.mcp(token, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if status != http.StatusOK || id == "" {
		w.t.Fatalf("initialize: %d, session %q", status, id)
	}
	w.secrets = append(w.secrets, id)
	return id
}

const listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

func (w *world) use(token, session string) int {
	w.t.Helper()
	status, _ := w.mcp(token, session, listTools)
	return status
}

// items are the sessions of an answer, in the order in which they were begun.
func items(t *testing.T, r *reply) []object {
	t.Helper()
	list, ok := r.body["sessions"].([]any)
	if !ok {
		t.Fatalf("no sessions: %s", r.text)
	}
	var all []object
	for _, item := range list {
		all = append(all, item.(object))
	}
	slices.SortFunc(all, func(a, b object) int {
		return strings.Compare(a["connected_at"].(string), b["connected_at"].(string))
	})
	return all
}

// TestSessionsOff: without the switch there is nothing.
func TestSessionsOff(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.get("/reverse-proxy/sessions", "").want(http.StatusNotFound, "not_found")
	w.do(http.MethodDelete, "/reverse-proxy/sessions/x", "", "", "").want(http.StatusNotFound, "not_found")
}

// TestSessions: people see and end their MCP sessions, and administrators everybody's.
func TestSessions(t *testing.T) {
	w := newSettled(t)
	w.site += "\n\t\tsessions on"
	w.start()
	const path = "/reverse-proxy/sessions"
	bob := w.login("bob@example.com", bobNext).want(http.StatusOK, "").str("access_token")
	admin := w.login("admin@example.com", adminNext).want(http.StatusOK, "").str("access_token")

	w.get(path, "").want(http.StatusUnauthorized, "token_missing")
	w.get(path, "x").want(http.StatusUnauthorized, "token_malformed")
	if r := w.get(path, bob).want(http.StatusOK, ""); r.body["total"] != 0.0 || len(items(t, r)) != 0 {
		t.Errorf("before any: %s", r.text)
	}

	first, second := w.begin(bob), w.begin(bob)
	if status := w.use(bob, first); status != http.StatusOK {
		t.Fatalf("tools/list: %d", status)
	}
	r := w.get(path, bob).want(http.StatusOK, "")
	mine := items(t, r)
	if len(mine) != 2 || r.body["total"] != 2.0 {
		t.Fatalf("bob's: %s", r.text)
	}
	// They are in the order of their IDs, which say nothing.
	slices.SortFunc(mine, func(a, b object) int { return cmp.Compare(b["message_count"].(float64), a["message_count"].(float64)) })
	server, _ := mine[0]["server_info"].(object)
	if mine[0]["user"] != "bob@example.com" || server["name"] != "tickets" || server["protocol_version"] != "2025-06-18" || mine[0]["issuer"] != w.url ||
		mine[0]["message_count"] != 4.0 || mine[0]["bytes_transferred"].(float64) < float64(len(listTools)) || mine[1]["message_count"] != 2.0 {
		t.Errorf("bob's: %s", r.text)
	}
	for _, secret := range []string{first, second, "recognisable-upstream-session"} {
		if strings.Contains(r.text, secret) {
			t.Errorf("the list tells %s", secret)
		}
	}

	// The administrator sees them, and has none.
	if r := w.get(path, admin).want(http.StatusOK, ""); r.body["total"] != 2.0 || items(t, r)[0]["user"] != "bob@example.com" {
		t.Errorf("all: %s", r.text)
	}
	if r := w.get(path+"?limit=1&offset=1", admin).want(http.StatusOK, ""); r.body["total"] != 2.0 || len(items(t, r)) != 1 {
		t.Errorf("one: %s", r.text)
	}
	for _, query := range []string{"limit=x", "limit=-1", "limit=1001", "offset=-1", "limit=1&limit=2", "limit=%zz"} {
		w.get(path+"?"+query, admin).want(http.StatusBadRequest, "query")
	}

	// Somebody else's session is as unknown as none, and the id that a client has is
	// none here.
	w.post("/auth/logout", admin, nil).want(http.StatusOK, "")
	w.do(http.MethodDelete, path+"/"+mine[0]["session_id"].(string), admin, "", "").want(http.StatusUnauthorized, "session_ended")
	admin = w.login("admin@example.com", adminNext).want(http.StatusOK, "").str("access_token")
	w.site += "\n\t\tregistration on"
	w.start()
	w.post("/auth/register", "", object{"email": "anna@example.com", "password": anna}).want(http.StatusCreated, "")
	annas := w.login("anna@example.com", anna).want(http.StatusOK, "").str("access_token")
	for _, id := range []string{mine[0]["session_id"].(string), first, "x", "a.b.c", "%2e%2e"} {
		w.do(http.MethodDelete, path+"/"+id, annas, "", "").want(http.StatusNotFound, "session_unknown")
	}
	if r := w.get(path, annas).want(http.StatusOK, ""); r.body["total"] != 0.0 {
		t.Errorf("anna's: %s", r.text)
	}
	if status := w.use(bob, first); status != http.StatusOK {
		t.Errorf("it was ended by somebody else: %d", status)
	}

	// One's own, and an administrator anybody's.
	for i, who := range []string{bob, admin} {
		id := mine[i]["session_id"].(string)
		if r := w.do(http.MethodDelete, path+"/"+id, who, "", "").want(http.StatusOK, ""); r.body["status"] != "disconnected" || r.body["session_id"] != id {
			t.Errorf("the end: %s", r.text)
		}
		w.do(http.MethodDelete, path+"/"+id, who, "", "").want(http.StatusNotFound, "session_unknown")
	}
	for _, id := range []string{first, second} {
		if status := w.use(bob, id); status != http.StatusNotFound {
			t.Errorf("after its end: %d", status)
		}
	}
	statetest.Eventually(t, "the server is told twice", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		told := 0
		for _, got := range w.got {
			if got == "DELETE recognisable-upstream-session" {
				told++
			}
		}
		return told == 2
	})
}
