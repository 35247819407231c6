// Package resource builds the URLs by which the gateway names its endpoints:
// OAuth resource identifiers (RFC 8707), which tokens are issued for, and the
// addresses of the metadata about them (RFC 9728). They are made from the
// configured public URL and from nothing else. A URL that depended on the Host
// or a forwarding header of a request would let a client choose which audience
// is checked, or poison a cache.
package resource

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// WellKnown is the path of the protected resource metadata of a resource that
// is a whole origin. For others their path follows (RFC 9728 section 3.1).
const WellKnown = "/.well-known/oauth-protected-resource"

// Base is a parsed public URL. Every path that its methods take or return is a
// whole path, as a client requests it: it includes the path prefix of a public
// URL that has one. The zero value is of no use.
type Base struct {
	scheme, hostname, port, prefix string
}

// Parse reads a public URL: https, or http where the host is a loopback name or
// address; a host name, an IPv4 address or an IPv6 literal, in any case; an
// optional port; an optional path prefix. A trailing slash and the scheme's
// default port are dropped, the host is written in lower case. Whatever else a
// URL can hold (user, query, fragment, encoded characters) is refused, because
// two spellings of one identifier are two identifiers for a client.
func Parse(publicURL string) (Base, error) {
	b, err := parse(publicURL)
	if err != nil {
		return Base{}, fmt.Errorf("public URL %q: %w", redact(publicURL), err)
	}
	return b, nil
}

func parse(publicURL string) (Base, error) {
	if publicURL == "" {
		return Base{}, errors.New("is empty; write the URL that clients use, such as https://mcp.example.com")
	}
	u, err := url.Parse(publicURL)
	if err != nil {
		return Base{}, errors.New("is not a URL; write one such as https://mcp.example.com")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return Base{}, errors.New("must begin with https://")
	case u.Opaque != "" || u.Hostname() == "":
		return Base{}, errors.New("has no host; write one after https://")
	case u.User != nil:
		return Base{}, errors.New("must not contain a user name or password")
	case strings.ContainsAny(publicURL, "?#"):
		return Base{}, errors.New("must not have a query or fragment")
	}
	b := Base{scheme: u.Scheme}
	var loopback bool
	if b.hostname, loopback, err = hostname(u.Hostname()); err != nil {
		return Base{}, err
	}
	if b.scheme == "http" && !loopback {
		return Base{}, errors.New("must begin with https://; http is for loopback hosts only")
	}
	if b.port, err = port(u.Scheme, u.Port()); err != nil {
		return Base{}, err
	}
	b.prefix = strings.TrimSuffix(u.EscapedPath(), "/")
	if b.prefix != "" && !CleanPath(b.prefix[1:]) {
		return Base{}, errors.New("must have a path of plain segments: letters, digits and any of -._~")
	}
	return b, nil
}

// hostname checks a host and returns its one spelling.
func hostname(host string) (name string, loopback bool, err error) {
	host = strings.ToLower(host)
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" || addr.Is4In6() {
			return "", false, errors.New("must not have an IPv6 zone or an IPv4 address within an IPv6 one")
		}
		return addr.String(), addr.IsLoopback(), nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" {
			return "", false, errors.New("has a host with an empty label; write it without a dot at its end")
		}
		for _, c := range []byte(label) {
			if !letterOrDigit(c) && c != '-' && c != '_' {
				return "", false, errors.New("has a host with a character that host names do not have; write international names in their xn-- form")
			}
		}
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", false, errors.New("has a host that browsers take for an IPv4 address but is none")
	}
	return host, host == "localhost" || strings.HasSuffix(host, ".localhost"), nil
}

// port checks a port and returns its one spelling, empty for the default.
func port(scheme, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("has a port that is not between 1 and 65535")
	}
	if scheme == "https" && n == 443 || scheme == "http" && n == 80 {
		return "", nil
	}
	return strconv.FormatUint(n, 10), nil
}

// redact keeps a password that was put into a URL by mistake out of the error.
func redact(publicURL string) string {
	if i := strings.LastIndexByte(publicURL, '@'); i >= 0 {
		return "..." + publicURL[i:]
	}
	return publicURL
}

// Scheme returns "https" or "http".
func (b Base) Scheme() string { return b.scheme }

// Hostname returns the host without the port, an IPv6 address without brackets.
func (b Base) Hostname() string { return b.hostname }

// Host returns what clients send as Host: the host in lower case, and the port
// unless it is the scheme's default.
func (b Base) Host() string {
	if b.port != "" {
		return net.JoinHostPort(b.hostname, b.port)
	}
	if strings.Contains(b.hostname, ":") {
		return "[" + b.hostname + "]"
	}
	return b.hostname
}

// Origin returns scheme and host, as browsers send it in an Origin header.
func (b Base) Origin() string { return b.scheme + "://" + b.Host() }

// Prefix returns the path prefix of the public URL, without a slash at its end:
// empty when there is none.
func (b Base) Prefix() string { return b.prefix }

// Endpoint returns the path of a server's MCP endpoint, or for the empty name
// that of the gateway as a whole, where a single server can be reached too.
func (b Base) Endpoint(server string) string {
	if server == "" {
		return b.prefix + "/mcp"
	}
	return b.prefix + "/servers/" + server + "/mcp"
}

// Identifier returns the resource identifier of a path. That of the gateway as
// a whole is Identifier(b.Prefix()), which is also what String returns.
func (b Base) Identifier(path string) string { return b.Origin() + path }

// String returns the public URL in its one spelling, without a trailing slash.
func (b Base) String() string { return b.Identifier(b.prefix) }

// MetadataPath returns the path of the metadata about the resource at a path:
// the well-known path is put in front of it (RFC 9728 section 3.1).
func (b Base) MetadataPath(path string) string { return WellKnown + path }

// MetadataURL returns the URL of the metadata about the resource at a path, as
// it stands in a WWW-Authenticate challenge (RFC 9728 section 5.1).
func (b Base) MetadataURL(path string) string { return b.Identifier(b.MetadataPath(path)) }

// CheckServer says what is wrong with the name of a server. Names are one path
// segment of at most 64 lower-case letters, digits and hyphens that begins with a
// letter or digit, so that they need no encoding in a URL and no quoting in a rule,
// and leave other characters to set them apart from names of tools.
func CheckServer(name string) error {
	switch {
	case name == "":
		return errors.New("a server has no name")
	case len(name) > 64:
		return fmt.Errorf("server name %.64q... is longer than 64 characters", name)
	case name[0] == '-':
		return fmt.Errorf("server name %q must begin with a letter or digit", name)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("server name %q may hold lower-case letters, digits and hyphens only", name)
		}
	}
	return nil
}

// CleanPath reports whether a path, given without a slash in front, consists of
// segments that every URL parser spells alike: of RFC 3986's unreserved
// characters, none of them empty or made of dots only.
func CleanPath(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if strings.Trim(segment, ".") == "" {
			return false
		}
		for _, c := range []byte(segment) {
			if !letterOrDigit(c) && !strings.ContainsRune("-._~", rune(c)) {
				return false
			}
		}
	}
	return true
}

func letterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
