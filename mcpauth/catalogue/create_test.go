package catalogue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// people are an administrator; alice, who owns the team red, and bob, who is of it; and
// carol, who is of the teams red and blue.
func people(n *node) {
	n.user("admin@example.com", true)
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		n.user(name+"@example.com", false)
	}
	n.team("red", "alice@example.com", "bob@example.com", "carol@example.com")
	n.team("blue", "carol@example.com")
	n.holds("alice@example.com", Held{Permissions: scope.Of(mcp.ToolsExecute, mcp.ToolsRead, mcp.ServersUse)})
	n.holds("bob@example.com", Held{Permissions: scope.Of(mcp.ToolsRead, mcp.ServersUse)})
	n.holds("carol@example.com", Held{Every: true})
}

// TestCreate: each rule of behaviour.md section 4.4, and what becomes of a token.
func TestCreate(t *testing.T) {
	n := newNode(t, embeddedStore(t), Config{})
	people(n)
	if _, err := n.users.Create(t.Context(), tester, account.NewUser{Email: "gone@example.com", Password: password}); err != nil {
		t.Fatal(err)
	}
	in := map[string]Caller{}
	for _, name := range []string{"admin", "alice", "bob", "carol", "dave"} {
		in[name] = n.in(name + "@example.com")
	}
	for name, tc := range map[string]struct {
		by     string
		change func(*NewToken)
		want   string
		team   string
		names  string
	}{
		"plain":                   {by: "dave"},
		"no name":                 {"dave", func(k *NewToken) { k.Name = "" }, "name_invalid", "", ""},
		"long name":               {"dave", func(k *NewToken) { k.Name = strings.Repeat("ä", 256) }, "name_invalid", "", ""},
		"longest name":            {by: "dave", change: func(k *NewToken) { k.Name = strings.Repeat("ä", 255) }},
		"longest name of slashes": {by: "dave", change: func(k *NewToken) { k.Name = strings.Repeat("/", 255) }},
		"control in name":         {"dave", func(k *NewToken) { k.Name = "a\nb" }, "name_invalid", "", ""},
		"direction in name":       {"dave", func(k *NewToken) { k.Name = "a\u202eb" }, "name_invalid", "", ""},
		"space around name":       {"dave", func(k *NewToken) { k.Name = "a " }, "name_invalid", "", ""},
		"long description":        {"dave", func(k *NewToken) { k.Description = strings.Repeat("a", 1001) }, "description_invalid", "", ""},
		"empty tag":               {"dave", func(k *NewToken) { k.Tags = []string{""} }, "tags_invalid", "", ""},
		"many tags":               {"dave", func(k *NewToken) { k.Tags = make([]string, 51) }, "tags_invalid", "", ""},
		"no days":                 {"dave", func(k *NewToken) { k.Days = 0 }, "expiry_invalid", "", ""},
		"negative days":           {"dave", func(k *NewToken) { k.Days = -1 }, "expiry_invalid", "", ""},
		"most days":               {by: "dave", change: func(k *NewToken) { k.Days = 90 }},
		"too many days":           {"dave", func(k *NewToken) { k.Days = 91 }, "expiry_max", "", ""},
		"overflow of days":        {"dave", func(k *NewToken) { k.Days = 1 << 60 }, "expiry_max", "", ""},

		"for oneself":                      {by: "dave", change: func(k *NewToken) { k.User = "DAVE@example.com" }},
		"for somebody else":                {"dave", func(k *NewToken) { k.User = "bob@example.com" }, "admin_required", "", ""},
		"for nobody, by a user":            {"dave", func(k *NewToken) { k.User = "nobody@example.com" }, "admin_required", "", ""},
		"delegated":                        {by: "admin", change: func(k *NewToken) { k.User = "bob@example.com" }},
		"delegated to nobody":              {"admin", func(k *NewToken) { k.User = "nobody@example.com" }, "user_unknown", "", ""},
		"delegated to what is no address":  {"admin", func(k *NewToken) { k.User = "x" }, "user_unknown", "", ""},
		"delegated to an inactive one":     {"admin", func(k *NewToken) { k.User = "gone@example.com" }, "user_unknown", "", ""},
		"delegated, team of neither":       {"admin", func(k *NewToken) { k.User, k.Team = "dave@example.com", new("red") }, "team_invalid", "", ""},
		"delegated, team of the user only": {"admin", func(k *NewToken) { k.User, k.Team = "bob@example.com", new("red") }, "team_invalid", "", ""},

		"team of the session":        {by: "bob", team: "red"},
		"no team, on purpose":        {by: "bob", change: func(k *NewToken) { k.Team = new("") }},
		"several teams":              {by: "carol"},
		"one of them":                {by: "carol", change: func(k *NewToken) { k.Team = new("blue") }, team: "blue"},
		"team of others":             {"bob", func(k *NewToken) { k.Team = new("blue") }, "team_invalid", "", ""},
		"no such team":               {"carol", func(k *NewToken) { k.Team = new("green") }, "team_invalid", "", ""},
		"what is no team":            {"carol", func(k *NewToken) { k.Team = new("a/b") }, "team_invalid", "", ""},
		"team of others, holding *":  {"carol", func(k *NewToken) { k.Team = new("green") }, "team_invalid", "", ""},
		"any team for administrator": {by: "admin", change: func(k *NewToken) { k.Team = new("red") }, team: "red"},
		"no such team for admin":     {"admin", func(k *NewToken) { k.Team = new("green") }, "team_invalid", "", ""},

		"held":                          {by: "alice", change: permits("tools.execute"), names: "tools.execute servers.use", team: "red"},
		"held, implied":                 {by: "alice", change: permits("tools.read", "servers.use"), names: "tools.read servers.use", team: "red"},
		"only servers.use":              {by: "bob", change: permits("servers.use"), names: "servers.use", team: "red"},
		"not held":                      {"bob", permits("tools.execute"), "permission_not_held", "", ""},
		"one of two not held":           {"bob", permits("tools.read", "prompts.read"), "permission_not_held", "", ""},
		"nothing held":                  {"dave", permits("tools.read"), "permission_not_held", "", ""},
		"* not held":                    {"alice", permits("*"), "permission_not_held", "", ""},
		"* held":                        {by: "carol", change: permits("*"), names: "*"},
		"* of an administrator":         {by: "admin", change: permits("*", "tools.read"), names: "* tools.read"},
		"unknown here, * not held":      {"alice", permits("a2a.invoke"), "permission_not_held", "", ""},
		"detail, * not held":            {"alice", permits("admin.oauth_clients:read"), "permission_not_held", "", ""},
		"colon, * not held":             {"alice", permits("audit:read"), "permission_not_held", "", ""},
		"unknown here, * held":          {by: "carol", change: permits("a2a.invoke", "admin.oauth_clients:read", "audit:read"), names: "a2a.invoke admin.oauth_clients:read audit:read"},
		"wildcard":                      {"carol", permits("tools.*"), "permission_wildcard", "", ""},
		"wildcard of another form":      {"carol", permits("tools:*"), "permission_wildcard", "", ""},
		"malformed permission":          {"carol", permits("Tools.read"), "scope_invalid", "", ""},
		"spaces":                        {"carol", permits(" tools.read"), "scope_invalid", "", ""},
		"empty permission":              {"carol", permits(""), "scope_invalid", "", ""},
		"empty list":                    {"carol", permits(), "permissions_empty", "", ""},
		"too many permissions":          {"carol", permits(make([]string, 101)...), "scope_too_large", "", ""},
		"admin's permissions delegated": {by: "admin", change: func(k *NewToken) { permits("prompts.execute")(k); k.User = "dave@example.com" }, names: "prompts.execute servers.use"},

		"addresses":         {by: "dave", change: func(k *NewToken) { k.Scope.IPRestrictions = []string{"192.0.2.0/24", "::1", "10.1.2.3/8"} }},
		"no addresses":      {by: "dave", change: func(k *NewToken) { k.Scope.IPRestrictions = []string{} }},
		"no address":        {"dave", func(k *NewToken) { k.Scope.IPRestrictions = []string{"192.0.2.0/33"} }, "scope_invalid", "", ""},
		"too many":          {"dave", func(k *NewToken) { k.Scope.IPRestrictions = make([]string, 101) }, "scope_too_large", "", ""},
		"server":            {by: "dave", change: func(k *NewToken) { k.Scope.ServerID = new("tickets") }},
		"empty server":      {"dave", func(k *NewToken) { k.Scope.ServerID = new("") }, "scope_invalid", "", ""},
		"long server":       {"dave", func(k *NewToken) { k.Scope.ServerID = new(strings.Repeat("a", 256)) }, "scope_too_large", "", ""},
		"times":             {by: "dave", change: times(TimeRestrictions{StartTime: new("09:00"), EndTime: new("17:00:30"), Timezone: new("Europe/Berlin"), Days: []string{"Monday"}})},
		"no times":          {by: "dave", change: times(TimeRestrictions{})},
		"one bound":         {"dave", times(TimeRestrictions{StartTime: new("09:00")}), "scope_invalid", "", ""},
		"no time of day":    {"dave", times(TimeRestrictions{StartTime: new("25:00"), EndTime: new("26:00")}), "scope_invalid", "", ""},
		"no zone":           {"dave", times(TimeRestrictions{Days: []string{"Monday"}, Timezone: new("Mars/Base")}), "scope_invalid", "", ""},
		"zone of nothing":   {"dave", times(TimeRestrictions{Timezone: new("UTC")}), "scope_invalid", "", ""},
		"no day":            {"dave", times(TimeRestrictions{Days: []string{"monday"}}), "scope_invalid", "", ""},
		"no days in a list": {"dave", times(TimeRestrictions{Days: []string{}}), "scope_invalid", "", ""},
		"business":          {by: "dave", change: times(TimeRestrictions{BusinessHoursOnly: new(true), WeekdaysOnly: new(false)})},
		"limits":            {by: "dave", change: limits(UsageLimits{RequestsPerHour: new(int64(1)), RequestsPerDay: new(int64(10))})},
		"no limits":         {by: "dave", change: limits(UsageLimits{})},
		"limit of none":     {"dave", limits(UsageLimits{RequestsPerHour: new(int64(0))}), "scope_invalid", "", ""},
		"negative limit":    {"dave", limits(UsageLimits{RequestsPerDay: new(int64(-5))}), "scope_invalid", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := simple(name)
			if tc.change != nil {
				tc.change(&asked)
			}
			made, raw, err := n.cat.Create(t.Context(), in[tc.by], asked)
			want(t, err, tc.want)
			if err != nil {
				if raw != "" || made.ID != "" {
					t.Error("there is a token all the same")
				}
				return
			}
			if made.TeamID != tc.team || strings.Join(made.ResourceScopes, " ") != tc.names {
				t.Errorf("got %+v", made)
			}
			entry, err := Records.Get(t.Context(), n.store, made.ID)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(raw))
			if entry.Data.Hash != hex.EncodeToString(sum[:]) || entry.Data.By != in[tc.by].ID || strings.Contains(string(entry.Value), raw) {
				t.Errorf("got %s", entry.Value)
			}
			if gap := entry.Expires.Sub(made.ExpiresAt); gap < kept-time.Second || gap > kept+time.Second {
				t.Errorf("the record is there for %s longer than the token is good", gap)
			}
			// The token is one that the request path takes, and says what the record does.
			claims, err := n.desk.Revoke(t.Context(), raw, "")
			if err != nil || claims == nil {
				t.Fatalf("the token is not good: %v", err)
			}
			if claims.TokenID != made.ID || !claims.Expires.Equal(made.ExpiresAt) || claims.Subject != entry.Data.UserID {
				t.Errorf("got %+v", claims)
			}
			for _, p := range mcp.Permissions() {
				if c, err := parse(entry.Data.Scopes, made.ID, gateway); err != nil || claims.Scope.Permits(scope.Of(p)) != c.permits(p) {
					t.Errorf("the token and its record differ about %s: %v", p, err)
				}
			}
			if tc.team == "" && (len(claims.Scope.Teams()) > 0 || claims.Scope.Unrestricted() != (in[tc.by].Admin && asked.User == "")) {
				t.Errorf("a personal token has the teams %v", claims.Scope.Teams())
			}
		})
	}
}

