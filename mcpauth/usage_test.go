package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// both are the gateway's own issuer and another one.
var both = map[string]any{"issuers": []any{
	map[string]any{"issuer": ownName, "keys": map[string]any{"source": "gateway"}},
	map[string]any{"issuer": gateIssuer, "keys": map[string]any{"source": "secret", "value": gateSecret}},
}}

// limited is a token of another issuer that can be used so often.
func limited(t *testing.T, id string, perHour int) string {
	t.Helper()
	return tokenOf(t, "reader", map[string]any{"jti": id, "scopes": map[string]any{"usage_limits": map[string]any{"requests_per_hour": perHour}}})
}

// exceeded sees that there is no room any more.
func (n *node) exceeded(token string) {
	n.t.Helper()
	reason, resp := n.ask(token, "notes/list")
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if reason != "usage_exceeded" || resp.StatusCode != http.StatusTooManyRequests || err != nil || after < 1 || after > 65*60 {
		n.t.Errorf("%s, %d, %v", reason, resp.StatusCode, resp.Header)
	}
}

// TestUsageOverReloads: what was used is known to the configuration after, and after a
// restart.
func TestUsageOverReloads(t *testing.T) {
	store := stored(t)
	first, endFirst := newNode(t, store, both)
	token := limited(t, "reloaded", 3)
	first.want(token, map[string]string{"notes/list": "received"})
	second, endSecond := newNode(t, store, both)
	endFirst()
	second.want(token, map[string]string{"notes/list": "received", "notes/hidden": "not_found"})
	endSecond()
	third, _ := newNode(t, store, both)
	third.want(token, map[string]string{"notes/list": "received"})
	third.exceeded(token)
	third.want(limited(t, "other", 1), map[string]string{"notes/list": "received"})
}

// redisAt are the configurations of two nodes: in one process, the same would be one store.
func redisAt(server *redistest.Server) (one, two string) {
	return fmt.Sprintf(`{"store": "redis", "addresses": [%q]}`, server.Addr),
		fmt.Sprintf(`{"store": "redis", "addresses": [%q], "timeout": 2000000000}`, server.Addr)
}

// twoStores sees that nodes do not share what they remember.
func twoStores(t *testing.T, a, b *node) {
	t.Helper()
	if a.app.store == b.app.store {
		t.Fatal("both have one store")
	}
}

// TestUsageOnTwoNodes: it is counted by all nodes together.
func TestUsageOnTwoNodes(t *testing.T) {
	server := redistest.Start(t)
	store, other := redisAt(server)
	first, _ := newNode(t, store, both)
	second, _ := newNode(t, other, both)
	twoStores(t, first, second)
	token := limited(t, "shared", 5)
	for i := range 5 {
		[]*node{first, second}[i%2].want(token, map[string]string{"notes/list": "received"})
	}
	first.exceeded(token)
	second.exceeded(token)
}

// TestUsageOfRecord: the lower of the token's limit and its record's counts, and what was
// used before it was lowered.
func TestUsageOfRecord(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	u := n.user("alice@example.com", false)
	n.assign("alice@example.com", "reader", "")
	raw, record := n.token(u, "", `{"usage_limits":{"requests_per_hour":4}}`, nil)
	received := map[string]string{"notes/list": "received"}
	n.want(raw, received)
	n.want(raw, received)
	record.Scopes = jsontext.Value(`{"usage_limits":{"requests_per_hour":2}}`)
	n.put(record)
	n.exceeded(raw)
	record.Scopes = jsontext.Value(`{"usage_limits":{"requests_per_day":3}}`)
	n.put(record)
	n.want(raw, received)
	if reason := n.call(raw, "notes/list"); reason != "usage_exceeded" {
		t.Errorf("the third of a day, and then %s", reason)
	}
	record.Scopes = nil
	n.put(record)
	n.want(raw, received)
	n.exceeded(raw) // by the token's own limit
	record.Scopes = jsontext.Value(`{"usage_limits":{"requests_per_hour":100}}`)
	n.put(record)
	n.exceeded(raw)
	free, record := n.token(u, "", "", nil)
	n.want(free, received)
	record.Scopes = jsontext.Value(`{"usage_limits":{"requests_per_hour":1}}`)
	n.put(record)
	n.want(free, received)
	n.exceeded(free)
}

// broken is a store that cannot count.
type broken struct {
	state.Store
	asked int
}

