package mcpauth

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// askedIssuer is the issuer of tokens that only it can read.
type askedIssuer struct {
	*httptest.Server
	times atomic.Int32

	mu     sync.Mutex
	answer map[string]any // nil: it is down
}

func newAskedIssuer(t *testing.T) *askedIssuer {
	t.Helper()
	o := new(askedIssuer)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, ok := r.BasicAuth(); !ok || id != "gateway" || secret != gateSecret {
			t.Errorf("asked by %q", id)
		}
		o.mu.Lock()
		answer := maps.Clone(o.answer)
		o.mu.Unlock()
		o.times.Add(1)
		if answer == nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(o.Close)
	t.Setenv("MCPAUTH_TEST_INTROSPECTION", gateSecret)
	return o
}

// says has the issuer answer with the claims of somebody with that role, or be down when
// there is none.
func (o *askedIssuer) says(role string, change map[string]any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answer = nil; role == "" {
		return
	}
	claims := map[string]any{"active": true, "token_type": "Bearer", "client_id": "app"}
	maps.Copy(claims, change)
	o.answer = tokenClaims(role, claims)
}

// config is a configuration that asks the issuer.
func (o *askedIssuer) config(cache time.Duration) map[string]any {
	return map[string]any{"issuers": []any{map[string]any{
		"issuer": gateIssuer, "jti_optional": true,
		"introspection": map[string]any{
			"url": o.URL, "client_id": "gateway", "client_secret": "{env.MCPAUTH_TEST_INTROSPECTION}", "cache": int64(cache), "timeout": int64(2 * time.Second),
		},
	}}}
}

// TestIntrospected: who an opaque token speaks for is what its issuer says, and who is
// not let in is told whether another token would help.
func TestIntrospected(t *testing.T) {
	for name, tc := range map[string]struct {
		role   string
		change map[string]any
		body   string
		status int
		reason string
	}{
		"a role that may":      {role: "reader", body: callList, status: 200},
		"a role that may not":  {role: "writer", body: callList, status: 403, reason: "forbidden"},
		"a scope that may":     {role: "none", change: map[string]any{"scope": "notes:write"}, body: strings.Replace(callTool, "any", "save", 1), status: 200},
		"inactive":             {role: "admin", change: map[string]any{"active": false}, body: callTool, status: 401, reason: "token_inactive"},
		"of another issuer":    {role: "admin", change: map[string]any{"iss": "https://evil.example"}, body: callTool, status: 401, reason: "token_issuer"},
		"for somebody else":    {role: "admin", change: map[string]any{"aud": "https://other.example"}, body: callTool, status: 401, reason: "token_audience"},
		"for nobody":           {role: "admin", change: map[string]any{"aud": nil}, body: callTool, status: 401, reason: "token_audience"},
		"expired":              {role: "admin", change: map[string]any{"exp": time.Now().Unix() - 1}, body: callTool, status: 401, reason: "token_expired"},
		"bound to a key":       {role: "admin", change: map[string]any{"cnf": map[string]any{"jkt": "x"}}, body: callTool, status: 401, reason: "token_sender_constrained"},
		"a username alone":     {role: "admin", change: map[string]any{"sub": nil, "username": "admin"}, body: callTool, status: 401, reason: "token_missing_subject"},
		"the answer is broken": {role: "admin", change: map[string]any{"active": "yes"}, body: callTool, status: 503, reason: "introspection_unavailable"},
		"the issuer is down":   {body: callTool, status: 503, reason: "introspection_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newAskedIssuer(t)
			o.says(tc.role, tc.change)
			g, received := receiving(t, o.config(0))
			for range 2 { // the second time from what is remembered
				resp, body := g.do(t, g.post(t, "opaque-token", tc.body))
				if got := reasonOf(body); resp.StatusCode != tc.status || got != tc.reason {
					t.Fatalf("status %d, reason %q, want %d %q: %s", resp.StatusCode, got, tc.status, tc.reason, body)
				}
				challenge, retry := resp.Header.Get("WWW-Authenticate"), resp.Header.Get("Retry-After")
				if (tc.status == 401) != strings.Contains(challenge, `error="invalid_token"`) {
					t.Errorf("the challenge is %q", challenge)
				}
				if after, _ := strconv.Atoi(retry); (tc.status == 503) != (after > 0) {
					t.Errorf("to be tried again after %q", retry)
				}
			}
			if tc.status != 200 && len(*received) > 0 {
				t.Errorf("the server received %v", (*received)[0].header)
			}
			if tc.status == 200 {
				if got := (*received)[1].principal; got.Subject != "somebody" || got.Issuer != gateIssuer || got.ClientID != "app" {
					t.Errorf("the principal is %s of %s", got.Subject, got.Issuer)
				}
				if text := fmt.Sprint((*received)[1].header); strings.Contains(text, "opaque-token") {
					t.Errorf("the server received the token: %s", text)
				}
			}
			if n := o.times.Load(); n != 1 && tc.reason != "introspection_unavailable" {
				t.Errorf("the issuer was asked %d times", n)
			}
		})
	}
}

