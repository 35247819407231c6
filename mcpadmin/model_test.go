package mcpadmin_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"
)

// model is what the accounts must be like after some operations, in the simplest way
// there is.
type model struct {
	users map[string]*modelUser
	// teams have their members, by address, with what these are.
	teams map[string]map[string]string
	// dead are tokens that were good.
	dead []string
}

type modelUser struct {
	admin, active bool
	// roles are by role and team.
	roles map[[2]string]bool
	// token is that of a session which is good, "" for none; narrow is whether it is
	// from before its user became an administrator.
	token  string
	narrow bool
	// password is empty if there is none.
	password string
	// barred is when all tokens until then were revoked. They have whole seconds.
	barred time.Time
}

func (m *model) administrators() (n int) {
	for _, u := range m.users {
		if u.admin && u.active {
			n++
		}
	}
	return n
}

// end ends somebody's session.
func (m *model) end(u *modelUser) {
	if u.token != "" {
		m.dead, u.token = append(m.dead, u.token), ""
	}
}

// change changes a user, unless there is a reason against it.
func (m *model) change(actor string, email string, admin, active *bool) string {
	u := m.users[email]
	if u == nil {
		return "user_unknown"
	}
	demotes := admin != nil && !*admin && u.admin || active != nil && !*active && u.active
	if demotes && actor == email {
		return "own_account"
	}
	after := modelUser{admin: u.admin, active: u.active}
	if admin != nil {
		after.admin = *admin
	}
	if active != nil {
		after.active = *active
	}
	administers, stays := u.admin && u.active, after.admin && after.active
	if administers && !stays && m.administrators() == 1 {
		return "last_administrator"
	}
	u.admin, u.active = after.admin, after.active
	if !u.active || admin != nil && !*admin {
		m.end(u)
	}
	if !u.active {
		u.barred = time.Now()
	}
	return ""
}

// TestModel asks for random changes of users, teams and roles, in both places, and
// expects of each what the model says. There is always an active administrator, and
// nobody's session outlives the account or its activity.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	w := newAdminWorld(t)
	w.start()
	m := &model{
		users: map[string]*modelUser{
			"admin@example.com": {admin: true, active: true, roles: map[[2]string]bool{}, password: adminNext},
			"bob@example.com":   {active: true, roles: map[[2]string]bool{{"reader", ""}: true}, password: bobNext},
		},
		teams: map[string]map[string]string{"support": {"bob@example.com": "owner"}},
	}
	m.users["admin@example.com"].token = w.administrator()
	m.users["bob@example.com"].token, m.users["bob@example.com"].narrow = w.enter("bob@example.com", bobFirst, bobNext).str("access_token"), true
	emails := []string{"admin@example.com", "bob@example.com", "u1@example.com", "u2@example.com", "u3@example.com"}
	teams := []string{"support", "t1", "t2"}
	roles := []string{"reader", "writer"}
	yes, no := true, false
	options := []*bool{nil, &yes, &no}
	logins := 0

	for i := range 400 {
		email, team, role := pick(random, emails), pick(random, teams), pick(random, roles)
		// One of those who may asks: an administrator with a session, or Caddy's.
		actor, p := "", w.caddyAdmin()
		for _, name := range slices.Sorted(maps.Keys(m.users)) {
			if u := m.users[name]; u.admin && u.active && u.token != "" && !u.narrow && random.IntN(2) == 0 {
				actor, p = name, w.below(u.token)
			}
		}
		var r *reply
		var want, what string
		switch n := random.IntN(20); n {
		case 0, 1:
			what = "create user"
			admin, active := random.IntN(3) == 0, random.IntN(3) > 0
			if m.users[email] != nil {
				want = "user_exists"
			} else {
				m.users[email] = &modelUser{admin: admin, active: active, roles: map[[2]string]bool{}}
			}
			r = p.ask(post, "/users", object{"email": email, "is_admin": admin, "is_active": active})
		case 2:
			what = "delete user"
			if random.IntN(8) > 0 {
				email = pick(random, emails[2:])
			}
			if want = m.change(actor, email, nil, &no); want == "" && actor == email {
				want = "own_account"
			}
			if want == "" {
				for _, members := range m.teams {
					delete(members, email)
				}
				delete(m.users, email)
			}
			r = p.ask(del, "/users/"+email, nil)
		case 3, 4, 5, 6:
			admin, active := pick(random, options), pick(random, options)
			what = fmt.Sprintf("update user to %v %v", text(admin), text(active))
			body := object{}
			if admin != nil {
				body["is_admin"] = *admin
			}
			if active != nil {
				body["is_active"] = *active
			}
			if len(body) == 0 {
				want = "member_missing"
			} else {
				want = m.change(actor, email, admin, active)
			}
			r = p.ask(patch, "/users/"+email, body)
		case 7:
			what = "create team"
			if m.teams[team] != nil {
				want = "team_exists"
			} else {
				m.teams[team] = map[string]string{}
			}
			r = p.ask(post, "/teams", object{"id": team})
		case 8:
			what = "delete team"
			if m.teams[team] == nil {
				want = "team_unknown"
			}
			delete(m.teams, team)
			for _, u := range m.users {
				maps.DeleteFunc(u.roles, func(at [2]string, _ bool) bool { return at[1] == team })
			}
			r = p.ask(del, "/teams/"+team, nil)
		case 9, 10, 11:
			what = "set member"
			kind := pick(random, []string{"owner", "member", "guest"})
			switch {
			case kind == "guest":
				want = "member_role_invalid"
			case m.teams[team] == nil:
				want = "team_unknown"
			case m.users[email] == nil:
				want = "user_unknown"
			default:
				m.teams[team][email] = kind
			}
			r = p.ask(put, "/teams/"+team+"/members/"+email, object{"role": kind})
		case 12:
			what = "remove member"
			switch {
			case m.teams[team] == nil:
				want = "team_unknown"
			case m.users[email] == nil:
				want = "user_unknown"
			case m.teams[team][email] == "":
				want = "member_unknown"
			default:
				delete(m.teams[team], email)
			}
			r = p.ask(del, "/teams/"+team+"/members/"+email, nil)
		case 13, 14, 15:
			what = "assign"
			body := object{"role": role}
			if random.IntN(2) == 0 {
				team = ""
			} else {
				body["team_id"] = team
			}
			switch {
			case m.users[email] == nil:
				want = "user_unknown"
			case team != "" && m.teams[team] == nil:
				want = "team_unknown"
			default:
				m.users[email].roles[[2]string{role, team}] = true
			}
			r = p.ask(post, "/users/"+email+"/roles", body)
		case 16, 17:
			what = "unassign"
			path := "/users/" + email + "/roles/" + role
			if random.IntN(2) == 0 {
				team = ""
			} else {
				path += "?team_id=" + team
			}
			switch {
			case m.users[email] == nil:
				want = "user_unknown"
			case !m.users[email].roles[[2]string{role, team}]:
				want = "assignment_unknown"
			default:
				delete(m.users[email].roles, [2]string{role, team})
			}
			r = p.ask(del, path, nil)
		case 18:
			what = "end sessions"
			if u := m.users[email]; u == nil {
				want = "user_unknown"
			} else {
				m.end(u)
			}
			r = p.ask(del, "/users/"+email+"/sessions", nil)
		case 19:
			what = "log in"
			u := m.users[email]
			if u == nil || u.password == "" || !u.active || u.token != "" || logins == 10 || time.Since(u.barred) < time.Second {
				continue
			}
			logins++
			if r = w.login(email, u.password); r.status == ok {
				u.token, u.narrow = r.str("access_token"), !u.admin
			}
		}
		got, _ := r.body["reason"].(string)
		if got != want || (r.status < 300) != (want == "") {
			t.Fatalf("seed %d, operation %d: %s by %q with %s %s %s: got %d %q, expected %q: %s", seed, i, what, actor, email, team, role, r.status, got, want, r.text)
		}
		if m.administrators() == 0 {
			t.Fatalf("seed %d, operation %d: %s: there is no administrator in the model", seed, i, what)
		}
		m.compareSessions(t, w)
		if i%40 == 0 || i == 399 {
			m.compare(t, w.caddyAdmin())
		}
		if t.Failed() {
			t.Fatalf("seed %d, operation %d: %s by %q with %s %s %s", seed, i, what, actor, email, team, role)
		}
	}
}

