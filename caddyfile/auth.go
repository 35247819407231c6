package caddyfile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

// parseAuth sets up the mcp_auth handler. Syntax:
//
//	mcp_auth [<matcher>] {
//		public_url <url>
//		server     <names...>
//		issuer     <issuer> {
//			audience    <values...>
//			jwks_url    <url>
//			key_file    <files...>
//			secret      <value>
//			derive_key
//			keys        <module> ...
//			algorithms  <names...>
//			token_types <names...>
//			jti         optional
//			leeway      <duration>
//			token_scope off | { ... }
//			introspect  [<url>] { ... }
//		}
//		authenticated {
//			claim <name> <placeholder> [<separator>]
//		}
//		trusted_header <name> {
//			from  <peers...>
//			claim <name> <header> [<separator>]
//		}
//		visibility <server>[/<object>] public | team <id> | private <subject>
//		team <id> <objects...>
//		instructions pass | drop | text <text> [<servers...>]
//		role <name> {
//			team  <ids...>
//			when  <claim> <values...>
//			allow <permission> [<objects...>]
//		}
//		scopes_supported <scopes...>
//		allowed_origins  <origins...>
//		allowed_hosts    <hosts...>
//		max_body         <size>
//		max_answer       <size>
//		body_timeout     <duration>
//		token_cache      <number>
//	}
func parseAuth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := &block{helper: h}
	h.Next() // consume directive name
	if err := b.parse(h.Dispenser, authOnly, needPublicURL, needIssuer, needName); err != nil {
		return nil, err
	}
	return &b.auth, nil
}

var authWords = words{
	"issuer":         {parseIssuer, false},
	"authenticated":  {parseAuthenticated, true},
	"trusted_header": {parseTrustedHeader, true},
	"role":           {parseRole, false},
	"visibility":     {parseVisibility, false},
	"team":           {parseTeam, false},
	"instructions":   {parseInstructions, false},
	"allowed_origins": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.auth.AllowedOrigins, err = list(d)
		return err
	}, true},
	"allowed_hosts": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.auth.AllowedHosts, err = list(d)
		return err
	}, true},
	"max_body": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.auth.MaxBody, err = size(d)
		return err
	}, true},
	"max_answer": {func(b *block, d *caddyfile.Dispenser) error {
		n, err := size(d)
		b.auth.MaxAnswer = int(n)
		return err
	}, true},
	"body_timeout": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.auth.BodyTimeout, err = duration(d)
		return err
	}, true},
	"token_cache": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.auth.TokenCache, err = number(d)
		return err
	}, true},
}

func parseIssuer(b *block, d *caddyfile.Dispenser) error {
	name, err := one(d)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(b.auth.Issuers, func(iss *token.Issuer) bool { return iss.Issuer == name }) {
		return d.Errf("issuer %s is given twice; write it once", name)
	}
	issuer := &token.Issuer{Issuer: name}
	var source string
	var derive bool
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		switch option {
		case "audience":
			issuer.Audiences, err = list(d)
		case "algorithms":
			issuer.Algorithms, err = list(d)
		case "token_types":
			issuer.TokenTypes, err = list(d)
		case "leeway":
			issuer.Leeway, err = duration(d)
		case "token_scope":
			err = parseTokenScope(issuer, d)
		case "jti":
			var value string
			if value, err = one(d); err == nil && value != "optional" {
				err = d.Errf("jti may only be 'optional', not '%s'; without it the claim is required", value)
			}
			issuer.JTIOptional = true
		case "jwks_url", "key_file", "secret", "keys":
			if issuer.KeysRaw != nil {
				return d.Errf("an issuer has one source of keys, and %s is a second; leave one out", option)
			}
			issuer.KeysRaw, source, err = parseKeys(d)
		case "introspect":
			issuer.Introspection, err = parseIntrospect(d)
		case "derive_key":
			if derive = true; d.NextArg() {
				err = d.Errf("derive_key takes no argument, and '%s' is one; the environment is a global option", d.Val())
			}
		default:
			return unknown(d, "issuer",
				"algorithms, audience, derive_key, introspect, jti, jwks_url, key_file, keys, leeway, secret, token_scope, token_types")
		}
		if err != nil {
			return err
		}
	}
	if derive {
		if issuer.KeysRaw, err = deriveKey(d, issuer.KeysRaw, source); err != nil {
			return err
		}
	}
	b.auth.Issuers = append(b.auth.Issuers, issuer)
	// An issuer that is no URL, or whose secret we share, or that is the gateway itself,
	// has no metadata that a client could use.
	if isURL(name) && source != "secret" && source != "gateway" {
		b.wellKnown.AuthorizationServers = append(b.wellKnown.AuthorizationServers, name)
	}
	return nil
}

// parseKeys reads where an issuer's keys come from: one of the words for the
// sources that most will use, or keys and a module.
func parseKeys(d *caddyfile.Dispenser) (keysRaw json.RawMessage, source string, err error) {
	var module any
	switch d.Val() {
	case "jwks_url":
		var url string
		url, err = one(d)
		module, source = keys.JWKS{URL: url}, "jwks"
	case "key_file":
		var files []string
		files, err = list(d)
		module, source = keys.PEM{Files: files}, "pem"
	case "secret":
		var value string
		value, err = one(d)
		module, source = keys.Secret{Value: value}, "secret"
	default:
		if !d.NextArg() {
			return nil, "", d.Err("keys needs the name of a key source, such as: keys discovery")
		}
		const namespace = "mcp_gateway.key_sources"
		source = d.Val()
		if _, err := caddy.GetModule(namespace + "." + source); err != nil {
			var names []string
			for _, known := range caddy.GetModules(namespace) {
				names = append(names, known.ID.Name())
			}
			return nil, "", d.Errf("there is no key source '%s'; there are: %s", source, strings.Join(names, ", "))
		}
		module, err = caddyfile.UnmarshalModule(d, namespace+"."+source)
	}
	if err != nil {
		return nil, "", err
	}
	return object(module, "source", source), source, nil
}

// deriveKey has the key derived from a secret for the environment. Whether the secret
// stands before or after that word does not matter.
func deriveKey(d *caddyfile.Dispenser, keysRaw json.RawMessage, source string) (json.RawMessage, error) {
	if source != "secret" {
		return nil, d.Errf("derive_key is about a secret that is shared with the issuer; write one%s, or leave derive_key out", suchAs("secret"))
	}
	var secret struct {
		Source string `json:"source"`
		keys.Secret
	}
	if err := json.Unmarshal(keysRaw, &secret); err != nil {
		return nil, d.WrapErr(err)
	}
	secret.DeriveKey = true
	return object(secret.Secret, "source", source), nil
}
