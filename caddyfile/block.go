package caddyfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
	"github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpproxy"
	"github.com/caddymcp/caddy-mcp-gateway/wellknown"
)

// block is what the words of a directive's block add up to. One word may be for
// several of the handlers.
type block struct {
	auth      mcpauth.Handler
	proxy     mcpproxy.Handler
	wellKnown wellknown.Handler
	admin     mcpadmin.Handler

	helper httpcaddyfile.Helper
	// rules remembers where roles stand, for the errors that only a look at all
	// of them can find.
	rules []roleTokens
	// objects remembers the same of visibility and team, by the team, if it is one,
	// and the object.
	objects map[[2]string]caddyfile.Token
}

// word parses one word of a block, on which the dispenser stands.
type word struct {
	parse func(b *block, d *caddyfile.Dispenser) error
	// once is whether it may stand only once.
	once bool
}

// words are those of a directive.
type words map[string]word

func join(sets ...words) words {
	all := words{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

// common are the words that say what is protected.
var common = words{
	"public_url": {parsePublicURL, true},
	"scopes_supported": {func(b *block, d *caddyfile.Dispenser) error {
		scopes, err := list(d)
		b.auth.ScopesSupported, b.wellKnown.ScopesSupported = scopes, scopes
		return err
	}, true},
}

// named is for directives that only have to know the servers' names.
var named = words{
	"server": {func(b *block, d *caddyfile.Dispenser) error {
		names, err := list(d)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := b.addServer(d, name); err != nil {
				return err
			}
		}
		return nil
	}, false},
}

var (
	gatewayWords  = join(common, authWords, wellKnownWords, proxyWords, adminWords)
	adminOnly     = join(words{"public_url": common["public_url"]}, adminWords)
	wellKnownOnly = join(common, named, wellKnownWords, words{
		"authorization_server": {parseAuthorizationServer, false},
		"resource_metadata":    {parseResourceMetadata, true},
	})
	authOnly  = join(common, named, authWords)
	proxyOnly = proxyWords
	namesOf   = func(w words) string { return strings.Join(slices.Sorted(maps.Keys(w)), ", ") }
)

// The lines that most directives need, for the errors.
const (
	needPublicURL = "public_url https://mcp.example.com"
	needIssuer    = "issuer https://login.example.com"
	needName      = "server tickets"
	needLogin     = "login on"
	needUpstream  = "server tickets 10.0.0.7:3000"
)

// examples are what may follow a word, for the errors.
var examples = map[string]string{
	"acknowledgments":            "https://example.com/thanks",
	"admin":                      "on",
	"admin_trusted_header":       "X-Authenticated-User from 10.0.0.5",
	"algorithms":                 "RS256 ES256",
	"allow_stale":                "5m",
	"allowed_hosts":              "mcp.internal",
	"allowed_origins":            "https://app.example.com",
	"api_basic_auth":             "on",
	"audience":                   "https://mcp.example.com",
	"authorization_server":       "https://login.example.com",
	"body_timeout":               "30s",
	"canonical":                  "https://mcp.example.com/.well-known/security.txt",
	"cache":                      "10s",
	"client_auth":                "post",
	"client_id":                  "mcp-gateway",
	"client_secret":              "{env.INTROSPECTION_SECRET}",
	"contact":                    "mailto:security@example.com",
	"docs":                       "on",
	"docs_basic_auth":            "on",
	"encryption":                 "https://example.com/pgp.txt",
	"expires":                    "<date>",
	"forward_headers":            "Accept-Language",
	"from":                       "10.0.0.0/8",
	"health":                     "off",
	"hiring":                     "https://example.com/jobs",
	"issuer":                     "https://login.example.com",
	"jti":                        "optional",
	"jwks":                       "on",
	"jwks_url":                   "https://login.example.com/jwks",
	"key_file":                   "/etc/keys/issuer.pem",
	"leeway":                     "5s",
	"login":                      "on",
	"login_rate":                 "10",
	"max_answer":                 "32MiB",
	"max_body":                   "4MiB",
	"max_rate":                   "100",
	"max_sessions":               "100000",
	"max_sessions_per_principal": "1000",
	"max_tasks":                  "100000",
	"max_tasks_per_principal":    "1000",
	"policy":                     "https://example.com/security",
	"preferred_languages":        "en pt-BR",
	"public_url":                 "https://mcp.example.com",
	"registration":               "on",
	"resource_documentation":     "https://docs.example.com/mcp",
	"resource_metadata":          "off",
	"resource_name":              `"Example gateway"`,
	"robots_txt":                 `"User-agent: *\nDisallow: /"`,
	"role":                       "analyst",
	"scopes_supported":           "mcp:read mcp:write",
	"secret":                     "{env.JWT_SECRET}",
	"server":                     "tickets",
	"session_idle_timeout":       "30m",
	"session_lifetime":           "24h",
	"stream_drain":               "5m",
	"sessions":                   "on",
	"task_lifetime":              "24h",
	"team":                       "support",
	"team_roles":                 "support viewer",
	"token_cache":                "10000",
	"token_types":                "at+jwt",
	"timeout":                    "5s",
	"tokens":                     "https://mcp.example.com",
	"trusted_header":             "X-Authenticated-User",
	"well_known_file":            "challenge.txt /srv/challenge.txt",
	"well_known_text":            "challenge.txt abc123",
	"well_known_max_age":         "1h",
}

// suchAs is the part of an error that shows what to write.
func suchAs(word string) string {
	example, ok := examples[word]
	if !ok {
		return ""
	}
	return ", such as: " + word + " " + strings.Replace(example, "<date>", inHalfAYear(), 1)
}

// unknown is the error for a word that a block does not have, on which the
// dispenser stands.
func unknown(d *caddyfile.Dispenser, in, has string) error {
	if d.Val() == "{" {
		return d.Err("there is no block here; take away what stands in braces")
	}
	return d.Errf("unrecognized %s option '%s'; it has: %s", in, d.Val(), has)
}

// parse reads the block of a directive, on which the dispenser stands. needed are
// examples of the lines that it must have.
func (b *block) parse(d *caddyfile.Dispenser, known words, needed ...string) error {
	directive := d.Val()
	if d.NextArg() {
		return d.Errf("%s takes no argument here, and '%s' is one; write options in a block", directive, d.Val())
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		w, ok := known[name]
		if !ok {
			return unknown(d, directive, namesOf(known))
		}
		if w.once && seen[name] {
			return d.Errf("%s is given twice; write it once", name)
		}
		seen[name] = true
		if err := w.parse(b, d); err != nil {
			return err
		}
	}
	for _, line := range needed {
		if line == needIssuer && (seen["authenticated"] || seen["trusted_header"]) {
			continue // somebody can be let in without a token
		}
		if line == needLogin && seen["admin"] {
			continue // a proxy may say who comes
		}
		if name, _, _ := strings.Cut(line, " "); !seen[name] {
			return d.Errf("%s needs %s; write a line such as: %s", directive, name, line)
		}
	}
	return b.checkRoles()
}

func (b *block) addServer(d *caddyfile.Dispenser, name string) error {
	if err := resource.CheckServer(name); err != nil {
		return d.WrapErr(err)
	}
	if slices.Contains(b.auth.Servers, name) {
		return d.Errf("server %s is given twice; write it once, with all of its upstreams", name)
	}
	b.auth.Servers = append(b.auth.Servers, name)
	b.wellKnown.Servers = b.auth.Servers
	return nil
}

func parsePublicURL(b *block, d *caddyfile.Dispenser) error {
	publicURL, err := one(d)
	if err != nil {
		return err
	}
	if !strings.Contains(publicURL, "{") {
		if _, err := resource.Parse(publicURL); err != nil {
			return d.WrapErr(err)
		}
	}
	b.auth.PublicURL, b.wellKnown.PublicURL = publicURL, publicURL
	return nil
}

// one reads the only argument of a word.
func one(d *caddyfile.Dispenser) (string, error) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("%s takes exactly one argument%s", name, suchAs(name))
	}
	return args[0], nil
}

// list reads one argument or more.
func list(d *caddyfile.Dispenser) ([]string, error) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 {
		return nil, d.Errf("%s needs at least one argument%s", name, suchAs(name))
	}
	return args, nil
}

func duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	name := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return 0, d.Errf("%s must be a time such as 30s or 24h, not '%s'", name, text)
	}
	return caddy.Duration(parsed), nil
}

func number(d *caddyfile.Dispenser) (int, error) {
	name := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil || n <= 0 || fmt.Sprint(n) != text {
		return 0, d.Errf("%s must be a positive number, not '%s'", name, text)
	}
	return n, nil
}

func size(d *caddyfile.Dispenser) (int64, error) {
	name := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<31-1 {
		return 0, d.Errf("%s must be a size such as 4MiB, not '%s'", name, text)
	}
	return int64(n), nil
}

// isURL reports whether an issuer's name can be published as a place to go to.
func isURL(issuer string) bool {
	if strings.Contains(issuer, "{") {
		return true
	}
	u, err := url.Parse(issuer)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// object is the JSON of a module inside another, which names it under key.
func object(module any, key, name string) json.RawMessage {
	return caddyconfig.JSONModuleObject(module, key, name, nil)
}
