package catalogue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// failing is a store that fails where it is told to.
type failing struct {
	state.Store
	fail func() error
}

func (f failing) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Store.Read(ctx, keys...)
}

func (f failing) Scan(ctx context.Context, prefix, after string, limit int) ([]state.Record, string, error) {
	if err := f.fail(); err != nil {
		return nil, "", err
	}
	return f.Store.Scan(ctx, prefix, after, limit)
}

// halfway is a store that fails when records are changed.
type halfway struct {
	state.Store
	on bool
}

func (h *halfway) Apply(ctx context.Context, changes ...state.Change) (state.Version, error) {
	if h.on {
		return 0, state.Unavailable(errors.New("the process was killed"))
	}
	return h.Store.Apply(ctx, changes...)
}

// revoked are the ids that were revoked, as a node that starts anew learns of them.
func revoked(t *testing.T, store state.Store) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found := make(map[string]bool)
	store.Follow(ctx, func(u state.Update) {
		for _, r := range u.Revocations {
			if r.Kind == state.RevokeID && r.Issuer == gateway {
				found[r.Value] = true
			}
		}
		if !u.Current.IsZero() {
			cancel()
		}
	})
	return found
}

// TestRevokeHalfway: whatever fails, a token that was revoked is dead, the record does
// not say so before that, and to try again finishes what was begun.
func TestRevokeHalfway(t *testing.T) {
	store := embeddedStore(t)
	n := newNode(t, store, Config{})
	people(n)
	dave := n.in("dave@example.com")
	made := n.make(dave, simple("ci"))

	half := &halfway{Store: store, on: true}
	broken := *n.cat
	broken.store, broken.revocations = half, revocation.New(half)
	if err := broken.Revoke(t.Context(), dave, made.ID, "stolen"); !errors.Is(err, state.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if !revoked(t, store)[made.ID] {
		t.Fatal("the token is good yet")
	}
	if found, err := n.cat.Get(t.Context(), dave, made.ID); err != nil || found.IsRevoked || !found.IsActive {
		t.Errorf("got %+v %v", found, err)
	}
	half.on = false
	want(t, broken.Revoke(t.Context(), dave, made.ID, "stolen"), "")
	found, err := n.cat.Get(t.Context(), dave, made.ID)
	if err != nil || !found.IsRevoked || found.IsActive || found.RevokedBy != "dave@example.com" || found.RevocationReason != "stolen" || found.RevokedAt.IsZero() {
		t.Errorf("got %+v %v", found, err)
	}

	// Once more changes nothing, neither by whom nor why.
	want(t, n.cat.RevokeAny(t.Context(), n.in("admin@example.com"), made.ID, "again"), "")
	if again, err := n.cat.Get(t.Context(), dave, made.ID); err != nil || again.RevokedAt != found.RevokedAt || again.RevocationReason != "stolen" {
		t.Errorf("got %+v %v", again, err)
	}
	lines := n.logs.FilterField(actionIs("token_revoke")).All()
	if len(lines) != 1 {
		t.Errorf("the audit log has %d lines", len(lines))
	}

	// If the revocation itself fails, so does all, and the record stays.
	second := n.make(dave, simple("cd"))
	down := *n.cat
	down.revocations = revocation.New(noRevocations{store})
	if err := down.Revoke(t.Context(), dave, second.ID, ""); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if found, err := n.cat.Get(t.Context(), dave, second.ID); err != nil || found.IsRevoked {
		t.Errorf("got %+v %v", found, err)
	}
}

type noRevocations struct{ state.Store }

func (noRevocations) Revoke(context.Context, ...state.Revocation) error {
	return state.Unavailable(errors.New("cut off"))
}

// TestWhose: who may see a token, change it and revoke it. To all others it looks as if
// it did not exist.
func TestWhose(t *testing.T) {
	eachStore(t, func(t *testing.T, n, _ *node) {
		people(n)
		in := map[string]Caller{}
		for _, name := range []string{"admin", "alice", "bob", "carol", "dave"} {
			in[name] = n.in(name + "@example.com")
		}
		team := n.make(in["bob"], simple("team")) // of the team red
		personal := simple("personal")
		personal.Team = new("")
		own := n.make(in["bob"], personal)
		for name, tc := range map[string]struct{ sees, changes, seesOwn bool }{
			"admin": {false, false, false}, // has the ways of administrators
			"alice": {true, true, false},   // owns the team
			"bob":   {true, true, true},
			"carol": {true, false, false},
			"dave":  {false, false, false},
		} {
			t.Run(name, func(t *testing.T) {
				as := func(may bool) string {
					if may {
						return ""
					}
					return "token_unknown"
				}
				_, err := n.cat.Get(t.Context(), in[name], team.ID)
				want(t, err, as(tc.sees))
				_, err = n.cat.Usage(t.Context(), in[name], team.ID, 30)
				want(t, err, as(tc.sees))
				_, err = n.cat.Get(t.Context(), in[name], own.ID)
				want(t, err, as(tc.seesOwn))
				_, err = n.cat.Usage(t.Context(), in[name], own.ID, 30)
				want(t, err, as(tc.seesOwn))
				_, err = n.cat.Update(t.Context(), in[name], team.ID, Update{Description: new(name)})
				want(t, err, as(tc.changes))
				_, err = n.cat.Update(t.Context(), in[name], own.ID, Update{Description: new(name)})
				want(t, err, as(tc.seesOwn))
				if !tc.changes {
					want(t, n.cat.Revoke(t.Context(), in[name], team.ID, ""), "token_unknown")
				}
				if !tc.seesOwn {
					want(t, n.cat.Revoke(t.Context(), in[name], own.ID, ""), "token_unknown")
				}
				listed := 0
				for _, f := range []func() (Page, error){
					func() (Page, error) { return n.cat.List(t.Context(), in[name], Filter{}) },
					func() (Page, error) { return n.cat.ListTeam(t.Context(), in[name], "red", Filter{}) },
				} {
					page, err := f()
					if err != nil {
						want(t, err, "team_unknown")
					}
					for _, token := range page.Tokens {
						if token.ID == team.ID {
							listed++
						}
						if token.ID == own.ID && !tc.seesOwn {
							t.Error("a personal token is listed")
						}
					}
				}
				if want := map[string]int{"admin": 1, "alice": 2, "bob": 2, "carol": 2}[name]; listed != want {
					t.Errorf("the team's token is listed %d times, expected %d", listed, want)
				}
			})
		}
		for _, id := range []string{"", "x", strings.Repeat("A", 26), strings.Repeat("a", 26), "../" + team.ID} {
			_, err := n.cat.Get(t.Context(), in["bob"], id)
			want(t, err, "token_unknown")
		}

		// Who has left the team sees nothing of it any more, but what is their own.
		for _, email := range []string{"bob@example.com", "carol@example.com"} {
			if err := n.users.RemoveMember(t.Context(), tester, "red", email); err != nil {
				t.Fatal(err)
			}
		}
		_, err := n.cat.Get(t.Context(), in["carol"], team.ID)
		want(t, err, "token_unknown")
		_, err = n.cat.Get(t.Context(), in["bob"], team.ID)
		want(t, err, "")

		// A team that is made anew is another one.
		if err := n.users.DeleteTeam(t.Context(), tester, "red"); err != nil {
			t.Fatal(err)
		}
		n.team("red", "alice@example.com", "carol@example.com")
		for _, name := range []string{"alice", "carol"} {
			_, err := n.cat.Get(t.Context(), in[name], team.ID)
			want(t, err, "token_unknown")
			page, err := n.cat.ListTeam(t.Context(), in[name], "red", Filter{Inactive: true})
			if err != nil || page.Total != 0 {
				t.Errorf("got %+v %v", page, err)
			}
			want(t, n.cat.Revoke(t.Context(), in[name], team.ID, ""), "token_unknown")
		}

		all, err := n.cat.All(t.Context(), in["admin"], "", "", 1)
		if err != nil || len(all.Tokens) != 1 || all.Next != all.Tokens[0].ID {
			t.Fatalf("got %+v %v", all, err)
		}
		rest, err := n.cat.All(t.Context(), in["admin"], "bob@example.com", all.Next, 1)
		if err != nil || len(rest.Tokens) != 1 || rest.Tokens[0].ID == all.Next || rest.Next != "" {
			t.Errorf("got %+v %v", rest, err)
		}
		_, err = n.cat.All(t.Context(), in["admin"], "nobody@example.com", "", 0)
		want(t, err, "user_unknown")
		_, err = n.cat.All(t.Context(), in["bob"], "bob@example.com", "", 0)
		want(t, err, "admin_required")
		want(t, n.cat.RevokeAny(t.Context(), in["bob"], own.ID, ""), "admin_required")
		want(t, n.cat.RevokeAny(t.Context(), in["admin"], own.ID, strings.Repeat("x", 256)), "reason_invalid")
		want(t, n.cat.RevokeAny(t.Context(), in["admin"], own.ID, "leaver"), "")
		if !revoked(t, n.store)[own.ID] {
			t.Error("the token is good yet")
		}
	})
}

// TestUpdate: what can be changed, and what that may not lead to.
func TestUpdate(t *testing.T) {
	n := newNode(t, embeddedStore(t), Config{})
	people(n)
	alice, bob, carol := n.in("alice@example.com"), n.in("bob@example.com"), n.in("carol@example.com")
	scoped := func(c Caller, name string, names ...string) string {
		asked := simple(name)
		asked.Scope.Permissions = names
		asked.Team = new("red")
		return n.make(c, asked).ID
	}
	some := func(names ...string) Update { return Update{Scope: &Scope{Permissions: names}} }
	try := func(c Caller, id string, u Update, reasoned string) Token {
		t.Helper()
		after, err := n.cat.Update(t.Context(), c, id, u)
		want(t, err, reasoned)
		return after
	}

	id := scoped(carol, "one", "tools.execute", "prompts.execute")
	after := try(carol, id, Update{Name: new("two"), Description: new("a\nb"), Tags: &[]string{"x"}}, "")
	if after.Name != "two" || after.Description != "a\nb" || len(after.Tags) != 1 || strings.Join(after.ResourceScopes, " ") != "tools.execute prompts.execute servers.use" {
		t.Errorf("got %+v", after)
	}
	after = try(carol, id, Update{Description: new(""), Tags: &[]string{}}, "")
	if after.Name != "two" || after.Description != "" || len(after.Tags) != 0 {
		t.Errorf("got %+v", after)
	}
	try(carol, id, Update{Name: new("")}, "name_invalid")
	try(carol, id, some("tools.*"), "permission_wildcard")
	try(carol, id, Update{Scope: &Scope{Permissions: []string{}}}, "permissions_empty")

	// Narrower, and as wide as before again; but never wider than it was made.
	try(carol, id, some("tools.read"), "")
	try(carol, id, some("tools.execute"), "")
	try(carol, id, some("resources.read"), "beyond_token")
	try(carol, id, some("*"), "beyond_token")
	try(carol, id, Update{Scope: &Scope{}}, "beyond_token")
	// Who owns the team may do so as far as they hold it themselves.
	try(alice, id, some("prompts.execute"), "permission_not_held")
	try(alice, id, some("tools.execute", "prompts.read"), "permission_not_held")
	try(alice, id, some("tools.read"), "")
	try(alice, id, some("tools.execute"), "")
	// What it permits already need not be held.
	try(carol, id, some("tools.execute", "prompts.execute"), "")
	try(alice, id, some("tools.read", "prompts.execute"), "")

	// What is held is what is held now.
	n.holds("carol@example.com", Held{})
	try(carol, id, some("tools.execute", "prompts.execute"), "permission_not_held")
	try(carol, id, some("prompts.execute"), "")

	// A token that its user's roles alone bound.
	free := n.make(bob, simple("free")).ID
	try(bob, free, some("tools.read"), "")
	try(alice, free, Update{Scope: &Scope{}}, "permission_not_held")
	try(bob, free, Update{Scope: &Scope{}}, "")
	try(alice, free, Update{Scope: &Scope{IPRestrictions: []string{"192.0.2.1"}}}, "")

	// The server that it was made for stays.
	asked := simple("server")
	asked.Scope.ServerID = new("tickets")
	bound := n.make(bob, asked).ID
	try(bob, bound, Update{Scope: &Scope{ServerID: new("crm")}}, "beyond_token")
	try(bob, bound, Update{Scope: &Scope{}}, "beyond_token")
	try(bob, bound, Update{Scope: &Scope{ServerID: new("tickets"), Permissions: []string{"tools.read"}}}, "")

	// What has ended stays as it is.
	want(t, n.cat.Revoke(t.Context(), bob, bound, ""), "")
	try(bob, bound, Update{Active: new(true)}, "token_revoked")
	n.skew = 40 * 24 * time.Hour
	try(bob, free, Update{Description: new("late")}, "token_expired")
	if page, err := n.cat.List(t.Context(), bob, Filter{}); err != nil || page.Total != 0 {
		t.Errorf("got %+v %v", page, err)
	}
	page, err := n.cat.List(t.Context(), bob, Filter{Inactive: true, Limit: 1, Offset: 1})
	if err != nil || page.Total != 3 || len(page.Tokens) != 1 {
		t.Errorf("got %+v %v", page, err)
	}
	for _, f := range []Filter{{Limit: -1, Inactive: true}, {Limit: 1001, Offset: -4, Inactive: true}} {
		if page, err := n.cat.List(t.Context(), bob, f); err != nil || page.Limit != 50 || page.Offset != 0 || len(page.Tokens) != 3 {
			t.Errorf("got %+v %v", page, err)
		}
	}
}

// TestRevokeHeld: a token without a record is revoked all the same.
func TestRevokeHeld(t *testing.T) {
	n := newNode(t, embeddedStore(t), Config{})
	people(n)
	made := n.make(n.in("dave@example.com"), simple("ci"))
	by := account.Actor{Name: "holder of the token"}
	lost := strings.Repeat("B", 26)
	for _, id := range []string{made.ID, lost} {
		want(t, n.cat.RevokeHeld(t.Context(), by, id, time.Now().Add(time.Hour)), "")
		if !revoked(t, n.store)[id] {
			t.Errorf("%s is good yet", id)
		}
	}
	if lines := n.logs.FilterField(actionIs("token_revoke")).All(); len(lines) != 2 {
		t.Errorf("the audit log has %d lines", len(lines))
	}
}
