package soundness

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// revoked is the answer to a token that was.
var revoked = want{http.StatusUnauthorized, 40100, "token_revoked"}

// revoke has the running gateway revoke.
func revoke(t *testing.T, r state.Revocation) {
	t.Helper()
	configured, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.Expires = time.Now().Add(2 * time.Hour)
	if err := configured.(*mcpauth.App).Revocations().Revoke(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// TestRevoked: from the moment on that a token is revoked, nothing that is sent with it
// reaches the server, its open stream ends, and so does the session that it began, for
// whatever token the principal has next.
func TestRevoked(t *testing.T) {
	for v, w := range both(versions) {
		for _, by := range []state.RevocationKind{state.RevokeID, state.RevokeSubject} {
			t.Run("E7 the token is revoked during the stream, by "+by.String()+"/"+v+"/"+w.name, func(t *testing.T) {
				up, s := watch(t), newSource()
				who := alice
				who.subject = "revoked-" + rand.Text()
				id := "jti-" + rand.Text()
				first := "Authorization: Bearer " + who.token(t, claims{"jti": id})
				next := "Authorization: Bearer " + who.token(t)

				var inside []string
				m := ask(t, v, who, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
				if v != v26 {
					begun := exchangeH1(t, post(t, who, initialize(v)).without("Authorization").with(first)).ok(t)
					inside = inSession(begun.header.Get("Mcp-Session-Id"), v)
					m = get(t, who, inside...)
				}
				feeding(up, s, http.MethodGet)
				open := stream(t, w, m.without("Authorization").with(first))
				wait(t, s.began, "the request for a stream")
				s.send(t, event(toolsChanged))
				if got := open.data(t); got != toolsChanged {
					t.Fatalf("the client received %q", got)
				}

				value := map[state.RevocationKind]string{state.RevokeID: id, state.RevokeSubject: who.subject}[by]
				revoke(t, state.Revocation{Kind: by, Issuer: who.issuer, Value: value})
				wait(t, s.ended, "the end of the stream at the server")
				if r := open.rest(t); strings.Contains(string(r.body), "data:") || r.err != nil {
					t.Errorf("the client received %q, and the stream did not end as one does: %v", r.body, r.err)
				}
				if v != v26 {
					statetest.Eventually(t, "the server is told that the session is over", func() bool {
						return slices.ContainsFunc(up.all(), func(got received) bool { return got.method == http.MethodDelete })
					})
				}
				up.forget()
				call := ask(t, v, who, "tools/call", `"name":"ok","arguments":{}`)
				revoked.check(t, w.send(t, call.without("Authorization").with(first)))
				revoked.check(t, w.send(t, m.without("Authorization").with(first)))
				switch {
				case by == state.RevokeSubject:
					revoked.check(t, w.send(t, call.without("Authorization").with(next)))
				case v != v26:
					noSession.check(t, w.send(t, post(t, who, callTool("ok"), inside...).without("Authorization").with(next)))
				}
				up.nothing(t)
				if by == state.RevokeID {
					up.replies(speak)
					w.send(t, call.without("Authorization").with(next)).ok(t)
				}
			})
		}
	}
}
