package mcpauth

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// TestRevoked: from when a token is revoked on, by whatever it goes by, it is refused
// and nothing reaches the server; others are not concerned.
func TestRevoked(t *testing.T) {
	issued := time.Now().Add(-time.Minute).Truncate(time.Second)
	for name, tc := range map[string]struct {
		revocation state.Revocation
		revoked    bool
	}{
		"id":                   {state.Revocation{Kind: state.RevokeID, Issuer: gateIssuer, Value: "t-revoked"}, true},
		"id of any issuer":     {state.Revocation{Kind: state.RevokeID, Value: "t-revoked"}, true},
		"id of another issuer": {state.Revocation{Kind: state.RevokeID, Issuer: "https://other.example", Value: "t-revoked"}, false},
		"another id":           {state.Revocation{Kind: state.RevokeID, Issuer: gateIssuer, Value: "t-other"}, false},
		"subject":              {state.Revocation{Kind: state.RevokeSubject, Issuer: gateIssuer, Value: "revoked"}, true},
		"client":               {state.Revocation{Kind: state.RevokeClient, Issuer: gateIssuer, Value: "app"}, true},
		"issued before":        {state.Revocation{Kind: state.RevokeSubject, Issuer: gateIssuer, Value: "revoked", Before: issued.Add(time.Second)}, true},
		"issued since":         {state.Revocation{Kind: state.RevokeSubject, Issuer: gateIssuer, Value: "revoked", Before: issued}, false},
		"everyone before":      {state.Revocation{Kind: state.RevokeEveryone, Before: issued.Add(time.Second)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			received := 0
			g := newGate(t, nil, func(w http.ResponseWriter, _ *http.Request) error {
				received++
				w.Header().Set("Content-Type", "application/json")
				_, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
				return err
			})
			raw := tokenOf(t, "admin", map[string]any{"jti": "t-revoked", "sub": "revoked", "client_id": "app", "iat": issued.Unix()})
			other := tokenOf(t, "admin", map[string]any{"jti": "t-fine", "sub": "fine", "client_id": "other", "iat": time.Now().Unix()})
			for range 2 { // the second time from the cache
				if resp, body := g.do(t, g.post(t, raw, callTool)); resp.StatusCode != http.StatusOK {
					t.Fatalf("before: %d %s", resp.StatusCode, body)
				}
			}
			revoke(t, g.handler, tc.revocation)
			received = 0
			resp, body := g.do(t, g.post(t, raw, callTool))
			if !tc.revoked {
				if resp.StatusCode != http.StatusOK || received != 1 {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
				return
			}
			if resp.StatusCode != http.StatusUnauthorized || reasonOf(body) != "token_revoked" || received != 0 ||
				!strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Errorf("%d, %v: %s; the server received %d", resp.StatusCode, resp.Header, body, received)
			}
			if resp, body := g.do(t, g.post(t, other, callTool)); resp.StatusCode != http.StatusOK {
				t.Errorf("somebody else: %d %s", resp.StatusCode, body)
			}
		})
	}
}

const callTool = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"any"}}`

// revoke revokes for the time of a test: the store is that of all tests.
func revoke(t *testing.T, h *Handler, r state.Revocation) {
	t.Helper()
	r.Expires = time.Now().Add(2 * time.Second)
	if err := h.revocations.Add(time.Now(), r); err != nil {
		t.Fatal(err)
	}
}

// TestRevokedStream: an open stream ends when its token is revoked, as a stream does
// that has nothing more to say.
func TestRevokedStream(t *testing.T) {
	ended := make(chan struct{})
	g := newGate(t, nil, func(w http.ResponseWriter, r *http.Request) error {
		defer close(ended)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // as the transport does, which then reads an end
		return nil
	})
	raw := tokenOf(t, "admin", map[string]any{"jti": "t-stream", "sub": "streaming"})
	resp, err := http.DefaultTransport.RoundTrip(g.post(t, raw, callTool))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), "progress") {
		t.Fatalf("%q, %v", lines.Text(), lines.Err())
	}
	revoke(t, g.handler, state.Revocation{Kind: state.RevokeID, Issuer: gateIssuer, Value: "t-stream"})
	<-ended
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("after it was revoked: %q", lines.Text())
		}
	}
	if lines.Err() != nil {
		t.Errorf("the stream did not end as one does: %v", lines.Err())
	}
}

// TestRevocationsUnknown: as long as nobody knows what was revoked, nobody is let in.
func TestRevocationsUnknown(t *testing.T) {
	loaded, err := load(t, "http.handlers.mcp_auth", gateConfig(map[string]any{}))
	if err != nil {
		t.Fatal(err)
	}
	h := loaded.(*Handler)
	select {
	case <-h.revocations.Known():
		t.Fatal("another test has left the store open")
	default:
	}
	g := gateOf(t, h, func(http.ResponseWriter, *http.Request) error {
		t.Error("the server received something")
		return nil
	})
	resp, body := g.do(t, g.post(t, tokenOf(t, "admin", nil), callTool))
	if resp.StatusCode != http.StatusServiceUnavailable || reasonOf(body) != "revocation_unknown" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
