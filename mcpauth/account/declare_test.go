package account

import (
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

func declare(t *testing.T, s *Service, d Declared) (ended []string) {
	t.Helper()
	if err := s.Check(d); err != nil {
		t.Fatal(err)
	}
	err := s.Declare(t.Context(), d, func(u User) error {
		ended = append(ended, u.Email)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

func TestDeclare(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	root := DeclaredUser{Email: "Root@example.com", Administrator: true, Password: good22}
	bob := DeclaredUser{Email: "bob@example.com", Name: "Bob", Password: good, Roles: []string{"analyst"}, TeamRoles: map[string][]string{"support": {"viewer"}}}
	team := DeclaredTeam{ID: "support", Name: "Support", Owners: []string{"root@example.com"}, Members: []string{"bob@example.com"}}
	d := Declared{Users: []DeclaredUser{root, bob}, Teams: []DeclaredTeam{team}}
	if ended := declare(t, s, d); len(ended) != 0 {
		t.Errorf("ended %s", ended)
	}
	proof := must[Proof](t)(s.Authenticate(ctx, "root@example.com", good22, ""))
	if u := proof.User(); !u.Admin || !u.Active || !proof.MustChange {
		t.Errorf("made %+v", u)
	}
	state1 := must[state.Record](t)(state.Get(ctx, s.store, users.Key("bob@example.com")))
	declare(t, s, d)
	if state2 := must[state.Record](t)(state.Get(ctx, s.store, users.Key("bob@example.com"))); state2.Version != state1.Version {
		t.Error("the same configuration has changed something")
	}
	b := must[User](t)(s.User(ctx, "bob@example.com"))
	if got := must[[]Assignment](t)(s.Assignments(ctx, b.ID)); len(got) != 2 {
		t.Errorf("assignments %+v", got)
	}

	t.Run("a password that its user has changed stays", func(t *testing.T) {
		want(t, s.ChangePassword(ctx, proof, another22, ""), "")
		declare(t, s, d)
		d.Users[0].Password = "Quite 1 different Sentence, isn't it"
		declare(t, s, d)
		want(t, login(ctx, s, "root@example.com", another22), "")
		want(t, login(ctx, s, "root@example.com", d.Users[0].Password), "credentials_invalid")
	})
	t.Run("one that nobody has changed follows the configuration", func(t *testing.T) {
		d.Users[1].Password = another
		if ended := declare(t, s, d); len(ended) != 1 || ended[0] != "bob@example.com" {
			t.Errorf("ended %s", ended)
		}
		want(t, login(ctx, s, "bob@example.com", good), "credentials_invalid")
		want(t, login(ctx, s, "bob@example.com", another), "")
	})
	t.Run("what was changed since stays", func(t *testing.T) {
		must[User](t)(s.Update(ctx, tester, "bob@example.com", Update{FullName: new("Robert"), Active: new(false)}))
		want(t, s.RemoveMember(ctx, tester, "support", "bob@example.com"), "")
		want(t, s.Unassign(ctx, tester, "bob@example.com", "analyst", ""), "")
		declare(t, s, d)
		b := must[User](t)(s.User(ctx, "bob@example.com"))
		if b.FullName != "Robert" || b.Active {
			t.Errorf("the user is %+v", b)
		}
		if got := must[[]Membership](t)(s.TeamsOf(ctx, b.ID)); len(got) != 0 {
			t.Errorf("teams %+v", got)
		}
	})
	t.Run("what the configuration changes is changed", func(t *testing.T) {
		d.Users[1].Name, d.Users[1].Roles, d.Users[1].TeamRoles = "Bobby", []string{"writer"}, nil
		d.Teams[0].Owners, d.Teams[0].Members = nil, []string{"root@example.com"}
		declare(t, s, d)
		b := must[User](t)(s.User(ctx, "bob@example.com"))
		if b.FullName != "Bobby" {
			t.Errorf("the user is %+v", b)
		}
		if got := must[[]Assignment](t)(s.Assignments(ctx, b.ID)); len(got) != 1 || got[0].Role != "writer" {
			t.Errorf("assignments %+v", got)
		}
		if got := must[[]Membership](t)(s.Members(ctx, "support")); len(got) != 1 || got[0].Role != Member || got[0].Email != "root@example.com" {
			t.Errorf("members %+v", got)
		}
	})
	t.Run("the last administrator stays one", func(t *testing.T) {
		d.Users[0].Administrator = false
		err := s.Declare(ctx, d, func(User) error { return nil })
		if err == nil || !strings.Contains(err.Error(), errLast.Message) {
			t.Errorf("got %v", err)
		}
	})
}

// TestDeclareTakesAnAccountOver: whoever had the account before does not become an
// administrator by knowing its password.
func TestDeclareTakesAnAccountOver(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ctx := t.Context()
	made(t, s, NewUser{Email: "root@example.com", Password: good, Active: true})
	d := Declared{Users: []DeclaredUser{{Email: "root@example.com", Administrator: true, Password: good22}}}
	if ended := declare(t, s, d); len(ended) != 1 {
		t.Errorf("ended %s", ended)
	}
	want(t, login(ctx, s, "root@example.com", good), "credentials_invalid")
	proof := must[Proof](t)(s.Authenticate(ctx, "root@example.com", good22, ""))
	if !proof.User().Admin || !proof.MustChange {
		t.Errorf("the user is %+v", proof.User())
	}
}

func TestDeclareHash(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	stored := Cost{1, 8 << 10, 1}.hash(good22)
	declare(t, s, Declared{Users: []DeclaredUser{{Email: "root@example.com", Administrator: true, PasswordHash: stored}}})
	proof := must[Proof](t)(s.Authenticate(t.Context(), "root@example.com", good22, ""))
	if !proof.MustChange {
		t.Error("it need not be changed")
	}
	// It was hashed anew by today's parameters, and is still what the configuration has.
	declare(t, s, Declared{Users: []DeclaredUser{{Email: "root@example.com", Administrator: true, PasswordHash: Cost{1, 8 << 10, 1}.hash(another22)}}})
	want(t, login(t.Context(), s, "root@example.com", another22), "")
}

func TestDeclareErrors(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	ok := DeclaredUser{Email: "a@example.com"}
	for _, tc := range []struct {
		name string
		d    Declared
		says string
	}{
		{"no address", Declared{Users: []DeclaredUser{{}}}, "account 1"},
		{"twice", Declared{Users: []DeclaredUser{ok, {Email: "A@example.com"}}}, "twice"},
		{"administrator without password", Declared{Users: []DeclaredUser{{Email: "a@example.com", Administrator: true}}}, "no default"},
		{"weak", Declared{Users: []DeclaredUser{{Email: "a@example.com", Password: "Hunter2-hunter2"}}}, "guess"},
		{"short for an administrator", Declared{Users: []DeclaredUser{{Email: "a@example.com", Administrator: true, Password: good[:21]}}}, "22"},
		{"two passwords", Declared{Users: []DeclaredUser{{Email: "a@example.com", Password: good, PasswordHash: "x"}}}, "leave one out"},
		{"bad hash", Declared{Users: []DeclaredUser{{Email: "a@example.com", PasswordHash: "Hunter2-hunter2"}}}, "PHC"},
		{"bad role", Declared{Users: []DeclaredUser{{Email: "a@example.com", Roles: []string{"a/b"}}}}, "role"},
		{"role in no team", Declared{Users: []DeclaredUser{{Email: "a@example.com", TeamRoles: map[string][]string{"x": {"y"}}}}}, "no team x"},
		{"bad team", Declared{Teams: []DeclaredTeam{{ID: "a/b"}}}, "id of a team"},
		{"team twice", Declared{Teams: []DeclaredTeam{{ID: "a"}, {ID: "a"}}}, "twice"},
		{"member without account", Declared{Teams: []DeclaredTeam{{ID: "a", Members: []string{"a@example.com"}}}}, "no account"},
		{"member twice", Declared{Users: []DeclaredUser{ok}, Teams: []DeclaredTeam{{ID: "a", Owners: []string{"a@example.com"}, Members: []string{"A@example.com"}}}}, "twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := s.Check(tc.d)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, expected: %s", err, tc.says)
			}
			if strings.Contains(err.Error(), "unter2") {
				t.Error("the error tells the password")
			}
		})
	}
}