func permits(names ...string) func(*NewToken) {
	if names == nil {
		names = []string{}
	}
	return func(k *NewToken) { k.Scope.Permissions = names }
}

func times(r TimeRestrictions) func(*NewToken) {
	return func(k *NewToken) { k.Scope.TimeRestrictions = &r }
}

func limits(l UsageLimits) func(*NewToken) {
	return func(k *NewToken) { k.Scope.UsageLimits = &l }
}

// TestNarrowed: an administrator whose session was made when they were none.
func TestNarrowed(t *testing.T) {
	n := newNode(t, embeddedStore(t), Config{})
	people(n)
	bob := n.in("bob@example.com")
	if _, err := n.users.Update(t.Context(), tester, "bob@example.com", account.Update{Admin: new(true)}); err != nil {
		t.Fatal(err)
	}
	bob.Admin = true
	asked := simple("ci")
	asked.User = "dave@example.com"
	_, _, err := n.cat.Create(t.Context(), bob, asked)
	want(t, err, "admin_narrowed")
	if err.Error() != "Admin-delegated token creation requires un-narrowed admin access. Your session is narrowed to specific teams." {
		t.Errorf("got %v", err)
	}
	_, err = n.cat.All(t.Context(), bob, "", "", 0)
	want(t, err, "admin_narrowed")
	want(t, n.cat.RevokeAny(t.Context(), bob, strings.Repeat("A", 26), ""), "admin_narrowed")
	asked.User, asked.Team = "", new("blue")
	_, _, err = n.cat.Create(t.Context(), bob, asked)
	want(t, err, "team_invalid")
	if made := n.make(bob, simple("ci")); made.TeamID != "red" {
		t.Errorf("the team is %q", made.TeamID)
	}
}

