package mcpadmin

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// score is how safe the running configuration is. It tells of what can be seen in it, and
// not whether anybody has got in.
type score struct {
	// Score is the weight of the checks that are passed, in percent of the weight of all
	// that apply, rounded down.
	Score int `json:"score"`
	// Healthy is whether it is 60 at least.
	Healthy bool    `json:"healthy"`
	Checks  []check `json:"checks"`
}

// healthyScore is that of behaviour.md section 9.
const healthyScore = 60

// check is a question about the configuration.
type check struct {
	// ID is a stable word.
	ID string `json:"id"`
	// Weight is how much the check counts.
	Weight int `json:"weight"`
	// Status is passed, failed, or not_applicable, which does not count.
	Status string `json:"status"`
	// About says what is asked, and Advice what to do if the check has failed. Detail
	// names what it has failed for.
	About  string   `json:"about"`
	Advice string   `json:"advice,omitzero"`
	Detail []string `json:"detail,omitzero"`
}

// The values of Status.
const (
	passed        = "passed"
	failed        = "failed"
	notApplicable = "not_applicable"
)

// facts are what is judged.
type facts struct {
	mcpauth.Posture
	now          time.Time
	servers      []report.Server
	pages        []report.Page
	registration bool
	// stale is whether it is not known what was revoked.
	stale bool
	// issues is whether the gateway makes tokens, with which keys and for how long.
	issues  bool
	keys    []issue.Key
	maxLife time.Duration
}

// maxKeyAge is the age of a signing key from which there should be another one, and
// maxTokenLife the longest life that a token should have.
const (
	maxKeyAge    = 90 * 24 * time.Hour
	maxTokenLife = 90 * 24 * time.Hour
)

// question is a check that was not asked yet.
type question struct {
	id            string
	weight        int
	about, advice string
	// applies reports whether the question has a meaning; nil is always.
	applies func(f *facts) bool
	// against lists what speaks against a pass: a check without anything is passed.
	against func(f *facts) []string
}

