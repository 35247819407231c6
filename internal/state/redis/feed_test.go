package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// plain is a client that knows nothing of us, as another product's.
func plain(t *testing.T, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { c.Close() })
	return c
}

// tells reports whether a token id was told, of every issuer or of one.
func tells(id, issuer string) func(state.Update) bool {
	return func(all state.Update) bool {
		return slices.ContainsFunc(all.Revocations, func(r state.Revocation) bool {
			return r.Kind == state.RevokeID && r.Value == id && r.Issuer == issuer
		})
	}
}

// TestOthersRevocations: what another product writes at token:revoked:<jti> is honoured,
// by push.
func TestOthersRevocations(t *testing.T) {
	server := redistest.Start(t)
	other, ctx := plain(t, server.Addr), t.Context()
	other.Set(ctx, "token:revoked:before", "1", time.Hour)
	other.Set(ctx, "token:revoked:ever", `{"reason":"logout"}`, 0)
	s := opened(t, settings{Addresses: []string{server.Addr}})
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "what was there before", func(all state.Update) bool {
		return tells("before", "")(all) && tells("ever", "")(all)
	})
	told.Forget()
	for _, id := range []string{"after", "a b:c{d}*\n", "é"} {
		if err := other.SetEx(ctx, "token:revoked:"+id, "1", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		told.Wait(t, "what came after", func(all state.Update) bool {
			for _, r := range all.Revocations {
				if r.Value == id {
					if left := time.Until(r.Expires); left < time.Hour-patience || left > time.Hour+time.Minute {
						t.Errorf("%q expires in %s", id, left)
					}
					return r.Kind == state.RevokeID && r.Issuer == ""
				}
			}
			return false
		})
	}
	other.Set(ctx, "token:revoked:", "1", time.Hour)                      // of no token
	other.Set(ctx, "token:revokedx", "1", time.Hour)                      // something else
	other.Set(ctx, "token:revoked:damaged", "mcp_gateway/1 x", time.Hour) // not as we write it
	told.Wait(t, "one that is damaged, as every issuer's", tells("damaged", ""))
	told.Current(t)
	told.Wait(t, "", func(all state.Update) bool {
		if slices.ContainsFunc(all.Revocations, func(r state.Revocation) bool { return r.Value == "" }) {
			t.Error("told of a token without an id")
		}
		return true
	})
	s.warned.Range(func(message, _ any) bool {
		t.Errorf("it was not pushed: %s", message)
		return true
	})
}

const patience = time.Minute

