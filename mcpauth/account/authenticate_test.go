package account

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// TestUniformFailure: whatever is wrong with a login, the answer is the same and a hash
// was computed for it.
func TestUniformFailure(t *testing.T) {
	s, logs := logged(t, embeddedStore(t), Config{MaxFailures: 1})
	made(t, s, NewUser{Email: "ok@example.com", Password: good, Active: true})
	made(t, s, NewUser{Email: "off@example.com", Password: good})
	made(t, s, NewUser{Email: "none@example.com", Active: true})
	made(t, s, NewUser{Email: "locked@example.com", Password: good, Active: true})
	want(t, login(t.Context(), s, "locked@example.com", another), "credentials_invalid")

	var mu sync.Mutex
	var compared []string
	s.hasher.compared = func(stored string) {
		mu.Lock()
		defer mu.Unlock()
		compared = append(compared, stored)
	}
	for _, tc := range []struct {
		name, email, password string
		decoy                 bool
	}{
		{"wrong", "ok@example.com", another, false},
		{"unknown", "nobody@example.com", good, true},
		{"no address", "x", good, true},
		{"not active", "off@example.com", good, true},
		{"no password", "none@example.com", "", true},
		{"locked", "locked@example.com", good, true},
		{"too long", "nobody@example.com", strings.Repeat("x", 1000), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			compared = nil
			err := login(t.Context(), s, tc.email, tc.password)
			if !errors.Is(err, errCredentials) || err.Error() != "Invalid email or password" {
				t.Errorf("got %v", err)
			}
			if len(compared) != 1 || (compared[0] == s.hasher.decoy) != tc.decoy {
				t.Errorf("compared with %d hashes", len(compared))
			}
		})
	}
	for _, entry := range logs.All() {
		text := fmt.Sprint(entry.Message, entry.ContextMap())
		for _, secret := range []string{good, another, "nobody@example.com"} {
			if strings.Contains(text, secret) {
				t.Errorf("the log tells %q: %s", secret, text)
			}
		}
	}
}

func TestLockout(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	now := &clock{now: time.Now()}
	s.now = now.Now
	ctx := t.Context()
	u := made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true})
	fail := func(n int) {
		t.Helper()
		for range n {
			want(t, login(ctx, s, u.Email, another), "credentials_invalid")
		}
	}
	fail(4)
	want(t, login(ctx, s, u.Email, good), "") // which begins anew
	fail(4)
	want(t, login(ctx, s, u.Email, good), "")
	fail(5)
	want(t, login(ctx, s, u.Email, good), "credentials_invalid")
	if until := must[time.Time](t)(s.Locked(ctx, u)); !until.Equal(now.Now().Add(time.Hour)) {
		t.Errorf("locked until %s", until)
	}
	// Trying on does not make it longer.
	now.add(59 * time.Minute)
	want(t, login(ctx, s, u.Email, good), "credentials_invalid")
	now.add(time.Minute)
	fail(4)
	want(t, login(ctx, s, u.Email, good), "")
	fail(5)
	want(t, s.Unlock(ctx, tester, u.Email), "")
	want(t, login(ctx, s, u.Email, good), "")
	fail(5)
	// Another password from an administrator unlocks, too.
	want(t, s.SetPassword(ctx, tester, u.Email, another), "")
	want(t, login(ctx, s, u.Email, another), "")
}

func TestAdministratorsAreNotLockedUnlessChosen(t *testing.T) {
	for _, lock := range []bool{false, true} {
		s := service(t, embeddedStore(t), Config{LockAdministrators: lock})
		made(t, s, NewUser{Email: "a@example.com", Password: good22, Admin: true, Active: true})
		for range 20 {
			want(t, login(t.Context(), s, "a@example.com", another22), "credentials_invalid")
		}
		expected := ""
		if lock {
			expected = "credentials_invalid"
		}
		want(t, login(t.Context(), s, "a@example.com", good22), expected)
	}
}

// TestLockoutConcurrently: guesses that are made at the same time, on two nodes, are no
// more than those that are left.
func TestLockoutConcurrently(t *testing.T) {
	for name, pair := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			u := made(t, pair[0], NewUser{Email: "a@example.com", Password: good, Active: true})
			stored := must[state.Entry[userRecord]](t)(pair[0].user(t.Context(), u.Email)).Data.Hash
			var mu sync.Mutex
			tried := 0
			for _, s := range pair {
				s.hasher.compared = func(compared string) {
					mu.Lock()
					defer mu.Unlock()
					if compared == stored {
						tried++
					}
				}
			}
			var running sync.WaitGroup
			for i := range 40 {
				running.Go(func() { want(t, login(t.Context(), pair[i%2], u.Email, another), "credentials_invalid") })
			}
			running.Wait()
			if tried != 5 {
				t.Errorf("%d passwords were tried, expected 5", tried)
			}
			want(t, login(t.Context(), pair[0], u.Email, good), "credentials_invalid")
		})
	}
}