// questions are all of them. An id stays what it is.
var questions = []question{
	{
		id: "environment_production", weight: 10, about: "The environment is production",
		advice: "Write environment production in the global option mcp_gateway, so that tokens of other environments are refused.",
		against: func(f *facts) []string {
			return objection(f.Environment != "production", "the environment is "+orNone(f.Environment))
		},
	},
	{
		id: "public_url_https", weight: 10, about: "Clients reach the gateway by https",
		advice:  "Use an https public_url.",
		applies: func(f *facts) bool { return len(f.PublicURLs) > 0 },
		against: func(f *facts) []string { return plain(f.PublicURLs) },
	},
	{
		id: "issuers_https", weight: 10, about: "No issuer of tokens is an http URL",
		advice:  "Use issuers with https.",
		applies: func(f *facts) bool { return len(f.Issuers) > 0 },
		against: func(f *facts) (names []string) {
			for _, iss := range f.Issuers {
				names = append(names, iss.Name)
			}
			return plain(names)
		},
	},
	{
		id: "algorithms_asymmetric", weight: 10, about: "No issuer signs with a shared secret",
		advice:  "Have the issuer sign with RS256, PS256, ES256 or EdDSA: whoever can verify by a shared secret can make tokens as well.",
		applies: func(f *facts) bool { return len(f.Issuers) > 0 },
		against: func(f *facts) (names []string) {
			for _, iss := range f.Issuers {
				if slices.ContainsFunc(iss.Algorithms, func(a string) bool { return strings.HasPrefix(a, "HS") }) {
					names = append(names, iss.Name)
				}
			}
			return names
		},
	},
	{
		id: "token_ids_required", weight: 5, about: "Every token has an identifier, to be revoked by",
		advice:  "Leave jti optional out, if the issuer can send the claim jti.",
		applies: func(f *facts) bool { return len(f.Issuers) > 0 },
		against: func(f *facts) (names []string) {
			for _, iss := range f.Issuers {
				if iss.JTIOptional {
					names = append(names, iss.Name)
				}
			}
			return names
		},
	},
	{
		id: "store_durable", weight: 10, about: "Revocations and accounts outlive a restart",
		advice:  "Use the store embedded or redis.",
		against: func(f *facts) []string { return objection(f.Store != "embedded" && f.Store != "redis", f.Store) },
	},
	{
		id: "store_private", weight: 10, about: "What the store keeps goes over no network without TLS",
		advice:  "Add tls to the store redis.",
		against: func(f *facts) []string { return objection(f.StoreExposed, f.Store) },
	},
	{
		id: "stale_denied", weight: 10, about: "When the store is cut off, tokens are refused",
		advice: "Leave allow_stale out: a token that was revoked meanwhile is accepted for as long.",
		against: func(f *facts) []string {
			return objection(f.AllowStale > 0, "allow_stale is "+f.AllowStale.String())
		},
	},
	{
		id: "revocations_known", weight: 10, about: "It is known what was revoked",
		advice:  "See the log for why the store is cut off.",
		against: func(f *facts) []string { return objection(f.stale, "the store is cut off") },
	},
	{
		id: "signing_key_young", weight: 5, about: "The key that signs the gateway's own tokens is younger than 90 days",
		advice:  "Have another one made: caddy mcp key rotate, or put another file first in key_file.",
		applies: func(f *facts) bool { return f.issues },
		against: func(f *facts) []string {
			for _, k := range f.keys {
				if k.Signs {
					return objection(f.now.Sub(k.Created) >= maxKeyAge, k.ID)
				}
			}
			return []string{"the keys are not known"}
		},
	},
	{
		id: "token_life_short", weight: 5, about: "The gateway's own tokens are good for 90 days at most",
		advice:  "Lower max_life of tokens.",
		applies: func(f *facts) bool { return f.issues },
		against: func(f *facts) []string {
			return objection(f.maxLife > maxTokenLife, "max_life is "+f.maxLife.String())
		},
	},
	{
		id: "upstreams_encrypted", weight: 10, about: "No MCP server is reached over a network without TLS",
		advice:  "Write the upstreams with https://, or have them on this machine.",
		applies: func(f *facts) bool { return len(f.servers) > 0 },
		against: func(f *facts) (names []string) {
			for _, s := range f.servers {
				if !s.TLS && (s.Dynamic || slices.ContainsFunc(s.Upstreams, func(u report.Upstream) bool { return remote(u.Address) })) {
					names = append(names, s.Name)
				}
			}
			return names
		},
	},
	{
		id: "health_checks", weight: 5, about: "It is noticed when an upstream of an MCP server that has several is down",
		advice: "Write health_uri or fail_duration in the server's block.",
		applies: func(f *facts) bool {
			return slices.ContainsFunc(f.servers, func(s report.Server) bool { return len(s.Upstreams) > 1 })
		},
		against: func(f *facts) (names []string) {
			for _, s := range f.servers {
				if len(s.Upstreams) > 1 && !s.ActiveChecks && !s.PassiveChecks {
					names = append(names, s.Name)
				}
			}
			return names
		},
	},
	{
		id: "roles_bounded", weight: 10, about: "No role gives everything to everybody who is let in",
		advice:  "Write a condition into the role, such as: when groups data-team, or allow less.",
		against: func(f *facts) []string { return f.Boundless },
	},
	{
		id: "registration_off", weight: 5, about: "Nobody can make an account for themselves",
		advice:  "Leave registration out.",
		against: func(f *facts) []string { return objection(f.registration, "registration is on") },
	},
	{
		id: "security_contact", weight: 5, about: "It is published whom to tell about a security hole",
		advice: "Write security_txt with a contact.",
		against: func(f *facts) []string {
			published := slices.ContainsFunc(f.pages, func(p report.Page) bool { return p.Path == "/.well-known/security.txt" && p.Answers })
			return objection(!published, "there is no security.txt")
		},
	},
}

// score asks all questions.
func (f *facts) score() score {
	var s score
	all, won := 0, 0
	for _, q := range questions {
		c := check{ID: q.id, Weight: q.weight, About: q.about, Status: notApplicable}
		if q.applies == nil || q.applies(f) {
			c.Detail = q.against(f)
			all += q.weight
			if c.Status = passed; len(c.Detail) > 0 {
				c.Status, c.Advice = failed, q.advice
			} else {
				won += q.weight
			}
		}
		s.Checks = append(s.Checks, c)
	}
	s.Score = won * 100 / all
	s.Healthy = s.Score >= healthyScore
	return s
}

func objection(holds bool, text string) []string {
	if !holds {
		return nil
	}
	return []string{text}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return fmt.Sprintf("%q", text)
}

// plain are the URLs among names that have no TLS.
func plain(names []string) (list []string) {
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && strings.EqualFold(u.Scheme, "http") && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// remote reports whether an upstream's address is, or may be, on another machine.
func remote(address string) bool {
	a, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return true
	}
	if a.IsUnixNetwork() || a.IsFdNetwork() || a.Host == "" || strings.EqualFold(a.Host, "localhost") {
		return false
	}
	ip, err := netip.ParseAddr(a.Host)
	return err != nil || !ip.Unmap().IsLoopback()
}
