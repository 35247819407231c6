package catalogue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is what the catalogue should be, in the simplest way.
type model struct {
	id, user, team, name string
	expires              time.Time
	active, revoked      bool
}

func (m *model) alive(now time.Time) bool { return m.active && !m.revoked && now.Before(m.expires) }

// TestModel drives the catalogue and the model by the same random operations, on two
// nodes.
func TestModel(t *testing.T) {
	store := embeddedStore(t)
	nodes := []*node{newNode(t, store, Config{}), newNode(t, store, Config{})}
	people(nodes[0])
	emails := []string{"alice@example.com", "bob@example.com", "carol@example.com"}
	callers := map[string]Caller{}
	for _, email := range emails {
		callers[email] = nodes[0].in(email)
	}
	owner := func(user, team string) bool {
		return team == "red" && user == "alice@example.com" || team == "blue" && user == "carol@example.com"
	}
	member := func(user, team string) bool { return team == "red" || team == "blue" && user == "carol@example.com" }
	random := rand.New(rand.NewPCG(20, 26))
	var all []*model
	names := []string{"a", "b", "A"}
	free := func(than *model, name string, now time.Time) bool {
		return !slices.ContainsFunc(all, func(m *model) bool {
			return m != than && m.user == than.user && m.team == than.team && m.name == name && m.alive(now)
		})
	}
	for step := range 600 {
		n := nodes[random.IntN(2)]
		email := emails[random.IntN(3)]
		c := callers[email]
		now := n.cat.now()
		var what string
		switch op := random.IntN(10); {
		case op < 3 || len(all) == 0:
			m := &model{user: email, team: []string{"", "red", "blue"}[random.IntN(3)], name: names[random.IntN(3)], active: random.IntN(4) > 0}
			days := int64(1 + random.IntN(3))
			m.expires = now.Add(time.Duration(days) * 24 * time.Hour)
			made, _, err := n.cat.Create(t.Context(), c, NewToken{Name: m.name, Days: days, Team: &m.team, Active: m.active})
			expected := ""
			switch {
			case m.team != "" && !member(email, m.team):
				expected = "team_invalid"
			case m.active && !free(m, m.name, now):
				expected = "name_taken"
			}
			what = fmt.Sprintf("create %+v", *m)
			if want(t, err, expected); err == nil {
				m.id = made.ID
				all = append(all, m)
			}
		case op < 6:
			m := all[random.IntN(len(all))]
			u, after := Update{}, *m
			if random.IntN(2) == 0 {
				after.name = names[random.IntN(3)]
				u.Name = &after.name
			}
			if random.IntN(2) == 0 {
				after.active = random.IntN(2) == 0
				u.Active = &after.active
			}
			_, err := n.cat.Update(t.Context(), c, m.id, u)
			expected := ""
			switch {
			case m.user != email && !owner(email, m.team):
				expected = "token_unknown"
			case m.revoked:
				expected = "token_revoked"
			case !now.Before(m.expires):
				expected = "token_expired"
			case after.active && !free(m, after.name, now):
				expected = "name_taken"
			}
			what = fmt.Sprintf("update %+v to %+v by %s", *m, after, email)
			if want(t, err, expected); err == nil {
				*m = after
			}
		case op < 8:
			m := all[random.IntN(len(all))]
			err := n.cat.Revoke(t.Context(), c, m.id, "")
			expected := ""
			if m.user != email && !owner(email, m.team) {
				expected = "token_unknown"
			}
			what = fmt.Sprintf("revoke %+v by %s", *m, email)
			if want(t, err, expected); err == nil {
				m.revoked, m.active = true, false
			}
		default:
			inactive := random.IntN(2) == 0
			page, err := n.cat.List(t.Context(), c, Filter{Inactive: inactive, Limit: MaxPage})
			want(t, err, "")
			var got, expected []string
			for _, token := range page.Tokens {
				got = append(got, fmt.Sprint(token.ID, token.Name, token.IsActive, token.IsRevoked))
			}
			for _, m := range all {
				if (m.user == email || m.team != "" && member(email, m.team)) && (inactive || m.alive(now)) {
					expected = append(expected, fmt.Sprint(m.id, m.name, m.active, m.revoked))
				}
			}
			slices.Sort(got)
			slices.Sort(expected)
			if !slices.Equal(got, expected) {
				t.Errorf("list: got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
			}
			what = "list"
		}
		if t.Failed() {
			t.Fatalf("step %d: %s", step, what)
		}
	}
	dead := revoked(t, store)
	for _, m := range all {
		if dead[m.id] != m.revoked {
			t.Errorf("%+v: its revocation is %v", *m, dead[m.id])
		}
	}
}
