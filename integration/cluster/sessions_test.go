//go:build unix

package cluster

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// Needs sessions that are in the store: MCP sessions of one node are those of all.

// in sends a call in a session and returns the status.
func (n *node) in(t *testing.T, method string, tk *token, session string) int {
	t.Helper()
	body := ""
	if method == http.MethodPost {
		body = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"ok","arguments":{}}}`
	}
	req, err := n.request(t.Context(), method, tk, session, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := clients.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestSessionGoesOn: a session that was begun on one node goes on on the other one, also
// when the first is gone. It is its owner's alone on every node, and ended for all of them.
func TestSessionGoesOn(t *testing.T) {
	w, one, other := two(t)
	owner, stranger := w.token(t, ""), w.token(t, "")
	expect := func(what string, n *node, method string, tk *token, session string, want int) {
		t.Helper()
		if got := n.in(t, method, tk, session); got != want {
			t.Errorf("%s: %s answers %d, not %d", what, n.name, got, want)
		}
	}
	session, ended := one.initialize(t, owner), one.initialize(t, owner)
	for range 5 {
		expect("the owner", other, http.MethodPost, owner, session, 200)
		expect("the owner", one, http.MethodPost, owner, session, 200)
		expect("a stranger", other, http.MethodPost, stranger, session, 404)
	}
	expect("to end it", other, http.MethodDelete, owner, ended, 200)
	deadline := time.Now().Add(promise)
	for one.in(t, http.MethodPost, owner, ended) != 404 {
		if time.Now().After(deadline) {
			t.Fatal("a session that was ended on one node goes on on the other one a second later")
		}
	}

	// What one node has begun the other one has not seen, when the first is killed.
	last := one.initialize(t, owner)
	one.kill(t)
	for _, s := range []string{session, last} {
		expect("when the node that began it is gone", other, http.MethodPost, owner, s, 200)
	}
	one.start(t)
	for _, s := range []string{session, last} {
		expect("when it is back", one, http.MethodPost, owner, s, 200)
		expect("a stranger", one, http.MethodPost, stranger, s, 404)
	}

	// A token that is revoked takes the sessions that it began with it.
	other.mustRevoke(t, owner)
	refusedBy(t, one, owner, owner.acknowledged)
	up := w.up.all()
	expect("when the token is revoked", one, http.MethodPost, owner, session, 401)
	if now := w.up.all(); len(now) != len(up) {
		t.Error("the server received a call with a revoked token")
	}
}

// TestSessionOfRevokedToken: a session that was begun on one node is over everywhere when
// the token that began it is revoked on the other one, although its owner has another
// token, which is good. A session that was begun with that goes on.
func TestSessionOfRevokedToken(t *testing.T) {
	w, one, other := two(t)
	began := w.token(t, "")
	next := w.mint.again(t, began)
	session, kept := one.initialize(t, began), one.initialize(t, next)
	for _, n := range []*node{one, other} {
		for _, s := range []string{session, kept} {
			if got := n.in(t, http.MethodPost, next, s); got != 200 {
				t.Fatalf("%s answers the owner with %d", n.name, got)
			}
		}
	}
	other.mustRevoke(t, began)
	for _, n := range []*node{one, other} {
		for n.in(t, http.MethodPost, next, session) != 404 {
			if time.Now().After(began.acknowledged.Add(promise)) {
				t.Fatalf("%s: the session goes on a second later", n.name)
			}
		}
		before := len(w.up.all())
		if got := n.in(t, http.MethodPost, next, session); got != 404 || len(w.up.all()) != before {
			t.Errorf("%s answers the owner with %d, and the server received %d", n.name, got, len(w.up.all())-before)
		}
		if got := n.in(t, http.MethodPost, next, kept); got != 200 {
			t.Errorf("%s answers the owner in the other session with %d", n.name, got)
		}
	}
}
