package metadata

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
)

// Member is a member of the metadata that holds the address of something.
type Member string

// The members that are looked for (RFC 8414 section 2).
const (
	JWKSURI               Member = "jwks_uri"
	IntrospectionEndpoint Member = "introspection_endpoint"
)

// document is what is read of the metadata.
type document struct {
	Issuer                string `json:"issuer"`
	JWKSURI               string `json:"jwks_uri"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
}

func (d *document) member(name Member) string {
	if name == IntrospectionEndpoint {
		return d.IntrospectionEndpoint
	}
	return d.JWKSURI
}

// WellKnown lists where the metadata of an issuer may be, in the order in which
// MCP clients look for it.
func WellKnown(issuer *url.URL) []string {
	origin := issuer.Scheme + "://" + issuer.Host
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	places := []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + "/.well-known/openid-configuration" + path,
	}
	if path != "" {
		places = append(places, origin+path+"/.well-known/openid-configuration")
	}
	return places
}

// Find returns the address that the issuer's metadata has in a member. A place whose
// document is missing or names another issuer is passed over. Permitted says whether an
// address may be used.
func Find(ctx context.Context, client *http.Client, member Member, issuer string, places []string, permitted func(*url.URL) error) (string, error) {
	var failures []error
	for _, place := range places {
		address, err := read(ctx, client, member, issuer, place, permitted)
		if err == nil {
			return address, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.Join(failures...)
}

func read(ctx context.Context, client *http.Client, member Member, issuer, place string, permitted func(*url.URL) error) (string, error) {
	body, err := Get(ctx, client, place)
	if err != nil {
		return "", err
	}
	var metadata document
	if err := json.Unmarshal(body, &metadata); err != nil {
		return "", fmt.Errorf("%s: not a metadata document: %w", place, err)
	}
	if metadata.Issuer != issuer {
		return "", fmt.Errorf("%s: the metadata is that of another issuer", place)
	}
	address := metadata.member(member)
	parsed, err := ParseURL(address)
	if err == nil {
		err = permitted(parsed)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", place, member, err)
	}
	// Only what is itself without TLS, as on this machine, may send us to it without.
	if parsed.Scheme != "https" && !strings.HasPrefix(issuer, "http://") {
		return "", fmt.Errorf("%s: %s must be https", place, member)
	}
	return address, nil
}
