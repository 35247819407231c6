package mcpauth

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// listening is an open stream.
type listening struct {
	t     *testing.T
	node  *node
	lines *bufio.Scanner
}

const (
	progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	sampling = `{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}`
)

// listen opens a stream, and sees the first thing that the server says.
func (n *node) listen(t *testing.T, token, object string) *listening {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	resp, err := http.DefaultTransport.RoundTrip(n.request(ctx, token, object))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	l := &listening{t, n, bufio.NewScanner(resp.Body)}
	l.hears(progress, progress)
	return l
}

// hears has the server say something, and sees what comes next.
func (l *listening) hears(said, want string) {
	l.t.Helper()
	l.node.said <- said
	for l.lines.Scan() {
		if text, ok := strings.CutPrefix(l.lines.Text(), "data: "); ok {
			if text != want {
				l.t.Fatalf("heard %s, want %s", text, want)
			}
			return
		}
	}
	l.t.Fatalf("the stream is over: %v", l.lines.Err())
}

// ends sees that nothing more comes, as at the end of any stream.
func (l *listening) ends() {
	l.t.Helper()
	for l.lines.Scan() {
		if l.lines.Text() != "" {
			l.t.Fatalf("heard %s", l.lines.Text())
		}
	}
	if l.lines.Err() != nil {
		l.t.Errorf("the stream did not end as one does: %v", l.lines.Err())
	}
}

// TestIdleStreams: a stream through which nothing comes ends when its request would be
// refused by now, and no other one does.
func TestIdleStreams(t *testing.T) {
	const alice = "alice@example.com"
	for name, tc := range map[string]struct {
		change  func(n *node, u account.User, r catalogue.Record)
		session bool
		stays   bool
	}{
		"nothing to do with it": {change: func(n *node, _ account.User, _ catalogue.Record) { n.assign(alice, "writer", "") }, stays: true},
		"a team is renamed": {change: func(n *node, _ account.User, _ catalogue.Record) {
			name := "Sales"
			_, err := n.accounts().UpdateTeam(n.t.Context(), operator, "sales", &name, nil)
			n.must(err)
		}, stays: true},
		"deactivated":         {change: func(n *node, _ account.User, _ catalogue.Record) { n.update(alice, account.Update{Active: new(false)}) }},
		"session deactivated": {change: func(n *node, _ account.User, _ catalogue.Record) { n.update(alice, account.Update{Active: new(false)}) }, session: true},
		"out of the team": {change: func(n *node, _ account.User, _ catalogue.Record) {
			n.must(n.accounts().RemoveMember(n.t.Context(), operator, "sales", alice))
		}},
		"session out of the team": {change: func(n *node, _ account.User, _ catalogue.Record) {
			n.must(n.accounts().RemoveMember(n.t.Context(), operator, "sales", alice))
		}, session: true},
		"without the role": {change: func(n *node, _ account.User, _ catalogue.Record) {
			n.must(n.accounts().Unassign(n.t.Context(), operator, alice, "listener", ""))
		}},
		"the role in its team": {change: func(n *node, _ account.User, _ catalogue.Record) {
			n.assign(alice, "listener", "sales")
			n.must(n.accounts().Unassign(n.t.Context(), operator, alice, "listener", ""))
		}, stays: true},
		"the token is switched off": {change: func(n *node, _ account.User, r catalogue.Record) {
			r.Active = false
			n.put(r)
		}},
		"the token is for another server": {change: func(n *node, _ account.User, r catalogue.Record) {
			r.Scopes = []byte(`{"server_id":"notes"}`)
			n.put(r)
		}},
		"the session ends": {change: func(n *node, u account.User, _ catalogue.Record) {
			_, err := n.app.Store().Apply(n.t.Context(), state.Remove(state.Key(state.TableLogin, u.ID, "s1")))
			n.must(err)
		}, session: true},
		"the role's time is over": {change: func(n *node, _ account.User, _ catalogue.Record) {
			// The other is the one to go.
			n.must(n.accounts().Assign(n.t.Context(), operator, alice, account.Assignment{Role: "listener", Team: "sales", Active: true, Expires: time.Now().Add(300 * time.Millisecond)}))
			n.must(n.accounts().Unassign(n.t.Context(), operator, alice, "listener", ""))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t, stored(t), nil)
			u := n.user(alice, false)
			n.team("sales", alice)
			n.assign(alice, "listener", "")
			raw, record := n.token(u, "sales", "", nil)
			if tc.session {
				raw = n.session(u, "s1", issue.Session{Teams: []string{"sales"}})
			}
			stream := n.listen(t, raw, "crm/listen")
			if watched := n.handler.register.cache.Watches(); watched != 1 {
				t.Errorf("%d streams are watched", watched)
			}
			tc.change(n, u, record)
			if !tc.stays {
				stream.ends()
			} else {
				statetest.Eventually(t, "it is watched again", func() bool { return n.handler.register.cache.Watches() == 1 })
				stream.hears(progress, progress)
				n.update(alice, account.Update{Active: new(false)})
				stream.ends()
			}
			statetest.Eventually(t, "nothing is watched any more", func() bool { return n.handler.register.cache.Watches() == 0 })
		})
	}
}

// TestStreamsAreJudgedAnew: what comes through a stream is judged by what its holder may
// do by then.
func TestStreamsAreJudgedAnew(t *testing.T) {
	n, _ := newNode(t, stored(t), nil)
	const alice = "alice@example.com"
	u := n.user(alice, false)
	n.assign(alice, "listener", "")
	raw, _ := n.token(u, "", "", nil)
	stream := n.listen(t, raw, "notes/listen")
	n.assign(alice, "asked", "")
	stream.hears(sampling, sampling)
	n.must(n.accounts().Unassign(t.Context(), operator, alice, "asked", ""))
	n.said <- sampling
	stream.hears(progress, progress)
}
