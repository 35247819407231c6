package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"golang.org/x/crypto/argon2"
)

// What Argon2id (RFC 9106) is asked to spend on a password: 64 MiB and three passes
// (behaviour.md section 5.5).
const (
	hashTime    = 3
	hashMemory  = 64 << 10 // KiB
	hashThreads = 1
	hashLength  = 32
	saltLength  = 16
)

// MaxPassword is how long a password may be, in bytes. It bounds what judging one costs.
const MaxPassword = 128

// hash returns what is kept of a password, in the PHC string format.
func hash(password string) string {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashThreads, hashLength)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// errHash does not tell what was read.
var errHash = errors.New("the stored password hash can't be read")

// verify reports whether a password is the one of a hash, and whether the hash should be
// made anew, because today's parameters are others.
func verify(stored, password string) (ok, outdated bool, err error) {
	fields := strings.Split(stored, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, false, errHash
	}
	var memory, passes uint32
	var threads uint8
	if n, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); n != 3 || err != nil ||
		memory > 1<<20 || passes == 0 || passes > 100 || threads == 0 {
		return false, false, errHash
	}
	salt, err := base64.RawStdEncoding.DecodeString(fields[4])
	if err != nil {
		return false, false, errHash
	}
	want, err := base64.RawStdEncoding.DecodeString(fields[5])
	if err != nil || len(want) == 0 || len(want) > 1024 {
		return false, false, errHash
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, threads, uint32(len(want))) // #nosec G115 -- at most 1024
	outdated = memory != hashMemory || passes != hashTime || threads != hashThreads || len(want) != hashLength
	return subtle.ConstantTimeCompare(got, want) == 1, outdated, nil
}

// decoy is what a password is compared with when there is no account, so that this takes
// as long.
var decoy = hash(rand.Text())

// PasswordError says why a password is not accepted, in a stable word and for a person.
type PasswordError struct{ Reason, Message string }

func (e *PasswordError) Error() string { return e.Message }

// guessable is the score of zxcvbn (0 to 4) below which a password is too easy to guess:
// fewer than 10^8 guesses, which is what common passwords, names, dates, keyboard walks
// and sequences take, however they are put together or spelt.
const guessable = 3

// CheckPassword refuses a password that is too short, of too few kinds of characters, or
// easy to guess for somebody who knows about the person (behaviour.md section 5.5). The
// error is a *PasswordError.
func CheckPassword(password, email, fullName string, minLength int) error {
	if !utf8.ValidString(password) || len(password) > MaxPassword {
		return &PasswordError{"password_malformed", fmt.Sprintf("a password must be text of at most %d bytes", MaxPassword)}
	}
	if utf8.RuneCountInString(password) < minLength {
		return &PasswordError{"password_short", fmt.Sprintf("the password must have at least %d characters", minLength)}
	}
	if classes(password) < 3 {
		return &PasswordError{"password_classes", "the password must have three of these: lower case, upper case, digits, other characters"}
	}
	personal := strings.FieldsFunc(strings.ToLower(email+" "+fullName), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	lower := strings.ToLower(password)
	for _, word := range personal {
		if utf8.RuneCountInString(word) >= 3 && strings.Contains(lower, word) {
			return &PasswordError{"password_personal", "the password must not hold a part of the name or address"}
		}
	}
	if zxcvbn.PasswordStrength(password, personal).Score < guessable {
		return &PasswordError{"password_guessable", "the password is easy to guess; use more words, or words that do not follow from each other"}
	}
	return nil
}

func classes(password string) int {
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
