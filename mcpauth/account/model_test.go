package account

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is what accounts mean, without a store.
type model struct {
	users map[string]*modelUser
	teams map[string]map[string]MemberRole
	now   time.Time
}

type modelUser struct {
	id            string
	admin, active bool
	password      string
	failed        int
	locked        time.Time
	roles         map[string]Assignment
}

func (m *model) administrators() (n int) {
	for _, u := range m.users {
		if u.admin && u.active {
			n++
		}
	}
	return n
}

// takeAway is what a change of a user may not do.
func (m *model) takeAway(u *modelUser, by string, admin, active, exists bool) string {
	switch {
	case by == u.id && (u.admin && !admin || u.active && !active || !exists):
		return "own_account"
	case u.admin && u.active && (!admin || !active || !exists) && m.administrators() == 1:
		return "last_administrator"
	}
	return ""
}

// TestRandomOperations makes operations at random on a service and on the model, and
// expects the same answers and, from time to time, the same state.
func TestRandomOperations(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) // #nosec G115 -- any will do
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1)) // #nosec G404 -- a test
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	m := &model{users: map[string]*modelUser{}, teams: map[string]map[string]MemberRole{}, now: time.Now().UTC()}
	s.now = func() time.Time { return m.now }

	emails := []string{"a@example.com", "b@example.com", "c@example.com", "d@example.com"}
	ids, roles := []string{"t1", "t2", "t3"}, []string{"reader", "writer"}
	passwords := []string{good22, another22, "Umbrella pointing at 3 Kitchens"}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	counts := map[string]int{}
	for step := range 2500 {
		email, team := pick(emails), pick(ids)
		u := m.users[email]
		by := tester
		if other := m.users[pick(emails)]; other != nil && r.IntN(3) == 0 {
			by = Actor{ID: other.id, Name: "somebody"}
		}
		if u != nil && r.IntN(4) == 0 {
			by = Actor{ID: u.id, Name: "themselves"}
		}
		var got error
		var expected, op string
		switch n := r.IntN(12); {
		case n < 2:
			op = "create"
			nu := NewUser{Email: email, Admin: r.IntN(2) == 0, Active: r.IntN(4) > 0, Password: pick(passwords)}
			var made User
			made, got = s.Create(ctx, by, nu)
			if u != nil {
				expected = "user_exists"
			} else {
				m.users[email] = &modelUser{id: made.ID, admin: nu.Admin, active: nu.Active, password: nu.Password, roles: map[string]Assignment{}}
			}
		case u == nil && n < 9:
			op = "unknown"
			expected = "user_unknown"
			switch r.IntN(4) {
			case 0:
				got = s.Delete(ctx, by, email)
			case 1:
				_, got = s.Update(ctx, by, email, Update{Admin: new(true)})
			case 2:
				got = s.Assign(ctx, by, email, Assignment{Role: "reader", Active: true})
			default:
				got, expected = login(ctx, s, email, good22), "credentials_invalid"
			}
		case n == 2:
			op = "update"
			admin, active := r.IntN(2) == 0, r.IntN(2) == 0
			if expected = m.takeAway(u, by.ID, admin, active, true); expected == "" {
				u.admin, u.active = admin, active
			}
			_, got = s.Update(ctx, by, email, Update{Admin: &admin, Active: &active})
		case n == 3 && r.IntN(2) == 0:
			op = "delete"
			if expected = m.takeAway(u, by.ID, false, false, false); expected == "" {
				delete(m.users, email)
				for _, members := range m.teams {
					delete(members, email)
				}
			}
			got = s.Delete(ctx, by, email)
		case n < 5:
			op = "login"
			password := pick(passwords)
			locked := m.now.Before(u.locked) && (!u.admin || !u.active)
			switch {
			case !u.active:
				expected = "credentials_invalid"
			case locked:
				expected = "credentials_invalid"
			case password == u.password:
				u.failed, u.locked = 0, time.Time{}
			default:
				expected = "credentials_invalid"
				if !u.locked.IsZero() && !m.now.Before(u.locked) {
					u.failed, u.locked = 0, time.Time{}
				}
				if u.failed++; u.failed >= 5 && u.locked.IsZero() {
					u.locked = m.now.Add(time.Hour)
				}
			}
			got = login(ctx, s, email, password)
		case n == 5:
			op = "assign"
			a := Assignment{Role: pick(roles), Active: r.IntN(3) > 0}
			if r.IntN(2) == 0 {
				a.Team = team
			}
			if r.IntN(2) == 0 {
				a.Expires = m.now.Add(time.Duration(r.IntN(120)+1) * time.Minute)
			}
			got = s.Assign(ctx, by, email, a)
			if a.Team != "" && m.teams[team] == nil {
				expected = "team_unknown"
			} else {
				u.roles[a.Role+" "+a.Team] = a
			}
		case n == 6:
			op = "unlock"
			u.failed, u.locked = 0, time.Time{}
			got = s.Unlock(ctx, by, email)
		case n == 7 || n == 8:
			op = "member"
			role := []MemberRole{Owner, Member}[r.IntN(2)]
			members := m.teams[team]
			remove := r.IntN(3) == 0
			switch {
			case members == nil:
				expected = "team_unknown"
			case remove && members[email] == "":
				expected = "member_unknown"
			case remove:
				delete(members, email)
			default:
				members[email] = role
			}
			if remove {
				got = s.RemoveMember(ctx, by, team, email)
			} else {
				got = s.SetMember(ctx, by, team, email, role)
			}
		case n == 9:
			op = "team"
			if m.teams[team] == nil {
				m.teams[team] = map[string]MemberRole{}
			} else {
				expected = "team_exists"
			}
			_, got = s.CreateTeam(ctx, by, team, "", "")
		case n == 10 && r.IntN(3) == 0:
			op = "delete team"
			if m.teams[team] == nil {
				expected = "team_unknown"
			}
			delete(m.teams, team)
			for _, u := range m.users {
				maps.DeleteFunc(u.roles, func(_ string, a Assignment) bool { return a.Team == team })
			}
			got = s.DeleteTeam(ctx, by, team)
		default:
			op = "time"
			m.now = m.now.Add(time.Duration(r.IntN(20)) * time.Minute)
			for _, u := range m.users {
				maps.DeleteFunc(u.roles, func(_ string, a Assignment) bool { return !a.Expires.IsZero() && !m.now.Before(a.Expires) })
			}
		}
		counts[op+" "+expected]++
		if reason(got) != expected {
			t.Fatalf("step %d, %s %s %s by %q: got %q, expected %q", step, op, email, team, by.ID, reason(got), expected)
		}
		if step%25 == 0 {
			compare(t, s, m, step)
		}
	}
	compare(t, s, m, -1)
	t.Log(counts)
	for _, must := range []string{"create ", "create user_exists", "update own_account", "update last_administrator", "login ", "login credentials_invalid", "member ", "delete "} {
		if counts[must] == 0 {
			t.Errorf("there was no %q", must)
		}
	}
}

