package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// stepUpCells are the clients that log in by themselves, in each revision that they
// speak.
var stepUpCells = []cell{
	{client: "go", version: modernVersion},
	{client: "go", version: legacyVersion, legacy: true, session: true},
	{client: "ts1", version: legacyVersion, session: true},
	{client: "ts2", version: modernVersion},
	{client: "ts2", version: legacyVersion, legacy: true, session: true},
}

// who is somebody who uses that client alone; a reluctant one consents to mcp:read
// and to nothing more.
func (c cell) who(reluctant bool) string {
	name := strings.TrimSuffix(c.String(), "/")
	if reluctant {
		return name + "-reluctant"
	}
	return name
}

// stepUpWorld is a provider, and a gateway whose roles hang on scopes.
type stepUpWorld struct {
	front
	provider providerLog
}

var stepUpFront = sync.OnceValues(func() (*stepUpWorld, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := servers["ts2"]()
	if err != nil {
		return nil, err
	}
	w := &stepUpWorld{front: front{base: baseURL(port)}}
	users := make(map[string]any)
	for _, c := range stepUpCells {
		users[c.who(false)] = map[string]any{"groups": []string{"staff"}}
		users[c.who(true)] = map[string]any{"groups": []string{"staff"}, "consents": []string{"mcp:read"}}
	}
	config := map[string]any{"resources": []string{w.base + "/servers/ts2/mcp"}, "redirect": redirectURL, "users": users}
	if w.issuer, err = startNodeServer("oidc.mjs", "OIDC_CONFIG", config, w.provider.line); err != nil {
		return nil, err
	}
	site := fmt.Sprintf(`
mcp_gateway {
	public_url %s
	issuer %s
	role reader {
		when groups staff
		when scope mcp:read
		allow tools.execute ts2/echo
	}
	role writer {
		when groups staff
		when scope mcp:write mcp:everything
		allow tools.execute ts2/add
	}
	role prompter {
		when scope mcp:prompt mcp:everything
		allow prompts.execute ts2/greet
	}
	role completer {
		when scope mcp:complete mcp:more
		allow completions.use ts2
	}
	role boss {
		when groups bosses
		when scope mcp:admin
		allow tools.execute ts2/admin
	}
	server ts2 %s
	scopes_supported mcp:read
	forward_headers %s
}
`, w.base, w.issuer, server.url, tagHeader)
	w.caddy, err = startCaddy("stepup", caddyfile(port, site))
	return w, err
})

// providerLog is what the provider was asked for, and the tokens that it gave.
type providerLog struct {
	mu     sync.Mutex
	events []providerEvent
}

type providerEvent struct{ Event, User, Grant, Scope string }

func (l *providerLog) line(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var event providerEvent
	if json.Unmarshal(line, &event) == nil { // anything else is advice to whoever runs it
		l.events = append(l.events, event)
	}
}

// forget drops what was recorded of somebody.
func (l *providerLog) forget(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(l.events, func(e providerEvent) bool { return e.User == user })
}

// of returns the sets of scopes, each sorted, that somebody was sent to consent to, or
// that they got a token with.
func (l *providerLog) of(event, user string) (scopes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Event == event && e.User == user {
			scopes = append(scopes, sorted(e.Scope))
		}
	}
	return scopes
}

// sorted makes scopes comparable: the Go client asks for them in any order, and the
// provider keeps it.
func sorted(scopes string) string {
	set := strings.Fields(scopes)
	slices.Sort(set)
	return strings.Join(set, " ")
}

// posted is a POST of a client to the gateway, and how it was answered.
type posted struct {
	Method, Name, Challenge string
	Status                  int
}

func (p posted) String() string {
	text := strings.TrimSpace(p.Method+" "+p.Name) + fmt.Sprintf(" %d", p.Status)
	if challenge, err := oauthex.ParseWWWAuthenticate([]string{p.Challenge}); p.Challenge != "" && err == nil {
		text += fmt.Sprintf(" %s [%s]", challenge[0].Params["error"], sorted(challenge[0].Params["scope"]))
	}
	return text
}

// stepUpVisit is what a client is asked to do, and what it did.
type stepUpVisit struct {
	visit
	Login map[string]any `json:"login"`

	mu       sync.Mutex
	posts    []posted
	outcomes map[string]outcome
}

// calls are the POSTs of calls and completions, in their order: those that a scope
// could be needed for.
func (v *stepUpVisit) calls() (calls []string) {
	for _, p := range v.posts {
		if p.Method == "tools/call" || p.Method == "completion/complete" {
			calls = append(calls, p.String())
		}
	}
	return calls
}

