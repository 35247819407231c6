package scope

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// behaviour.md section 2.4, with the names that its harness tried, W-05.
func TestServer(t *testing.T) {
	s := scoped(t, `"server_id":"abc"`)
	if !s.ServerScoped() || !s.AllowsServer("abc") {
		t.Error("the token's own server is refused")
	}
	for _, name := range []string{"", "abd", "def", "ABC", "Abc", "%61bc", "abc/", "/abc", "abc/mcp", "abc/../def", "abcd", "ab", " abc", "abc ", "*"} {
		if s.AllowsServer(name) {
			t.Errorf("%q is allowed", name)
		}
	}
	for _, name := range []string{"*", "a*", "..", " "} {
		if s := scoped(t, `"server_id":"`+name+`"`); !s.ServerScoped() || s.AllowsServer("abc") || !s.AllowsServer(name) {
			t.Errorf("the server %q is more than a name", name)
		}
	}
	if s := scoped(t, `"server_id":null`); s.ServerScoped() || !s.AllowsServer("abc") {
		t.Error("null restricts")
	}
	for _, value := range []string{`""`, `0`, `1`, `true`, `false`, `[]`, `["abc"]`, `{}`, `{"id":"abc"}`} {
		refuses(t, `{"scopes":{"server_id":`+value+`}}`, "scopes.server_id")
	}
}

// behaviour.md section 2.5: the list and its grant test.
func TestPermissions(t *testing.T) {
	for list, want := range map[string]string{
		`"*"`:                             "all",
		`"a2a.read","*"`:                  "all",
		``:                                "",
		`"servers.use"`:                   "servers.use",
		`"servers.*"`:                     "servers.use",
		`"servers.read"`:                  "",
		`"tools.read"`:                    "servers.use tools.read",
		`"tools.execute"`:                 "servers.use tools.read tools.execute",
		`"tools.*"`:                       "servers.use tools.read tools.execute",
		`"tools.create"`:                  "servers.use", // any of the category opens a transport
		`"tools.preview","tools.create"`:  "servers.use",
		`"resources.read"`:                "servers.use resources.read",
		`"resources.subscribe"`:           "servers.use resources.subscribe",
		`"resources.*"`:                   "servers.use resources.read resources.subscribe",
		`"prompts.execute"`:               "servers.use prompts.read prompts.execute",
		`"prompts.read","prompts.read"`:   "servers.use prompts.read",
		`"completions.use"`:               "servers.use completions.use",
		`"logging.write"`:                 "servers.use logging.write",
		`"tasks.*"`:                       "servers.use tasks.read tasks.write",
		`"client.sampling"`:               "servers.use client.sampling",
		`"tools.read","a2a.invoke"`:       "servers.use tools.read",
		`"a2a.invoke","a2a.*"`:            "",
		`"admin.system_config","admin.*"`: "",
		`"admin.oauth_clients:delete"`:    "",
		`"metrics:read","audit:read"`:     "",
		`"tools:read"`:                    "", // the colon makes another name
		`"tools.read_all","toolsx.read"`:  "servers.use",
		`"toolsx.read","mytools.execute"`: "",
		`"tool.*","server.*","task.*"`:    "",
	} {
		s := scoped(t, `"permissions":[`+list+`]`)
		var names []string
		for _, p := range mcp.Permissions() {
			if s.Permits(Of(p)) {
				names = append(names, p.String())
			}
			if (s.Permit(Of(p)) == nil) != s.Permits(Of(p)) {
				t.Errorf("[%s]: Permit and Permits differ on %s", list, p)
			}
		}
		got := strings.Join(names, " ")
		if len(names) == len(mcp.Permissions()) {
			got = "all"
		}
		if got != want {
			t.Errorf("[%s] gives %q, want %q", list, got, want)
		}
	}
}

