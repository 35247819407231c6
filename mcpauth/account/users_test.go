package account

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

func TestUsers(t *testing.T) {
	s := service(t, embeddedStore(t), Config{MaxUsers: 3})
	admin := made(t, s, NewUser{Email: "Root@Example.com", Password: good22, Admin: true, Active: true})
	if admin.Email != "root@example.com" {
		t.Errorf("the address is %s", admin.Email)
	}
	bob := made(t, s, NewUser{Email: "bob@example.com", FullName: "Bob", Password: good, Active: true, MustChange: true})
	if bob.ID == admin.ID || !bob.MustChange || bob.Admin || !bob.Active || bob.PasswordChanged.IsZero() {
		t.Errorf("made %+v", bob)
	}
	if got := must[User](t)(s.User(t.Context(), "BOB@example.com")); got != bob {
		t.Errorf("read %+v, made %+v", got, bob)
	}
	if got := must[User](t)(s.UserByID(t.Context(), bob.ID)); got != bob {
		t.Errorf("read %+v, made %+v", got, bob)
	}
	for _, tc := range []struct {
		name   string
		user   NewUser
		reason string
	}{
		{"twice", NewUser{Email: "BOB@example.com"}, "user_exists"},
		{"no address", NewUser{}, "email_invalid"},
		{"weak password", NewUser{Email: "c@example.com", Password: "hunter2hunter2"}, "password_classes"},
		{"short for an administrator", NewUser{Email: "c@example.com", Password: good[:21], Admin: true}, "password_short"},
		{"bad hash", NewUser{Email: "c@example.com", Hash: "x"}, "password_malformed"},
		{"name with a line break", NewUser{Email: "c@example.com", FullName: "C\nD"}, "name_invalid"},
		{"name that turns around", NewUser{Email: "c@example.com", FullName: "C\u202eD"}, "name_invalid"},
		{"long name", NewUser{Email: "c@example.com", FullName: strings.Repeat("c", 201)}, "name_invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.Create(t.Context(), tester, tc.user)
			want(t, err, tc.reason)
		})
	}
	made(t, s, NewUser{Email: "c@example.com"})
	_, err := s.Create(t.Context(), tester, NewUser{Email: "d@example.com"})
	want(t, err, "users_full")
	if err := s.Delete(t.Context(), tester, "c@example.com"); err != nil {
		t.Fatal(err)
	}
	// The address may come back, the person does not.
	again := made(t, s, NewUser{Email: "c@example.com"})
	if _, err := s.UserByID(t.Context(), again.ID); err != nil {
		t.Error(err)
	}
	var emails []string
	for after := ""; ; {
		page, next, err := s.Users(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page {
			emails = append(emails, u.Email)
		}
		if after = next; next == "" {
			break
		}
	}
	if got := strings.Join(emails, " "); got != "bob@example.com c@example.com root@example.com" {
		t.Errorf("listed %s", got)
	}
}

// TestAdministrators: nobody takes the last one away, and none takes it from themselves.
func TestAdministrators(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	a := made(t, s, NewUser{Email: "a@example.com", Admin: true, Active: true})
	no := new(false)
	for name, try := range map[string]func(Actor, string) error{
		"demote": func(by Actor, who string) error {
			_, err := s.Update(t.Context(), by, who, Update{Admin: no})
			return err
		},
		"deactivate": func(by Actor, who string) error {
			_, err := s.Update(t.Context(), by, who, Update{Active: no})
			return err
		},
		"delete": func(by Actor, who string) error { return s.Delete(t.Context(), by, who) },
	} {
		t.Run(name, func(t *testing.T) {
			want(t, try(tester, "a@example.com"), "last_administrator")
			want(t, try(By(a, ""), "a@example.com"), "own_account")
			b := made(t, s, NewUser{Email: "b@example.com", Admin: true, Active: true})
			made(t, s, NewUser{Email: "c@example.com", Admin: true})
			want(t, try(By(a, ""), "a@example.com"), "own_account")
			want(t, try(By(b, ""), "c@example.com"), "") // who is not active is none
			want(t, try(By(a, ""), "b@example.com"), "")
			want(t, try(tester, "a@example.com"), "last_administrator")
			for _, email := range []string{"b@example.com", "c@example.com"} {
				if name != "delete" {
					want(t, s.Delete(t.Context(), tester, email), "")
				}
			}
		})
	}
	// Other changes of oneself are possible.
	_, err := s.Update(t.Context(), By(a, ""), "a@example.com", Update{FullName: new("A"), Admin: new(true)})
	want(t, err, "")
}

