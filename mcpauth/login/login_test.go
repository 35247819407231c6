package login

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/embedded"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

const (
	name    = "https://mcp.example.com"
	good    = "Tulip-42 walks sideways"
	another = "Marble*7 owes the tailor"
	address = "192.0.2.1"
)

var tester = account.Actor{Name: "test"}

func opened(t *testing.T, module state.Module) state.Store {
	t.Helper()
	if err := module.(caddy.Provisioner).Provision(caddy.Context{Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	store := module.NewStore()
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// following is a store's set of revocations, which knows what it has.
func following(t *testing.T, store state.Store) *revocation.Set {
	t.Helper()
	set := revocation.New(store)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		set.Run(ctx, zap.NewNop)
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-set.Known()
	return set
}

// What was revoked cannot be had again by a refresh.
func TestRefreshOfWhatWasRevoked(t *testing.T) {
	for name, r := range map[string]state.Revocation{
		"everyone": {Kind: state.RevokeEveryone, Before: time.Now().Add(time.Minute)},
		"subject":  {Kind: state.RevokeSubject, Issuer: name},
	} {
		t.Run(name, func(t *testing.T) {
			w := embeddedWorld(t, Config{})
			u := w.user("a@example.com", false)
			g := w.login("a@example.com")
			if r.Kind == state.RevokeSubject {
				r.Value = u.ID
			}
			r.Expires = time.Now().Add(time.Hour)
			if err := w.revocations.Revoke(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Refresh(t.Context(), g.Refresh, address); !errors.Is(err, ErrRefresh) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// world is a node.
type world struct {
	*Desk
	t    *testing.T
	logs *observer.ObservedLogs
	// ahead is how far the desk's clock is ahead.
	mu    sync.Mutex
	ahead time.Duration
}

func newWorld(t *testing.T, store state.Store, config Config) *world {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	accounts, err := account.New(store, account.Config{Cost: account.Cost{Passes: 1, Memory: 64, Threads: 1}}, logger)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := issue.New(store, issue.Config{Name: name}, "production", logger)
	if err != nil {
		t.Fatal(err)
	}
	desk, err := New(store, following(t, store), accounts, issuer, config, "production", logger)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Desk: desk, t: t, logs: logs}
	desk.now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Now().Add(w.ahead)
	}
	return w
}

func embeddedWorld(t *testing.T, config Config) *world {
	return newWorld(t, opened(t, &embedded.Embedded{Path: filepath.Join(t.TempDir(), "state.db")}), config)
}

func (w *world) user(email string, admin bool) account.User {
	w.t.Helper()
	// An administrator's password must be longer.
	password := good
	if admin {
		password += ", 3 times"
	}
	u, err := w.accounts.Create(w.t.Context(), tester, account.NewUser{Email: email, Password: password, Admin: admin, Active: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) login(email string) Grant {
	w.t.Helper()
	g, err := w.Login(w.t.Context(), email, good, address)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func reason(err error) string {
	var e *account.Error
	var refused *token.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Reason
	case errors.As(err, &refused):
		return string(refused.Reason)
	}
	return err.Error()
}

func want(t *testing.T, err error, expected string) {
	t.Helper()
	if got := reason(err); got != expected {
		t.Errorf("got %q, expected %q", got, expected)
	}
}

func (w *world) wantChecked(g Grant, expected string) {
	w.t.Helper()
	_, err := w.Check(w.t.Context(), g.Access.Raw)
	want(w.t, err, expected)
}

// TestClaims: a token says what the account is when it is made, and a refresh says anew.
func TestClaims(t *testing.T) {
	w := embeddedWorld(t, Config{})
	ctx := t.Context()
	u := w.user("a@example.com", false)
	if _, err := w.accounts.CreateTeam(ctx, tester, "support", "", ""); err != nil {
		t.Fatal(err)
	}
	claims := func(g Grant) string {
		t.Helper()
		v, err := w.Check(ctx, g.Access.Raw)
		if err != nil {
			t.Fatal(err)
		}
		teams, _ := v.Claims.Lookup("teams")
		roles, _ := v.Claims.Lookup("roles")
		return fmt.Sprint(teams, roles)
	}
	g := w.login(u.Email)
	if got := claims(g); got != "[] <nil>" {
		t.Errorf("got %s", got)
	}
	want(t, w.accounts.SetMember(ctx, tester, "support", u.Email, account.Member), "")
	for _, a := range []account.Assignment{
		{Role: "reader", Active: true},
		{Role: "writer"},
		{Role: "viewer", Team: "support", Active: true},
		{Role: "guest", Active: true, Expires: time.Now().Add(10 * time.Minute)},
	} {
		want(t, w.accounts.Assign(ctx, tester, u.Email, a), "")
	}
	g, err := w.Refresh(ctx, g.Refresh, address)
	if err != nil {
		t.Fatal(err)
	}
	if got := claims(g); got != "[support] [guest reader]" {
		t.Errorf("got %s", got)
	}
	w.ahead = 11 * time.Minute
	if g, err = w.Refresh(ctx, g.Refresh, address); err != nil {
		t.Fatal(err)
	}
	w.ahead = 0
	if got := claims(g); got != "[support] [reader]" {
		t.Errorf("got %s", got)
	}
}

// wantRevoked waits until the store tells that a token is revoked.
func (w *world) wantRevoked(told *statetest.Told, kind state.RevocationKind, value string) {
	w.t.Helper()
	told.Wait(w.t, "the revocation of "+value, func(all state.Update) bool {
		return slices.ContainsFunc(all.Revocations, func(r state.Revocation) bool {
			return r.Kind == kind && r.Value == value && r.Issuer == name && !r.Expires.IsZero()
		})
	})
}

func TestLoginAndLogout(t *testing.T) {
	w := embeddedWorld(t, Config{})
	told := statetest.Collect(t, w.store.Follow)
	u := w.user("a@example.com", false)
	g := w.login(u.Email)
	if g.User.ID != u.ID || g.User.LastLogin.IsZero() {
		t.Errorf("got %+v", g.User)
	}
	v, err := w.Check(t.Context(), g.Access.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if v.ID != u.ID || v.Claims.TokenID != g.Access.ID {
		t.Errorf("the visitor is %+v", v)
	}
	list, err := w.Sessions(t.Context(), u.ID)
	if err != nil || len(list) != 1 || list[0].ID != v.Session || list[0].Address != address {
		t.Errorf("sessions %+v, %v", list, err)
	}
	want(t, w.Logout(t.Context(), v, address), "")
	w.wantChecked(g, "session_ended")
	w.wantRevoked(told, state.RevokeID, g.Access.ID)
	_, err = w.Refresh(t.Context(), g.Refresh, address)
	want(t, err, "refresh_invalid")
	want(t, w.Logout(t.Context(), v, address), "")

	for _, entry := range w.logs.All() {
		text := fmt.Sprint(entry.Message, entry.ContextMap())
		for _, secret := range []string{good, g.Access.Raw, g.Refresh} {
			if strings.Contains(text, secret) {
				t.Errorf("the log tells a secret: %s", text)
			}
		}
	}
	for _, action := range []string{"login", "session_end"} {
		if w.logs.FilterField(zap.String("action", action)).Len() == 0 {
			t.Errorf("there is no audit of %s", action)
		}
	}
}

func TestRefresh(t *testing.T) {
	w := embeddedWorld(t, Config{})
	told := statetest.Collect(t, w.store.Follow)
	w.user("a@example.com", false)
	first := w.login("a@example.com")
	second, err := w.Refresh(t.Context(), first.Refresh, address)
	if err != nil {
		t.Fatal(err)
	}
	w.wantChecked(first, "session_ended")
	w.wantChecked(second, "")
	w.wantRevoked(told, state.RevokeID, first.Access.ID)
	third, err := w.Refresh(t.Context(), second.Refresh, address)
	if err != nil {
		t.Fatal(err)
	}
	other := w.login("a@example.com")
	for name, text := range map[string]string{
		"empty":            "",
		"an access token":  third.Access.Raw,
		"cut":              third.Refresh[:len(third.Refresh)-30],
		"another family":   strings.Replace(third.Refresh, third.Refresh[len(refreshPrefix)+27:len(refreshPrefix)+53], strings.Repeat("A", 26), 1),
		"another user":     strings.Replace(third.Refresh, third.User.ID, strings.Repeat("A", 26), 1),
		"with more":        third.Refresh + ".AAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a slash":          strings.Replace(third.Refresh, ".", "/", 1),
		"without a prefix": third.Refresh[len(refreshPrefix):],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Refresh(t.Context(), text, address)
			want(t, err, "refresh_invalid")
		})
	}
	w.wantChecked(third, "") // nothing of that has ended it

	// Two have the first one now.
	_, err = w.Refresh(t.Context(), first.Refresh, address)
	want(t, err, "refresh_invalid")
	w.wantChecked(third, "session_ended")
	w.wantRevoked(told, state.RevokeID, third.Access.ID)
	_, err = w.Refresh(t.Context(), third.Refresh, address)
	want(t, err, "refresh_invalid")
	w.wantChecked(other, "")
	if w.logs.FilterMessageSnippet("used twice").Len() != 1 {
		t.Error("the log does not tell")
	}
}

// TestRefreshConcurrently: of many that use one refresh token at the same time, on two
// nodes, at most one gets tokens, and in the end the session is over.
func TestRefreshConcurrently(t *testing.T) {
	server := redistest.Start(t)
	var pair [2]*world
	for i := range pair {
		pair[i] = newWorld(t, opened(t, &redis.Redis{Addresses: []string{server.Addr}}), Config{})
	}
	pair[0].user("a@example.com", false)
	for range 5 {
		g := pair[0].login("a@example.com")
		var running sync.WaitGroup
		grants := make(chan Grant, 8)
		for i := range 8 {
			running.Go(func() {
				next, err := pair[i%2].Refresh(t.Context(), g.Refresh, address)
				if err == nil {
					grants <- next
				} else if reason(err) != "refresh_invalid" {
					t.Error(err)
				}
			})
		}
		running.Wait()
		close(grants)
		if n := len(grants); n > 1 {
			t.Errorf("%d refreshes succeeded", n)
		}
		for next := range grants {
			pair[1].wantChecked(next, "session_ended")
		}
		pair[0].wantChecked(g, "session_ended")
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		w := embeddedWorld(t, Config{})
		w.user("a@example.com", false)
		g := w.login("a@example.com")
		w.ahead = time.Hour
		_, err := w.Refresh(t.Context(), g.Refresh, address)
		want(t, err, "refresh_invalid")
		w.wantChecked(g, "token_expired")
	})
	t.Run("lifetime", func(t *testing.T) {
		w := embeddedWorld(t, Config{Lifetime: caddy.Duration(90 * time.Minute)})
		w.user("a@example.com", false)
		g := w.login("a@example.com")
		var err error
		for w.ahead = 0; w.ahead < 90*time.Minute; w.ahead += 40 * time.Minute {
			if g, err = w.Refresh(t.Context(), g.Refresh, address); err != nil {
				t.Fatal(err)
			}
			if end := g.User.LastLogin.Add(91 * time.Minute); g.RefreshExpires.After(end) {
				t.Errorf("the session goes on until %s", g.RefreshExpires)
			}
		}
		w.ahead = 90 * time.Minute
		_, err = w.Refresh(t.Context(), g.Refresh, address)
		want(t, err, "refresh_invalid")
	})
}

func TestMustChange(t *testing.T) {
	w := embeddedWorld(t, Config{})
	ctx := t.Context()
	u := w.user("a@example.com", false)
	g := w.login(u.Email)
	want(t, w.SetPassword(ctx, tester, u.Email, another), "")
	w.wantChecked(g, "session_ended")
	_, err := w.Refresh(ctx, g.Refresh, address)
	want(t, err, "refresh_invalid")
	_, err = w.Login(ctx, u.Email, another, address)
	want(t, err, "password_change_required")
	want(t, w.ChangePassword(ctx, u.Email, good, "Pencil 9 rides the moon", address), "credentials_invalid")
	want(t, w.ChangePassword(ctx, u.Email, another, "Pencil 9 rides the moon", address), "")
	if g, err = w.Login(ctx, u.Email, "Pencil 9 rides the moon", address); err != nil {
		t.Fatal(err)
	}
	w.wantChecked(g, "")
	// Whoever changes it has logged everybody out.
	want(t, w.ChangePassword(ctx, u.Email, "Pencil 9 rides the moon", "Ladder 5 hums at noon", address), "")
	w.wantChecked(g, "session_ended")
}

func TestDeactivateAndDelete(t *testing.T) {
	w := embeddedWorld(t, Config{})
	ctx := t.Context()
	told := statetest.Collect(t, w.store.Follow)
	w.user("root@example.com", true)
	u := w.user("a@example.com", false)
	g := w.login(u.Email)
	no, yes := false, true
	_, err := w.Update(ctx, tester, u.Email, account.Update{Active: &no})
	want(t, err, "")
	w.wantChecked(g, "session_ended")
	w.wantRevoked(told, state.RevokeID, g.Access.ID)
	w.wantRevoked(told, state.RevokeSubject, u.ID)
	_, err = w.Login(ctx, u.Email, good, address)
	want(t, err, "credentials_invalid")
	_, err = w.Update(ctx, tester, u.Email, account.Update{Active: &yes})
	want(t, err, "")
	w.wantChecked(g, "session_ended") // it does not come back
	g = w.login(u.Email)
	want(t, w.Delete(ctx, tester, u.Email), "")
	w.wantChecked(g, "session_ended")
	want(t, w.Delete(ctx, tester, u.Email), "user_unknown")
	want(t, w.Delete(ctx, tester, "root@example.com"), "last_administrator")
}

func TestAPITokensAreNoSessions(t *testing.T) {
	w := embeddedWorld(t, Config{})
	u := w.user("a@example.com", false)
	api, err := w.issuer.API(t.Context(), issue.API{Subject: u.ID, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	w.wantChecked(Grant{Access: api}, "session_required")
	// A session that was not made here.
	forged, err := w.issuer.Session(t.Context(), issue.Session{ID: "x", Subject: u.ID})
	if err != nil {
		t.Fatal(err)
	}
	w.wantChecked(Grant{Access: forged}, "session_ended")
	w.wantChecked(Grant{Access: issue.Token{Raw: "x"}}, "token_malformed")
}

func TestSessionsAreBounded(t *testing.T) {
	w := embeddedWorld(t, Config{MaxPerUser: 2})
	w.user("a@example.com", false)
	first, second := w.login("a@example.com"), w.login("a@example.com")
	first, err := w.Refresh(t.Context(), first.Refresh, address)
	if err != nil {
		t.Fatal(err)
	}
	third := w.login("a@example.com")
	w.wantChecked(first, "")
	w.wantChecked(second, "session_ended")
	w.wantChecked(third, "")
}

func TestStoreDown(t *testing.T) {
	w := embeddedWorld(t, Config{})
	w.user("a@example.com", false)
	g := w.login("a@example.com")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The keys are in the store, too, and may be missed first.
	if _, err := w.Check(ctx, g.Access.Raw); !errors.Is(err, state.ErrUnavailable) && token.ReasonOf(err) != token.KeysUnavailable {
		t.Errorf("got %v", err)
	}
	if _, err := w.Refresh(ctx, g.Refresh, address); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Login(ctx, "a@example.com", good, address); err == nil {
		t.Error("somebody was let in")
	}
}

func TestConfigErrors(t *testing.T) {
	w := embeddedWorld(t, Config{})
	for _, config := range []Config{
		{Lifetime: caddy.Duration(time.Minute)},
		{IdleTimeout: caddy.Duration(20 * time.Minute)},
		{MaxPerUser: -1},
		{MaxPerUser: 1001},
	} {
		if _, err := New(w.store, w.revocations, w.accounts, w.issuer, config, "", zap.NewNop()); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}
