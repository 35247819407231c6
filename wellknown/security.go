package wellknown

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
)

const securityTxtPath = "/.well-known/security.txt"

// SecurityTxt is the content of a security.txt file (RFC 9116). URIs of web
// pages must begin with `https://`, as section 2.5 demands.
type SecurityTxt struct {
	// Where to report a security hole, the preferred way first: URIs such as
	// `mailto:security@example.com`, `tel:+1-201-555-0123` or an `https://` page.
	// At least one is required.
	Contact []string `json:"contact,omitempty"`

	// The time from which on the file must not be relied on, by RFC 3339, such as
	// `2027-06-01T00:00:00Z`. A time that has passed is refused when the
	// configuration is loaded; from 30 days before, loading logs a warning. It
	// should be less than a year ahead. Required.
	Expires string `json:"expires,omitempty"`

	// Where to find keys for encrypted reports: `https://`, `dns:` or
	// `openpgp4fpr:` URIs. Default: none.
	Encryption []string `json:"encryption,omitempty"`

	// Pages that thank those who reported something. Default: none.
	Acknowledgments []string `json:"acknowledgments,omitempty"`

	// The languages that reports may be written in, as language tags such as
	// `en` and `pt-BR`. Default: none, any language.
	PreferredLanguages []string `json:"preferred_languages,omitempty"`

	// The URIs of this file. Default: the public URL's origin followed by
	// `/.well-known/security.txt`.
	Canonical []string `json:"canonical,omitempty"`

	// Pages that say how reports are dealt with. Default: none.
	Policy []string `json:"policy,omitempty"`

	// Pages about security-related jobs. Default: none.
	Hiring []string `json:"hiring,omitempty"`
}

// addSecurityTxt adds the file, if there is one. The old place at the top of the
// site only redirects: whoever got the file from there would have to distrust
// it, because its Canonical field does not name that place (section 2.5.2).
func (h *Handler) addSecurityTxt(base resource.Base, repl *caddy.Replacer, now time.Time, cacheControl string) error {
	if h.SecurityTxt == nil {
		return nil
	}
	body, expires, err := h.SecurityTxt.render(base, repl, now)
	if err != nil {
		return fmt.Errorf("security_txt: %w", err)
	}
	if left := expires.Sub(now); left < 30*24*time.Hour {
		h.logger.Warn("security.txt expires soon; the configuration cannot be loaded once it has",
			zap.Time("expires", expires))
	} else if left > 366*24*time.Hour {
		h.logger.Warn("security.txt expires in more than a year; RFC 9116 recommends less",
			zap.Time("expires", expires))
	}
	h.documents[securityTxtPath] = newDocument(body, textPlain, cacheControl)
	h.documents["/security.txt"] = &document{location: securityTxtPath, cacheControl: cacheControl}
	return nil
}

// render writes the file and returns when it expires.
func (s *SecurityTxt) render(base resource.Base, repl *caddy.Replacer, now time.Time) ([]byte, time.Time, error) {
	if len(s.Contact) == 0 {
		return nil, time.Time{}, errors.New("contact is missing; write at least one URI such as mailto:security@example.com")
	}
	example := now.AddDate(0, 6, 0).UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
	value, err := repl.ReplaceOrErr(s.Expires, true, true)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("expires: %w", err)
	}
	if value == "" {
		return nil, time.Time{}, fmt.Errorf("expires is missing; write a time within the next year, such as %s", example)
	}
	expires, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("expires %q is not a time by RFC 3339; write one such as %s", value, example)
	}
	if !expires.After(now) {
		return nil, time.Time{}, fmt.Errorf("expires %s has passed; check that the file is still right, and write a time within the next year, such as %s", value, example)
	}
	canonical := s.Canonical
	if len(canonical) == 0 {
		canonical = []string{base.Identifier(securityTxtPath)}
	}

	var b strings.Builder
	uris := func(option, field string, values []string) error {
		for _, v := range values {
			v, err := repl.ReplaceOrErr(v, true, true)
			if err != nil {
				return fmt.Errorf("%s: %w", option, err)
			}
			if err := checkURI(v, base); err != nil {
				return fmt.Errorf("%s %q %w", option, v, err)
			}
			b.WriteString(field + ": " + v + "\n")
		}
		return nil
	}
	if err := uris("contact", "Contact", s.Contact); err != nil {
		return nil, time.Time{}, err
	}
	b.WriteString("Expires: " + expires.UTC().Format(time.RFC3339) + "\n")
	if len(s.PreferredLanguages) > 0 {
		for _, tag := range s.PreferredLanguages {
			if !validLanguage(tag) {
				return nil, time.Time{}, fmt.Errorf("preferred_languages %q is not a language tag; write each by itself, such as en or pt-BR", tag)
			}
		}
		b.WriteString("Preferred-Languages: " + strings.Join(s.PreferredLanguages, ", ") + "\n")
	}
	err = errors.Join(
		uris("encryption", "Encryption", s.Encryption),
		uris("acknowledgments", "Acknowledgments", s.Acknowledgments),
		uris("canonical", "Canonical", canonical),
		uris("policy", "Policy", s.Policy),
		uris("hiring", "Hiring", s.Hiring),
	)
	return []byte(b.String()), expires, err
}

// checkURI refuses what is not a URI, or could be read as another field. Pages
// on the gateway's own origin may be http where the gateway itself may.
func checkURI(v string, base resource.Base) error {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme == "" || strings.ContainsFunc(v, func(c rune) bool { return c <= ' ' || c > '~' }):
		if err == nil && u.Scheme == "" && strings.Contains(v, "@") {
			return errors.New("is not a URI; write mailto: in front of the address")
		}
		return errors.New("is not a URI; write one such as mailto:security@example.com or https://example.com/security")
	case u.Opaque == "" && u.Host == "" && u.Path == "":
		return errors.New("has nothing after the scheme; write a whole URI")
	case u.Scheme == "https" && u.Host == "":
		return errors.New("has no host; write one after https://")
	case u.Scheme == "http" && !strings.HasPrefix(v, base.Origin()+"/"):
		return errors.New("must begin with https://")
	}
	return nil
}

// validLanguage reports whether a tag has the form of BCP 47: subtags of one to
// eight letters and digits, the first of letters only.
func validLanguage(tag string) bool {
	for i, subtag := range strings.Split(tag, "-") {
		if len(subtag) < 1 || len(subtag) > 8 {
			return false
		}
		for _, c := range []byte(subtag) {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}
