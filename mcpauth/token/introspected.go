package token

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/introspect"
)

// provisionIntrospection makes the client that asks the issuer.
func (iss *Issuer) provisionIntrospection(ctx caddy.Context) error {
	if iss.Introspection == nil {
		return nil
	}
	environment, logger := EnvironmentOf(ctx), ctx.Logger()
	client, err := introspect.New(*iss.Introspection, iss.Issuer, introspect.Rules{
		Permitted:  environment.Permits,
		Configured: func(u *url.URL) error { return environment.CheckTransport(logger, u) },
		Object:     func(unsafe error) error { return environment.Object(logger, unsafe) },
	})
	if err != nil {
		return fmt.Errorf("introspection: %w", err)
	}
	ctx.OnCancel(client.Close)
	iss.asked = client
	return nil
}

// isOpaque reports whether a text can be a token that only its issuer can read. What
// begins like a JWT is none, however it goes on: it may be another issuer's, and is
// shown to nobody.
func isOpaque(raw string) bool {
	return isToken68(raw) && !beginsLikeJWT(raw)
}

// isToken68 reports whether a text has the form of a bearer token (RFC 6750 section
// 2.1).
func isToken68(raw string) bool {
	const others = "-._~+/"
	text := strings.TrimRight(raw, "=")
	return text != "" && strings.IndexFunc(text, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(others, r)
	}) < 0
}

// beginsLikeJWT reports whether the text before the first dot is a JSON object in
// base64, in any spelling of it.
func beginsLikeJWT(raw string) bool {
	first, _, ok := strings.Cut(raw, ".")
	if !ok {
		return false
	}
	// An object begins with the first four characters, unless with white space.
	first = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(first)
	decoded, _ := base64.RawURLEncoding.DecodeString(first[:len(first)-len(first)%4])
	return bytes.HasPrefix(bytes.TrimLeft(decoded, " \t\r\n"), []byte("{"))
}

// ask has the issuer itself read a token. The text identifies the token where it has no
// jti.
func (v *Verifier) ask(ctx context.Context, iss *Issuer, raw, text string, now time.Time, audiences []string) (*Claims, error) {
	answer, refusal := iss.ask(ctx, raw, now)
	if refusal != nil {
		return nil, refusal
	}
	members := maps.Clone(answer.Members)
	members["iss"] = iss.Issuer
	claims, refusal := v.judge(iss, members, audiences, now)
	if refusal != nil {
		return nil, refusal
	}
	claims.Digest, claims.fresh = sha256.Sum256([]byte(text)), answer.Until
	return claims, nil
}

// ask returns the issuer's answer, if it says that the token is an active bearer token
// of that issuer.
func (iss *Issuer) ask(ctx context.Context, raw string, now time.Time) (*introspect.Answer, *Error) {
	answer, err := iss.asked.Ask(ctx, raw, now)
	if err != nil {
		if errors.Is(err, introspect.ErrInactive) {
			return nil, refuse(Inactive)
		}
		refusal := NewError(IntrospectionUnavailable, err)
		if down, ok := errors.AsType[*introspect.UnavailableError](err); ok {
			refusal.RetryAfter = down.RetryAfter
		}
		return nil, refusal
	}
	if name, ok := answer.Members["iss"]; ok && name != any(iss.Issuer) {
		return nil, refuse(UnknownIssuer)
	}
	// A token of any other kind is bound to a key that nobody has proven to have here
	// (RFC 9449 section 6.2), or not for access.
	if kind, ok := answer.Members["token_type"]; ok {
		name, _ := kind.(string)
		switch {
		case strings.EqualFold(name, "Bearer"):
		case strings.EqualFold(name, "DPoP"), strings.EqualFold(name, "PoP"):
			return nil, refuse(SenderConstrained)
		default:
			return nil, refuse(WrongType)
		}
	}
	return answer, judgeKind(answer.Members)
}

// confirm asks the issuer about a token whose claims it has signed. The answer may take
// something away, and gives nothing.
func (iss *Issuer) confirm(ctx context.Context, c *Claims, raw string, now time.Time) error {
	answer, refusal := iss.ask(ctx, raw, now)
	if refusal != nil {
		return refusal
	}
	said := &Claims{members: answer.Members}
	for _, same := range []struct{ name, signed string }{
		{"sub", c.Subject}, {"jti", c.TokenID}, {"client_id", c.ClientID},
	} {
		value, refusal := identifier(answer.Members, same.name)
		if refusal != nil {
			return refusal
		}
		if value != "" && same.signed != "" && value != same.signed {
			return refuse(Disagreement)
		}
	}
	if refusal := said.readScopes(); refusal != nil {
		return refusal
	}
	if said.Scopes != nil && !sameSet(said.Scopes, c.Scopes) {
		return refuse(Disagreement)
	}
	if _, ok := answer.Members["exp"]; ok {
		if refusal := said.judgeTime(now, time.Duration(iss.Leeway)); refusal != nil {
			return refusal
		}
		if said.deadline.Before(c.deadline) {
			c.Expires, c.deadline = said.Expires, said.deadline
		}
	}
	c.fresh = answer.Until
	return nil
}
