package mcpadmin

import (
	"slices"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// sound are facts against which nothing speaks.
func sound() *facts {
	now := time.Now()
	return &facts{
		Posture: mcpauth.Posture{
			Environment: "production", Store: "redis", PublicURLs: []string{"https://mcp.example.com"},
			Issuers: []mcpauth.IssuerPosture{{Name: "https://login.example.com", Algorithms: []string{"RS256", "ES256"}}, {Name: "batch", Algorithms: []string{"EdDSA"}}},
		},
		now: now, issues: true, maxLife: maxTokenLife, keys: []issue.Key{{ID: "old", Created: now.Add(-2 * maxKeyAge)}, {ID: "new", Created: now, Signs: true}},
		servers: []report.Server{
			{Name: "a", TLS: true, PassiveChecks: true, Upstreams: []report.Upstream{{Address: "10.0.0.1:443"}, {Address: "10.0.0.2:443"}}},
			{Name: "b", Upstreams: []report.Upstream{{Address: "127.0.0.1:3000"}}},
			{Name: "c", Upstreams: []report.Upstream{{Address: "localhost:3000"}}},
			{Name: "d", Upstreams: []report.Upstream{{Address: "unix//run/d.sock"}}},
			{Name: "e", Upstreams: []report.Upstream{{Address: "[::1]:3000"}}},
		},
		pages: []report.Page{{Path: "/.well-known/security.txt", Answers: true}},
	}
}

func TestScore(t *testing.T) {
	if s := sound().score(); s.Score != 100 || !s.Healthy {
		t.Errorf("what is sound has %d: %+v", s.Score, s.Checks)
	}
	tested := map[string]bool{}
	for _, tc := range []struct {
		id, detail string
		change     func(f *facts)
	}{
		{"environment_production", `the environment is none`, func(f *facts) { f.Environment = "" }},
		{"environment_production", `the environment is "staging"`, func(f *facts) { f.Environment = "staging" }},
		{"public_url_https", "http://localhost:8080", func(f *facts) { f.PublicURLs = []string{"https://a.example.com", "http://localhost:8080"} }},
		{"issuers_https", "http://127.0.0.1/idp", func(f *facts) { f.Issuers[0].Name = "http://127.0.0.1/idp" }},
		{"algorithms_asymmetric", "batch", func(f *facts) { f.Issuers[1].Algorithms = []string{"HS512"} }},
		{"token_ids_required", "batch", func(f *facts) { f.Issuers[1].JTIOptional = true }},
		{"store_durable", "memory", func(f *facts) { f.Store = "memory" }},
		{"store_private", "redis", func(f *facts) { f.StoreExposed = true }},
		{"stale_denied", "allow_stale is 5m0s", func(f *facts) { f.AllowStale = 5 * time.Minute }},
		{"revocations_known", "the store is cut off", func(f *facts) { f.stale = true }},
		{"signing_key_young", "new", func(f *facts) { f.keys[1].Created = f.now.Add(-maxKeyAge) }},
		{"signing_key_young", "the keys are not known", func(f *facts) { f.keys = nil }},
		{"token_life_short", "max_life is 2161h0m0s", func(f *facts) { f.maxLife += time.Hour }},
		{"upstreams_encrypted", "a", func(f *facts) { f.servers[0].TLS = false }},
		{"upstreams_encrypted", "b", func(f *facts) { f.servers[1].Upstreams[0].Address = "notes.internal:3000" }},
		{"upstreams_encrypted", "b", func(f *facts) { f.servers[1].Upstreams[0].Address = "{env.UPSTREAM}" }},
		{"upstreams_encrypted", "b", func(f *facts) { f.servers[1].Dynamic = true }},
		{"health_checks", "a", func(f *facts) { f.servers[0].PassiveChecks = false }},
		{"roles_bounded", "everyone", func(f *facts) { f.Boundless = []string{"everyone"} }},
		{"registration_off", "registration is on", func(f *facts) { f.registration = true }},
		{"security_contact", "there is no security.txt", func(f *facts) { f.pages[0].Answers = false }},
	} {
		tested[tc.id] = true
		f := sound()
		tc.change(f)
		s := f.score()
		total := 0
		for _, c := range s.Checks {
			total += c.Weight
			want := passed
			if c.ID == tc.id {
				want = failed
				if !slices.Equal(c.Detail, []string{tc.detail}) || c.Advice == "" {
					t.Errorf("%s: the check is %+v", tc.id, c)
				}
			}
			if c.Status != want {
				t.Errorf("%s: the check %s is %s", tc.id, c.ID, c.Status)
			}
		}
		weight := questions[slices.IndexFunc(questions, func(q question) bool { return q.id == tc.id })].weight
		if want := (total - weight) * 100 / total; s.Score != want {
			t.Errorf("%s: the score is %d, expected %d", tc.id, s.Score, want)
		}
	}
	for _, q := range questions {
		if !tested[q.id] {
			t.Errorf("nothing tests %s", q.id)
		}
	}
	// What does not apply does not count.
	bare := &facts{Posture: mcpauth.Posture{Environment: "production", Store: "embedded"}}
	s := bare.score()
	applies := 0
	for _, c := range s.Checks {
		if c.Status != notApplicable {
			applies += c.Weight
		}
	}
	if want := (applies - 5) * 100 / applies; s.Score != want { // but for security_contact
		t.Errorf("without anything the score is %d, expected %d: %+v", s.Score, want, s.Checks)
	}
	if worst := (&facts{stale: true, registration: true, Posture: mcpauth.Posture{StoreExposed: true, AllowStale: 1, Boundless: []string{"a"}}}).score(); worst.Score != 0 || worst.Healthy {
		t.Errorf("the worst score is %d: %+v", worst.Score, worst.Checks)
	}
}
