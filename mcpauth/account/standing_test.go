package account

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// seen is a store that notes which records are read, and which there are.
type seen struct {
	state.Store
	keys []string
}

func (s *seen) Read(ctx context.Context, keys ...string) ([]state.Record, error) {
	records, err := s.Store.Read(ctx, keys...)
	for _, r := range records {
		if r.Exists() {
			s.keys = append(s.keys, r.Key)
		}
	}
	return records, err
}

func (s *seen) Scan(ctx context.Context, prefix, after string, limit int) ([]state.Record, string, error) {
	s.keys = append(s.keys, prefix)
	return s.Store.Scan(ctx, prefix, after, limit)
}

// TestLookUp: how an account stands, and that every record it was made of is told.
func TestLookUp(t *testing.T) {
	for name, services := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := services[0], t.Context()
			u := made(t, s, NewUser{Email: "a@example.com", Active: true})
			for _, team := range []string{"one", "two", "gone"} {
				must[Team](t)(s.CreateTeam(ctx, tester, team, "", ""))
				want(t, s.SetMember(ctx, tester, team, u.Email, Member), "")
			}
			want(t, s.Assign(ctx, tester, u.Email, Assignment{Role: "reader", Active: true}), "")
			want(t, s.Assign(ctx, tester, u.Email, Assignment{Role: "writer", Team: "two"}), "")
			want(t, s.Assign(ctx, tester, u.Email, Assignment{Role: "writer", Team: "gone", Active: true}), "")
			want(t, s.DeleteTeam(ctx, tester, "gone"), "")
			store := &seen{Store: services[1].store}
			standing, keys, err := LookUp(ctx, store, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			if !standing.Known || standing.User.ID != u.ID || !slices.Equal(standing.Teams, []string{"one", "two"}) || len(standing.Assignments) != 2 {
				t.Errorf("%+v", standing)
			}
			keys = append(keys, StandingKeys(u.ID)...)
			for _, key := range store.keys {
				if !slices.ContainsFunc(keys, func(k string) bool { return k == key || strings.HasSuffix(k, "/") && strings.HasPrefix(key, k) }) {
					t.Errorf("it depends on %s, and only %v are told", key, keys)
				}
			}
			if len(store.keys) < 6 {
				t.Errorf("only %v were read", store.keys)
			}
			want(t, s.Delete(ctx, tester, u.Email), "")
			for _, id := range []string{u.ID, "NOBODY", "", "a/b", strings.Repeat("x", 5000)} {
				if standing, _, err := LookUp(ctx, store, id); err != nil || standing.Known || standing.Teams != nil {
					t.Errorf("%.20s: %+v, %v", id, standing, err)
				}
			}
			if _, _, err := LookUp(ctx, store, u.ID); err != nil {
				t.Error(err)
			}
		})
	}
	store := embeddedStore(t)
	s := service(t, store, Config{})
	u := made(t, s, NewUser{Email: "a@example.com", Active: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := LookUp(ctx, store, u.ID); err == nil {
		t.Error("a store that could not be asked says that there is nobody")
	}
}
