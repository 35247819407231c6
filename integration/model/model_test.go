//go:build unix

package model

import (
	"fmt"
	"slices"
	"time"
)

// The model: what is true of everybody and everything, in the simplest way there is.

// user is an account. One that is made anew with the same address is another.
type user struct {
	email, id, password string
	exists              bool
	active, admin, must bool
	teams               map[string]bool
	// roles are by role and team, which is empty for everywhere.
	roles map[[2]string]bool
	// barred is whether all tokens that there will ever be are revoked, barredAt until
	// when those were issued that are.
	barred   bool
	barredAt time.Time
	// wrong counts passwords that were.
	wrong int
}

// login is an interactive session.
type login struct {
	user    *user
	refresh string
	used    []string
	access  *cred
	// over is whether it has ended; barred is whether it cannot go on, since its tokens
	// were revoked.
	over, barred bool
}

// cred is a token that was handed out once.
type cred struct {
	name, raw, id string
	user          *user
	// login is that of a session token, nil for an API token.
	login *login
	// What it says: whether its user administers, the teams of a session, the team of
	// an API token, the server, whether it is for tools.read or tools.execute alone,
	// and how often it is good.
	admin        bool
	teams        []string
	team, server string
	permission   string
	limit        int
	// What its record says; ended is whether that says that it was revoked.
	active, ended                bool
	boundServer, boundPermission string
	revoked                      bool
	// It was used so often, at least and at most.
	least, most int
}

// sitting is an MCP session, with crm.
type sitting struct {
	id, public, upstream string
	user                 *user
	by                   *cred
	over                 bool
}

type model struct {
	users    map[string]*user
	logins   []*login
	creds    []*cred
	sittings []*sitting
}

// want is what must be answered: served, or refused with one of the statuses. What is
// hidden is answered as if it was not there.
type want struct {
	statuses []int
	hidden   bool
	// perhaps is whether it may be served, too.
	perhaps bool
	tools   []string
}

func (w want) served() bool { return len(w.statuses) == 0 && !w.hidden }

func (w want) String() string {
	switch {
	case w.hidden:
		return "hidden"
	case w.perhaps:
		return fmt.Sprint("served or ", w.statuses)
	case len(w.statuses) > 0:
		return fmt.Sprint("refused with ", w.statuses)
	}
	return fmt.Sprint("served ", w.tools)
}

func refused(statuses ...int) want { return want{statuses: statuses} }

// good is why a token is refused whatever it is for. Where there are several reasons,
// any may be told.
func (c *cred) good() (statuses []int) {
	u := c.user
	if c.revoked || !u.exists || !u.active || c.login != nil && (c.login.over || c.login.access != c) || c.login == nil && !c.active {
		statuses = append(statuses, 401)
	}
	if c.login != nil && u.must {
		statuses = append(statuses, 403)
	}
	return statuses
}

// sees is whether a token is for what belongs to a team.
func (c *cred) sees(team string) bool {
	u := c.user
	switch listed := len(c.teams) == 0 || slices.Contains(c.teams, team); {
	case c.login != nil && u.admin:
		return listed
	case c.login != nil:
		return u.teams[team] && listed
	}
	return c.team == team || c.team == "" && c.admin && u.admin
}

// may is whether the roles of its user allow a tool.
func (c *cred) may(server, tool string) bool {
	role := map[string]string{"read": "reader", "write": "writer"}[tool]
	return c.user.roles[[2]string{role, ""}] || server == "crm" && c.sees("sales") && c.user.roles[[2]string{role, "sales"}]
}

// reaches is why a token is refused at a server, whatever is asked there.
func (c *cred) reaches(server string) []int {
	statuses := c.good()
	elsewhere := func(bound string) bool { return bound != "" && bound != server }
	if c.team != "" && !c.user.teams[c.team] || server == "crm" && !c.sees("sales") || elsewhere(c.server) || elsewhere(c.boundServer) ||
		!c.may(server, "read") && !c.may(server, "write") {
		statuses = append(statuses, 403)
	}
	return statuses
}

