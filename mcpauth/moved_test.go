package mcpauth

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// TestClockMoved sets the system's clock, forward and back. What has expired stays so,
// whether it is remembered or verified anew; what was revoked stays revoked; and a token
// that has not expired is let in again when the clock is right again.
func TestClockMoved(t *testing.T) {
	g, received := receiving(t, nil)
	status := func(raw string) int {
		resp, body := g.do(t, g.post(t, raw, callTool))
		<-g.errs
		if reason := reasonOf(body); resp.StatusCode == http.StatusUnauthorized && reason != "token_expired" && reason != "token_revoked" {
			t.Errorf("refused because of %s", reason)
		}
		return resp.StatusCode
	}
	want := func(when, raw string, wanted int) {
		t.Helper()
		before := len(*received)
		if got := status(raw); got != wanted || (len(*received) > before) != (wanted == 200) {
			t.Errorf("%s: %d, and the server received %d", when, got, len(*received)-before)
		}
	}
	soon := func(jti string) string {
		return tokenOf(t, "admin", map[string]any{"jti": jti, "exp": time.Now().Add(1500 * time.Millisecond).Unix()})
	}
	long := tokenOf(t, "admin", map[string]any{"jti": "long", "exp": time.Now().Add(time.Hour).Unix()})
	remembered, unknown, revoked := soon("remembered"), soon("unknown"), tokenOf(t, "admin", map[string]any{"jti": "moved-revoked"})
	want("at first", long, 200)
	want("at first", revoked, 200)
	if got := status(remembered); got != 200 {
		t.Fatal(got)
	}
	for status(remembered) == 200 { // until its time is up
	}
	revoke(t, g.handler, state.Revocation{Kind: state.RevokeID, Issuer: gateIssuer, Value: "moved-revoked"})

	for _, by := range []time.Duration{-30 * time.Second, -2 * time.Hour, -10 * 365 * 24 * time.Hour} {
		undo := steady.Move(by)
		want("set back by "+by.String(), remembered, 401)
		want("set back by "+by.String(), unknown, 401)
		want("set back by "+by.String(), revoked, 401)
		want("set back by "+by.String(), long, 200)
		if err := steady.Ready(time.Now()); (err != nil) != (by < -time.Minute) {
			t.Errorf("set back by %s: ready %v", by, err)
		}
		undo()
	}
	undo := steady.Move(2 * time.Hour)
	want("set forward", long, 401)
	undo()
	want("set forward and back", long, 200)
	undo = steady.Move(-2 * time.Hour)
	want("set forward and back by too much", remembered, 401)
	undo()
}

// TestClockMovedOverStreams: when the clock is set forward to where a token has expired,
// its stream ends before anything more is sent, and so it does if the clock was set back
// while it was open.
func TestClockMovedOverStreams(t *testing.T) {
	for name, tc := range map[string]struct{ life, by time.Duration }{
		"forward": {time.Hour, 2 * time.Hour},
		"back":    {1500 * time.Millisecond, -2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			next, ended := make(chan struct{}), make(chan struct{})
			g := newGate(t, nil, func(w http.ResponseWriter, r *http.Request) error {
				defer close(ended)
				w.Header().Set("Content-Type", "text/event-stream")
				for {
					_, _ = io.WriteString(w, progressEvent)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-next:
					case <-r.Context().Done():
						return nil
					}
				}
			})
			expires := time.Now().Add(tc.life)
			raw := tokenOf(t, "admin", map[string]any{"jti": "moved-" + name, "exp": expires.Unix()})
			resp, err := http.DefaultTransport.RoundTrip(g.post(t, raw, callTool))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			if !lines.Scan() || !strings.Contains(lines.Text(), "progress") {
				t.Fatalf("%q, %v", lines.Text(), lines.Err())
			}
			defer steady.Move(tc.by)()
			if tc.by > 0 {
				next <- struct{}{} // the server goes on
			}
			for lines.Scan() {
				if lines.Text() != "" {
					t.Errorf("the client received %q", lines.Text())
				}
			}
			select {
			case <-ended:
			case <-t.Context().Done():
			}
			if over := time.Since(expires); lines.Err() != nil || tc.by < 0 && over > 10*time.Second {
				t.Errorf("the stream did not end as one does: %v, after %s", lines.Err(), over)
			}
		})
	}
}
