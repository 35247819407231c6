package scope

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// canonical writes what was understood of claims as claims.
func canonical(s *Scope) string {
	claims := map[string]any{"is_admin": s.admin, "iss": "https://a", "jti": "1"}
	if s.session {
		claims["token_use"] = "session"
	}
	switch s.claim {
	case teamsAbsent:
	case teamsNull:
		claims["teams"] = nil
	case teamsEmpty:
		claims["teams"] = []string{}
	case teamsListed:
		claims["teams"] = s.named
	}
	scopes := map[string]any{}
	if s.server != "" {
		scopes["server_id"] = s.server
	}
	if s.permissions != allPermissions {
		names := []string{"nothing.here"} // an empty list may be inherited
		for _, p := range s.permissions.List() {
			names = append(names, p.String())
		}
		scopes["permissions"] = names
	}
	blocks := []string{}
	for _, block := range s.addresses {
		blocks = append(blocks, block.String())
	}
	scopes["ip_restrictions"] = blocks
	if w := s.window; w != nil {
		members := map[string]any{"business_hours_only": w.business, "weekdays_only": w.weekdays}
		of := func(d time.Duration) string { return time.Time{}.Add(d).Format("15:04:05") }
		if w.timed {
			members["start_time"], members["end_time"] = of(w.start), of(w.end)
		}
		var days []string
		for day := time.Sunday; day <= time.Saturday; day++ {
			if w.days>>day&1 == 1 {
				days = append(days, day.String())
			}
		}
		if days != nil {
			members["days"] = days
		}
		if w.timed || days != nil {
			members["timezone"] = w.zone.String()
		}
		scopes["time_restrictions"] = members
	}
	limits := map[string]any{}
	if s.limits.PerHour > 0 {
		limits["requests_per_hour"] = s.limits.PerHour
	}
	if s.limits.PerDay > 0 {
		limits["requests_per_day"] = s.limits.PerDay
	}
	scopes["usage_limits"] = limits
	claims["scopes"] = scopes
	text, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return fmt.Sprintf("%v: %v", claims, err)
	}
	return string(text)
}

// Parse never panics, whatever the claims are, and what it understood reads the same
// when it is written out.
func FuzzParse(f *testing.F) {
	for seed := range int64(60) {
		g := generator{rand.New(rand.NewSource(seed))}
		text, err := json.Marshal(g.claims())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), byte(seed), seed)
	}
	for _, text := range []string{
		`{"scopes":null}`, `{"scopes":{"permissions":"servers.read,*"}}`, `{"teams":"abc"}`, `{"teams":5,"is_admin":"false"}`,
		`{"scopes":{"time_restrictions":{"start_time":"25:00","end_time":1,"timezone":"","days":[null]}}}`, `{"scopes":{"permissions":[null]}}`,
		`{"scopes":{"usage_limits":{"requests_per_hour":1e308}},"jti":""}`, `{"scopes":{"ip_restrictions":["::ffff:1.2.3.4/97","fe80::1%1"]}}`,
	} {
		f.Add(text, byte(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, text string, mode byte, seed int64) {
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) != nil {
			return // the verifier would not hand them on either
		}
		cfg := Config{ScopePermissions: mode&1 == 1}
		if mode&2 != 0 {
			cfg.AbsentTeams = AbsentPublic
		}
		if mode&4 != 0 {
			cfg.EmptyPermissions = EmptyInherit
		}
		if err := cfg.Provision(); err != nil {
			t.Fatal(err)
		}
		granted := strings.Fields(text)
		s, err := Parse(members2lookup(claims), granted, cfg)
		if err != nil {
			if s != nil {
				t.Fatal("there is a scope as well as an error")
			}
			return
		}
		again, err := Parse(lookup(t, canonical(s)), granted, cfg)
		if err != nil {
			t.Fatalf("%s: %v", canonical(s), err)
		}
		if canonical(again) != canonical(s) {
			t.Fatalf("%s is not %s", canonical(again), canonical(s))
		}
		g := generator{rand.New(rand.NewSource(seed))}
		for range 20 {
			q := g.request()
			if allows(s, q) != allows(again, q) {
				t.Fatalf("%+v: %s is read in two ways", q, canonical(s))
			}
		}
	})
}
