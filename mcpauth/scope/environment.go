package scope

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// CheckEnvironment reports a token that was issued for another environment: its claim
// env is something else than the name of this one. A token without the claim is for
// any, and where no environment is named, so is every token. The error is an
// [*Error].
func CheckEnvironment(claims Lookup, environment string) error {
	if environment == "" {
		return nil
	}
	value, ok := claims("env")
	if !ok {
		return nil
	}
	name, ok := value.(string)
	if !ok {
		return invalid("env", "is not a string")
	}
	if name != environment {
		return invalid("env", "is another environment than this one")
	}
	return nil
}

// DeriveKey returns the key that an environment has of a secret for HS256, HS384 or
// HS512, so that the tokens of one are no good in another: 64 hexadecimal digits.
func DeriveKey(secret []byte, environment string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("mcpgw-env:" + environment))
	return hex.AppendEncode(nil, mac.Sum(nil))
}

const (
	minSecretBytes = 32
	minEntropy     = 3.5
)

// knownSecrets are in documentation that everybody has read, in lower case.
var knownSecrets = []string{
	"my-test-key",
	"my-test-key-but-now-longer-than-32-bytes",
	"my-test-salt",
	"changeme",
	"secret",
	"password",
	"test-secret",
	"my-secret",
	"12345678",
	// Of a well-known page that decodes tokens.
	"your-256-bit-secret",
	"your-384-bit-secret",
	"your-512-bit-secret",
	"a-string-secret-at-least-256-bits-long",
	"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
	// RFC 7515 appendix A.1.
	"aym1syspppbydfgzld3umj1qzkobvwmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
}

// placeholders are parts of texts that wait to be replaced, in lower case.
var placeholders = []string{
	"replace_me", "replace-me", "replaceme", "change_me", "change-me", "changeme", "change_this", "change-this", "changethis",
	"your_secret", "your-secret", "yoursecret", "placeholder",
}

// WeakSecret says what is wrong with a secret for signing tokens (behaviour.md
// section 10), and nothing about the secret itself: it is shorter than 32 bytes, it
// is well known or a placeholder, or it has less than 3.5 bits of Shannon entropy in
// each byte. It returns nil for a secret without such a fault.
//
// The measure is strict on short secrets in hexadecimal, of which some fail though
// they are random: use 64 digits, or base64.
func WeakSecret(secret []byte) error {
	lower := strings.ToLower(strings.TrimSpace(string(secret)))
	within := func(part string) bool { return strings.Contains(lower, part) }
	switch {
	case lower == "":
		return errors.New("the secret is empty")
	case slices.Contains(knownSecrets, lower), slices.ContainsFunc(placeholders, within):
		return errors.New("the secret is well known or a placeholder; use a random one")
	case len(secret) < minSecretBytes:
		return fmt.Errorf("the secret is too short; use at least %d bytes", minSecretBytes)
	case entropy(secret) < minEntropy:
		return errors.New("the secret has too few different characters; use a random one")
	}
	return nil
}

// entropy is the Shannon entropy of the bytes, in bits for each of them.
func entropy(text []byte) float64 {
	var counts [256]int
	for _, b := range text {
		counts[b]++
	}
	var sum float64
	for _, count := range counts {
		if count > 0 {
			p := float64(count) / float64(len(text))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