// Logins with the right password do not get into each other's way.
func TestRightPasswordConcurrently(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true})
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() { want(t, login(t.Context(), s, "a@example.com", good), "") })
	}
	running.Wait()
}

func TestPasswordChange(t *testing.T) {
	s := service(t, embeddedStore(t), Config{Passwords: PasswordPolicy{MaxAge: caddy.Duration(90 * 24 * time.Hour), History: 2}})
	now := &clock{now: time.Now()}
	s.now = now.Now
	ctx := t.Context()
	u := made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true, MustChange: true})
	proof := must[Proof](t)(s.Authenticate(ctx, u.Email, good, ""))
	if !proof.MustChange {
		t.Error("the first password need not be changed")
	}
	_, err := s.Enter(ctx, proof)
	want(t, err, "credentials_invalid")
	want(t, s.ChangePassword(ctx, proof, good, ""), "password_reused")
	want(t, s.ChangePassword(ctx, proof, "short", ""), "password_short")
	want(t, s.ChangePassword(ctx, proof, another, ""), "")
	want(t, s.ChangePassword(ctx, proof, "Pencil 9 rides the moon", ""), "busy") // a proof is of one password
	want(t, login(ctx, s, u.Email, good), "credentials_invalid")

	proof = must[Proof](t)(s.Authenticate(ctx, u.Email, another, ""))
	if proof.MustChange {
		t.Error("the new password must be changed")
	}
	after := must[User](t)(s.Enter(ctx, proof))
	if after.LastLogin.IsZero() {
		t.Error("the login is not noted")
	}
	want(t, s.ChangePassword(ctx, proof, good, ""), "password_reused")
	want(t, s.ChangePassword(ctx, proof, "Pencil 9 rides the moon", ""), "")
	_, err = s.Enter(ctx, proof)
	want(t, err, "credentials_invalid") // it was proven by a password that is over

	proof = must[Proof](t)(s.Authenticate(ctx, u.Email, "Pencil 9 rides the moon", ""))
	want(t, s.ChangePassword(ctx, proof, good, ""), "") // it is out of the history
	now.add(90 * 24 * time.Hour)
	if proof := must[Proof](t)(s.Authenticate(ctx, u.Email, good, "")); !proof.MustChange {
		t.Error("a password of 90 days need not be changed")
	}
}

// A proof is void once the user is not active any more.
func TestEnterWhenNotActiveAnyMore(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	u := made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true})
	proof := must[Proof](t)(s.Authenticate(t.Context(), u.Email, good, ""))
	must[User](t)(s.Update(t.Context(), tester, u.Email, Update{Active: new(false)}))
	_, err := s.Enter(t.Context(), proof, state.Create("x", nil))
	want(t, err, "credentials_invalid")
	if _, err := state.Get(t.Context(), s.store, "x"); !errors.Is(err, state.ErrNotFound) {
		t.Error("the changes were made", err)
	}
}

func TestRehash(t *testing.T) {
	store := embeddedStore(t)
	s := service(t, store, Config{})
	u := made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true})
	newer, err := New(store, Config{Cost: Cost{2, 128, 1}}, s.logger)
	if err != nil {
		t.Fatal(err)
	}
	proof := must[Proof](t)(newer.Authenticate(t.Context(), u.Email, good, ""))
	entry := must[state.Entry[userRecord]](t)(newer.user(t.Context(), u.Email))
	if !strings.Contains(entry.Data.Hash, "$m=128,t=2,p=1$") || len(entry.Data.Former) != 0 {
		t.Errorf("kept %s and %d former hashes", entry.Data.Hash, len(entry.Data.Former))
	}
	must[User](t)(newer.Enter(t.Context(), proof))
	want(t, login(t.Context(), newer, u.Email, good), "")
}

// Two nodes that hash a password anew at the same time let both in.
func TestRehashConcurrently(t *testing.T) {
	for name, pair := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			made(t, pair[0], NewUser{Email: "a@example.com", Password: good, Active: true})
			var running sync.WaitGroup
			for _, s := range pair {
				s.hasher.cost = Cost{2, 128, 1}
			}
			for i := range 8 {
				running.Go(func() {
					proof, err := pair[i%2].Authenticate(t.Context(), "a@example.com", good, "")
					if want(t, err, ""); err == nil {
						_, err = pair[i%2].Enter(t.Context(), proof)
						want(t, err, "")
					}
				})
			}
			running.Wait()
		})
	}
}

// Without the store nobody is let in.
func TestStoreDown(t *testing.T) {
	s := service(t, embeddedStore(t), Config{})
	made(t, s, NewUser{Email: "a@example.com", Password: good, Active: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := login(t.Context(), s, "a@example.com", good); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