// RoundTrip reports the POSTs of the Go client.
func (v *stepUpVisit) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent struct {
		Method string
		Params struct{ Name string }
	}
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = json.Unmarshal(body, &sent) // a response has no method
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := v.visit.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.posts = append(v.posts, posted{sent.Method, sent.Params.Name, resp.Header.Get("WWW-Authenticate"), resp.StatusCode})
	}
	return resp, err
}

// run has the cell's client go through the scenario of node/stepup.mjs.
func (w *stepUpWorld) run(t *testing.T, c cell, reluctant bool) *stepUpVisit {
	t.Helper()
	v := &stepUpVisit{visit: w.visit(t, c, must(t, servers["ts2"])), outcomes: make(map[string]outcome)}
	v.Tag += " " + rand.Text()
	v.Headers[tagHeader] = v.Tag
	w.provider.forget(c.who(reluctant))
	app := &clientCredentials{ID: "app", Secret: "app-secret", Issuer: w.issuer}
	v.Login = map[string]any{"user": c.who(reluctant), "redirect": redirectURL, "client": app}
	if c.client == "go" {
		v.goClient(t, app, c.who(reluctant))
		return v
	}
	p, err := startNode(t.Context(), "stepup-"+c.client+".mjs", "CLIENT_CONFIG", v, func(line []byte) {
		var report struct {
			Event, Step string
			Value       json.RawMessage
			Error       *stepError
			posted
		}
		if err := json.Unmarshal(line, &report); err != nil {
			t.Errorf("%s reports %s", c.client, line)
			return
		}
		if report.Event == "post" {
			v.posts = append(v.posts, report.posted)
			return
		}
		var value any
		_ = json.Unmarshal(report.Value, &value) // a step that failed has none
		v.outcomes[report.Step] = outcome{Value: canonical(value), Err: report.Error}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	return v
}

// goClient is the scenario for the Go SDK's client, which needs no help to step up.
func (v *stepUpVisit) goClient(t *testing.T, app *clientCredentials, user string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: app.forGo(),
		RedirectURL:         redirectURL,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			return logIn(ctx, args.URL, user)
		},
		Client: &http.Client{Transport: tlsTransport},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, run func() (any, error)) {
		if value, err := run(); err != nil {
			v.outcomes[name] = outcome{Err: asStepError(err)}
		} else {
			v.outcomes[name] = outcome{Value: canonical(value)}
		}
	}
	g := &goVisitor{visit: v.visit}
	step("connect", func() (any, error) {
		client := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1.0.0"}, nil)
		transport := &mcp.StreamableClientTransport{Endpoint: v.URL, HTTPClient: &http.Client{Transport: v}, OAuthHandler: handler}
		options := &mcp.ClientSessionOptions{}
		if v.Legacy {
			options.ProtocolVersion = legacyVersion
		}
		var err error
		if g.session, err = client.Connect(ctx, transport, options); err != nil {
			return nil, err
		}
		return g.session.InitializeResult().ProtocolVersion, nil
	})
	if g.session == nil {
		t.Fatalf("connect: %s", v.outcomes["connect"])
	}
	step("echo", func() (any, error) { return g.call(ctx, "echo", map[string]any{"text": "before"}) })
	step("add", func() (any, error) { return g.call(ctx, "add", map[string]any{"a": 2, "b": 3}) })
	step("echo again", func() (any, error) { return g.call(ctx, "echo", map[string]any{"text": "after"}) })
	step("admin", func() (any, error) { return g.call(ctx, "admin", nil) })
	step("complete", func() (any, error) { return g.complete(ctx, "greet") })
	step("close", func() (any, error) { return "closed", g.session.Close() })
}

