package login

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// TestLookUp: which token of a session is good, from its beginning to its end.
func TestLookUp(t *testing.T) {
	w := embeddedWorld(t, Config{})
	u := w.user("a@example.com", false)
	first := w.login("a@example.com")
	refresh, _ := parseRefresh(first.Refresh)
	look := func(want string) {
		t.Helper()
		standing, err := LookUp(t.Context(), w.store, u.ID, refresh.session())
		if err != nil || standing.Access != want || standing.Expires.IsZero() != (want == "") {
			t.Errorf("%+v, %v, want %s", standing, err, want)
		}
	}
	look(first.Access.ID)
	if !strings.HasPrefix(StandingKey(u.ID, refresh.session()), state.Prefix(state.TableLogin, u.ID)) {
		t.Error("another key")
	}
	claims, err := w.verifier.Verify(t.Context(), first.Access.Raw, w.now(), nil)
	if err != nil || claims.Subject != u.ID {
		t.Fatal(err, token.ReasonOf(err))
	}
	if sid, _ := claims.Lookup("sid"); sid != refresh.session() {
		t.Errorf("the token is of the session %v", sid)
	}
	second, err := w.Refresh(t.Context(), first.Refresh, address)
	if err != nil {
		t.Fatal(err)
	}
	look(second.Access.ID)
	if err := w.End(t.Context(), tester, u.ID, refresh.session()); err != nil {
		t.Fatal(err)
	}
	look("")
	for _, id := range []string{"", "a/b", strings.Repeat("x", 5000)} {
		if standing, err := LookUp(t.Context(), w.store, id, id); err != nil || standing != (Standing{}) {
			t.Errorf("%+v, %v", standing, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LookUp(ctx, w.store, u.ID, refresh.session()); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
