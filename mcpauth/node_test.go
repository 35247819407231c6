package mcpauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// node is a gateway with accounts and tokens of its own, in front of servers that the
// test plays: notes is for everybody, crm for the team sales, and desk belongs to
// the team support.
type node struct {
	*gate
	t       testing.TB
	app     *App
	handler *Handler

	mu sync.Mutex
	// received are the calls that the servers got: server/tool, and the roles they were
	// told of.
	received []string
	roles    []string
	// said is what the server says in the stream of the tool listen.
	said chan string
}

// stored is the configuration of an embedded store of a test's own.
func stored(t testing.TB) string {
	path, err := json.Marshal(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"store": "embedded", "path": %s}`, path)
}

func when(role, claim string, allow ...string) map[string]any {
	return map[string]any{
		"name": role, "when": []any{map[string]any{"claim": claim, "values": []string{role}}},
		"allow": []any{map[string]any{"permission": "tools.execute", "objects": allow}},
	}
}

func ownConfig(change map[string]any) string {
	config := map[string]any{
		"servers": []string{"notes", "crm", "desk"},
		"issuers": []any{map[string]any{"issuer": ownName, "keys": map[string]any{"source": "gateway"}}},
		"visibility": map[string]any{
			"crm": map[string]any{"level": "team", "team": "sales"},
		},
		"teams": map[string]any{"support": []string{"desk"}},
		"roles": []any{
			when("reader", "roles", "notes/list", "crm/read", "desk/read"),
			when("writer", "roles", "*/write"),
			when("listener", "roles", "*/listen"),
			map[string]any{
				"name": "asked", "when": []any{map[string]any{"claim": "roles", "values": []string{"asked"}}},
				"allow": []any{map[string]any{"permission": "client.sampling"}},
			},
			when("sales", "teams", "crm/team"),
		},
	}
	maps.Copy(config, change)
	return gateConfig(config)
}

// newNode starts a node. end stops it; it is stopped with the test in any case.
func newNode(t *testing.T, store string, change map[string]any) (n *node, end func()) {
	t.Helper()
	n, end = startNode(t, store, change)
	n.gate = gateOf(t, n.handler, n.serve)
	return n, end
}

// startNode starts one that nothing can be sent to.
func startNode(t testing.TB, store string, change map[string]any) (n *node, end func()) {
	t.Helper()
	app := `{"store":` + store + `,"tokens":{"name":"` + ownName + `","audiences":["` + gateURL + `"]},"accounts":{}}`
	base, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{"mcp_gateway": json.RawMessage(app)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(base)
	loaded, err := ctx.App("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		cancel()
		if err := loaded.(*App).Cleanup(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	h, err := ctx.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(ownConfig(change)))
	if err != nil {
		t.Fatal(err)
	}
	n = &node{t: t, app: loaded.(*App), handler: h.(*Handler), said: make(chan string)}
	if err := n.app.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.app.Handle(ctx, caddy.Event{}); err != nil {
		t.Fatal(err)
	}
	now := func() error {
		for name, err := range n.app.Ready() {
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
	for began := time.Now(); now() != nil; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal(now())
		}
	}
	return n, end
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) error {
	call := CallOf(r)
	tool := call.Messages[0].Params.Name.Value
	n.mu.Lock()
	n.received = append(n.received, call.Server+"/"+tool)
	n.roles = call.Principal.Roles
	n.mu.Unlock()
	if tool == "listen" {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		for _ = http.NewResponseController(w).Flush(); ; _ = http.NewResponseController(w).Flush() {
			select {
			case message := <-n.said:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", message)
			case <-r.Context().Done():
				return nil
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	return err
}

// call calls server/tool, and returns what became of it: "received", or the reason of
// the refusal, which the server then has not received.
func (n *node) call(token, object string) string {
	n.t.Helper()
	reason, _ := n.ask(token, object)
	return reason
}

func (n *node) ask(token, object string) (string, *http.Response) {
	n.t.Helper()
	n.mu.Lock()
	n.received = nil
	n.mu.Unlock()
	resp, err := http.DefaultTransport.RoundTrip(n.request(n.t.Context(), token, object))
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	if len(n.errs) > 0 {
		<-n.errs // there is not room for many
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	reason := reasonOf(string(body))
	switch got := slices.Equal(n.received, []string{object}); {
	case got && reason == "" && resp.StatusCode == http.StatusOK:
		return "received", resp
	case len(n.received) > 0:
		n.t.Fatalf("%s: %d %s, and the servers received %v", object, resp.StatusCode, body, n.received)
	case reason == "":
		n.t.Fatalf("%s: %d %s", object, resp.StatusCode, body)
	}
	return reason, resp
}

func (n *node) request(ctx context.Context, token, object string) *http.Request {
	server, tool, _ := strings.Cut(object, "/")
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL+"/servers/"+server+"/mcp", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// want fails unless the calls end that way.
func (n *node) want(token string, outcomes map[string]string) {
	n.t.Helper()
	for object, want := range outcomes {
		if got := n.call(token, object); got != want {
			n.t.Errorf("%s: %s, want %s", object, got, want)
		}
	}
}

func (n *node) accounts() *account.Service { return n.app.Desk().Accounts() }

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

var operator = account.Actor{Name: "test"}

// user makes a user, who cannot log in.
func (n *node) user(email string, admin bool) account.User {
	n.t.Helper()
	u, err := n.accounts().Create(n.t.Context(), operator, account.NewUser{Email: email, Admin: admin, Active: true})
	n.must(err)
	return u
}

func (n *node) team(id string, members ...string) {
	n.t.Helper()
	_, err := n.accounts().CreateTeam(n.t.Context(), operator, id, "", "")
	n.must(err)
	for _, email := range members {
		n.must(n.accounts().SetMember(n.t.Context(), operator, id, email, account.Member))
	}
}

func (n *node) assign(email, role, team string) {
	n.t.Helper()
	n.must(n.accounts().Assign(n.t.Context(), operator, email, account.Assignment{Role: role, Team: team, Active: true}))
}

func (n *node) update(email string, update account.Update) {
	n.t.Helper()
	_, err := n.accounts().Update(n.t.Context(), operator, email, update)
	n.must(err)
}

// token makes an API token with a record; the record says what change makes of it.
func (n *node) token(u account.User, team, scopes string, change func(*catalogue.Record)) (string, catalogue.Record) {
	n.t.Helper()
	claim := jsontext.Value(scopes)
	if scopes == "" {
		claim = nil
	}
	made, err := n.app.Issuer().API(n.t.Context(), issue.API{Subject: u.ID, Email: u.Email, Admin: u.Admin, Team: team, Scopes: claim, Expires: time.Now().Add(time.Hour)})
	n.must(err)
	record := catalogue.Record{ID: made.ID, Name: made.ID, UserID: u.ID, Email: u.Email, Team: team, Scopes: claim, Created: made.Issued, By: u.ID, Expires: made.Expires, Active: true}
	if change != nil {
		change(&record)
	}
	n.put(record)
	return made.Raw, record
}

// put writes a record, whatever there was.
func (n *node) put(r catalogue.Record) {
	n.t.Helper()
	create, err := catalogue.Records.Create(r, r.Expires.Add(time.Hour), r.ID)
	n.must(err)
	create.If = state.Any
	_, err = n.app.Store().Apply(n.t.Context(), create)
	n.must(err)
}

// session makes a session token, and the session of it with that ID.
func (n *node) session(u account.User, id string, s issue.Session) string {
	n.t.Helper()
	s.ID, s.Subject, s.Email, s.Admin = id, u.ID, u.Email, u.Admin
	made, err := n.app.Issuer().Session(n.t.Context(), s)
	n.must(err)
	n.putSession(u, id, made.ID, time.Now().Add(time.Hour))
	return made.Raw
}

func (n *node) putSession(u account.User, id, jti string, expires time.Time) {
	n.t.Helper()
	table := state.Table[map[string]any]{Name: state.TableLogin, Version: 1}
	create, err := table.Create(map[string]any{"secret": "", "access": jti, "access_expires": time.Now(), "started": time.Now(), "refreshed": time.Now()}, expires, u.ID, id)
	n.must(err)
	create.If = state.Any
	_, err = n.app.Store().Apply(n.t.Context(), create)
	n.must(err)
}
