package mcpadmin_test

import (
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// sessionSteps go through all that can be asked about MCP sessions. {id} stands for one
// of bob's, which is there once.
var sessionSteps = []step{
	{get, "/mcp-sessions", nil, ok, "", []string{`"session_id":"{id}"`, `"user":"bob@example.com"`, `"name":"tickets"`, `"total":1`}},
	{get, "/mcp-sessions?user=bob@example.com", nil, ok, "", []string{`"session_id":"{id}"`}},
	{get, "/mcp-sessions?user=Bob@example.com&limit=1", nil, ok, "", []string{`"session_id":"{id}"`}},
	{get, "/mcp-sessions?offset=1", nil, ok, "", []string{`{"sessions":[],"total":1}`}},
	{get, "/mcp-sessions?user=admin@example.com", nil, ok, "", []string{`{"sessions":[],"total":0}`}},
	{get, "/mcp-sessions?user=bob&issuer=https://login.example.com", nil, ok, "", []string{`{"sessions":[],"total":0}`}},
	{get, "/mcp-sessions?issuer=https://login.example.com", nil, bad, "query_invalid", nil},
	{get, "/mcp-sessions?user=nobody@example.com", nil, missing, "user_unknown", nil},
	{get, "/mcp-sessions?limit=x", nil, bad, "query_invalid", nil},
	{get, "/mcp-sessions?name=x", nil, bad, "query_invalid", nil},
	{del, "/mcp-sessions/nobody", nil, missing, "session_unknown", nil},
	{del, "/mcp-sessions/{id}", nil, gone, "", nil},
	{del, "/mcp-sessions/{id}", nil, missing, "session_unknown", nil},
	{get, "/mcp-sessions", nil, ok, "", []string{`{"sessions":[],"total":0}`}},
}

// TestMCPSessionDuties: administrators see and end the MCP sessions of all, and the
// server is told.
func TestMCPSessionDuties(t *testing.T) {
	bothPlaces(t, func(t *testing.T, w *world, p *place, actor string) {
		_, bob := p.grant(object{"user_email": "bob@example.com", "name": "ci", "expires_in_days": 30, "team_id": "support"})
		session := w.begin(bob)
		if status := w.use(bob, session); status != ok {
			t.Fatalf("the session is answered with %d", status)
		}
		id := items(t, p.ask(get, "/mcp-sessions", nil))[0]["session_id"].(string)
		if id == session {
			t.Error("the list tells what sessions are used by")
		}
		p.at(sessionSteps, id)
		if status := w.use(bob, session); status != missing {
			t.Errorf("a session that was ended is answered with %d", status)
		}
		statetest.Eventually(t, "the server is told", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return strings.Contains(strings.Join(w.got, "\n"), "DELETE recognisable-upstream-session")
		})
		w.wantLogged(`"action":"mcp_session_end"`, `"target":"`+id+`"`, `"actor":"`+actor+`"`)
	})
}