// TestIntrospectedAndRevoked: what is revoked here is refused, whatever its issuer says.
func TestIntrospectedAndRevoked(t *testing.T) {
	issued := time.Now().Add(-time.Minute).Truncate(time.Second)
	hash := sha256.Sum256([]byte("opaque-to-be-revoked"))
	for name, r := range map[string]state.Revocation{
		"hash":     {Kind: state.RevokeHash, Issuer: gateIssuer, Value: hex.EncodeToString(hash[:])},
		"subject":  {Kind: state.RevokeSubject, Issuer: gateIssuer, Value: "introspected"},
		"client":   {Kind: state.RevokeClient, Issuer: gateIssuer, Value: "asked-about"},
		"everyone": {Kind: state.RevokeEveryone, Before: issued.Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			o := newAskedIssuer(t)
			o.says("admin", map[string]any{"jti": nil, "sub": "introspected", "client_id": "asked-about", "iat": issued.Unix()})
			g, received := receiving(t, o.config(0))
			if resp, body := g.do(t, g.post(t, "opaque-to-be-revoked", callTool)); resp.StatusCode != http.StatusOK {
				t.Fatalf("before: %d %s", resp.StatusCode, body)
			}
			revoke(t, g.handler, r)
			resp, body := g.do(t, g.post(t, "opaque-to-be-revoked", callTool))
			if resp.StatusCode != http.StatusUnauthorized || reasonOf(body) != "token_revoked" || len(*received) != 1 {
				t.Errorf("%d %s; the server received %d", resp.StatusCode, body, len(*received))
			}
		})
	}
}

// TestNotBelievedForLonger: a token that was good is refused from when the issuer's answer
// is over, if the issuer says otherwise by then or says nothing.
func TestNotBelievedForLonger(t *testing.T) {
	for name, tc := range map[string]struct {
		role   string
		status int
	}{"revoked at the issuer": {"admin", 401}, "the issuer is down": {"", 503}} {
		t.Run(name, func(t *testing.T) {
			const cache = 300 * time.Millisecond
			o := newAskedIssuer(t)
			o.says("admin", nil)
			g, received := receiving(t, o.config(cache))
			before := time.Now()
			if resp, body := g.do(t, g.post(t, "opaque", callTool)); resp.StatusCode != http.StatusOK {
				t.Fatalf("before: %d %s", resp.StatusCode, body)
			}
			answered := time.Now() // the answer is from before that
			o.says(tc.role, map[string]any{"active": false})
			for {
				begun := time.Now()
				resp, body := g.do(t, g.post(t, "opaque", callTool))
				<-g.errs
				if resp.StatusCode == tc.status {
					if time.Since(before) < cache {
						t.Errorf("asked again after %s", time.Since(before))
					}
					break
				}
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
				if over := begun.Sub(answered); over > cache {
					t.Fatalf("still let in after %s", over)
				}
			}
			n := len(*received)
			for range 20 {
				if resp, _ := g.do(t, g.post(t, "opaque", callTool)); resp.StatusCode != tc.status {
					t.Fatalf("let in again: %d", resp.StatusCode)
				}
			}
			if len(*received) != n {
				t.Errorf("the server received %d more", len(*received)-n)
			}
		})
	}
}

const progressEvent = "data: " + progress + "\n\n"

// TestIntrospectedStream: an open stream goes on for as long as the issuer says that its
// token is active, and ends, as a stream does that has nothing more to say, when it does
// not, or says nothing, or says something by which the request would be refused. That is
// so whether anything comes from the server or not.
func TestIntrospectedStream(t *testing.T) {
	for name, tc := range map[string]struct {
		role   string
		change map[string]any
		silent bool
	}{
		"revoked at the issuer":      {"admin", map[string]any{"active": false}, false},
		"revoked, and silent":        {"admin", map[string]any{"active": false}, true},
		"the issuer is down":         {"", nil, false},
		"the issuer is down, silent": {"", nil, true},
		"expired, and silent":        {"admin", map[string]any{"exp": time.Now().Unix() - 1}, true},
		"another role":               {"reader", nil, false},
		"another subject's":          {"none", map[string]any{"sub": "bob"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MCPAUTH_TEST_INTROSPECTION", gateSecret)
			const cache = 50 * time.Millisecond
			o := &askedIssuer{}
			changed, ended := make(chan struct{}), make(chan struct{})
			o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				o.mu.Lock()
				defer o.mu.Unlock()
				if o.times.Add(1) == 5 {
					close(changed) // four times it was good
				}
				if o.answer == nil || o.times.Load() >= 5 && tc.role == "" {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				answer := o.answer
				if o.times.Load() >= 5 {
					claims := map[string]any{"active": true}
					maps.Copy(claims, tc.change)
					answer = tokenClaims(tc.role, claims)
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(answer)
			}))
			t.Cleanup(o.Close)
			o.says("admin", nil)
			h := provisioned(t, gateConfig(o.config(cache)))
			g := gateOf(t, h, func(w http.ResponseWriter, r *http.Request) error {
				defer close(ended)
				w.Header().Set("Content-Type", "text/event-stream")
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-r.Context().Done():
						return nil // as the transport does, which then reads an end
					case <-tick.C:
					}
					if !tc.silent || o.times.Load() == 1 {
						_, _ = io.WriteString(w, progressEvent)
						_ = http.NewResponseController(w).Flush()
					}
				}
			})
			resp, err := http.DefaultTransport.RoundTrip(g.post(t, "opaque", callTool))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			events := 0
			for lines.Scan() {
				if strings.Contains(lines.Text(), "progress") {
					events++
				}
			}
			if lines.Err() != nil {
				t.Errorf("the stream did not end as one does: %v", lines.Err())
			}
			select {
			case <-changed:
			default:
				t.Errorf("the stream ended after %d questions, while the token was good", o.times.Load())
			}
			<-ended
			if resp.StatusCode != http.StatusOK || events == 0 {
				t.Errorf("%d with %d events", resp.StatusCode, events)
			}
		})
	}
}
