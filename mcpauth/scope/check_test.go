package scope

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// behaviour.md section 2.1: the order of the steps, the status of each, and the one
// reason that four of them share, by a token that is bound in every way. Each row
// puts right what the row before was refused for.
func TestOrder(t *testing.T) {
	cfg := Config{ScopePermissions: true}
	if err := cfg.Provision(); err != nil {
		t.Fatal(err)
	}
	s, err := Parse(lookup(t, `{"iss":"https://a","jti":"1","teams":["a"],"scopes":{"server_id":"warehouse","permissions":["tools.execute"],
		"ip_restrictions":["192.0.2.0/24"],"time_restrictions":{"business_hours_only":true},"usage_limits":{"requests_per_hour":1}}}`),
		[]string{"mcp:tools.read"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	q := &Request{
		Server: "tickets", Visibility: Team, Team: "b", Subject: "ann", ClientIP: netip.MustParseAddr("198.51.100.1"),
		Now: noon.Add(-6 * time.Hour), Need: Of(mcp.PromptsRead),
	}
	step := func(status int, reason string, cause Cause) {
		t.Helper()
		refusal := s.Check(q)
		if refusal == nil || refusal.Status != status || refusal.Reason != reason || refusal.Cause != cause {
			t.Fatalf("got %+v, want %d %s %s", refusal, status, reason, cause)
		}
	}
	step(403, "forbidden_scope", "scope_visibility")
	q.Team = "a"
	step(403, "forbidden_scope", "scope_server")
	q.Server = "warehouse"
	step(403, "forbidden_scope", "scope_address")
	q.ClientIP = client
	step(403, "forbidden_time", "scope_time")
	q.Now = noon
	step(403, "forbidden_scope", "scope_permission")
	q.Need = Of(mcp.ToolsExecute)
	step(403, "insufficient_scope", "scope_oauth")
	q.Need = Of(mcp.ToolsRead)
	if refusal := s.Check(q); refusal != nil {
		t.Fatalf("%+v", refusal)
	}
	// And then it is counted.
	if key, limits, ok := s.Usage(); !ok || key != UsageKey("https://a", "1") || limits != (Limits{PerHour: 1}) {
		t.Errorf("%v, %v, %v", key, limits, ok)
	}
	if f := Exceeded(time.Minute); f.Status != 429 || f.Reason != "usage_exceeded" || f.Cause != "scope_usage" || f.RetryAfter != time.Minute {
		t.Errorf("%+v", f)
	}
	if f := Uncounted(); f.Status != 503 || f.Reason != "usage_unavailable" || f.Cause != "scope_uncounted" {
		t.Errorf("%+v", f)
	}
}

// An administrator's token sees everything, and is bound all the same (section 2.1).
func TestAdministratorIsBound(t *testing.T) {
	s := parse(t, `{"is_admin":true,"teams":null,"jti":"1","scopes":{"server_id":"warehouse","permissions":["tools.read"],"ip_restrictions":["192.0.2.1"],
		"time_restrictions":{"weekdays_only":true},"usage_limits":{"requests_per_hour":1}}}`, Config{})
	for cause, change := range map[Cause]func(*Request){
		CauseServer:     func(q *Request) { q.Server = "tickets" },
		CauseAddress:    func(q *Request) { q.ClientIP = netip.Addr{} },
		CauseTime:       func(q *Request) { q.Now = noon.AddDate(0, 0, 4) },
		CausePermission: func(q *Request) { q.Need = Of(mcp.ToolsExecute) },
		CauseVisibility: func(q *Request) { q.Visibility, q.Owner = Private, "bob" },
	} {
		q := request()
		q.Visibility, q.Team = Team, "any"
		change(q)
		if refusal := s.Check(q); refusal == nil || refusal.Cause != cause {
			t.Errorf("%s: %+v", cause, refusal)
		}
	}
	q := request()
	q.Visibility, q.Team = Team, "any"
	if refusal := s.Check(q); refusal != nil {
		t.Errorf("%+v", refusal)
	}
}

// A request that says nothing of a server's visibility is one for a team's server.
func TestVisibilityMustBeSaid(t *testing.T) {
	q := request()
	q.Visibility = ""
	if refusal := parse(t, `{}`, Config{}).Check(q); refusal != refusedVisibility {
		t.Errorf("%+v", refusal)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	plain := parse(t, `{}`, Config{})
	bound := parse(t, `{"iss":"https://a","jti":"1","teams":["a","b"],"scopes":{"server_id":"warehouse","permissions":["tools.*"],"ip_restrictions":["10.0.0.0/8","192.0.2.0/24"],
		"time_restrictions":{"start_time":"09:00","end_time":"17:00","timezone":"Europe/Berlin"},"usage_limits":{"requests_per_hour":1000000}}}`, Config{})
	q := request()
	for name, s := range map[string]*Scope{"unrestricted": plain, "restricted": bound} {
		if got := testing.AllocsPerRun(100, func() {
			if refusal := s.Check(q); refusal != nil {
				t.Errorf("%+v", refusal)
			}
		}); got > 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	q.Server = "tickets"
	if got := testing.AllocsPerRun(100, func() { bound.Check(q) }); got > 0 {
		t.Errorf("refused: %v allocations", got)
	}
}
