//go:build unix

package model

import (
	"net/url"
	"time"
)

func setPassword(w *walk, u *user) bool {
	if u.email == rootEmail {
		return false
	}
	next := w.password()
	w.note("set the password of %s to %q", u.email, next)
	w.admin("PUT", "/users/"+u.email+"/password", object{"password": next}, status(u.exists, 204, 404))
	if u.exists {
		u.password, u.must, u.wrong = next, true, 0
		w.m.endAll(u)
	}
	return true
}

func changePassword(w *walk, u *user) bool {
	if u.email == rootEmail || u.password == "" {
		return false
	}
	next := w.password()
	w.note("%s changes the password to %q", u.email, next)
	may := u.exists && u.active
	w.expect(w.at.api(w.t, "POST", "/auth/password", "", object{"email": u.email, "password": u.password, "new_password": next}), status(may, 200, 401))
	if may {
		u.password, u.must, u.wrong = next, false, 0
		w.m.endAll(u)
	}
	return true
}

func logIn(w *walk, u *user) bool {
	if u.email == rootEmail || u.password == "" {
		return false
	}
	if w.IntN(12) == 0 && u.wrong < 3 {
		u.wrong++
		w.note("%s logs in with a wrong password", u.email)
		w.expect(w.at.api(w.t, "POST", "/auth/login", "", object{"email": u.email, "password": u.password + "!"}), 401)
		return true
	}
	u.turn()
	w.note("%s logs in", u.email)
	r := w.at.api(w.t, "POST", "/auth/login", "", object{"email": u.email, "password": u.password})
	switch {
	case !u.exists || !u.active:
		w.expect(r, 401)
	case u.must:
		w.expect(r, 403)
		u.wrong = 0
	default:
		w.expect(r, 200)
		u.wrong = 0
		l := &login{user: u}
		w.m.logins = append(w.m.logins, l)
		w.m.grant(l, r.str("access_token"), r.str("refresh_token"))
	}
	return true
}

// login is somebody's session, mostly one that is not over.
func (w *walk) login(u *user) *login {
	var list []*login
	for _, l := range w.m.logins {
		if (l.user == u || w.IntN(4) == 0) && (!l.over || w.IntN(4) == 0) {
			list = append(list, l)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.IntN(len(list))]
}

func refresh(w *walk, u *user) bool {
	l := w.login(u)
	if l == nil {
		return false
	}
	if len(l.used) > 0 && w.IntN(5) == 0 {
		w.note("the session of the %s is refreshed with a token that was used", l.access.name)
		w.expect(w.at.api(w.t, "POST", "/auth/refresh", "", object{"refresh_token": pick(w, l.used...)}), 401)
		w.m.end(l)
		return true
	}
	l.user.turn()
	w.note("the session of the %s is refreshed", l.access.name)
	may := !l.over && l.user.exists && l.user.active && !l.barred && !l.user.barred
	r := w.at.api(w.t, "POST", "/auth/refresh", "", object{"refresh_token": l.refresh})
	w.expect(r, status(may, 200, 401))
	if may {
		w.m.grant(l, r.str("access_token"), r.str("refresh_token"))
	}
	return true
}

// as sends a request to the API as somebody, who has to be let: it reports whether.
func (w *walk) as(c *cred, method, path string, body object, statuses ...int) (*reply, bool) {
	w.t.Helper()
	r := w.at.api(w.t, method, path, c.raw, body)
	if refused := c.interactive(); !refused.served() {
		w.expect(r, refused.statuses...)
		return r, false
	}
	w.expect(r, statuses...)
	return r, r.status < 300
}

func logOut(w *walk, u *user) bool {
	c := w.actor(u)
	w.note("logout with the %s", c.name)
	if _, ok := w.as(c, "POST", "/auth/logout", nil, 200); ok {
		w.m.end(c.login)
	}
	return true
}

func endSessions(w *walk, u *user) bool {
	if u.email == rootEmail {
		return false
	}
	w.note("end the sessions of %s", u.email)
	w.admin("DELETE", "/users/"+u.email+"/sessions", nil, status(u.exists, 204, 404))
	w.m.endAll(u)
	return true
}

func endTokens(w *walk, u *user) bool {
	if u.email == rootEmail {
		return false
	}
	w.note("end the tokens of %s", u.email)
	w.admin("DELETE", "/users/"+u.email+"/tokens", nil, status(u.exists, 204, 404))
	w.m.endAll(u)
	w.m.bar(u)
	u.barredAt = time.Now()
	return true
}

func revokeSubject(w *walk, u *user) bool {
	if u.email == rootEmail {
		return false
	}
	body := object{"by": "subject", "value": u.id, "issuer": publicURL}
	u.barredAt = time.Now()
	if w.IntN(6) > 0 {
		body["before"] = u.barredAt.Format(time.RFC3339Nano)
	} else {
		u.barred = true
	}
	w.note("revoke by the subject %s, for good: %v", u.email, u.barred)
	w.admin("POST", "/revocations", body, 204)
	w.m.bar(u)
	return true
}

func revokeHeld(w *walk, u *user) bool {
	form := func(token string) {
		r := w.at.send(w.t, "POST", "/oauth/revoke", "", url.Values{"token": {token}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		w.expect(r, 200)
	}
	if l := w.login(u); l != nil && w.IntN(3) == 0 {
		token := l.refresh
		if len(l.used) > 0 && w.IntN(3) == 0 {
			token = l.used[0]
		}
		w.note("revoke a refresh token of the session of the %s, a used one: %v", l.access.name, token != l.refresh)
		form(token)
		w.m.end(l)
		return true
	}
	c := w.cred(false)
	w.note("revoke the %s, which is at hand", c.name)
	form(c.raw)
	switch {
	case c.login == nil:
		c.ended = true
		w.m.revoke(c)
	case c.login.access == c:
		w.m.end(c.login)
	}
	return true
}