// All permissions of ContextForge are legal, and those that are also ours are the same.
func TestVocabularyOfTheReference(t *testing.T) {
	const names = `a2a.create a2a.delete a2a.invoke a2a.read a2a.update admin.compliance admin.dashboard admin.events admin.export admin.grpc
		admin.import admin.metrics admin.oauth_clients:delete admin.oauth_clients:read admin.overview admin.plugins admin.security_audit
		admin.sso_providers:create admin.sso_providers:delete admin.sso_providers:read admin.sso_providers:update admin.system_config
		admin.user_management gateways.create gateways.delete gateways.read gateways.update llm.invoke llm.read plugins.read prompts.create
		prompts.delete prompts.execute prompts.read prompts.update resources.create resources.delete resources.read resources.share
		resources.update servers.create servers.delete servers.manage servers.read servers.update servers.use tags.create tags.delete tags.read
		tags.update teams.create teams.delete teams.join teams.manage_members teams.read teams.update tokens.create tokens.read tokens.revoke
		tokens.update tools.create tools.delete tools.execute tools.manage_plugins tools.preview tools.read tools.update users.create
		users.delete users.invite users.read users.update audit:read logs:read metrics:read security:read`
	fields := strings.Fields(names)
	if len(fields) != 76 {
		t.Fatalf("there are %d names", len(fields))
	}
	for _, name := range fields {
		set, ok := parsePermission(name)
		if !ok {
			t.Errorf("%s is refused", name)
		}
		if p, known := mcp.ParsePermission(name); known != set.Has(Of(p)) {
			t.Errorf("%s gives %v", name, set.List())
		}
	}
}

// behaviour.md sections 2.5 and 2.9, W-17: a text was searched for parts of names,
// null crashed, a blank gave half of the permission.
func TestPermissionsMalformed(t *testing.T) {
	for _, value := range []string{`null`, `"*"`, `"servers.read,*"`, `"tools.read"`, `""`, `{}`, `{"tools.read":true}`, `0`, `1`, `true`, `false`} {
		refuses(t, `{"scopes":{"permissions":`+value+`}}`, "scopes.permissions")
	}
	for _, element := range []string{
		`null`, `1`, `true`, `[]`, `["tools.read"]`, `{}`, `""`, `" "`, `"tools.read "`, `" tools.read"`, `"tools"`, `"tools."`, `".read"`,
		`"."`, `":"`, `"*.*"`, `"*.read"`, `"tools*"`, `"tools.re*"`, `"tools.**"`, `"**"`, `"tools.read,*"`, `"tools.read *"`, `"Tools.read"`,
		`"TOOLS.READ"`, `"tools.Read"`, `"tools..read"`, `"tools.read.all"`, `"tools:*"`, `"tools.read:"`, `"tools.read:*"`, `"tools/read"`,
		`"tools.read\u0000"`, `"tools.rea\u200bd"`, `"t\u043eols.read"`, `"1tools.read"`, `"!tools.read"`, `"-.read"`, `"tools._"`, `"a:b:c"`, `"a:b.c"`,
	} {
		refuses(t, `{"scopes":{"permissions":[`+element+`]}}`, "scopes.permissions")
		refuses(t, `{"scopes":{"permissions":["*",`+element+`]}}`, "scopes.permissions")
	}
}

// peers.md section 5.1: an empty list of permissions meant everything.
func TestEmptyPermissions(t *testing.T) {
	const text = `{"scopes":{"permissions":[]}}`
	for _, mode := range []string{"", EmptyDeny} {
		if s := parse(t, text, Config{EmptyPermissions: mode}); s.Check(request()) != refusedPermission {
			t.Errorf("%q: an empty list permits something", mode)
		}
	}
	s := parse(t, text, Config{EmptyPermissions: EmptyInherit})
	if s.Permit(allPermissions) != nil {
		t.Error("inherit restricts")
	}
	// Only an empty list is inherited.
	if s := parse(t, `{"scopes":{"permissions":["a2a.read"]}}`, Config{EmptyPermissions: EmptyInherit}); s.Permits(useServer) {
		t.Error("a list without a known permission is taken for an empty one")
	}
}

