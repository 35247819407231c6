package account

import (
	"net/mail"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxEmail is the longest address that mail can be sent to (RFC 5321 section
	// 4.5.3.1.3).
	maxEmail = 254
	maxName  = 200
)

// Email returns the form of an address that accounts are known by: in lower case, since
// nobody means two people by two spellings. It is an address as net/mail reads it
// (RFC 5322, addr-spec), without a name, comments or quotes, and in ASCII, so that two
// addresses that look the same are the same.
func Email(address string) (string, error) {
	lower := strings.ToLower(address)
	parsed, err := mail.ParseAddress(lower)
	if err != nil || parsed.Address != lower || parsed.Name != "" || len(lower) > maxEmail || strings.ContainsAny(lower, `"/\ <>`) ||
		strings.ContainsFunc(address, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", invalid("email_invalid", "the address must be one that mail can be sent to, such as alice@example.com, in ASCII")
	}
	return lower, nil
}

// names are ids of teams and names of roles.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckTeam refuses what is no id of a team: 1 to 64 letters, digits, and . _ -, of
// which the first is a letter or a digit.
func CheckTeam(id string) error {
	if !names.MatchString(id) {
		return invalid("team_invalid", "the id of a team is 1 to 64 letters, digits, and . _ -, and begins with a letter or digit")
	}
	return nil
}

// CheckRole refuses what is no name of a role, which are written like ids of teams.
func CheckRole(name string) error {
	if !names.MatchString(name) {
		return invalid("role_invalid", "the name of a role is 1 to 64 letters, digits, and . _ -, and begins with a letter or digit")
	}
	return nil
}

// hasControl reports whether a text is malformed, or has what is not to be seen or
// changes the direction of what is.
func hasControl(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) })
}
