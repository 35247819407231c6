package wellknown

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
)

// resourceMetadata is a document of RFC 9728 section 2. Members without a value
// are left out, as section 3.2 demands of empty arrays.
type resourceMetadata struct {
	Resource               string   `json:"resource"`
	AuthorizationServers   []string `json:"authorization_servers,omitempty"`
	ScopesSupported        []string `json:"scopes_supported,omitempty"`
	BearerMethodsSupported []string `json:"bearer_methods_supported"`
	ResourceName           string   `json:"resource_name,omitempty"`
	ResourceDocumentation  string   `json:"resource_documentation,omitempty"`
}

// addMetadata adds the metadata of every resource: the gateway as a whole, each
// server, and the short path of a single server.
func (h *Handler) addMetadata(base resource.Base, repl *caddy.Replacer, cacheControl string) error {
	common := resourceMetadata{
		ScopesSupported: h.ScopesSupported,
		// Tokens in a form or in the URL are refused, so they are not offered.
		BearerMethodsSupported: []string{"header"},
		ResourceName:           repl.ReplaceKnown(h.ResourceName, ""),
	}
	for _, issuer := range h.AuthorizationServers {
		expanded, err := repl.ReplaceOrErr(issuer, true, true)
		if err != nil {
			return fmt.Errorf("authorization_servers: %w", err)
		}
		if err := checkIssuer(expanded, h.development); err != nil {
			return err
		}
		common.AuthorizationServers = append(common.AuthorizationServers, expanded)
	}
	for _, scope := range h.ScopesSupported {
		if !validScope(scope) {
			return fmt.Errorf("scopes_supported: %q is not a scope; write each by itself, in printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)", scope)
		}
	}
	if h.ResourceDocumentation != "" {
		expanded, err := repl.ReplaceOrErr(h.ResourceDocumentation, true, true)
		if err != nil {
			return fmt.Errorf("resource_documentation: %w", err)
		}
		if u, err := url.Parse(expanded); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return fmt.Errorf("resource_documentation: %q is not the URL of a web page; write one that begins with https://", expanded)
		}
		common.ResourceDocumentation = expanded
	}

	paths := []string{base.Prefix()}
	seen := make(map[string]bool, len(h.Servers))
	for _, name := range h.Servers {
		if err := resource.CheckServer(name); err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("servers: %q is named twice; name each server once", name)
		}
		seen[name] = true
		paths = append(paths, base.Endpoint(name))
	}
	if len(h.Servers) == 1 {
		paths = append(paths, base.Endpoint(""))
	}
	if h.DisableMetadata {
		return nil
	}
	for _, path := range paths {
		m := common
		m.Resource = base.Identifier(path)
		body, err := json.Marshal(&m)
		if err != nil {
			return fmt.Errorf("writing the metadata of %s: %w", m.Resource, err)
		}
		d := newDocument(body, applicationJSON, cacheControl)
		d.cors = true
		h.documents[base.MetadataPath(path)] = d
	}
	return nil
}

// environment is what is asked of the mcp_gateway app about issuers.
type environment interface {
	// Development is whether the gateway is for development alone.
	Development() bool
}

// checkIssuer checks an issuer identifier by RFC 8414 section 2. It is published
// as it is, since clients compare it byte for byte.
func checkIssuer(issuer string, development bool) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(issuer, "?#") {
		return fmt.Errorf("authorization_servers: %q is not an issuer; write its https:// URL without user, query and fragment", issuer)
	}
	if u.Scheme == "https" || u.Scheme == "http" && development {
		return nil
	}
	// The rule for http is the same as for the public URL, whose path must be
	// plain, though, while an issuer's need not be.
	if _, err := resource.Parse(u.Scheme + "://" + u.Host); err != nil {
		return fmt.Errorf("authorization_servers: %q must begin with https://; http is for loopback hosts only", issuer)
	}
	return nil
}

// validScope reports whether s is one scope token (RFC 6749 section 3.3).
func validScope(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// noMetadata answers a path where metadata would be if there were such a
// resource. Clients try several such paths in turn, so that this one must be a
// plain 404, readable from any web page, and not whatever comes next.
func noMetadata(w http.ResponseWriter, r *http.Request) error {
	if allowAnyOrigin(w, r) {
		return nil
	}
	if err := checkMethod(w, r, true); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return caddyhttp.Error(http.StatusNotFound, errors.New("no such protected resource"))
}