func TestNeed(t *testing.T) {
	s := parse(t, `{}`, Config{})
	for _, need := range []Permissions{0, Of(), Of(mcp.PermissionNone), Of(mcp.PermissionCount), Of(255), Of(mcp.ToolsRead, mcp.PermissionNone), Of(mcp.ToolsRead, mcp.PermissionCount), 1 << 31} {
		if s.Permits(need) || s.Permit(need) == nil {
			t.Errorf("%b is permitted", need)
		}
	}
	if got := Of(mcp.ToolsExecute, mcp.ServersUse).List(); len(got) != 2 || got[0] != mcp.ServersUse || got[1] != mcp.ToolsExecute {
		t.Errorf("List gives %v", got)
	}
	s = scoped(t, `"permissions":["tools.read"]`)
	if !s.Permits(Of(mcp.ToolsRead, mcp.ServersUse)) || s.Permits(Of(mcp.ToolsRead, mcp.PromptsRead)) {
		t.Error("all that is needed has to be permitted")
	}
}

// behaviour.md section 2.6, W-15.
func TestAddresses(t *testing.T) {
	for _, row := range []struct {
		list, addr string
		want       bool
	}{
		{``, "192.0.2.1", true},
		{``, "", true},
		{`"192.0.2.1"`, "192.0.2.1", true},
		{`"192.0.2.1"`, "192.0.2.2", false},
		{`"192.0.2.1"`, "", false}, // an unknown address
		{`"192.0.2.1"`, "::ffff:192.0.2.1", true},
		{`"::ffff:192.0.2.1"`, "192.0.2.1", true},
		{`"::ffff:c000:201"`, "::ffff:192.0.2.1", true},
		{`" 192.0.2.1 "`, "192.0.2.1", true},
		{`" 192.0.2.0/24"`, "192.0.2.1", true},
		{`"192.0.2.77/24"`, "192.0.2.1", true}, // host bits
		{`"192.0.2.0/24"`, "192.0.3.1", false},
		{`"::ffff:192.0.2.0/120"`, "192.0.2.9", true},
		{`"::ffff:192.0.2.0/120"`, "192.0.3.9", false},
		{`"::ffff:0:0/96"`, "192.0.3.9", true},
		{`"0.0.0.0/0"`, "192.0.2.1", true},
		{`"0.0.0.0/0"`, "2001:db8::1", false},
		{`"::/0"`, "2001:db8::1", true},
		{`"::/0"`, "192.0.2.1", false},
		{`"::ffff:0:0/95"`, "192.0.2.1", false},
		{`"::ffff:0:0/95"`, "::fffe:0:1", true},
		{`"2001:db8::/32"`, "2001:db8::1", true},
		{`"2001:DB8:0::1"`, "2001:db8::1", true},
		{`"fe80::/10"`, "fe80::1%eth0", true},
		{`"10.0.0.1","2001:db8::/32","192.0.2.0/24"`, "192.0.2.1", true}, // any of them
		{`"10.0.0.1","2001:db8::/32"`, "192.0.2.1", false},
	} {
		addr := netip.Addr{}
		if row.addr != "" {
			addr = netip.MustParseAddr(row.addr)
		}
		if got := scoped(t, `"ip_restrictions":[`+row.list+`]`).AllowsAddress(addr); got != row.want {
			t.Errorf("[%s] with %q: %v", row.list, row.addr, got)
		}
	}
	for _, value := range []string{`null`, `"192.0.2.1"`, `""`, `{}`, `1`, `true`} {
		refuses(t, `{"scopes":{"ip_restrictions":`+value+`}}`, "scopes.ip_restrictions")
	}
	for _, element := range []string{
		`null`, `1`, `3221225985`, `[]`, `""`, `" "`, `"*"`, `"any"`, `"localhost"`, `"192.0.2"`, `"192.0.2.256"`, `"192.0.2.1/33"`, `"192.0.2.1/-1"`,
		`"192.0.2.1/"`, `"192.0.2.1/024"`, `"192.0.2.0/255.255.255.0"`, `"192.0.02.1"`, `"0x7f.1"`, `"192.0.2.1:80"`, `"[::1]"`, `"fe80::1%eth0"`,
		`"fe80::%eth0/10"`, `"192.0.2.1-192.0.2.9"`, `"192.0.2.1,192.0.2.2"`, `"192.0.2.1 /24"`, `"192.0.2.1\n"`,
	} {
		refuses(t, `{"scopes":{"ip_restrictions":[`+element+`]}}`, "scopes.ip_restrictions")
		refuses(t, `{"scopes":{"ip_restrictions":["192.0.2.1",`+element+`]}}`, "scopes.ip_restrictions") // never skipped
	}
}

