package catalogue

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// naive says in another way what a list of names permits: the text of behaviour.md
// section 2.5, name by name.
func naive(names []string, p mcp.Permission) bool {
	for _, name := range names {
		switch {
		case name == "*", name == p.String():
			return true
		case name == "tools.execute" && p == mcp.ToolsRead, name == "prompts.execute" && p == mcp.PromptsRead:
			return true
		case p == mcp.ServersUse:
			for _, category := range []string{"tools.", "resources.", "prompts.", "completions.", "logging.", "tasks.", "client."} {
				if strings.HasPrefix(name, category) {
					return true
				}
			}
		}
	}
	return false
}

// FuzzContained: whatever somebody asks for, the token that they get permits nothing that
// they do not hold; and its claim is read again as it was meant.
func FuzzContained(f *testing.F) {
	f.Add("tools.read,prompts.execute", uint32(0xffff), uint32(0), "tools.read")
	f.Add("*", uint32(1<<15-2), uint32(3), "")
	f.Add("a2a.invoke,tools.read", uint32(8), uint32(8), "*")
	f.Add("servers.use", uint32(2), uint32(0), "a.b:c")
	f.Add("tools.execute", uint32(1<<mcp.ToolsExecute|1<<mcp.ServersUse), uint32(0), "")
	f.Add("tools.read", uint32(1<<mcp.ToolsRead), uint32(0), "prompts.read")
	f.Add("tools.\u0000", uint32(2), uint32(0), ",")
	f.Fuzz(func(t *testing.T, text string, bits, every uint32, before string) {
		names := strings.Split(text, ",")
		held := Held{Every: every == 7, Permissions: scope.Permissions(bits) & everything}
		wanted, err := compile(Scope{Permissions: names}, "A", gateway)
		if err != nil {
			return
		}
		reread, err := parse(wanted.claim, "A", gateway)
		if err != nil {
			t.Fatalf("what was made is not read: %v", err)
		}
		var was *compiled
		if before != "" {
			if was, err = compile(Scope{Permissions: strings.Split(before, ",")}, "A", gateway); err != nil {
				was = nil
			}
		}
		allowed := held.covers(wanted, was) == nil
		for _, p := range mcp.Permissions() {
			permits := reread.permits(p)
			if permits != naive(names, p) {
				t.Errorf("%q: %s is %v", names, p, permits)
			}
			if !permits || !allowed || held.Every || held.Permissions.Has(scope.Of(p)) || was != nil && was.permits(p) {
				continue
			}
			t.Errorf("%q permits %s, which is not held", names, p)
		}
		if allowed && !held.Every {
			for _, name := range names {
				if _, known := mcp.ParsePermission(name); !known && (was == nil || !slices.Contains(was.names, name) && was.names != nil) {
					t.Errorf("%q was let through", name)
				}
			}
		}
		// Who holds all that a list comes to, and all of its names, can have it.
		if !allowed && !held.Every && was == nil {
			missing := false
			for _, p := range mcp.Permissions() {
				missing = missing || reread.permits(p) && !held.Permissions.Has(scope.Of(p))
			}
			for _, name := range names {
				_, known := mcp.ParsePermission(name)
				missing = missing || !known
			}
			if !missing {
				t.Errorf("%q was refused, and is held", names)
			}
		}
	})
}

var everything = scope.Of(mcp.Permissions()...)

// TestReadable: whatever scope is made, of parts that may be good or not, is refused or
// read by the parser of tokens; and read back, it is what was told.
func TestReadable(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 7))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	text := func(of ...string) *string {
		if random.IntN(2) == 0 {
			return nil
		}
		return new(pick(of...))
	}
	list := func(of ...string) []string {
		var l []string
		for range random.IntN(4) {
			l = append(l, pick(of...))
		}
		return l
	}
	number := func() *int64 {
		if random.IntN(2) == 0 {
			return nil
		}
		return new([]int64{-1, 0, 1, 60, 1 << 40, 1 << 60}[random.IntN(6)])
	}
	made := 0
	for range 20_000 {
		in := Scope{
			ServerID:       text("tickets", "crm", ""),
			Permissions:    list("tools.read", "tools.execute", "*", "a2a.read", "audit:read", "nonsense", "prompts.read"),
			IPRestrictions: list("192.0.2.1", "10.0.0.0/8", "::ffff:10.0.0.1", "x", " 192.0.2.7 "),
		}
		if random.IntN(2) == 0 {
			in.TimeRestrictions = &TimeRestrictions{
				StartTime: text("09:00", "9:00", "23:59:59", "24:00"), EndTime: text("17:00", "x"), Timezone: text("UTC", "Europe/Berlin", "", "Local"),
				Days: list("Monday", "Sunday", "Mon"),
			}
		}
		if random.IntN(2) == 0 {
			in.UsageLimits = &UsageLimits{number(), number()}
		}
		c, err := compile(in, "A", gateway)
		if err != nil {
			continue
		}
		made++
		if c.claim == nil {
			continue
		}
		var claim any
		if err := json.Unmarshal(c.claim, &claim); err != nil {
			t.Fatal(err)
		}
		for _, config := range []scope.Config{{}, {EmptyPermissions: scope.EmptyInherit, AbsentTeams: scope.AbsentPublic}} {
			s, err := scope.Parse(func(name string) (any, bool) {
				switch name {
				case "scopes":
					return claim, true
				case "jti":
					return "A", true
				}
				return nil, false
			}, nil, config)
			if err != nil {
				t.Fatalf("%s: %v", c.claim, err)
			}
			for _, p := range mcp.Permissions() {
				if s.Permits(scope.Of(p)) != (in.Permissions == nil || naive(in.Permissions, p)) {
					t.Fatalf("%s: %s", c.claim, p)
				}
			}
		}
		shown := show(&Record{Scopes: c.claim}, Record{}.Created)
		again, err := compile(Scope{
			ServerID: server(shown.ServerID), Permissions: shown.ResourceScopes, IPRestrictions: shown.IPRestrictions,
			TimeRestrictions: shown.TimeRestrictions, UsageLimits: shown.UsageLimits,
		}, "A", gateway)
		if err != nil || string(again.claim) != string(c.claim) {
			t.Fatalf("%s was told as %+v: %v", c.claim, shown, err)
		}
	}
	if made < 200 {
		t.Errorf("only %d were made", made)
	}
}

func server(name string) *string {
	if name == "" {
		return nil
	}
	return &name
}
