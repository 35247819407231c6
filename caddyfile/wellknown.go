package caddyfile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/wellknown"
)

// parseWellKnown sets up the mcp_well_known handler. Syntax:
//
//	mcp_well_known [<matcher>] {
//		public_url             <url>
//		server                 <names...>
//		authorization_server   <urls...>
//		resource_metadata      off
//		scopes_supported       <scopes...>
//		resource_name          <text>
//		resource_documentation <url>
//		robots_txt             <text>
//		security_txt           <contacts...> {
//			expires             <date>
//			contact             <urls...>
//			encryption          <urls...>
//			acknowledgments     <urls...>
//			preferred_languages <tags...>
//			canonical           <urls...>
//			policy              <urls...>
//			hiring              <urls...>
//		}
//		well_known_file <name> <path>
//		well_known_text <name> <text>
//		well_known_max_age <duration>
//		health          off
//	}
func parseWellKnown(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := &block{helper: h}
	h.Next() // consume directive name
	if err := b.parse(h.Dispenser, wellKnownOnly, needPublicURL); err != nil {
		return nil, err
	}
	return &b.wellKnown, nil
}

var wellKnownWords = words{
	"resource_name": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.wellKnown.ResourceName, err = one(d)
		return err
	}, true},
	"resource_documentation": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.wellKnown.ResourceDocumentation, err = one(d)
		return err
	}, true},
	"robots_txt": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.wellKnown.RobotsTxt, err = one(d)
		return err
	}, true},
	"security_txt": {parseSecurityTxt, true},
	"well_known_file": {func(b *block, d *caddyfile.Dispenser) error {
		return addFile(b, d, func(path string) string { return "{file." + path + "}" })
	}, false},
	"well_known_text": {func(b *block, d *caddyfile.Dispenser) error {
		return addFile(b, d, func(text string) string { return text })
	}, false},
	"well_known_max_age": {func(b *block, d *caddyfile.Dispenser) (err error) {
		b.wellKnown.MaxAge, err = duration(d)
		return err
	}, true},
	"jwks": {func(b *block, d *caddyfile.Dispenser) error {
		b.wellKnown.JWKS = true
		return on(d)
	}, true},
	"health": {func(b *block, d *caddyfile.Dispenser) error {
		value, err := one(d)
		if err == nil && value != "off" {
			err = d.Errf("health may only be 'off', not '%s'; without it /health and /ready are answered", value)
		}
		b.wellKnown.DisableHealth = true
		return err
	}, true},
}

func addFile(b *block, d *caddyfile.Dispenser, content func(string) string) error {
	word := d.Val()
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("%s needs a name and what to serve under it%s", word, suchAs(word))
	}
	name := strings.Trim(args[0], "/")
	if _, twice := b.wellKnown.Files[name]; twice {
		return d.Errf("%s is given twice; write it once", name)
	}
	if b.wellKnown.Files == nil {
		b.wellKnown.Files = make(map[string]string)
	}
	b.wellKnown.Files[name] = content(args[1])
	return nil
}

func parseAuthorizationServer(b *block, d *caddyfile.Dispenser) error {
	urls, err := list(d)
	b.wellKnown.AuthorizationServers = append(b.wellKnown.AuthorizationServers, urls...)
	return err
}

func parseResourceMetadata(b *block, d *caddyfile.Dispenser) error {
	value, err := one(d)
	if err == nil && value != "off" {
		err = d.Errf("resource_metadata may only be 'off', not '%s'; without it the metadata of each resource is published", value)
	}
	b.wellKnown.DisableMetadata = true
	return err
}

func parseSecurityTxt(b *block, d *caddyfile.Dispenser) error {
	txt := &wellknown.SecurityTxt{Contact: d.RemainingArgs()}
	lists := map[string]*[]string{
		"contact":             &txt.Contact,
		"encryption":          &txt.Encryption,
		"acknowledgments":     &txt.Acknowledgments,
		"preferred_languages": &txt.PreferredLanguages,
		"canonical":           &txt.Canonical,
		"policy":              &txt.Policy,
		"hiring":              &txt.Hiring,
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option == "expires" {
			if txt.Expires != "" {
				return d.Err("expires is given twice; write it once")
			}
			expires, err := one(d)
			if err != nil {
				return err
			}
			if err := checkExpires(d, expires); err != nil {
				return err
			}
			txt.Expires = expires
			continue
		}
		values, known := lists[option]
		if !known {
			return unknown(d, "security_txt",
				strings.Join(append(slices.Sorted(maps.Keys(lists)), "expires"), ", "))
		}
		more, err := list(d)
		if err != nil {
			return err
		}
		*values = append(*values, more...)
	}
	if len(txt.Contact) == 0 {
		return d.Err("security_txt needs a contact, such as: security_txt mailto:security@example.com (RFC 9116 section 2.5.3)")
	}
	if txt.Expires == "" {
		return d.Errf("security_txt needs a line such as: expires %s (RFC 9116 section 2.5.5)", inHalfAYear())
	}
	b.wellKnown.SecurityTxt = txt
	return nil
}

func checkExpires(d *caddyfile.Dispenser, text string) error {
	if strings.Contains(text, "{") {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return d.Errf("expires must be a date such as %s (RFC 3339), not '%s'", inHalfAYear(), text)
	case !at.After(time.Now()):
		return d.Errf("expires is in the past; review the file and write a date such as %s", inHalfAYear())
	}
	return nil
}

func inHalfAYear() string {
	return time.Now().UTC().AddDate(0, 6, 0).Format("2006-01-02T00:00:00Z")
}