// TestOursForOthers: a token id that we revoke is where another product looks for it,
// with the token's remaining life, and what that product wrote is kept.
func TestOursForOthers(t *testing.T) {
	server := redistest.Start(t)
	other, ctx := plain(t, server.Addr), t.Context()
	s := opened(t, settings{Addresses: []string{server.Addr}})
	life := func(key string) time.Duration {
		t.Helper()
		left, err := other.PTTL(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	revoke := func(id, issuer string, expires time.Time) {
		t.Helper()
		if err := s.Revoke(ctx, state.Revocation{Kind: state.RevokeID, Issuer: issuer, Value: id, Expires: expires}); err != nil {
			t.Fatal(err)
		}
	}
	hour := time.Now().Add(time.Hour)
	revoke("ours", "https://login.example.com", hour)
	if n := other.Exists(ctx, "token:revoked:ours").Val(); n != 1 {
		t.Fatal("token:revoked:ours is not there")
	}
	if left := life("token:revoked:ours"); left > time.Hour || left < time.Hour-patience {
		t.Errorf("it lives for %s, and the token for 1h", left)
	}
	revoke("ever", "", time.Time{})
	if left := life("token:revoked:ever"); left != -1 {
		t.Errorf("what never expires lives for %s", left)
	}

	// Theirs keeps its value, so that it stays every issuer's, and lives as long as
	// either of us says.
	other.Set(ctx, "token:revoked:theirs", "1", 10*time.Minute)
	revoke("theirs", "https://login.example.com", hour)
	if value := other.Get(ctx, "token:revoked:theirs").Val(); value != "1" {
		t.Errorf("another product's value became %q", value)
	}
	if left := life("token:revoked:theirs"); left < time.Hour-patience {
		t.Errorf("it lives for %s, and the token for 1h", left)
	}
	revoke("theirs", "https://login.example.com", time.Now().Add(time.Minute))
	if left := life("token:revoked:theirs"); left < time.Hour-patience {
		t.Errorf("to revoke it again has shortened its life to %s", left)
	}
	other.Set(ctx, "token:revoked:forever", "1", 0)
	revoke("forever", "https://login.example.com", hour)
	if left := life("token:revoked:forever"); left != -1 {
		t.Errorf("what is for ever lives for %s now", left)
	}
	// They overwrite ours: then it is every issuer's.
	other.Set(ctx, "token:revoked:ours", "1", time.Hour)
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "all of them", func(all state.Update) bool {
		return tells("ours", "")(all) && tells("theirs", "")(all) && tells("ever", "")(all) && tells("forever", "")(all)
	})
}

// TestCutOff: while the connection is broken the feed is not current, and says why;
// afterwards it tells what was revoked meanwhile before it is current again.
func TestCutOff(t *testing.T) {
	server := redistest.Start(t)
	w := newWire(t, server.Addr)
	s := opened(t, settings{Addresses: []string{w.Addr}, Timeout: time.Second})
	other, ctx := plain(t, server.Addr), t.Context()
	told := statetest.Collect(t, s.Follow)
	changed := statetest.Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "user/", f) })
	told.Current(t)
	changed.Current(t)
	for round := range 3 {
		w.Cut()
		told.Wait(t, "that it is cut off", func(all state.Update) bool { return errors.Is(all.Err, state.ErrUnavailable) })
		changed.Wait(t, "that it is cut off", func(all state.Update) bool { return errors.Is(all.Err, state.ErrUnavailable) })
		told.Forget()
		changed.Forget()
		id := fmt.Sprint("missed-", round)
		other.Set(ctx, "token:revoked:"+id, "1", time.Hour)
		w.Mend()
		told.Wait(t, "that it is current again", func(all state.Update) bool {
			if all.Current.IsZero() {
				return false
			}
			if !tells(id, "")(all) {
				t.Errorf("it is current, and does not know what it missed")
			}
			return true
		})
		changed.Wait(t, "to begin anew", func(all state.Update) bool { return all.Reset && !all.Current.IsZero() })
		told.Forget()
		changed.Forget()
	}
}

// TestPaused: a server that does not answer leaves the feed where it was.
func TestPaused(t *testing.T) {
	server := redistest.Start(t)
	s := opened(t, settings{Addresses: []string{server.Addr}, Timeout: time.Second})
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	if err := plain(t, server.Addr).Do(t.Context(), "CLIENT", "PAUSE", "4000", "ALL").Err(); err != nil {
		t.Fatal(err)
	}
	told.Forget()
	paused := time.Now()
	told.Wait(t, "that it is cut off", func(all state.Update) bool {
		// What was on its way when the pause began may still come.
		if all.Current.After(paused) {
			t.Error("it is current while the server is paused")
		}
		return all.Err != nil
	})
	if _, err := s.Read(t.Context(), "k"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("read from a server that is paused: %v", err)
	}
	told.Wait(t, "that it is current again", func(all state.Update) bool { return all.Current.After(paused.Add(3 * time.Second)) })
}

// TestEmptied: a server that comes back without its data is followed again, and who
// watches records has to begin anew.
func TestEmptied(t *testing.T) {
	server := redistest.Start(t)
	s := opened(t, settings{Addresses: []string{server.Addr}, Timeout: time.Second})
	told := statetest.Collect(t, s.Follow)
	changed := statetest.Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "", f) })
	told.Current(t)
	changed.Current(t)
	changed.Forget()
	if err := plain(t, server.Addr).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	changed.Wait(t, "to begin anew", func(all state.Update) bool { return all.Reset })
	told.Current(t)
	changed.Current(t)
	changed.Forget()

	server.Stop()
	changed.Wait(t, "that it is cut off", func(all state.Update) bool { return all.Err != nil })
	if _, err := s.Apply(t.Context(), state.Create("k", nil)); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("written to a server that is not there: %v", err)
	}
	server.Start()
	told.Current(t)
	changed.Wait(t, "to begin anew", func(all state.Update) bool { return all.Reset && !all.Current.IsZero() })
	if err := s.Revoke(t.Context(), state.Revocation{Kind: state.RevokeID, Value: "later"}); err != nil {
		t.Fatal(err)
	}
	told.Wait(t, "what comes later", tells("later", ""))
}