func (b *broken) Take(context.Context, string, int, ...state.Window) (time.Duration, error) {
	b.asked++
	return 0, state.Unavailable(errors.New("broken"))
}

// TestUncounted: what cannot be counted is refused (W-07), and nothing is counted of
// tokens without limits.
func TestUncounted(t *testing.T) {
	n, _ := newNode(t, stored(t), both)
	store := &broken{Store: n.handler.store}
	n.handler.store = store
	reason, resp := n.ask(limited(t, "uncounted", 100), "notes/list")
	if reason != "usage_unavailable" || resp.StatusCode != http.StatusServiceUnavailable || store.asked != 1 {
		t.Errorf("%s, %d, asked %d times", reason, resp.StatusCode, store.asked)
	}
	u := n.user("alice@example.com", false)
	n.assign("alice@example.com", "reader", "")
	own, _ := n.token(u, "", "", nil)
	for _, token := range []string{own, tokenOf(t, "reader", nil)} {
		n.want(token, map[string]string{"notes/list": "received"})
	}
	if store.asked != 1 {
		t.Errorf("the store was asked %d times", store.asked)
	}
}

// TestStandingOnTwoNodes: what is changed on one node counts on the other, for requests and
// for open streams.
func TestStandingOnTwoNodes(t *testing.T) {
	server := redistest.Start(t)
	store, other := redisAt(server)
	first, _ := newNode(t, store, nil)
	second, _ := newNode(t, other, nil)
	twoStores(t, first, second)
	const alice = "alice@example.com"
	u := first.user(alice, false)
	first.team("sales", alice)
	first.assign(alice, "listener", "")
	raw, record := first.token(u, "sales", "", nil)
	comes := func(object, want string) {
		t.Helper()
		statetest.Eventually(t, object+": "+want, func() bool { return second.call(raw, object) == want })
	}
	comes("crm/read", "not_found")
	first.assign(alice, "reader", "sales")
	comes("crm/read", "received")
	first.must(first.accounts().Unassign(t.Context(), operator, alice, "reader", "sales"))
	comes("crm/read", "not_found")
	stream := second.listen(t, raw, "crm/listen")
	record.Active = false
	first.put(record)
	stream.ends()
	comes("crm/read", "token_inactive")
	record.Active = true
	first.put(record)
	comes("crm/read", "not_found")
	stream = second.listen(t, raw, "crm/listen")
	first.must(first.accounts().RemoveMember(t.Context(), operator, "sales", alice))
	stream.ends()
	comes("crm/read", "token_membership")
	first.update(alice, account.Update{Active: new(false)})
	comes("crm/read", "account_disabled")
}

// TestStandingCutOff: without the store nobody knows any more what the gateway's own
// tokens may do: they are refused and their streams end, unless allow_stale says otherwise.
func TestStandingCutOff(t *testing.T) {
	for name, tc := range map[string]struct {
		option              string
		known, limit, never string
	}{
		"denied": {"", "account_unavailable", "account_unavailable", "account_unavailable"},
		// Where nothing is remembered, nothing is known; and nothing can be counted.
		"allowed for a while": {`,"allow_stale":3600000000000`, "received", "usage_unavailable", "account_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			n, _ := newNode(t, fmt.Sprintf(`{"store": "redis", "addresses": [%q], "retries": 0}`, server.Addr)+tc.option, nil)
			u := n.user("alice@example.com", false)
			n.assign("alice@example.com", "reader", "")
			n.assign("alice@example.com", "listener", "")
			known, _ := n.token(u, "", "", nil)
			limit, _ := n.token(u, "", `{"usage_limits":{"requests_per_hour":100}}`, nil)
			never, _ := n.token(u, "", "", nil)
			n.want(known, map[string]string{"notes/list": "received"})
			n.want(limit, map[string]string{"notes/list": "received"})
			stream := n.listen(t, known, "notes/listen")
			server.Stop()
			if tc.option == "" {
				stream.ends()
			} else {
				statetest.Eventually(t, "the store is cut off", func() bool {
					status := n.app.Revocations().Status(time.Now())
					return status.Err != nil && status.Age > state.Grace
				})
				stream.hears(progress, progress)
			}
			n.want(known, map[string]string{"notes/list": tc.known})
			n.want(limit, map[string]string{"notes/list": tc.limit})
			n.want(never, map[string]string{"notes/list": tc.never})
			if ready := n.app.Ready()["accounts"]; (ready == nil) != (tc.option != "") {
				t.Errorf("ready: %v", ready)
			}
		})
	}
}
