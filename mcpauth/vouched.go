package mcpauth

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// vouchedKey is a hash of all that a principal without a token was made of.
type vouchedKey [sha256.Size]byte

// said is what was said about somebody: the subject, or a claim that may be absent.
type said struct {
	text    string
	present bool
}

// vouch finds out for whom somebody else than an issuer of tokens vouches: nobody if
// there is neither a principal nor a refusal. One request has one credential. Two
// could disagree, and nobody could tell which of them the sender is; so they are
// refused, even if they happen to agree.
func (h *Handler) vouch(r *http.Request, e *endpoint, hasToken bool) (*Principal, *Refusal) {
	var room [8]said
	var by *voucher
	words := room[:0]
	if h.trusted != nil && h.trusted.believes(r) {
		heard, ok := h.trusted.hear(words, r.Header)
		if !ok {
			return nil, malformedIdentity()
		}
		if len(heard) > 0 {
			by, words = h.trusted.voucher, heard
		}
	}
	// What an mcp_auth before this one has found is not from an authenticator.
	if h.authenticated != nil && CallOf(r) == nil {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if id, ok := repl.Get(userPrefix + "id"); ok {
			if by != nil {
				return nil, severalCredentials(e)
			}
			by, words = h.authenticated, append(words, said{caddy.ToString(id), true})
			for _, c := range by.claims {
				value, ok := repl.Get(c.from)
				words = append(words, said{caddy.ToString(value), ok})
			}
		}
	}
	switch {
	case by == nil:
		return nil, nil
	case hasToken:
		return nil, severalCredentials(e)
	}
	return h.vouchedPrincipal(by, words, e.server)
}

// hear appends what the headers say: nothing if the subject's is absent. It is false
// if one of them stands there twice.
func (t *trusted) hear(words []said, header http.Header) ([]said, bool) {
	lines := header[t.header]
	if len(lines) == 0 {
		return nil, true
	}
	if len(lines) > 1 {
		return nil, false
	}
	words = append(words, said{lines[0], true})
	for _, c := range t.claims {
		switch lines := header[c.from]; len(lines) {
		case 0:
			words = append(words, said{})
		case 1:
			words = append(words, said{lines[0], true})
		default:
			return nil, false
		}
	}
	return words, true
}

// vouchedPrincipal returns the principal that words are about, remembered or new.
func (h *Handler) vouchedPrincipal(by *voucher, words []said, server string) (*Principal, *Refusal) {
	var room [512]byte
	text := appendText(appendText(room[:0], by.issuer), server)
	for _, word := range words {
		if !word.present {
			text = append(text, 0)
			continue
		}
		text = appendText(append(text, 1), word.text)
	}
	key := vouchedKey(sha256.Sum256(text))
	if p, ok := h.vouched.Get(key); ok {
		return p, nil
	}
	p, refusal := h.newVouched(by, words, server)
	if refusal == nil {
		h.vouched.Add(key, p)
	}
	return p, refusal
}

// newVouched makes the principal that words are about: its subject, and then the
// claims of the voucher.
func (h *Handler) newVouched(by *voucher, words []said, server string) (*Principal, *Refusal) {
	subject := words[0].text
	members := map[string]any{"iss": by.issuer, "sub": subject}
	for i, c := range by.claims {
		word := words[i+1]
		if !isPlain(word.text) {
			return nil, malformedIdentity()
		}
		if word.present {
			members[c.name] = split(word.text, c.separator)
		}
	}
	if subject == "" || !isPlain(subject) {
		return nil, malformedIdentity()
	}
	// Nothing but teams bounds whom a token does not bound.
	reach, err := scope.Parse(func(name string) (any, bool) {
		teams, ok := members[name]
		return teams, ok && name == "teams"
	}, nil, scope.Config{})
	if err != nil {
		return nil, malformedIdentity()
	}
	p := h.newPrincipal(token.NewClaims(by.issuer, subject, members, reach), server)
	p.vouched = true
	return p, nil
}

// appendText appends a text so that no other texts one after the other look the same.
func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// isPlain reports whether a text can go into headers and logs.
func isPlain(text string) bool {
	return utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

// split makes a list of a text.
func split(text, separator string) []any {
	list := []any{}
	for element := range strings.SplitSeq(text, separator) {
		if element = strings.Trim(element, " \t"); element != "" {
			list = append(list, element)
		}
	}
	return list
}

func malformedIdentity() *Refusal {
	return refuse(http.StatusBadRequest, mcp.CodeTransport, "identity_malformed", "what this request says of its sender is empty, said twice, or not text")
}

func severalCredentials(e *endpoint) *Refusal {
	f := refuse(http.StatusBadRequest, mcp.CodeTransport, "credentials_several", "there is more than one credential in this request")
	f.challenge = e.challenge("invalid_request", f.Message, nil)
	return f
}

// show makes the placeholders of the user be those of the principal. An authenticator
// that comes before may have set them for somebody else than the token's subject.
func (p *Principal) show(repl *caddy.Replacer) {
	if _, ok := repl.Get(userPrefix + "id"); !ok {
		return
	}
	if p.Issuer == issuerAuthenticated {
		// What the authenticator says of its user is right, but roles are ours.
		repl.Set(userPrefix+"roles", strings.Join(p.Roles, ","))
		return
	}
	repl.DeleteByPrefix(userPrefix)
}
