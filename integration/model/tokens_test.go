//go:build unix

package model

import (
	"fmt"
	"net/http"
)

// scope is that of a token in the API.
func scope(server, permission string, limit int) object {
	s := object{}
	if server != "" {
		s["server_id"] = server
	}
	if permission != "" {
		s["permissions"] = []string{permission}
	}
	if limit > 0 {
		s["usage_limits"] = object{"requests_per_hour": limit}
	}
	return s
}

// made notes a token that was made.
func (w *walk) made(c *cred, r *reply) {
	record, _ := r.body["token"].(object)
	c.raw = r.str("access_token")
	c.id, _ = record["id"].(string)
	c.admin, c.active, c.revoked = c.user.admin, true, c.user.barred
	c.boundServer, c.boundPermission = c.server, c.permission
	w.m.creds = append(w.m.creds, c)
}

// createToken has root make a token for somebody.
func createToken(w *walk, u *user) bool {
	u.turn()
	w.names++
	c := &cred{name: fmt.Sprintf("token %d of %s", w.names, u.email), user: u}
	if w.IntN(3) == 0 {
		c.team = pick(w, "sales", "support")
	}
	c.server = pick(w, "", "", "", "notes", "crm")
	c.permission = pick(w, "", "", "tools.execute", "tools.read")
	if w.IntN(5) == 0 {
		c.limit = 1 + w.IntN(6)
	}
	w.note("make the %s: team %q, server %q, permission %q, limit %d", c.name, c.team, c.server, c.permission, c.limit)
	body := object{"name": c.name, "expires_in_days": 1, "user_email": u.email, "scope": scope(c.server, c.permission, c.limit), "team_id": nil}
	if c.team != "" {
		body["team_id"] = c.team
	}
	// A team is one that both are of; root can have any for itself.
	may := u.exists && u.active && (c.team == "" || u.email == rootEmail || u.teams[c.team] && w.root.user.teams[c.team])
	r := w.at.api(w.t, "POST", "/tokens", w.root.access.raw, body)
	w.expect(r, status(may, 201, 400))
	if may {
		w.made(c, r)
	}
	return true
}

// createOwnToken has somebody make a token.
func createOwnToken(w *walk, u *user) bool {
	by := w.actor(u)
	by.user.turn()
	w.names++
	c := &cred{name: fmt.Sprintf("token %d of %s", w.names, by.user.email), user: by.user, server: pick(w, "", "crm")}
	w.note("with the %s, make the %s: server %q", by.name, c.name, c.server)
	body := object{"name": c.name, "expires_in_days": 1, "scope": scope(c.server, "", 0), "team_id": nil}
	if r, ok := w.as(by, "POST", "/tokens", body, 201); ok {
		w.made(c, r)
	}
	return true
}

// token is an API token, mostly of somebody.
func (w *walk) token(u *user) *cred {
	var list []*cred
	for _, c := range w.m.creds {
		if c.login == nil && (c.user == u || w.IntN(10) == 0) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.IntN(len(list))]
}

// updateToken has somebody narrow, widen, deactivate or reactivate a token.
func updateToken(w *walk, u *user) bool {
	c := w.token(u)
	if c == nil {
		return false
	}
	by := w.actor(u)
	if u.email == rootEmail {
		by = w.root.access
	}
	path := "/tokens/" + c.id
	expected := func(changed int) int {
		switch {
		case c.user != by.user:
			return http.StatusNotFound
		case c.ended:
			return http.StatusConflict
		}
		return changed
	}
	if w.IntN(2) == 0 {
		active := !c.active
		w.note("with the %s, the %s is active: %v", by.name, c.name, active)
		if _, ok := w.as(by, "PUT", path, object{"is_active": active}, expected(200)); ok {
			c.active = active
		}
		return true
	}
	server, permission := pick(w, "", c.server, "notes", "crm"), pick(w, "", c.permission, "tools.execute", "tools.read")
	w.note("with the %s, the %s is bound to the server %q and the permission %q", by.name, c.name, server, permission)
	may := c.server == "" || c.server == server
	switch permission {
	case "":
		may = may && c.permission == ""
	case "tools.execute":
		may = may && c.permission != "tools.read" && (c.boundPermission != "tools.read" || by.user.holdsExecute())
	default:
		// What one does not hold cannot be named anew, even if it comes with another.
		may = may && (c.boundPermission != "tools.execute" || by.user.holdsExecute())
	}
	if _, ok := w.as(by, "PUT", path, object{"scope": scope(server, permission, 0)}, expected(status(may, 200, 400))); ok {
		c.boundServer, c.boundPermission = server, permission
	}
	return true
}

