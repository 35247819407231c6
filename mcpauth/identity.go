package mcpauth

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// The issuers of principals that come without a token. No issuer of tokens may have
// such a name, or one could speak for the other's principals.
const (
	issuerAuthenticated = "authenticated"
	issuerTrustedHeader = "trusted_header"
)

// Authenticated lets in whom one of Caddy's own authenticators has let in, such as
// basic_auth or another provider of the authentication handler, which must come
// before mcp_auth. The principal's subject is `{http.auth.user.id}`, its issuer is
// the word `authenticated`.
//
// It has no token, so nothing bounds it but roles, visibility and, if mapped, teams;
// it is never an administrator. A request that has a token as well is refused.
type Authenticated struct {
	// Claims are what roles see of the user beside the id, by the name of the
	// claim. Each comes from a placeholder `{http.auth.user.*}` that the
	// authenticator sets, and from nothing else. Default: none.
	Claims map[string]ClaimSource `json:"claims,omitempty"`
}

// TrustedHeader lets in whom a proxy in front of Caddy names in a header. The
// principal's subject is the header's value, its issuer is the word
// `trusted_header`. It is bounded as with [Authenticated].
//
// The header, and those of its claims, are believed only of a request that comes from
// one of the peers, and never go further than here: not to a server, nor to a handler
// after this one. From everybody else they count for nothing. The proxy must set or
// remove every one of them in every request: what it passes on from a client is
// believed as well.
//
// The peer is the other end of the connection. It is not the client's address that
// Caddy's trusted_proxies finds, which comes from a header itself. Behind the
// listener wrapper proxy_protocol it is what that says, so that the wrapper must
// name whom it allows. A proxy that connects by a Unix socket is no peer.
type TrustedHeader struct {
	// Header is the header's name, such as X-Authenticated-User. A peer must send
	// exactly one, which is not empty, or none. Required.
	Header string `json:"header,omitempty"`

	// From are the peers: addresses or CIDR blocks. Placeholders are expanded when
	// the configuration is loaded. At least one is required.
	From []string `json:"from,omitempty"`

	// Claims are what roles see beside the subject, by the name of the claim, each
	// from a header of the same request. Default: none.
	Claims map[string]ClaimSource `json:"claims,omitempty"`
}

// ClaimSource is where a claim comes from when it is not from a token. The claim is a
// list of texts, and absent where its source is.
type ClaimSource struct {
	// From is a placeholder `{http.auth.user.*}` of an authenticated user, or the
	// name of a trusted header. Required.
	From string `json:"from,omitempty"`

	// Separator stands between the elements of the list. White space around them,
	// and empty ones, are left out. Default: a comma.
	Separator string `json:"separator,omitempty"`
}

// reserved are claims that mean something to the gateway itself. What vouches for a
// principal without a token must not set them.
var reserved = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "cnf", "env", "token_use",
	"scope", "scp", "scopes", "is_admin", "user",
}

// voucher is a source of identity other than tokens, compiled.
type voucher struct {
	issuer string
	claims []vouchedClaim
}

type vouchedClaim struct{ name, from, separator string }

// newVoucher compiles claims, each of whose sources is read by read.
func newVoucher(issuer string, claims map[string]ClaimSource, read func(from string) (string, error)) (*voucher, error) {
	v := &voucher{issuer: issuer}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if name == "" || slices.Contains(reserved, name) {
			return nil, fmt.Errorf("claim %q cannot come from here, because it has a meaning of its own in tokens; give it another name", name)
		}
		from, err := read(claims[name].From)
		if err != nil {
			return nil, fmt.Errorf("claim %s: %w", name, err)
		}
		separator := claims[name].Separator
		if separator == "" {
			separator = ","
		}
		v.claims = append(v.claims, vouchedClaim{name, from, separator})
	}
	return v, nil
}

// userPrefix begins the names of the placeholders in which an authenticator tells who
// the user is.
const userPrefix = "http.auth.user."

func readPlaceholder(text string) (string, error) {
	key, opened := strings.CutPrefix(text, "{")
	key, closed := strings.CutSuffix(key, "}")
	if !opened || !closed || !strings.HasPrefix(key, userPrefix) || key == userPrefix || strings.ContainsAny(key, "{}") {
		return "", fmt.Errorf("%q is not what an authenticator has set; write one placeholder such as {%sgroups}", text, userPrefix)
	}
	return key, nil
}

// trusted is a TrustedHeader, compiled.
type trusted struct {
	*voucher
	header string
	peers  []netip.Prefix
	// names are all of its headers.
	names []string
}