// TestStepUp has a user log in with as little as will do, and be asked for more when a
// tool needs it: once, for just what is missing, and without losing what there is. For
// what no scope gives, nobody is asked.
func TestStepUp(t *testing.T) {
	w := must(t, stepUpFront)
	t.Cleanup(func() { w.caddy.check(t) })
	for _, c := range stepUpCells {
		t.Run(c.who(false), func(t *testing.T) {
			t.Parallel()
			v := w.run(t, c, false)
			v.check(t, map[string]expectation{
				"connect": value(c.version), "echo": value("before"), "add": value("5"), "echo again": value("after"),
				"admin": refused(invalidParams), "complete": value([]string{"ada", "alan"}), "close": value("closed"),
			})
			// A client of 2026-07-28 adds what it is told to what it has asked for
			// before. One of the revisions before need not, and is told everything.
			first, second := "mcp:read mcp:write", "mcp:complete mcp:prompt mcp:read mcp:write"
			if c.version == modernVersion {
				first, second = "mcp:write", "mcp:complete mcp:prompt"
			}
			same(t, "the gateway's answers", v.calls(), []string{
				"tools/call echo 200",
				"tools/call add 403 insufficient_scope [" + first + "]", "tools/call add 200",
				"tools/call echo 200",
				"tools/call admin 200",
				"completion/complete 403 insufficient_scope [" + second + "]", "completion/complete 200",
			})
			asked := []string{"mcp:read", "mcp:read mcp:write", "mcp:complete mcp:prompt mcp:read mcp:write"}
			same(t, "what the user was asked for", w.provider.of("authorize", c.who(false)), asked)
			same(t, "the tokens given", w.provider.of("token", c.who(false)), asked)

			same(t, "what the server received", w.received(t, c, v), []string{
				"echo as reader", "add as reader,writer", "echo as reader,writer", "greet as completer,prompter,reader,writer",
			})
		})
	}
}

// TestStepUpRefused has a user who consents to no more than they have: nothing changes,
// and nobody asks for ever.
func TestStepUpRefused(t *testing.T) {
	w := must(t, stepUpFront)
	t.Cleanup(func() { w.caddy.check(t) })
	for _, c := range stepUpCells {
		t.Run(c.who(true), func(t *testing.T) {
			t.Parallel()
			v := w.run(t, c, true)
			v.check(t, map[string]expectation{
				"connect": value(c.version), "echo": value("before"), "add": {codes: []any{nil}}, "echo again": value("after"),
				"admin": refused(invalidParams), "complete": {codes: []any{nil}}, "close": value("closed"),
			})
			// The Go and the 1.x client give up when they are refused once more. The
			// limit of the 2.x client ends where it sends the user away, so it asks
			// again when the application tries again, which it does once.
			times := map[string]int{"go": 1, "ts1": 1, "ts2": 2}[c.client]
			want := slices.Concat([]string{"mcp:read"}, slices.Repeat([]string{"mcp:read mcp:write"}, times))
			asked := w.provider.of("authorize", c.who(true))
			if len(asked) != 1+2*times || !slices.Equal(asked[:1+times], want) {
				t.Errorf("the user was asked for %q, want %q and %d more", asked, want, times)
			}
			for _, scope := range w.provider.of("token", c.who(true)) {
				if scope != "mcp:read" {
					t.Errorf("a token with the scopes %q", scope)
				}
			}
			adds := 0
			for _, call := range v.calls() {
				if strings.HasPrefix(call, "tools/call add 403 insufficient_scope") {
					adds++
				}
			}
			if adds != 2 {
				t.Errorf("the client tried %d times: %q", adds, v.calls())
			}
			same(t, "what the server received", w.received(t, c, v), []string{"echo as reader", "echo as reader"})
		})
	}
}

func (v *stepUpVisit) check(t *testing.T, want map[string]expectation) {
	t.Helper()
	for step, expected := range want {
		if got, ok := v.outcomes[step]; !ok || !expected.matches(got) {
			t.Errorf("%s:\n got %s\nwant %s", step, got, expected)
		}
	}
	if len(v.outcomes) != len(want) {
		t.Errorf("steps %v", v.outcomes)
	}
}

// received is what reached the server that a role had to allow, and as whom.
func (w *stepUpWorld) received(t *testing.T, c cell, v *stepUpVisit) (calls []string) {
	t.Helper()
	sessions := make(map[string]bool)
	for _, r := range must(t, servers["ts2"]).log.of(v.Tag) {
		if r.header("Authorization") != "" {
			t.Error("the server received a token")
		}
		var sent struct {
			Method string
			Params struct {
				Name string
				Ref  struct{ Name string }
			}
		}
		_ = json.Unmarshal([]byte(r.Body), &sent) // a GET has no body
		if name := sent.Params.Name + sent.Params.Ref.Name; name != "" {
			calls = append(calls, name+" as "+r.header("X-Mcp-Roles"))
			sessions[r.header("Mcp-Session-Id")] = true
		}
	}
	if len(sessions) != 1 || sessions[""] == c.session {
		t.Errorf("sessions at the server: %v", sessions)
	}
	return calls
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
