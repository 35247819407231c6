package scope

import (
	"math/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// generator makes valid claims and requests from so small a vocabulary that they
// meet often.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.Intn(len(from))] }

func (g generator) list(most int, from ...string) []any {
	list := []any{}
	for range g.Intn(most + 1) {
		list = append(list, g.pick(from...))
	}
	return list
}

var (
	someServers     = []string{"a", "b", "A", "a/b"}
	someTeams       = []string{"x", "y", "z"}
	somePermissions = []string{
		"*", "servers.use", "tools.read", "tools.execute", "tools.*", "tools.create", "a2a.read", "resources.read", "resources.*",
		"prompts.execute", "prompts.read", "client.*", "servers.*", "logging.write", "metrics:read", "admin.oauth_clients:read", "completions.use", "tasks.*",
	}
	someAddresses = []string{"192.0.2.1", "192.0.2.0/24", "::ffff:192.0.2.9", "2001:db8::/32", "2001:db8::1", "::/0", "0.0.0.0/0", " 10.0.0.0/8 ", "::ffff:10.0.0.0/104"}
	someDays      = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	someZones     = []string{"UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland"}
	someScopes    = []string{"mcp:read", "mcp:write", "mcp:tools.read", "mcp:prompts", "openid", "mcp:all", "mcp:servers"}
	someClients   = []string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.9", "2001:db8::1", "10.1.2.3", "203.0.113.5", "fe80::1%eth0", ""}
)

func (g generator) config() Config {
	return Config{
		AbsentTeams: g.pick("", AbsentUnrestricted, AbsentPublic), EmptyPermissions: g.pick("", EmptyDeny, EmptyInherit),
		ScopePermissions: g.Intn(3) == 0,
	}
}

func (g generator) member(name string) any {
	switch name {
	case "server_id":
		return g.pick(someServers...)
	case "permissions":
		return g.list(4, somePermissions...)
	case "ip_restrictions":
		return g.list(3, someAddresses...)
	case "usage_limits":
		return map[string]any{"requests_per_hour": float64(g.Intn(3) + 1)}
	}
	w := map[string]any{}
	for range g.Intn(3) {
		g.addTime(w)
	}
	if w["start_time"] != nil || w["days"] != nil {
		if g.Intn(2) == 0 {
			w["timezone"] = g.pick(someZones...)
		}
	}
	return w
}

// addTime adds one restriction to time_restrictions that it does not have.
func (g generator) addTime(w map[string]any) {
	switch name := g.pick("start_time", "days", "business_hours_only", "weekdays_only"); {
	case w[name] != nil:
	case name == "start_time":
		w["start_time"] = g.pick("09:00", "9:30", "22:00", "00:00:00", "12:00")
		w["end_time"] = g.pick("17:00", "06:00:30", "23:59:59", "12:00")
	case name == "days":
		w["days"] = append(g.list(3, someDays...), g.pick(someDays...))
	default:
		w[name] = g.Intn(3) > 0
	}
}

var membersOfScopes = []string{"server_id", "permissions", "ip_restrictions", "time_restrictions", "usage_limits"}

func (g generator) claims() map[string]any {
	claims := map[string]any{"iss": "https://a", "jti": "1"}
	switch g.Intn(5) {
	case 0:
		claims["teams"] = nil
	case 1:
		claims["teams"] = []any{}
	case 2, 3:
		claims["teams"] = append(g.list(2, someTeams...), map[string]any{"id": g.pick(someTeams...)})
	}
	switch g.Intn(4) {
	case 0:
		claims["is_admin"] = g.Intn(2) == 0
	case 1:
		claims["user"] = map[string]any{"is_admin": g.Intn(3) > 0, "email": "ann"}
	}
	if g.Intn(3) == 0 {
		claims["token_use"] = g.pick("api", "session", "access")
	}
	scopes := map[string]any{}
	for _, name := range membersOfScopes {
		if g.Intn(3) == 0 {
			scopes[name] = g.member(name)
		}
	}
	if len(scopes) > 0 || g.Intn(2) == 0 {
		claims["scopes"] = scopes
	}
	return claims
}

func (g generator) request() *Request {
	q := &Request{
		Server:     g.pick(someServers...),
		Visibility: Visibility(g.pick("public", "public", "team", "private", "", "user", "secret")),
		Team:       g.pick("x", "y", "z", ""), Owner: g.pick("ann", "bob", ""), Subject: g.pick("ann", "ann", ""),
		Now: noon.Add(time.Duration(g.Int63n(int64(14*24*time.Hour)/int64(30*time.Minute))) * 30 * time.Minute),
	}
	if addr, err := netip.ParseAddr(g.pick(someClients...)); err == nil {
		q.ClientIP = addr
	}
	for range g.Intn(2) + 1 {
		q.Need |= Of(mcp.Permission(g.Intn(int(mcp.PermissionCount))))
	}
	if g.Intn(2) == 0 {
		q.Need = useServer
	}
	return q
}

func (g generator) parse(t *testing.T, claims map[string]any, scopes []string, cfg Config) *Scope {
	t.Helper()
	if err := cfg.Provision(); err != nil {
		t.Fatal(err)
	}
	s, err := Parse(members2lookup(claims), scopes, cfg)
	if err != nil {
		t.Fatalf("%v: %v", claims, err)
	}
	return s
}

// allows leaves the usage out, about which there are tests of its own.
func allows(s *Scope, q *Request) bool { return s.Reach(q) == nil && s.Permit(q.Need) == nil }

func clone(t *testing.T, claims map[string]any) map[string]any {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// without takes the end off a list.
func (g generator) without(list []any) []any {
	return slices.Delete(slices.Clone(list), g.Intn(len(list)), len(list))
}

// restrict makes claims narrower in one way, or reports that this way is not open.
func (g generator) restrict(claims map[string]any, cfg Config) bool {
	scopes, _ := claims["scopes"].(map[string]any)
	teams, hasTeams := claims["teams"]
	list, _ := teams.([]any)
	user, _ := claims["user"].(map[string]any)
	admin := claims["is_admin"] == true || user["is_admin"] == true
	switch g.Intn(8) {
	case 0, 1: // a restriction more
		name := g.pick(membersOfScopes...)
		if scopes[name] != nil {
			return false
		}
		if scopes == nil {
			scopes = map[string]any{}
			claims["scopes"] = scopes
		}
		scopes[name] = g.member(name)
	case 2: // permissions less
		permissions, _ := scopes["permissions"].([]any)
		if len(permissions) == 0 {
			return false
		}
		fewer := g.without(permissions)
		if len(fewer) == 0 && cfg.EmptyPermissions == EmptyInherit {
			return false
		}
		scopes["permissions"] = fewer
	case 3: // addresses less
		addresses, _ := scopes["ip_restrictions"].([]any)
		if len(addresses) < 2 {
			return false
		}
		scopes["ip_restrictions"] = slices.Delete(slices.Clone(addresses), 0, 1)
	case 4: // times less
		w, ok := scopes["time_restrictions"].(map[string]any)
		if !ok {
			return false
		}
		g.addTime(w)
	case 5: // teams less
		if len(list) == 0 {
			return false
		}
		claims["teams"] = g.without(list)
	case 6: // no administrator any more
		if !admin {
			return false
		}
		switch g.Intn(3) {
		case 0:
			delete(claims, "is_admin")
			delete(claims, "user")
		case 1:
			claims["token_use"] = "session"
		case 2:
			if hasTeams && teams != nil || cfg.AbsentTeams == AbsentPublic || claims["token_use"] == "session" {
				return false
			}
			claims["teams"] = g.list(2, someTeams...)
		}
	case 7: // teams none
		claims["teams"] = []any{}
	}
	return true
}

// Whatever restriction is added, nothing is allowed that was not.
func TestRestrictionsNeverWiden(t *testing.T) {
	narrowed, lost := 0, 0
	for seed := range int64(3000) {
		g := generator{rand.New(rand.NewSource(seed))}
		cfg, claims := g.config(), g.claims()
		var oauth []string
		for range g.Intn(4) {
			oauth = append(oauth, g.pick(someScopes...))
		}
		wide := g.parse(t, claims, oauth, cfg)
		less, fewer := clone(t, claims), oauth
		if len(oauth) > 0 && g.Intn(5) == 0 {
			fewer = oauth[1:]
		} else if !g.restrict(less, cfg) {
			continue
		}
		narrow := g.parse(t, less, fewer, cfg)
		narrowed++
		for range 40 {
			q := g.request()
			before, after := allows(wide, q), allows(narrow, q)
			if after && !before {
				t.Fatalf("seed %d: %v %q allows %+v; %v %q does not", seed, less, fewer, q, claims, oauth)
			}
			if before && !after {
				lost++
			}
		}
		if wide.PublicOnly() && !narrow.PublicOnly() || !wide.Unrestricted() && narrow.Unrestricted() || wide.ServerScoped() && !narrow.ServerScoped() {
			t.Fatalf("seed %d: %v is wider than %v", seed, less, claims)
		}
	}
	if narrowed < 1000 || lost < 1000 {
		t.Errorf("only %d restrictions were tried, and %d requests lost", narrowed, lost)
	}
}