// behaviour.md section 2.7, both forms. 2026-01-14 is a Wednesday.
func TestTimes(t *testing.T) {
	const day = `"start_time":"09:00","end_time":"17:00"`
	const night = `"start_time":"22:00","end_time":"06:00"`
	for _, row := range []struct {
		members, now string
		want         bool
	}{
		{``, "2026-01-14T03:00:00Z", true},
		{day, "2026-01-14T09:00:00Z", true},
		{day, "2026-01-14T08:59:59.999999999Z", false},
		{day, "2026-01-14T17:00:00Z", true},
		{day, "2026-01-14T17:00:00.000000001Z", false},
		{day, "2026-01-14T17:00:01Z", false},
		{day, "2026-01-14T12:00:00+05:00", false}, // 07:00 in UTC
		{`"start_time":"9:00","end_time":"17:00:30"`, "2026-01-14T17:00:30Z", true},
		{`"start_time":"09:00:30","end_time":"17:00"`, "2026-01-14T09:00:29Z", false},
		{night, "2026-01-14T22:00:00Z", true},
		{night, "2026-01-14T23:59:59.9Z", true},
		{night, "2026-01-14T00:00:00Z", true},
		{night, "2026-01-14T06:00:00Z", true},
		{night, "2026-01-14T06:00:01Z", false},
		{night, "2026-01-14T21:59:59Z", false},
		{`"start_time":"12:00","end_time":"12:00"`, "2026-01-14T12:00:00Z", true},
		{`"start_time":"12:00","end_time":"12:00"`, "2026-01-14T12:00:01Z", false},
		{`"start_time":"00:00","end_time":"23:59:59"`, "2026-01-14T12:00:00Z", true},
		{day + `,"timezone":"America/New_York"`, "2026-01-14T14:00:00Z", true}, // 09:00 in winter
		{day + `,"timezone":"America/New_York"`, "2026-01-14T13:59:59Z", false},
		{day + `,"timezone":"America/New_York"`, "2026-07-15T13:00:00Z", true}, // 09:00 in summer
		{day + `,"timezone":"UTC"`, "2026-01-14T09:00:00Z", true},
		{day + `,"timezone":"Asia/Kathmandu"`, "2026-01-14T03:15:00Z", true},
		{`"days":["Wednesday"]`, "2026-01-14T00:00:00Z", true},
		{`"days":["Wednesday"]`, "2026-01-15T00:00:00Z", false},
		{`"days":["Monday","Thursday","Monday"]`, "2026-01-15T00:00:00Z", true},
		{`"days":["Thursday"],"timezone":"Pacific/Auckland"`, "2026-01-14T12:00:00Z", true}, // it is Thursday there
		{`"days":["Wednesday"],"timezone":"Pacific/Auckland"`, "2026-01-14T12:00:00Z", false},
		{night + `,"days":["Wednesday"]`, "2026-01-14T23:00:00Z", true},
		{night + `,"days":["Wednesday"]`, "2026-01-15T01:00:00Z", false}, // the next day
		{night + `,"days":["Wednesday"]`, "2026-01-14T01:00:00Z", true},
		{`"business_hours_only":true`, "2026-01-14T09:00:00Z", true},
		{`"business_hours_only":true`, "2026-01-14T08:59:59Z", false},
		{`"business_hours_only":true`, "2026-01-14T16:59:59.999Z", true},
		{`"business_hours_only":true`, "2026-01-14T17:00:00Z", false},
		{`"business_hours_only":true`, "2026-01-17T12:00:00Z", true}, // a Saturday
		{`"business_hours_only":false`, "2026-01-14T03:00:00Z", true},
		{`"weekdays_only":true`, "2026-01-16T23:59:59Z", true},
		{`"weekdays_only":true`, "2026-01-17T00:00:00Z", false},
		{`"weekdays_only":true`, "2026-01-18T12:00:00Z", false},
		{`"weekdays_only":true`, "2026-01-19T00:00:00Z", true},
		{`"weekdays_only":false,"business_hours_only":false`, "2026-01-18T03:00:00Z", true},
		{`"weekdays_only":true,"business_hours_only":true`, "2026-01-17T12:00:00Z", false},
		{`"weekdays_only":true,"business_hours_only":true`, "2026-01-16T18:00:00Z", false},
		{`"weekdays_only":true,"business_hours_only":true`, "2026-01-16T12:00:00+00:00", true},
		{day + `,"weekdays_only":true`, "2026-01-17T12:00:00Z", false}, // all parts hold
		{day + `,"weekdays_only":true`, "2026-01-16T08:00:00Z", false},
		{night + `,"business_hours_only":true`, "2026-01-16T12:00:00Z", false},
		{`"business_hours_only":true,"days":["Thursday"],"timezone":"Pacific/Auckland"`, "2026-01-14T12:00:00Z", true}, // the hours are of UTC
	} {
		now, err := time.Parse(time.RFC3339Nano, row.now)
		if err != nil {
			t.Fatal(err)
		}
		s := scoped(t, `"time_restrictions":{`+row.members+`}`)
		if got := s.AllowsTime(now); got != row.want {
			t.Errorf("{%s} at %s: %v", row.members, row.now, got)
		}
		q := request()
		q.Now = now
		if refusal := s.Check(q); (refusal == nil) != row.want || refusal != nil && refusal.Status != 403 {
			t.Errorf("{%s} at %s: %+v", row.members, row.now, refusal) // always 403
		}
	}
}

