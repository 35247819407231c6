package scope

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// lookup reads claims as the verifier of tokens does.
func lookup(tb testing.TB, text string) Lookup {
	tb.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return members2lookup(members)
}

func members2lookup(members map[string]any) Lookup {
	return func(name string) (any, bool) {
		value, ok := members[name]
		return value, ok
	}
}

// parse reads claims that must be valid.
func parse(tb testing.TB, text string, cfg Config) *Scope {
	tb.Helper()
	if err := cfg.Provision(); err != nil {
		tb.Fatal(err)
	}
	s, err := Parse(lookup(tb, text), nil, cfg)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return s
}

// scoped reads a token with those members of scopes.
func scoped(tb testing.TB, members string) *Scope {
	tb.Helper()
	return parse(tb, `{"iss":"https://a","jti":"1","scopes":{`+members+`}}`, Config{})
}

// refuses wants claims to be invalid, and the error to be about one of them.
func refuses(t *testing.T, text, claim string) {
	t.Helper()
	s, err := Parse(lookup(t, text), nil, Config{})
	var e *Error
	if s != nil || !errors.As(err, &e) {
		t.Errorf("%s: got %+v, %v, want an *Error", text, s, err)
		return
	}
	if e.Claim != claim {
		t.Errorf("%s: the error is about %s, want %s", text, e.Claim, claim)
	}
}

var (
	useServer = Of(mcp.ServersUse)
	noon      = time.Date(2026, 1, 14, 12, 0, 0, 0, time.UTC) // a Wednesday
	client    = netip.MustParseAddr("192.0.2.1")
)

func request() *Request {
	return &Request{Server: "warehouse", Visibility: Public, Subject: "ann", ClientIP: client, Now: noon, Need: useServer}
}

// What is not in a token restricts nothing, but for teams.
func TestNothing(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"scopes":{}}`, `{"user":"bob","groups":["x"]}`, `{"user":null}`,
		// What ContextForge writes into a token that it did not scope, but for the list of permissions.
		`{"token_use":"api","scopes":{"server_id":null,"ip_restrictions":[],"time_restrictions":{}}}`,
		`{"scopes":{"usage_limits":{},"permissions":["*"]}}`,
	} {
		s := parse(t, text, Config{})
		q := request()
		q.ClientIP, q.Need = netip.Addr{}, allPermissions
		if refusal := s.Check(q); refusal != nil {
			t.Errorf("%s: %+v", text, refusal)
		}
		if s.ServerScoped() || !s.PublicOnly() || s.Unrestricted() || s.Admin() || s.Limits() != (Limits{}) {
			t.Errorf("%s: %+v", text, s)
		}
	}
}

// The zero Scope and a nil one must not be taken for one without restrictions.
func TestZeroReachesNothing(t *testing.T) {
	for _, s := range []*Scope{nil, {}} {
		q := request()
		if s.Check(q) == nil || s.Permit(useServer) == nil || s.Permits(useServer) {
			t.Errorf("%v reaches something", s)
		}
		if s.Sees(Team, "", "", "") || s.Sees(Private, "", "", "") || !s.PublicOnly() || s.Unrestricted() || s.Admin() {
			t.Errorf("%v sees something", s)
		}
	}
	var none *Scope
	if none.Sees(Public, "", "", "") || none.AllowsServer("a") || none.AllowsServer("") || none.AllowsAddress(client) ||
		none.AllowsTime(noon) || none.counted() || !none.ServerScoped() || none.Teams() != nil || none.Limits() != (Limits{}) {
		t.Error("nil reaches something")
	}
	if s, refusal := none.ForAccount(Account{Admin: true}); s != nil || refusal == nil {
		t.Error("an account makes something of nil")
	}
}

// behaviour.md section 2.9, W-17: whatever has the wrong type makes the token
// invalid. ContextForge answered some with 500, and took others for no restriction.
func TestMalformedScopes(t *testing.T) {
	for _, value := range []string{`null`, `[]`, `["servers.use"]`, `"servers.use"`, `""`, `0`, `1`, `true`, `false`} {
		refuses(t, `{"scopes":`+value+`}`, "scopes")
	}
	for _, member := range []string{
		`"server":"a"`, `"Server_id":"a"`, `"SERVER_ID":"a"`, `"serverId":"a"`, `"permission":["*"]`, `"":1`, `"scopes":{}`,
		`"ip_restriction":["10.0.0.1"]`, `"teams":[]`,
	} {
		refuses(t, `{"scopes":{`+member+`}}`, "scopes")
		refuses(t, `{"is_admin":true,"teams":null,"scopes":{"server_id":"a","permissions":["*"],`+member+`}}`, "scopes")
	}
	for _, value := range []string{`[]`, `{}`, `1`, `true`, `false`} {
		refuses(t, `{"token_use":`+value+`}`, "token_use")
	}
	refuses(t, `{"token_use":null}`, "token_use")
}

// An error goes into logs, and says nothing that is in the token.
func TestErrorHoldsNothingOfTheToken(t *testing.T) {
	const leak = "s3cr3t\nlog line"
	quoted := `"s3cr3t\nlog line"`
	for _, text := range []string{
		`{"scopes":` + quoted + `}`, `{"scopes":{` + quoted + `:1}}`, `{"scopes":{"permissions":[` + quoted + `]}}`,
		`{"scopes":{"permissions":` + quoted + `}}`, `{"scopes":{"ip_restrictions":[` + quoted + `]}}`,
		`{"scopes":{"time_restrictions":{"timezone":` + quoted + `,"days":["Monday"]}}}`,
		`{"scopes":{"time_restrictions":{` + quoted + `:1}}}`, `{"scopes":{"time_restrictions":{"days":[` + quoted + `]}}}`,
		`{"scopes":{"usage_limits":{` + quoted + `:1}}}`, `{"teams":` + quoted + `}`, `{"is_admin":` + quoted + `}`,
	} {
		_, err := Parse(lookup(t, text), nil, Config{})
		if err == nil || strings.Contains(err.Error(), leak) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{AbsentTeams: "Public"},
		{EmptyPermissions: "allow"},
		{ScopeMap: map[string][]string{"a": {"*"}}},
		{ScopePermissions: true, ScopeMap: map[string][]string{"a b": {"*"}}},
	} {
		if err := cfg.Provision(); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	cfg := Config{AbsentTeams: AbsentUnrestricted, EmptyPermissions: EmptyDeny}
	if err := cfg.Provision(); err != nil || cfg.Scopes() != nil {
		t.Errorf("%v, %v", err, cfg.Scopes())
	}
	cfg = Config{AbsentTeams: AbsentPublic, EmptyPermissions: EmptyInherit, ScopePermissions: true}
	if err := cfg.Provision(); err != nil || cfg.Scopes() == nil {
		t.Errorf("%v, %v", err, cfg.Scopes())
	}
	// What was not provisioned must not widen anything either.
	s, err := Parse(lookup(t, `{"is_admin":true,"scopes":{"permissions":[]}}`), []string{"mcp:all"},
		Config{AbsentTeams: "?", EmptyPermissions: "?", ScopePermissions: true})
	if err != nil || s.Unrestricted() || s.Permits(useServer) || s.granted != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