func (t *TrustedHeader) compile() (*trusted, error) {
	c := &trusted{}
	read := func(name string) (string, error) {
		name, err := identityHeader(name)
		if err == nil && !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
		return name, err
	}
	var err error
	if c.header, err = read(t.Header); err != nil {
		return nil, err
	}
	if c.voucher, err = newVoucher(issuerTrustedHeader, t.Claims, read); err != nil {
		return nil, err
	}
	if len(t.From) == 0 {
		return nil, errors.New("a trusted header needs the peers it is believed from; name the proxy's address or network in from")
	}
	for _, text := range t.From {
		peer, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
		if err != nil {
			return nil, fmt.Errorf("from: %w", err)
		}
		block, ok := scope.ParseBlock(peer)
		switch {
		case !ok:
			return nil, fmt.Errorf("from: %q is neither an address nor a CIDR block such as 10.0.0.0/8", peer)
		case block.Bits() == 0:
			return nil, fmt.Errorf("from: %s is everybody, who could then say to be anybody; name the proxy's address or network", peer)
		}
		c.peers = append(c.peers, block)
	}
	return c, nil
}

// identityHeader checks that a header may tell an identity, and returns its one
// spelling. A name with another meaning must not be taken out of every request.
func identityHeader(name string) (string, error) {
	if name == "" || !isToken(name) {
		return "", fmt.Errorf("header %q must be a name of letters, digits and hyphens, such as X-Authenticated-User", name)
	}
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie",
		"Expect", "Forwarded", "Host", "Keep-Alive", "Origin", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
		return "", fmt.Errorf("header %s has another meaning; name one that only the proxy sets, such as X-Authenticated-User", name)
	}
	if strings.HasPrefix(name, "Mcp-") || strings.HasPrefix(name, IdentityPrefix) {
		return "", fmt.Errorf("header %s belongs to MCP or the gateway; name one that only the proxy sets, such as X-Authenticated-User", name)
	}
	return name, nil
}

// provisionIdentity compiles the sources of identity other than tokens. It comes after
// the issuers' provisioning.
func (h *Handler) provisionIdentity() (err error) {
	for _, iss := range h.Issuers {
		if iss.Issuer == issuerAuthenticated || iss.Issuer == issuerTrustedHeader {
			return fmt.Errorf("issuer %s: the name stands for principals without a token, and tokens must not speak for them", iss.Issuer)
		}
	}
	if len(h.Issuers) == 0 {
		if h.Authenticated == nil && h.TrustedHeader == nil {
			return errors.New("no issuer of access tokens is configured, nor authenticated or trusted_header; without one of them nobody can be let in")
		}
		for _, e := range h.endpoints {
			e.metadata = "" // there is nowhere to send a client for a token
		}
	}
	if h.Authenticated != nil {
		if h.authenticated, err = newVoucher(issuerAuthenticated, h.Authenticated.Claims, readPlaceholder); err != nil {
			return fmt.Errorf("authenticated: %w", err)
		}
	}
	if h.TrustedHeader != nil {
		if h.trusted, err = h.TrustedHeader.compile(); err != nil {
			return fmt.Errorf("trusted_header: %w", err)
		}
	}
	size := h.TokenCache
	if size <= 0 {
		size = token.DefaultCacheSize
	}
	h.vouched, err = lru.New[vouchedKey, *Principal](size)
	return err
}

// forget takes the headers of a request that tell an identity out of it, and any that
// a server could take for one of them: CGI and its heirs write a hyphen as an
// underscore.
func (t *trusted) forget(header http.Header) {
	if t == nil {
		return
	}
	for name := range header {
		spelled := name
		if strings.ContainsAny(name, "_.") {
			spelled = http.CanonicalHeaderKey(hyphens.Replace(name))
		}
		if slices.Contains(t.names, spelled) {
			delete(header, name)
		}
	}
}

var hyphens = strings.NewReplacer("_", "-", ".", "-")

// believes reports whether a request comes from one of the peers.
func (t *trusted) believes(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(t.peers, func(block netip.Prefix) bool { return block.Contains(addr) })
}

// tokenMissing asks for a token where there is somebody to get one from.
func (h *Handler) tokenMissing(e *endpoint) *Refusal {
	f := refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, "token_missing", "an access token is needed")
	if len(h.Issuers) == 0 {
		f = refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, "identity_missing", "nobody vouches for the sender of this request")
		f.challenge = e.challenge("", "", nil)
		return f
	}
	f.challenge = e.challenge("", "", h.ScopesSupported)
	return f
}
