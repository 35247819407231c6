package issue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Session is whom a session token is for.
type Session struct {
	// ID is the interactive session's.
	ID string
	// Subject is the user's ID.
	Subject, Email, FullName string
	Admin                    bool
	// Teams are those of the user. An administrator's token has no such claim, which
	// stands for all teams.
	Teams []string
	// Roles are the names of those that the user has everywhere, for the conditions of
	// roles: when roles analyst.
	Roles []string
	// End is when the session ends in any case; zero for never.
	End time.Time
}

// API is what an API token says.
type API struct {
	// ID is the claim jti. Empty has one made.
	ID string
	// Subject is the user's ID.
	Subject, Email, FullName string
	Admin                    bool
	// Team is the only one in the claim teams; empty makes that null.
	Team string
	// Scopes is the claim scopes, an object; nil leaves it out, which restricts
	// nothing.
	Scopes jsontext.Value
	// Expires is when the token ends, within MaxLife.
	Expires time.Time
}

// Token is a signed token, and what has to be known to end it.
type Token struct {
	// Raw is the token itself, which nobody keeps.
	Raw string
	// ID is the claim jti.
	ID              string
	Issued, Expires time.Time
}

// The values of the claim token_use.
const (
	UseSession = "session"
	UseAPI     = "api"
)

// claims are those of a token.
type claims struct {
	Issuer      string         `json:"iss"`
	Subject     string         `json:"sub"`
	Audience    []string       `json:"aud"`
	ID          string         `json:"jti"`
	Issued      int64          `json:"iat"`
	Expires     int64          `json:"exp"`
	Environment string         `json:"env,omitzero"`
	Use         string         `json:"token_use"`
	Session     string         `json:"sid,omitzero"`
	Email       string         `json:"email,omitzero"`
	Name        string         `json:"name,omitzero"`
	Admin       *bool          `json:"is_admin,omitzero"`
	User        *userClaim     `json:"user,omitzero"`
	Teams       jsontext.Value `json:"teams,omitzero"`
	Roles       []string       `json:"roles,omitzero"`
	Scopes      jsontext.Value `json:"scopes,omitzero"`
}

type userClaim struct {
	Email    string `json:"email"`
	FullName string `json:"full_name"`
	Admin    bool   `json:"is_admin"`
	Provider string `json:"auth_provider"`
}

// Session makes a session token (behaviour.md section 1.3).
func (i *Issuer) Session(ctx context.Context, s Session) (Token, error) {
	c := claims{
		Subject: s.Subject, ID: rand.Text(), Use: UseSession, Session: s.ID,
		Email: s.Email, Name: s.FullName, Admin: &s.Admin, Roles: s.Roles,
	}
	if !s.Admin {
		var err error
		if c.Teams, err = json.Marshal(append([]string{}, s.Teams...)); err != nil {
			return Token{}, err
		}
	}
	expires := i.now().Add(i.SessionLife())
	if !s.End.IsZero() && s.End.Before(expires) {
		expires = s.End
	}
	return i.sign(ctx, c, expires)
}

// API makes an API token (behaviour.md section 1.3).
func (i *Issuer) API(ctx context.Context, a API) (Token, error) {
	if a.ID == "" {
		a.ID = rand.Text()
	}
	c := claims{
		Subject: a.Subject, ID: a.ID, Use: UseAPI, Scopes: a.Scopes,
		User: &userClaim{a.Email, a.FullName, a.Admin, "api_token"},
	}
	c.Teams = jsontext.Value("null")
	if a.Team != "" {
		var err error
		if c.Teams, err = json.Marshal([]string{a.Team}); err != nil {
			return Token{}, err
		}
	}
	return i.sign(ctx, c, a.Expires)
}

func (i *Issuer) sign(ctx context.Context, c claims, expires time.Time) (Token, error) {
	now := i.now()
	if c.Subject == "" {
		return Token{}, errors.New("a token needs a subject")
	}
	// Tokens have whole seconds.
	issued, expires := now.Truncate(time.Second), expires.Truncate(time.Second)
	if life := expires.Sub(issued); life <= 0 || life > i.MaxLife() {
		return Token{}, fmt.Errorf("a token can be good for up to %s from now on", i.MaxLife())
	}
	if i.set.Load() == nil {
		if err := i.load(ctx, true); err != nil {
			return Token{}, err
		}
	}
	signing := i.set.Load().signing(now)
	if signing == nil {
		return Token{}, errors.New("there is no key that signs now; is the clock right?")
	}
	i.warn(signing, now)
	c.Issuer, c.Audience, c.Environment = i.config.Name, i.config.Audiences, i.environment
	c.Issued, c.Expires = issued.Unix(), expires.Unix()
	payload, err := json.Marshal(c)
	if err != nil {
		return Token{}, err
	}
	jws, err := signing.signer.Sign(payload)
	if err != nil {
		return Token{}, err
	}
	raw, err := jws.CompactSerialize()
	return Token{raw, c.ID, issued, expires}, err
}