func text(b *bool) string {
	if b == nil {
		return "-"
	}
	return fmt.Sprint(*b)
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// compareSessions expects that what is good is good, and that nothing else is.
func (m *model) compareSessions(t *testing.T, w *world) {
	t.Helper()
	for email, u := range m.users {
		if u.token != "" {
			if me := w.get("/auth/me", u.token); me.status != ok || me.body["user"].(object)["email"] != email || me.body["user"].(object)["is_admin"] != u.admin {
				t.Errorf("the session of %s: %d %s", email, me.status, me.text)
			}
		}
	}
	for _, token := range m.dead {
		w.get("/auth/me", token).want(http.StatusUnauthorized, "session_ended")
	}
}

// compare expects lists and details to be those of the model.
func (m *model) compare(t *testing.T, p *place) {
	t.Helper()
	var emails, ids []string
	administrators := 0
	for _, u := range p.ask(get, "/users", nil).want(ok, "").body["users"].([]any) {
		user := u.(object)
		email := user["email"].(string)
		emails = append(emails, email)
		want := m.users[email]
		if want == nil || want.admin != user["is_admin"] || want.active != user["is_active"] {
			t.Errorf("%s is %v, expected %+v", email, user, want)
			continue
		}
		if want.admin && want.active {
			administrators++
		}
		details := p.ask(get, "/users/"+email, nil).want(ok, "").body
		roles := map[[2]string]bool{}
		for _, r := range details["roles"].([]any) {
			team, _ := r.(object)["team_id"].(string)
			roles[[2]string{r.(object)["role"].(string), team}] = true
		}
		if !maps.Equal(roles, want.roles) {
			t.Errorf("%s has the roles %v, expected %v", email, roles, want.roles)
		}
		for _, tm := range details["teams"].([]any) {
			if team := tm.(object); m.teams[team["team_id"].(string)][email] != team["role"] {
				t.Errorf("%s is %v", email, team)
			}
		}
	}
	if want := slices.Sorted(maps.Keys(m.users)); !slices.Equal(emails, want) {
		t.Errorf("the users are %v, expected %v", emails, want)
	}
	if administrators == 0 {
		t.Error("there is no administrator")
	}
	for _, tm := range p.ask(get, "/teams", nil).want(ok, "").body["teams"].([]any) {
		id := tm.(object)["id"].(string)
		ids = append(ids, id)
		members := map[string]string{}
		for _, member := range p.ask(get, "/teams/"+id+"/members", nil).want(ok, "").body["members"].([]any) {
			members[member.(object)["email"].(string)] = member.(object)["role"].(string)
		}
		if !maps.Equal(members, m.teams[id]) {
			t.Errorf("the members of %s are %v, expected %v", id, members, m.teams[id])
		}
	}
	if want := slices.Sorted(maps.Keys(m.teams)); !slices.Equal(ids, want) {
		t.Errorf("the teams are %v, expected %v", ids, want)
	}
}