// TestNames: a name is had by one active token of a user in a team, however many ask for
// it at the same time and wherever.
func TestNames(t *testing.T) {
	eachStore(t, func(t *testing.T, one, two *node) {
		people(one)
		carol := one.in("carol@example.com")
		var racing sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			racing.Go(func() {
				n := one
				if i%2 == 1 {
					n = two
				}
				_, _, errs[i] = n.cat.Create(t.Context(), carol, simple("ci"))
			})
		}
		racing.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else {
				want(t, err, "name_taken")
			}
		}
		page, err := two.cat.List(t.Context(), carol, Filter{Inactive: true})
		if err != nil || made != 1 || page.Total != 1 {
			t.Fatalf("%d were made, %d are there: %v", made, page.Total, err)
		}
		first := page.Tokens[0]

		// Another team, another user, an inactive one, and a name in other letters are
		// something else.
		other := simple("ci")
		other.Team = new("blue")
		one.make(carol, other)
		one.make(one.in("bob@example.com"), simple("ci"))
		one.make(carol, simple("CI"))
		idle := simple("ci")
		idle.Active = false
		second := one.make(carol, idle)
		_, err = one.cat.Update(t.Context(), carol, second.ID, Update{Active: new(true)})
		want(t, err, "name_taken")
		_, err = one.cat.Update(t.Context(), carol, second.ID, Update{Active: new(true), Name: new("cd")})
		want(t, err, "")
		_, err = one.cat.Update(t.Context(), carol, second.ID, Update{Name: new("ci")})
		want(t, err, "name_taken")
		// A name is free again when its token is not active, has another, or is revoked.
		_, err = two.cat.Update(t.Context(), carol, first.ID, Update{Active: new(false)})
		want(t, err, "")
		_, err = one.cat.Update(t.Context(), carol, second.ID, Update{Name: new("ci")})
		want(t, err, "")
		one.make(carol, simple("cd"))
		want(t, two.cat.Revoke(t.Context(), carol, second.ID, ""), "")
		_, err = one.cat.Update(t.Context(), carol, first.ID, Update{Active: new(true)})
		want(t, err, "")
		// To revoke what has lost its name takes it from nobody.
		want(t, two.cat.Revoke(t.Context(), carol, second.ID, ""), "")
		_, _, err = one.cat.Create(t.Context(), carol, simple("ci"))
		want(t, err, "name_taken")
	})
}