// The malformed rows of behaviour.md section 2.7, W-14: misspelt and incomplete
// restrictions restricted nothing.
func TestTimesMalformed(t *testing.T) {
	const claim = "scopes.time_restrictions"
	for _, value := range []string{`null`, `[]`, `""`, `"09:00-17:00"`, `0`, `1`, `true`, `false`} {
		refuses(t, `{"scopes":{"time_restrictions":`+value+`}}`, claim)
	}
	for _, members := range []string{
		`"start_time":"09:00"`, `"end_time":"17:00"`, `"start_time":"09:00","days":["Monday"]`, `"timezone":"UTC"`,
		`"timezone":"UTC","business_hours_only":true`,
		`"start":"09:00","end":"17:00"`, `"startTime":"09:00","endTime":"17:00"`, `"Start_time":"09:00","End_time":"17:00"`, `"day":["Monday"]`, `"weekday_only":true`,
		`"start_time":"09:00","end_time":"17:00","x":1`, `"weekdays_only":true,"":1`,
	} {
		refuses(t, `{"scopes":{"time_restrictions":{`+members+`}}}`, claim)
	}
	for _, value := range []string{
		`null`, `9`, `900`, `true`, `[]`, `{}`, `""`, `"9"`, `"09"`, `"0900"`, `"25:00"`, `"24:00"`, `"09:60"`, `"09:00:60"`, `"09:00:00:00"`, `"09:0"`, `"009:00"`, `"-9:00"`,
		`"+9:00"`, `" 09:00"`, `"09:00 "`, `"9am"`, `"09:00Z"`, `"09:00+01:00"`, `"09:00:00.5"`, `"0x:00"`, `"1_:00"`, `":00"`, `"09:"`, `"٠٩:٠٠"`,
	} {
		refuses(t, `{"scopes":{"time_restrictions":{"start_time":`+value+`,"end_time":"17:00"}}}`, claim+".start_time")
		refuses(t, `{"scopes":{"time_restrictions":{"start_time":"09:00","end_time":`+value+`}}}`, claim+".end_time")
	}
	for _, value := range []string{
		`null`, `""`, `0`, `true`, `["UTC"]`, `"Local"`, `"local"`, `"Mars/Olympus"`, `"../../etc/passwd"`, `"/etc/localtime"`, `"UTC+1"`, `"+01:00"`, `"UTC\u0000"`,
	} {
		refuses(t, `{"scopes":{"time_restrictions":{"start_time":"09:00","end_time":"17:00","timezone":`+value+`}}}`, claim+".timezone")
	}
	for _, value := range []string{
		`null`, `"Monday"`, `[]`, `{}`, `1`, `[1]`, `[null]`, `["monday"]`, `["Mon"]`, `["MONDAY"]`, `["Monday "]`, `["Montag"]`, `["Monday","x"]`, `["Monday,Tuesday"]`,
	} {
		refuses(t, `{"scopes":{"time_restrictions":{"days":`+value+`}}}`, claim+".days")
	}
	for _, value := range []string{`null`, `"true"`, `"false"`, `1`, `0`, `[]`, `{}`} {
		refuses(t, `{"scopes":{"time_restrictions":{"business_hours_only":`+value+`}}}`, claim+".business_hours_only")
		refuses(t, `{"scopes":{"time_restrictions":{"weekdays_only":`+value+`}}}`, claim+".weekdays_only")
	}
}