// revokeToken ends a token, as its user or as root.
func revokeToken(w *walk, u *user) bool {
	c := w.token(u)
	if c == nil {
		return false
	}
	by, path, expected := w.actor(u), "/tokens/"+c.id, http.StatusNoContent
	if w.IntN(2) == 0 {
		by, path = w.root.access, "/tokens/admin/"+c.id
	} else if c.user != by.user {
		expected = http.StatusNotFound
	}
	w.note("with the %s, revoke the %s", by.name, c.name)
	if _, ok := w.as(by, "DELETE", path, nil, expected); ok {
		c.ended = true
		w.m.revoke(c)
	}
	return true
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

// mcpOperation expects what is wanted of the answer to a request to crm.
func (w *walk) mcpOperation(c *cred, wanted want, session, message string) (r *reply, served bool) {
	w.t.Helper()
	r = w.at.mcp(w.t, "crm", c.raw, session, message)
	served = r.status < 300 && r.reason == ""
	w.answers[fmt.Sprint(r.status, " ", r.reason)]++
	c.uses("call", served, r)
	if !wanted.admits(r, served) {
		w.failf("this is answered with %s, expected: %s", r, wanted)
	}
	return r, served
}

func beginSitting(w *walk, u *user) bool {
	c := w.cred(true)
	for range 5 {
		if !c.connect(nil).served() {
			c = w.cred(true)
		}
	}
	w.note("begin an MCP session with the %s", c.name)
	before := w.listSittings()
	r, served := w.mcpOperation(c, c.connect(nil), "", initialize)
	if !served {
		return true
	}
	if r.session == "" {
		w.failf("an MCP session has no id: %s", r)
	}
	s := &sitting{id: r.session, upstream: w.up.begun(), user: c.user, by: c}
	w.m.sittings = append(w.m.sittings, s)
	for id := range w.listSittings() {
		if !before[id] {
			s.public = id
		}
	}
	if s.public == "" {
		w.failf("an MCP session that was begun is not listed")
	}
	return true
}

// listSittings are all MCP sessions as an administrator sees them.
func (w *walk) listSittings() map[string]bool {
	r := w.at.api(w.t, "GET", "/reverse-proxy/sessions?limit=1000", w.root.access.raw, nil)
	w.expect(r, 200)
	all := map[string]bool{}
	list, _ := r.body["sessions"].([]any)
	for _, s := range list {
		id, _ := s.(object)["session_id"].(string)
		all[id] = true
	}
	return all
}

// deleteSitting has a client end its MCP session, or try that with another's.
func deleteSitting(w *walk, _ *user) bool {
	if len(w.m.sittings) == 0 {
		return false
	}
	s := w.sitting()
	c := s.by
	if w.IntN(3) == 0 {
		c = w.cred(true)
	}
	w.note("the MCP session %s is ended with the %s", s.upstream, c.name)
	if _, served := w.mcpOperation(c, c.connect(s), s.id, ""); served {
		s.over = true
	}
	return true
}

// disconnect ends an MCP session through the API, as root, its user or a stranger.
func disconnect(w *walk, u *user) bool {
	if len(w.m.sittings) == 0 {
		return false
	}
	s := w.sitting()
	by := w.actor(pick(w, u, s.user))
	if w.IntN(2) == 0 {
		by = w.root.access
	}
	w.note("the MCP session %s is ended through the API with the %s", s.upstream, by.name)
	statuses := []int{404}
	if s.user == by.user || by.user.admin && len(by.teams) == 0 {
		if statuses = []int{200}; s.over {
			statuses = []int{200, 404}
		}
	}
	if _, ok := w.as(by, "DELETE", "/reverse-proxy/sessions/"+s.public, nil, statuses...); ok {
		s.over = true
	}
	return true
}
