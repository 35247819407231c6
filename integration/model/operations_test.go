//go:build unix

package model

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// operation is a way to change something. It is about a user, if that is of use, and
// reports false if there was nothing to do.
type operation struct {
	name   string
	weight int
	do     func(w *walk, u *user) bool
}

var operations = []operation{
	{"create user", 2, createUser},
	{"delete user", 1, deleteUser},
	{"update user", 4, updateUser},
	{"set password", 1, setPassword},
	{"change password", 1, changePassword},
	{"login", 5, logIn},
	{"refresh", 6, refresh},
	{"logout", 2, logOut},
	{"join or leave", 8, member},
	{"assign or unassign", 12, role},
	{"end sessions", 1, endSessions},
	{"end tokens", 1, endTokens},
	{"revoke by subject", 1, revokeSubject},
	{"revoke held", 3, revokeHeld},
	{"create token", 14, createToken},
	{"create own token", 4, createOwnToken},
	{"update token", 14, updateToken},
	{"revoke token", 3, revokeToken},
	{"begin MCP session", 10, beginSitting},
	{"end MCP session", 3, deleteSitting},
	{"disconnect MCP session", 3, disconnect},
	{"restart", 1, func(w *walk, _ *user) bool { w.restart(); return true }},
}

// emails are those of whoever may be there beside root.
var emails = []string{"ann@example.com", "bob@example.com", "cid@example.com"}

// expect ends the run unless the answer has one of the statuses.
func (w *walk) expect(r *reply, statuses ...int) {
	w.t.Helper()
	w.answers[fmt.Sprint(r.status, " ", r.reason)]++
	if !slices.Contains(statuses, r.status) {
		w.failf("this is answered with %s, expected: %v", r, statuses)
	}
}

// admin asks with root's session.
func (w *walk) admin(method, path string, body object, statuses ...int) *reply {
	w.t.Helper()
	r := w.at.api(w.t, method, "/admin"+path, w.root.access.raw, body)
	w.expect(r, statuses...)
	return r
}

// password is a new one.
func (w *walk) password() string {
	w.names++
	return fmt.Sprintf("Granite %d umbrellas; one violin %d", w.seed%100, w.names)
}

// user is anybody.
func (w *walk) user() *user {
	if w.IntN(8) == 0 {
		return w.m.users[rootEmail]
	}
	if u := w.m.users[pick(w, emails...)]; u != nil {
		return u
	}
	return w.m.users[rootEmail]
}

// cred is any token, one that is good if possible.
func (w *walk) cred(good bool) *cred {
	var list []*cred
	for _, c := range w.m.creds {
		if len(c.good()) == 0 {
			list = append(list, c)
		}
	}
	if len(list) == 0 || !good && w.IntN(3) == 0 {
		list = w.m.creds
	}
	return list[w.IntN(len(list))]
}

// actor is a token of a session to ask the API with, mostly a good one, of somebody.
func (w *walk) actor(u *user) *cred {
	var list []*cred
	for _, l := range w.m.logins {
		if l.user == u && !l.over {
			list = append(list, l.access)
		}
	}
	if len(list) == 0 || w.IntN(6) == 0 {
		return w.cred(false)
	}
	return list[len(list)-1]
}

func (w *walk) sitting() *sitting {
	if w.IntN(3) > 0 {
		return w.m.sittings[max(len(w.m.sittings)-1-w.IntN(4), 0)]
	}
	return w.m.sittings[w.IntN(len(w.m.sittings))]
}

// turn waits until tokens are not those any more that were issued before a moment: they
// only know the second.
func (u *user) turn() {
	if wait := time.Until(u.barredAt.Truncate(time.Second).Add(time.Second)); !u.barredAt.IsZero() && wait > 0 {
		<-time.After(wait)
	}
}

func status(ok bool, yes, no int) int {
	if ok {
		return yes
	}
	return no
}

// begin makes those who are there from the start.
func (w *walk) begin() {
	w.m = &model{users: map[string]*user{}}
	root := &user{email: rootEmail, password: firstPassword, exists: true, active: true, admin: true, must: true, teams: map[string]bool{}, roles: map[[2]string]bool{}}
	w.m.users[rootEmail] = root
	// A node is ready before the accounts of its configuration are there.
	statetest.Eventually(w.t, "that root is there", func() bool {
		return w.at.api(w.t, "POST", "/auth/login", "", object{"email": rootEmail, "password": root.password}).status == 403
	})
	next := w.password()
	w.expect(w.at.api(w.t, "POST", "/auth/password", "", object{"email": rootEmail, "password": root.password, "new_password": next}), 200)
	root.password, root.must = next, false
	r := w.at.api(w.t, "POST", "/auth/login", "", object{"email": rootEmail, "password": next})
	w.expect(r, 200)
	w.root = &login{user: root}
	w.m.grant(w.root, r.str("access_token"), r.str("refresh_token"))
	w.m.creds = nil
	for _, email := range emails[:2] {
		w.makeUser(email, false, w.password())
		u := w.m.users[email]
		w.setRole(u, "reader", "", true)
		changePassword(w, u)
		for len(w.m.logins) == 0 || w.m.logins[len(w.m.logins)-1].user != u {
			logIn(w, u) // one may be with a wrong password
		}
	}
}