// TestLastAdministratorConcurrently: however many are demoted, deactivated and deleted
// at the same time, on two nodes, one stays.
func TestLastAdministratorConcurrently(t *testing.T) {
	for name, pair := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			const n = 8
			for round := range 5 {
				users := make([]User, n)
				for i := range users {
					users[i] = made(t, pair[0], NewUser{Email: fmt.Sprintf("a%d-%d@example.com", round, i), Admin: true, Active: true})
				}
				if round > 0 { // the one that the round before has left
					for u := range each(t, pair[0]) {
						if u.administers() && !strings.HasPrefix(u.Email, fmt.Sprintf("a%d-", round)) {
							want(t, pair[0].Delete(t.Context(), tester, u.Email), "")
						}
					}
				}
				var running sync.WaitGroup
				results := make(chan error, n)
				for i, u := range users {
					running.Go(func() {
						s, no := pair[i%2], new(false)
						var err error
						switch i % 3 {
						case 0:
							_, err = s.Update(t.Context(), tester, u.Email, Update{Admin: no})
						case 1:
							_, err = s.Update(t.Context(), tester, u.Email, Update{Active: no})
						default:
							err = s.Delete(t.Context(), tester, u.Email)
						}
						results <- err
					})
				}
				running.Wait()
				close(results)
				refused := 0
				for err := range results {
					if err == nil {
						continue
					}
					if want(t, err, "last_administrator"); errors.Is(err, errLast) {
						refused++
					}
				}
				left := 0
				for u := range each(t, pair[1]) {
					if u.administers() {
						left++
					}
				}
				if refused != 1 || left != 1 {
					t.Errorf("%d of %d were refused, and %d administrators are left", refused, n, left)
				}
			}
		})
	}
}

// each yields all users.
func each(t *testing.T, s *Service) func(func(User) bool) {
	return func(yield func(User) bool) {
		list, next, err := s.Users(t.Context(), "", state.MaxScan)
		if err != nil || next != "" {
			t.Fatal(err, next)
		}
		for _, u := range list {
			if !yield(u) {
				return
			}
		}
	}
}

// TestSameAddressConcurrently: an address is somebody's once.
func TestSameAddressConcurrently(t *testing.T) {
	for name, pair := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			var running sync.WaitGroup
			results := make(chan error, 16)
			for i := range 16 {
				running.Go(func() {
					_, err := pair[i%2].Create(t.Context(), tester, NewUser{Email: "a@example.com"})
					results <- err
				})
			}
			running.Wait()
			close(results)
			succeeded := 0
			for err := range results {
				if err == nil {
					succeeded++
				} else {
					want(t, err, "user_exists")
				}
			}
			if succeeded != 1 {
				t.Errorf("%d succeeded", succeeded)
			}
		})
	}
}

