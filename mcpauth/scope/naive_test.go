package scope

import (
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// An independent reader of the claims, written from the tables, agrees.
func TestAgainstNaive(t *testing.T) {
	allowed := 0
	const tries, questions = 2000, 40
	for seed := range int64(tries) {
		g := generator{rand.New(rand.NewSource(seed))}
		cfg, claims := g.config(), g.claims()
		cfg.ScopePermissions = false
		s := g.parse(t, claims, nil, cfg)
		for range questions {
			q := g.request()
			got, want := allows(s, q), naive(claims, cfg, q)
			if got != want {
				t.Fatalf("seed %d: %v with %+v: %+v is %v", seed, claims, cfg, q, got)
			}
			if got {
				allowed++
			}
		}
	}
	if allowed < tries*questions/20 {
		t.Errorf("only %d were allowed", allowed)
	}
}

// naive judges a request by valid claims.
func naive(claims map[string]any, cfg Config, q *Request) bool {
	scopes, _ := claims["scopes"].(map[string]any)
	if id, ok := scopes["server_id"].(string); ok && id != q.Server {
		return false
	}
	return naiveSees(claims, cfg, q) && naiveAddress(scopes, q.ClientIP) && naiveTime(scopes, q.Now) && naivePermits(scopes, cfg, q.Need)
}

func naiveSees(claims map[string]any, cfg Config, q *Request) bool {
	user, _ := claims["user"].(map[string]any)
	admin := (claims["is_admin"] == true || user["is_admin"] == true) && claims["token_use"] != "session"
	teams, present := claims["teams"]
	bypass := admin && (!present && cfg.AbsentTeams != AbsentPublic || present && teams == nil)
	list, _ := teams.([]any)
	switch q.Visibility {
	case "public":
		return true
	case "team", "":
		for _, team := range list {
			if object, ok := team.(map[string]any); ok {
				team = object["id"]
			}
			if team == q.Team {
				return true
			}
		}
		return bypass
	case "private", "user":
		return (bypass || len(list) > 0) && q.Owner == q.Subject && q.Owner != ""
	}
	return false
}

func naiveAddress(scopes map[string]any, addr netip.Addr) bool {
	list, _ := scopes["ip_restrictions"].([]any)
	if len(list) == 0 {
		return true
	}
	if !addr.IsValid() {
		return false
	}
	// Blocks are compared bit by bit, as ContextForge's texts would be.
	bitsOf := func(a netip.Addr) string {
		var b strings.Builder
		for _, octet := range a.Unmap().AsSlice() {
			for i := 7; i >= 0; i-- {
				b.WriteByte('0' + octet>>i&1)
			}
		}
		return b.String()
	}
	for _, entry := range list {
		text, length, isBlock := strings.Cut(strings.TrimSpace(entry.(string)), "/")
		of := netip.MustParseAddr(text)
		prefix := bitsOf(of)
		if isBlock {
			size := map[string]int{"0": 0, "8": 8, "24": 24, "32": 32, "104": 8}[length]
			prefix = prefix[:size]
		}
		if of.Unmap().Is4() == addr.Unmap().Is4() && strings.HasPrefix(bitsOf(addr), prefix) {
			return true
		}
	}
	return false
}

func naiveTime(scopes map[string]any, now time.Time) bool {
	w, _ := scopes["time_restrictions"].(map[string]any)
	utc := now.UTC()
	if w["business_hours_only"] == true && (utc.Format("15") < "09" || utc.Format("15") >= "17") {
		return false
	}
	if day := utc.Format("Mon"); w["weekdays_only"] == true && (day == "Sat" || day == "Sun") {
		return false
	}
	zone := "UTC"
	if name, ok := w["timezone"].(string); ok {
		zone = name
	}
	at, err := time.LoadLocation(zone)
	if err != nil {
		return false
	}
	local := now.In(at)
	if days, ok := w["days"].([]any); ok && !slices.Contains(days, any(local.Format("Monday"))) {
		return false
	}
	start, ok := w["start_time"].(string)
	if !ok {
		return true
	}
	full := func(text string) string {
		if strings.Index(text, ":") == 1 {
			text = "0" + text
		}
		return (text + ":00")[:8]
	}
	from, to, is := full(start), full(w["end_time"].(string)), local.Format("15:04:05")
	if from <= to {
		return from <= is && is <= to
	}
	return is >= from || is <= to
}

func naivePermits(scopes map[string]any, cfg Config, need Permissions) bool {
	list, ok := scopes["permissions"].([]any)
	unrestricted := !ok || len(list) == 0 && cfg.EmptyPermissions == EmptyInherit
	if need&1 != 0 {
		return false // no permission at all
	}
	for _, p := range mcp.Permissions() {
		if need>>p&1 == 0 {
			continue
		}
		found := unrestricted
		for _, element := range list {
			name, of := element.(string), p.String()
			category, action, _ := strings.Cut(of, ".")
			found = found || name == "*" || name == of || name == category+".*" ||
				action == "read" && name == category+".execute" ||
				of == "servers.use" && (strings.HasPrefix(name, "tools.") || strings.HasPrefix(name, "resources.") || strings.HasPrefix(name, "prompts.") ||
					strings.HasPrefix(name, "client.") || strings.HasPrefix(name, "tasks.") || strings.HasPrefix(name, "logging.") || strings.HasPrefix(name, "completions."))
		}
		if !found {
			return false
		}
	}
	return true
}
