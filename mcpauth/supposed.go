package mcpauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Sources are the issuers of principals: those of tokens, in the order of the
// configuration, and `authenticated` and `trusted_header` if these let anybody in.
func (h *Handler) Sources() []string {
	var names []string
	for _, issuer := range h.Issuers {
		names = append(names, issuer.Issuer)
	}
	if h.authenticated != nil {
		names = append(names, issuerAuthenticated)
	}
	if h.trusted != nil {
		names = append(names, issuerTrustedHeader)
	}
	return names
}

// suppose returns the principal that the claims describe, or the refusal of it. The
// claim iss says where it comes from.
func (h *Handler) suppose(claims map[string]any, e *endpoint, now time.Time) (*Principal, *Refusal, error) {
	from := claims["iss"]
	if from == nil && len(h.Issuers) == 0 {
		sources := h.Sources()
		if len(sources) > 1 {
			return nil, nil, fmt.Errorf("say in the claim iss who vouches: %s", strings.Join(sources, " or "))
		}
		from = sources[0]
	}
	by, isVoucher := h.voucherOf(from)
	switch {
	case by != nil:
		words, err := by.words(claims)
		if err != nil {
			return nil, nil, err
		}
		p, refusal := h.newVouched(by, words, e.server)
		return p, refusal, nil
	case isVoucher || len(h.Issuers) == 0:
		return nil, h.tokenMissing(e), nil // nobody hears what the voucher says, or looks at a token
	}
	supposed, err := h.verifier.Suppose(claims, now, e.audiences)
	if refused, ok := errors.AsType[*token.Error](err); ok {
		message := strings.TrimPrefix(refused.Error(), string(refused.Reason)+": ")
		return nil, refuse(http.StatusUnauthorized, mcp.CodeUnauthorized, string(refused.Reason), message), nil
	} else if err != nil {
		return nil, nil, err
	}
	return h.newPrincipal(supposed, e.server), nil, nil
}

// voucherOf returns the voucher of that name, and whether there can be one: it is nil
// if the configuration does not have it.
func (h *Handler) voucherOf(name any) (*voucher, bool) {
	switch name {
	case issuerAuthenticated:
		return h.authenticated, true
	case issuerTrustedHeader:
		if h.trusted != nil {
			return h.trusted.voucher, true
		}
		return nil, true
	}
	return nil, false
}

// words are what the voucher would say of a principal with these claims, in the order
// in which it is read. What the configuration does not read is not heard.
func (v *voucher) words(claims map[string]any) ([]said, error) {
	subject, ok := claims["sub"]
	if !ok {
		subject = token.Supposed
	}
	text, ok := subject.(string)
	if !ok {
		return nil, errors.New("claim sub: it is not text")
	}
	words := []said{{text, true}}
	for _, c := range v.claims {
		switch value := claims[c.name].(type) {
		case nil:
			words = append(words, said{})
		case string:
			words = append(words, said{value, true})
		case []any:
			elements := make([]string, len(value))
			for n, element := range value {
				if elements[n], ok = element.(string); !ok {
					return nil, fmt.Errorf("claim %s: %s says text, or a list of texts", c.name, v.issuer)
				}
			}
			words = append(words, said{strings.Join(elements, c.separator), true})
		default:
			return nil, fmt.Errorf("claim %s: %s says text, or a list of texts", c.name, v.issuer)
		}
	}
	return words, nil
}