// TestNamesAwake: of tokens with one name that are made active at the same time, one is.
func TestNamesAwake(t *testing.T) {
	eachStore(t, func(t *testing.T, one, two *node) {
		people(one)
		carol := one.in("carol@example.com")
		ids := make([]string, 10)
		for i := range ids {
			idle := simple("ci")
			idle.Active = false
			ids[i] = one.make(carol, idle).ID
		}
		var racing sync.WaitGroup
		errs := make([]error, len(ids))
		for i, id := range ids {
			racing.Go(func() {
				n := one
				if i%2 == 1 {
					n = two
				}
				_, errs[i] = n.cat.Update(t.Context(), carol, id, Update{Active: new(true)})
			})
		}
		racing.Wait()
		awake := 0
		for _, err := range errs {
			if err == nil {
				awake++
			} else {
				want(t, err, "name_taken")
			}
		}
		page, err := two.cat.List(t.Context(), carol, Filter{})
		if err != nil || awake != 1 || page.Total != 1 {
			t.Errorf("%d were made active, %d are: %v", awake, page.Total, err)
		}
	})
}

// TestFull: there are never more tokens than there may be, however many ask at the same
// time; those that are over make no room at once.
func TestFull(t *testing.T) {
	store := embeddedStore(t)
	one, two := newNode(t, store, Config{MaxPerUser: 3}), newNode(t, store, Config{MaxPerUser: 3})
	people(one)
	dave := one.in("dave@example.com")
	var racing sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		racing.Go(func() {
			n := one
			if i%2 == 1 {
				n = two
			}
			_, _, errs[i] = n.cat.Create(t.Context(), dave, simple(string(rune('a'+i))))
		})
	}
	racing.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			want(t, err, "tokens_full")
		}
	}
	if made != 3 {
		t.Errorf("%d were made", made)
	}
	page, err := one.cat.List(t.Context(), dave, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, one.cat.Revoke(t.Context(), dave, page.Tokens[0].ID, ""), "")
	_, _, err = one.cat.Create(t.Context(), dave, simple("late"))
	want(t, err, "tokens_full")
	one.make(one.in("bob@example.com"), simple("others"))
}

// TestUserEnds: nobody whose account is not active makes a token.
func TestUserEnds(t *testing.T) {
	n := newNode(t, embeddedStore(t), Config{})
	people(n)
	dave := n.in("dave@example.com")
	if _, err := n.users.Update(t.Context(), tester, "dave@example.com", account.Update{Active: new(false)}); err != nil {
		t.Fatal(err)
	}
	_, _, err := n.cat.Create(t.Context(), dave, simple("ci"))
	want(t, err, "user_unknown")
	for _, err := range Records.All(t.Context(), n.store) {
		t.Errorf("there is a record: %v", err)
	}
}

// TestStoreDown: an error of the store is nothing else.
func TestStoreDown(t *testing.T) {
	store := embeddedStore(t)
	n := newNode(t, store, Config{})
	people(n)
	dave := n.in("dave@example.com")
	made := n.make(dave, simple("ci"))
	broken := *n.cat
	broken.store = failing{store, func() error { return state.Unavailable(errors.New("cut off")) }}
	if _, err := broken.List(t.Context(), dave, Filter{}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := broken.Get(t.Context(), dave, made.ID); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := broken.Revoke(t.Context(), dave, made.ID, ""); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