// counted is what becomes of what else would be served.
func (c *cred) counted(w want) want {
	if c.limit > 0 && c.most >= c.limit {
		w.statuses = append([]int{429}, w.statuses...)
		w.perhaps = c.least < c.limit
	}
	return w
}

// call is what a call of a tool is answered with, in an MCP session or without one.
func (c *cred) call(server, tool string, in *sitting) want {
	if statuses := c.reaches(server); len(statuses) > 0 {
		return refused(statuses...)
	}
	if !c.may(server, tool) || c.permission == "tools.read" || c.boundPermission == "tools.read" {
		return want{hidden: true}
	}
	return c.enters(server, in)
}

// enters is what somebody is answered with who is let through to an MCP session.
func (c *cred) enters(server string, in *sitting) (w want) {
	if in == nil {
		return c.counted(want{})
	}
	if in.over || in.user != c.user || server != "crm" {
		w = refused(404)
		if c.limit > 0 && c.most >= c.limit {
			w.statuses = append(w.statuses, 429)
		}
		return w
	}
	return c.counted(want{})
}

// list is what a list of tools is answered with.
func (c *cred) list(server string) want {
	if statuses := c.reaches(server); len(statuses) > 0 {
		return refused(statuses...)
	}
	w := want{tools: []string{}}
	for _, tool := range []string{"read", "write"} {
		if c.may(server, tool) {
			w.tools = append(w.tools, tool)
		}
	}
	return c.counted(w)
}

// connect is what the beginning and the end of an MCP session are answered with.
func (c *cred) connect(in *sitting) want {
	if statuses := c.reaches("crm"); len(statuses) > 0 {
		return refused(statuses...)
	}
	return c.enters("crm", in)
}

// interactive is what the API is answered with for people who have logged in.
func (c *cred) interactive() want {
	if c.login == nil {
		return refused(403)
	}
	return refused(c.good()...)
}

// administers is the same for administrators.
func (c *cred) administers() want {
	w := c.interactive()
	// A token that lists teams, or none, is from before its user was one.
	if c.login != nil && (!c.user.admin || !c.admin) {
		w.statuses = append(w.statuses, 403)
	}
	return w
}

// revoke ends a token, with the MCP sessions that it began.
func (m *model) revoke(c *cred) {
	c.revoked = true
	for _, s := range m.sittings {
		s.over = s.over || s.by == c
	}
}

// end ends an interactive session, with the MCP sessions that any of its tokens began.
func (m *model) end(l *login) {
	if l.over {
		return
	}
	l.over = true
	for _, c := range m.creds {
		if c.login == l {
			m.revoke(c)
		}
	}
}

// endAll ends all interactive sessions of somebody.
func (m *model) endAll(u *user) {
	for _, l := range m.logins {
		if l.user == u {
			m.end(l)
		}
	}
}

// bar revokes all tokens of somebody that there are.
func (m *model) bar(u *user) {
	for _, c := range m.creds {
		if c.user == u {
			m.revoke(c)
		}
	}
	for _, l := range m.logins {
		l.barred = l.barred || l.user == u
	}
}

// grant notes the tokens that a login or a refresh has given.
func (m *model) grant(l *login, raw, refresh string) *cred {
	u := l.user
	c := &cred{name: fmt.Sprintf("session token %d of %s", len(m.creds), u.email), raw: raw, user: u, login: l, admin: u.admin, revoked: u.barred}
	for team := range u.teams {
		if u.teams[team] && !u.admin {
			c.teams = append(c.teams, team)
		}
	}
	if l.access != nil {
		l.used = append(l.used, l.refresh)
		l.access.revoked = true // the MCP sessions that it began go on
	}
	l.access, l.refresh = c, refresh
	m.creds = append(m.creds, c)
	return c
}

// holdsExecute is whether somebody may let a token call tools.
func (u *user) holdsExecute() bool {
	return u.admin || u.roles[[2]string{"reader", ""}] || u.roles[[2]string{"writer", ""}]
}
