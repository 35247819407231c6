//go:build unix

package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// two starts two nodes that share a Redis.
func two(t *testing.T) (w *world, one, other *node) {
	t.Helper()
	w = newWorld(t)
	redis := newRedis(t)
	one, other = w.node(t, store(redis.Addr)), w.node(t, store(redis.Addr))
	one.start(t)
	other.start(t)
	return w, one, other
}

// refusedBy sends requests until one is refused, which must be within the promise.
func refusedBy(t *testing.T, n *node, tk *token, since time.Time) time.Duration {
	t.Helper()
	for i := 0; ; i++ {
		a := n.call(t.Context(), tk, "")
		switch {
		case a.err != nil:
			t.Fatal(a.err)
		case a.status == 401 && a.reason == "token_revoked":
			return a.came.Sub(since)
		case !served(n)(a):
			t.Fatalf("a revoked token is answered with %s", a)
		case a.sent.Sub(since) > promise:
			t.Fatalf("%s was let through %s after the token was revoked on another node", a, a.sent.Sub(since))
		}
	}
}

// TestRevokedEverywhere: what is revoked on one node is refused by the other one within a
// second; and as it does not take long, how long is logged.
func TestRevokedEverywhere(t *testing.T) {
	w, one, other := two(t)
	const n = 200
	var fromAsked, fromAnswered []time.Duration
	for _, tk := range w.good(t, n) {
		if a := other.call(t.Context(), tk, ""); !served(other)(a) {
			t.Fatalf("before: %s %v", a, a.err)
		}
		one.mustRevoke(t, tk)
		answered := refusedBy(t, other, tk, tk.acknowledged)
		fromAnswered = append(fromAnswered, answered)
		fromAsked = append(fromAsked, answered+tk.acknowledged.Sub(tk.asked))
		if a := one.call(t.Context(), tk, ""); a.reason != "token_revoked" {
			t.Errorf("on the node that revoked it: %s", a)
		}
	}
	for what, took := range map[string][]time.Duration{"was asked for": fromAsked, "was acknowledged": fromAnswered} {
		slices.Sort(took)
		t.Logf("refused on the other node after a revocation %s: p50 %s, p99 %s, at most %s", what, took[n/2], took[n*99/100], took[n-1])
	}
}

// TestRevokedOnTheCommandLine: the same by caddy mcp revoke.
func TestRevokedOnTheCommandLine(t *testing.T) {
	w, one, other := two(t)
	caddy, err := launch.Build(t.Context(), w.root, "./xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	for by, flags := range map[string]func(*token) []string{
		"id":      func(tk *token) []string { return []string{"--id", tk.id} },
		"subject": func(tk *token) []string { return []string{"--subject", "s-" + tk.id} },
	} {
		tk, untouched := w.token(t, ""), w.token(t, "")
		args := append([]string{"mcp", "revoke", "--address", one.admin, "--issuer", issuer}, flags(tk)...)
		if out, err := exec.CommandContext(t.Context(), caddy, args...).CombinedOutput(); err != nil {
			t.Fatalf("by %s: %v\n%s", by, err, out)
		}
		refusedBy(t, other, tk, time.Now())
		if a := other.call(t.Context(), untouched, ""); !served(other)(a) {
			t.Errorf("by %s: another token: %s", by, a)
		}
	}
}

// open opens an event stream and waits for its first event.
func (n *node) open(t *testing.T, method string, tk *token, session, body string) (rest *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := n.request(ctx, method, tk, session, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := clients.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	rest = bufio.NewReader(resp.Body)
	for {
		line, err := rest.ReadString('\n')
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("a stream is answered with %s, %q, %v", resp.Status, line, err)
		}
		if strings.HasPrefix(line, "data:") {
			return rest
		}
	}
}

// initialize begins a session.
func (n *node) initialize(t *testing.T, tk *token) (session string) {
	t.Helper()
	req, err := n.request(t.Context(), http.MethodPost, tk, "",
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := clients.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	session = resp.Header.Get("Mcp-Session-Id")
	if err != nil || resp.StatusCode != http.StatusOK || session == "" {
		t.Fatalf("initialize is answered with %s, session %q: %s, %v", resp.Status, session, body, err)
	}
	return session
}

// TestStreamsEndEverywhere: the event streams of a token that are open on another node end
// within a second, as streams end and not by a broken connection.
func TestStreamsEndEverywhere(t *testing.T) {
	w, one, other := two(t)
	tk, stays := w.token(t, ""), w.token(t, "")
	const wait = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"wait","arguments":{}}}`
	streams := map[string]*bufio.Reader{
		"of a session": other.open(t, http.MethodGet, tk, other.initialize(t, tk), ""),
		"of a call":    other.open(t, http.MethodPost, tk, "", wait),
	}
	untouched := other.open(t, http.MethodPost, stays, "", wait)
	ended := make(chan string, len(streams))
	for name, rest := range streams {
		go func() {
			if left, err := io.ReadAll(rest); err != nil {
				name = fmt.Sprintf("%s, uncleanly: %q, %v", name, left, err)
			}
			ended <- name
		}()
	}
	goesOn := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(untouched)
		goesOn <- err
	}()
	one.mustRevoke(t, tk)
	deadline := time.After(time.Until(tk.acknowledged.Add(promise)))
	for range len(streams) {
		select {
		case name := <-ended:
			t.Logf("the stream %s ended %s after the revocation", name, time.Since(tk.acknowledged))
			if strings.Contains(name, "uncleanly") {
				t.Error(name)
			}
		case <-deadline:
			t.Fatal("a stream of a revoked token is open a second later")
		}
	}
	select {
	case err := <-goesOn:
		t.Errorf("the stream of another token ended, too: %v", err)
	default:
	}
}

// TestKilledNode: one of two nodes is killed under load. The other one serves on; and the
// one that was killed knows, by its first answer, what was revoked while it was down.
func TestKilledNode(t *testing.T) {
	w, one, other := two(t)
	tokens := w.good(t, 60)
	l := w.load(t, tokens, one, other)
	l.await(t, "answers of both", 100, served(nil))
	for _, tk := range tokens[:10] {
		one.mustRevoke(t, tk)
	}
	l.await(t, "answers of the other node", 50, served(other))
	other.kill(t)
	l.await(t, "answers of the node that is left", 200, served(one))
	for _, tk := range tokens[10:30] {
		one.mustRevoke(t, tk)
	}
	// Its first answer is refused, whenever that comes: while it starts, too.
	other.launch(t)
	first := make(chan *answer)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if a := other.call(context.Background(), tokens[10+i%20], ""); a.err == nil || t.Context().Err() != nil {
				first <- a
				return
			}
			<-tick.C
		}
	}()
	if a := <-first; a.status != 401 && a.status != 503 {
		t.Errorf("the first answer after the start is %s", a)
	} else {
		t.Logf("the first answer after the start is %s", a)
	}
	l.await(t, "answers of the node that is back", 100, served(other))
	other.back()
	for _, tk := range tokens[30:35] {
		other.mustRevoke(t, tk)
	}
	l.await(t, "answers of both", 200, served(nil))
	l.end(t)
}