func TestTeams(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	a, b := made(t, s, NewUser{Email: "a@example.com"}), made(t, s, NewUser{Email: "b@example.com"})
	must[Team](t)(s.CreateTeam(ctx, tester, "support", "Support", ""))
	_, err := s.CreateTeam(ctx, tester, "support", "", "")
	want(t, err, "team_exists")
	for _, id := range []string{"", "a/b", ".a", "a b", strings.Repeat("a", 65)} {
		_, err := s.CreateTeam(ctx, tester, id, "", "")
		want(t, err, "team_invalid")
	}
	want(t, s.SetMember(ctx, tester, "support", a.Email, Owner), "")
	want(t, s.SetMember(ctx, tester, "support", b.Email, Member), "")
	want(t, s.SetMember(ctx, tester, "support", b.Email, "boss"), "member_role_invalid")
	want(t, s.SetMember(ctx, tester, "other", b.Email, Member), "team_unknown")
	want(t, s.SetMember(ctx, tester, "support", "c@example.com", Member), "user_unknown")
	list := must[[]Membership](t)(s.Members(ctx, "support"))
	if len(list) != 2 {
		t.Fatalf("members %+v", list)
	}
	mine := must[[]Membership](t)(s.TeamsOf(ctx, a.ID))
	if len(mine) != 1 || mine[0].Team != "support" || mine[0].Role != Owner {
		t.Errorf("teams %+v", mine)
	}
	want(t, s.RemoveMember(ctx, tester, "support", b.Email), "")
	want(t, s.RemoveMember(ctx, tester, "support", b.Email), "member_unknown")

	// Who comes with an address, or a team with an ID, inherits nothing.
	want(t, s.Assign(ctx, tester, a.Email, Assignment{Role: "analyst", Team: "support", Active: true}), "")
	want(t, s.DeleteTeam(ctx, tester, "support"), "")
	must[Team](t)(s.CreateTeam(ctx, tester, "support", "", ""))
	if list := must[[]Membership](t)(s.TeamsOf(ctx, a.ID)); len(list) != 0 {
		t.Errorf("teams %+v", list)
	}
	if list := must[[]Assignment](t)(s.Assignments(ctx, a.ID)); len(list) != 0 {
		t.Errorf("assignments %+v", list)
	}
	want(t, s.SetMember(ctx, tester, "support", a.Email, Member), "")
	want(t, s.Assign(ctx, tester, a.Email, Assignment{Role: "analyst", Active: true}), "")
	want(t, s.Delete(ctx, tester, a.Email), "")
	again := made(t, s, NewUser{Email: a.Email})
	if list := must[[]Membership](t)(s.Members(ctx, "support")); len(list) != 0 {
		t.Errorf("members %+v", list)
	}
	if list := must[[]Assignment](t)(s.Assignments(ctx, again.ID)); len(list) != 0 {
		t.Errorf("assignments %+v", list)
	}
}

// A team that ended while its members could not be told is no team of theirs, even if
// another one gets its ID.
func TestTeamThatEndedHalfway(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	a := made(t, s, NewUser{Email: "a@example.com"})
	must[Team](t)(s.CreateTeam(ctx, tester, "support", "", ""))
	want(t, s.SetMember(ctx, tester, "support", a.Email, Owner), "")
	must[state.Version](t)(s.store.Apply(ctx, state.Remove(teams.Key("support"))))
	must[Team](t)(s.CreateTeam(ctx, tester, "support", "", ""))
	if list := must[[]Membership](t)(s.Members(ctx, "support")); len(list) != 0 {
		t.Errorf("members %+v", list)
	}
	if list := must[[]Membership](t)(s.TeamsOf(ctx, a.ID)); len(list) != 0 {
		t.Errorf("teams %+v", list)
	}
	want(t, s.RemoveMember(ctx, tester, "support", a.Email), "member_unknown")
	want(t, s.SetMember(ctx, tester, "support", a.Email, Member), "")
	if list := must[[]Membership](t)(s.TeamsOf(ctx, a.ID)); len(list) != 1 || list[0].Role != Member {
		t.Errorf("teams %+v", list)
	}
}

// TestRoleOfATeamThatEnded: nobody has it, not even to have it taken away.
func TestRoleOfATeamThatEnded(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	bob := made(t, s, NewUser{Email: "bob@example.com", Active: true})
	assign := func() {
		t.Helper()
		must[Team](t)(s.CreateTeam(ctx, tester, "support", "", ""))
		want(t, s.Assign(ctx, tester, bob.Email, Assignment{Role: "viewer", Team: "support", Active: true}), "")
	}
	assign()
	want(t, s.DeleteTeam(ctx, tester, "support"), "")
	want(t, s.Unassign(ctx, tester, bob.Email, "viewer", "support"), "assignment_unknown")
	must[Team](t)(s.CreateTeam(ctx, tester, "support", "", ""))
	want(t, s.Unassign(ctx, tester, bob.Email, "viewer", "support"), "assignment_unknown")
	want(t, s.DeleteTeam(ctx, tester, "support"), "")
	assign()
	want(t, s.Unassign(ctx, tester, bob.Email, "viewer", "support"), "")
	want(t, s.Unassign(ctx, tester, bob.Email, "viewer", "support"), "assignment_unknown")
}
