package account

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/ccojocar/zxcvbn-go"
)

// PasswordPolicy says which passwords are accepted. The zero value has the defaults.
type PasswordPolicy struct {
	// How many characters a password must have. Default: 12, which is also the
	// least that is possible.
	MinLength int `json:"min_length,omitempty"`

	// The same for administrators. Default: 22, or min_length if that is more.
	MinLengthAdministrator int `json:"min_length_administrator,omitempty"`

	// How many former passwords may not be used again, the present one included, at
	// most 24. Default: 5.
	History int `json:"history,omitempty"`

	// After which time a password must be changed, such as 90d. Default: never.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

func (p *PasswordPolicy) defaults() error {
	if p.MinLength == 0 {
		p.MinLength = 12
	}
	if p.MinLengthAdministrator == 0 {
		p.MinLengthAdministrator = max(22, p.MinLength)
	}
	if p.History == 0 {
		p.History = 5
	}
	if p.MinLength < 12 || p.MinLengthAdministrator < p.MinLength || p.MinLengthAdministrator > 64 {
		return fmt.Errorf("passwords must have at least 12 characters, those of administrators no fewer than others, and nobody's more than 64")
	}
	if p.History < 0 || p.History > 24 || p.MaxAge < 0 {
		return fmt.Errorf("the history of passwords is 1 to 24 long, and their age positive")
	}
	return nil
}

// guessable is the score of zxcvbn (0 to 4) below which a password is too easy to guess:
// fewer than 10^8 guesses, which is what common passwords, names, dates, keyboard walks
// and sequences take, however they are put together or spelt.
const guessable = 3

// Check refuses a password that is too short, of too few kinds of characters, or easy
// to guess for somebody who knows about the person (behaviour.md section 5.5). The
// error is an *[Error] and tells nothing of the password.
func (p PasswordPolicy) Check(password, email, fullName string, admin bool) error {
	prepared, ok := prepare(password)
	if !ok {
		return invalid("password_malformed", fmt.Sprintf("a password must be text without control characters, of at most %d bytes", MaxPassword))
	}
	minLength := p.MinLength
	if admin {
		minLength = p.MinLengthAdministrator
	}
	if utf8.RuneCountInString(prepared) < minLength {
		return invalid("password_short", fmt.Sprintf("the password must have at least %d characters", minLength))
	}
	if kinds(prepared) < 3 {
		return invalid("password_classes", "the password must have three of these: lower case, upper case, digits, other characters")
	}
	personal := strings.FieldsFunc(strings.ToLower(email+" "+fullName), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	lower := strings.ToLower(prepared)
	for _, word := range personal {
		if utf8.RuneCountInString(word) >= 3 && strings.Contains(lower, word) {
			return invalid("password_personal", "the password must not hold a part of the name or address")
		}
	}
	if zxcvbn.PasswordStrength(prepared, personal).Score < guessable {
		return invalid("password_guessable", "the password is easy to guess; use more words, or words that do not follow from each other")
	}
	return nil
}

func kinds(password string) int {
	var lower, upper, digit, other int
	for _, c := range password {
		switch {
		case unicode.IsLower(c):
			lower = 1
		case unicode.IsUpper(c):
			upper = 1
		case unicode.IsDigit(c):
			digit = 1
		default:
			other = 1
		}
	}
	return lower + upper + digit + other
}

// accept checks a new password of somebody, and returns what is to be kept of it.
func (s *Service) accept(ctx context.Context, u *userRecord, password string) (hash string, err error) {
	if err := s.passwords.Check(password, u.Email, u.FullName, u.Admin); err != nil {
		return "", err
	}
	former := append([]string{u.Hash}, u.Former...)
	for _, old := range former[:min(len(former), s.passwords.History)] {
		if old == "" {
			continue
		}
		same, _, err := s.hasher.verify(ctx, old, password)
		if err != nil {
			return "", err
		}
		if same {
			return "", invalid("password_reused", fmt.Sprintf("the password is one of the last %d; choose another", s.passwords.History))
		}
	}
	return s.hasher.make(ctx, password)
}

// setHash puts another password in place of the present one.
func (s *Service) setHash(u *userRecord, hash string, mustChange bool) {
	if u.Hash != "" {
		former := append([]string{u.Hash}, u.Former...)
		u.Former = former[:min(len(former), s.passwords.History-1)]
	}
	u.Hash, u.MustChange = hash, mustChange
	u.Passwords++
	u.PasswordChanged = s.now().UTC()
}