// TestPolls: a Redis that does not permit CLIENT TRACKING is asked again and again.
func TestPolls(t *testing.T) {
	server := redistest.Start(t, "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-client|tracking")
	s := opened(t, settings{Addresses: []string{server.Addr}})
	told := statetest.Collect(t, s.Follow)
	changed := statetest.Collect(t, func(ctx context.Context, f func(state.Update)) { s.Watch(ctx, "", f) })
	told.Current(t)
	changed.Current(t)
	plain(t, server.Addr).Set(t.Context(), "token:revoked:polled", "1", time.Hour)
	told.Wait(t, "another product's revocation", tells("polled", ""))
	changed.Forget()
	if _, err := s.Apply(t.Context(), state.Create("k", nil)); err != nil {
		t.Fatal(err)
	}
	changed.Wait(t, "that all may have changed", func(all state.Update) bool { return all.Reset })
	warned := false
	s.warned.Range(func(message, _ any) bool {
		warned = warned || strings.Contains(message.(string), "does not push")
		return true
	})
	if !warned {
		t.Error("nobody is told that it polls")
	}
}

// TestDamagedRevocation: what is revoked and cannot be read keeps the feed from being
// current.
func TestDamagedRevocation(t *testing.T) {
	server := redistest.Start(t)
	other := plain(t, server.Addr)
	other.Set(t.Context(), "mcp_gateway:revoked:subject:00", "mcp_gateway/9 something newer", 0)
	s := opened(t, settings{Addresses: []string{server.Addr}})
	told := statetest.Collect(t, s.Follow)
	told.Wait(t, "that it cannot be read", func(all state.Update) bool {
		if !all.Current.IsZero() {
			t.Error("it is current")
		}
		return errors.Is(all.Err, state.ErrDamaged)
	})
	other.Del(t.Context(), "mcp_gateway:revoked:subject:00")
	told.Current(t)
}

// TestPrefix: gateways with different prefixes share revoked token ids, and nothing
// else.
func TestPrefix(t *testing.T) {
	server := redistest.Start(t)
	one := opened(t, settings{Addresses: []string{server.Addr}, Prefix: "one"})
	two := opened(t, settings{Addresses: []string{server.Addr}, Prefix: "two"})
	told := statetest.Collect(t, two.Follow)
	changed := statetest.Collect(t, func(ctx context.Context, f func(state.Update)) { two.Watch(ctx, "", f) })
	told.Current(t)
	changed.Current(t)
	if _, err := one.Apply(t.Context(), state.Create("k", nil)); err != nil {
		t.Fatal(err)
	}
	err := one.Revoke(t.Context(),
		state.Revocation{Kind: state.RevokeSubject, Value: "alice"}, state.Revocation{Kind: state.RevokeID, Value: "shared"})
	if err != nil {
		t.Fatal(err)
	}
	told.Current(t)
	changed.Current(t)
	told.Wait(t, "the token id", tells("shared", ""))
	told.Wait(t, "", func(all state.Update) bool {
		if len(all.Revocations) != 1 {
			t.Errorf("told of %+v", all.Revocations)
		}
		return true
	})
	changed.Wait(t, "", func(all state.Update) bool {
		if len(all.Keys) != 0 {
			t.Errorf("told of %q", all.Keys)
		}
		return true
	})
	if records, err := two.Read(t.Context(), "k"); err != nil || records[0].Exists() {
		t.Errorf("read %+v, %v", records, err)
	}
	for key := range scanAll(t, plain(t, server.Addr)) {
		if !strings.HasPrefix(key, "one:") && !strings.HasPrefix(key, "two:") && !strings.HasPrefix(key, "{one}:") &&
			!strings.HasPrefix(key, "{two}:") && !strings.HasPrefix(key, "token:revoked:") {
			t.Errorf("there is a key %q", key)
		}
	}
}

func scanAll(t *testing.T, c *goredis.Client) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	iter := c.Scan(t.Context(), 0, "*", 1000).Iterator()
	for iter.Next(t.Context()) {
		all[iter.Val()] = true
	}
	if err := iter.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
