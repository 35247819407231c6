package mcpauth

import (
	"errors"
	"net/http"
)

// IssuerTrustedHeader is the issuer of those whom a proxy in front of Caddy names, which
// is what they can be revoked by.
const IssuerTrustedHeader = issuerTrustedHeader

// Peers are proxies in front of Caddy that are believed to say who somebody is, for a
// handler beside mcp_auth. Nobody else is.
type Peers struct{ trusted *trusted }

// Compile makes the peers of what was configured. Only the subject can be had of them.
func (t *TrustedHeader) Compile() (*Peers, error) {
	if len(t.Claims) > 0 {
		return nil, errors.New("only the header itself counts here; leave its claims out")
	}
	compiled, err := t.compile()
	if err != nil {
		return nil, err
	}
	return &Peers{compiled}, nil
}

// Named returns whom a request is from by the words of a peer. It is empty if the request
// does not come from one, or if that names nobody.
func (p *Peers) Named(r *http.Request) (string, *Refusal) {
	if p == nil || !p.trusted.believes(r) {
		return "", nil
	}
	words, ok := p.trusted.hear(nil, r.Header)
	switch {
	case !ok:
		return "", malformedIdentity()
	case len(words) == 0:
		return "", nil
	case words[0].text == "" || !isPlain(words[0].text):
		return "", malformedIdentity()
	}
	return words[0].text, nil
}

// Strip takes the header out of a request that is not from a peer, in every spelling that
// somebody after this handler could take for it. A peer's stays, for mcp_auth may believe
// it as well.
func (p *Peers) Strip(r *http.Request) {
	if p != nil && !p.trusted.believes(r) {
		p.trusted.forget(r.Header)
	}
}