func compare(t *testing.T, s *Service, m *model, step int) {
	t.Helper()
	ctx := t.Context()
	var got, expected []string
	for u := range each(t, s) {
		var memberships, held []string
		for _, mem := range must[[]Membership](t)(s.TeamsOf(ctx, u.ID)) {
			memberships = append(memberships, mem.Team+":"+string(mem.Role))
		}
		for _, a := range must[[]Assignment](t)(s.Assignments(ctx, u.ID)) {
			held = append(held, fmt.Sprint(a.Role, " ", a.Team, a.Active))
		}
		slices.Sort(held)
		got = append(got, fmt.Sprint(u.Email, u.ID, u.Admin, u.Active, memberships, held))
	}
	for email, u := range m.users {
		var memberships, held []string
		for team, members := range m.teams {
			if role := members[email]; role != "" {
				memberships = append(memberships, team+":"+string(role))
			}
		}
		for key, a := range u.roles {
			held = append(held, fmt.Sprint(key, a.Active))
		}
		slices.Sort(memberships)
		slices.Sort(held)
		expected = append(expected, fmt.Sprint(email, u.id, u.admin, u.active, memberships, held))
	}
	slices.Sort(expected)
	if a, b := strings.Join(got, "\n"), strings.Join(expected, "\n"); a != b {
		t.Fatalf("step %d, got:\n%s\nexpected:\n%s", step, a, b)
	}
	entry, err := roster.Get(ctx, s.store, rosterKey)
	if err != nil && len(m.users) > 0 {
		t.Fatal(err)
	}
	if entry.Data.Users != len(m.users) || len(entry.Data.Administrators) != m.administrators() {
		t.Fatalf("step %d, the roster has %+v, expected %d users and %d administrators", step, entry.Data, len(m.users), m.administrators())
	}
	for team, members := range m.teams {
		if list := must[[]Membership](t)(s.Members(ctx, team)); len(list) != len(members) {
			t.Fatalf("step %d, team %s has %+v, expected %v", step, team, list, members)
		}
	}
}