// refreshed notes root's next tokens, which are not among those that are asked with.
func (w *walk) refreshed(l *login, r *reply) {
	w.expect(r, 200)
	w.m.grant(l, r.str("access_token"), r.str("refresh_token"))
	w.m.creds = w.m.creds[:len(w.m.creds)-1]
}

func (w *walk) makeUser(email string, admin bool, password string) {
	w.note("create %s, administrator %v, password %q", email, admin, password)
	body := object{"email": email, "is_admin": admin}
	if password != "" {
		body["password"] = password
	}
	was := w.m.users[email]
	if was != nil && was.exists {
		w.admin("POST", "/users", body, 409)
		return
	}
	r := w.admin("POST", "/users", body, 201)
	w.m.users[email] = &user{
		email: email, id: r.str("id"), password: password, exists: true, active: true, admin: admin, must: password != "",
		teams: map[string]bool{}, roles: map[[2]string]bool{},
	}
}

func createUser(w *walk, u *user) bool {
	password := ""
	if w.IntN(3) == 0 {
		password = w.password()
	}
	email := pick(w, emails...)
	if !u.exists {
		email = u.email
	}
	w.makeUser(email, w.IntN(4) == 0, password)
	return true
}

func deleteUser(w *walk, u *user) bool {
	if u.email == rootEmail {
		return false
	}
	w.note("delete %s", u.email)
	w.admin("DELETE", "/users/"+u.email, nil, status(u.exists, 204, 404))
	if u.exists {
		w.m.endAll(u)
		w.m.bar(u)
		u.exists, u.barred = false, true
	}
	return true
}

func updateUser(w *walk, u *user) bool {
	member, value := pick(w, "is_admin", "is_active"), w.IntN(2) == 0
	if u.email == rootEmail {
		w.note("root: %s false", member)
		w.admin("PATCH", "/users/"+u.email, object{member: false}, 400)
		return true
	}
	if member == "is_active" {
		value = value || !u.active || w.IntN(2) == 0 // most of the time they are
	}
	w.note("%s: %s %v", u.email, member, value)
	w.admin("PATCH", "/users/"+u.email, object{member: value}, status(u.exists, 200, 404))
	if !u.exists {
		return true
	}
	if member == "is_admin" {
		u.admin = value
	} else {
		u.active = value
	}
	if !value || !u.active {
		w.m.endAll(u)
	}
	if !u.active {
		w.m.bar(u)
		u.barredAt = time.Now()
	}
	return true
}

func member(w *walk, u *user) bool {
	team := pick(w, "sales", "sales", "support")
	path := "/teams/" + team + "/members/" + u.email
	if u.exists && !u.teams[team] || w.IntN(3) == 0 {
		w.note("%s joins %s", u.email, team)
		w.admin("PUT", path, object{"role": "member"}, status(u.exists, 204, 404))
		u.teams[team] = u.exists
	} else {
		w.note("%s leaves %s", u.email, team)
		w.admin("DELETE", path, nil, status(u.exists && u.teams[team], 204, 404))
		u.teams[team] = false
	}
	return true
}

func (w *walk) setRole(u *user, role, team string, on bool) {
	at, path := [2]string{role, team}, "/users/"+u.email+"/roles"
	w.note("%s has the role %s %s: %v", u.email, role, team, on)
	if on {
		body := object{"role": role}
		if team != "" {
			body["team_id"] = team
		}
		w.admin("POST", path, body, status(u.exists, 200, 404))
	} else {
		path += "/" + role
		if team != "" {
			path += "?team_id=" + url.QueryEscape(team)
		}
		w.admin("DELETE", path, nil, status(u.exists && u.roles[at], 204, 404))
	}
	u.roles[at] = on && u.exists
}

func role(w *walk, u *user) bool {
	role, team := pick(w, "reader", "writer"), pick(w, "", "", "sales", "support")
	w.setRole(u, role, team, !u.roles[[2]string{role, team}] || w.IntN(3) == 0)
	return true
}