// Zones are known on a machine that has no files about them.
func TestZonesAreEmbedded(t *testing.T) {
	t.Setenv("ZONEINFO", t.TempDir())
	zone, ok := location("Antarctica/Troll")
	if !ok || zone.String() != "Antarctica/Troll" {
		t.Error("the zone is not known")
	}
}

// behaviour.md section 2.8, strictly.
func TestUsageLimits(t *testing.T) {
	for members, want := range map[string]Limits{
		``:                       {},
		`"requests_per_hour":1`:  {PerHour: 1},
		`"requests_per_day":1e3`: {PerDay: 1000},
		`"requests_per_hour":10,"requests_per_day":100`: {10, 100},
		`"requests_per_day":9007199254740991`:           {PerDay: 1<<32 - 1},
	} {
		if got := scoped(t, `"usage_limits":{`+members+`}`).Limits(); got != want {
			t.Errorf("{%s}: %+v", members, got)
		}
	}
	for _, value := range []string{`null`, `[]`, `""`, `"10"`, `10`, `true`} {
		refuses(t, `{"jti":"1","scopes":{"usage_limits":`+value+`}}`, "scopes.usage_limits")
	}
	for _, member := range []string{`"requests_per_minute":1`, `"requests":1`, `"Requests_per_hour":1`, `"":1`} {
		refuses(t, `{"jti":"1","scopes":{"usage_limits":{`+member+`}}}`, "scopes.usage_limits")
	}
	for _, value := range []string{`null`, `"10"`, `""`, `0`, `-0`, `-1`, `0.5`, `1.5`, `9007199254740992`, `1e300`, `true`, `[]`, `[1]`, `{}`} {
		refuses(t, `{"jti":"1","scopes":{"usage_limits":{"requests_per_hour":`+value+`}}}`, "scopes.usage_limits.requests_per_hour")
		refuses(t, `{"jti":"1","scopes":{"usage_limits":{"requests_per_day":`+value+`}}}`, "scopes.usage_limits.requests_per_day")
	}
	// Without a jti there is nothing to count by, which ContextForge took for no limit.
	for _, id := range []string{`"x":1`, `"jti":null`, `"jti":""`, `"jti":1`} {
		refuses(t, `{`+id+`,"scopes":{"usage_limits":{"requests_per_day":1}}}`, "scopes.usage_limits")
	}
}
