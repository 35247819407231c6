package scope

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// behaviour.md section 1.2 and GHSA-vgf8-3685-66j9: a token of one environment is no
// good in another.
func TestEnvironment(t *testing.T) {
	for _, row := range []struct {
		claims, environment string
		ok                  bool
	}{
		{`{}`, "production", true},
		{`{"env":"production"}`, "production", true},
		{`{"env":"staging"}`, "production", false},
		{`{"env":"Production"}`, "production", false},
		{`{"env":"production "}`, "production", false},
		{`{"env":""}`, "production", false},
		{`{"env":null}`, "production", false},
		{`{"env":["production"]}`, "production", false},
		{`{"env":1}`, "production", false},
		{`{"env":"staging"}`, "", true},
		{`{"env":1}`, "", true},
	} {
		err := CheckEnvironment(lookup(t, row.claims), row.environment)
		if (err == nil) != row.ok {
			t.Errorf("%s in %q: %v", row.claims, row.environment, err)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Claim != "env" || strings.Contains(err.Error(), "staging")) {
			t.Errorf("%s in %q: %v", row.claims, row.environment, err)
		}
	}
}

func TestDeriveKey(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	const production = "53d3166f3f021a2fa9111583776cace5595f5835af4c477b56fa840171bc8a1d"
	if got := DeriveKey(secret, "production"); string(got) != production {
		t.Errorf("got %s", got)
	}
	if bytes.Equal(DeriveKey(secret, "production"), DeriveKey(secret, "staging")) {
		t.Error("two environments have the same key")
	}
	if string(secret) != "0123456789abcdefghijklmnopqrstuv" {
		t.Error("the secret was changed")
	}
}

// behaviour.md section 10.
func TestWeakSecret(t *testing.T) {
	for _, secret := range []string{
		"", " ", "my-test-key", "my-test-key-but-now-longer-than-32-bytes", "MY-TEST-KEY-but-now-longer-than-32-bytes\n", "my-test-salt", "changeme",
		"secret", "password", "test-secret", "my-secret", "12345678", "your-256-bit-secret", "a-string-secret-at-least-256-bits-long",
		"__REPLACE_ME__with-a-value-of-at-least-32-characters", "please-change-me-to-something-0123456789",
		"0123456789abcdefghijklmnopqrstu",                                                   // 31 bytes
		strings.Repeat("a", 64), strings.Repeat("ab", 32), strings.Repeat("0123456789a", 3), // 3.46 bits
	} {
		err := WeakSecret([]byte(secret))
		if err == nil {
			t.Errorf("%q is accepted", secret)
		} else if len(secret) > 8 && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	for _, secret := range []string{
		"0123456789abcdefghijklmnopqrstuv", strings.Repeat("0123456789ab", 3), // 3.58 bits
		"8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff",
	} {
		if err := WeakSecret([]byte(secret)); err != nil {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if err := WeakSecret(DeriveKey([]byte("0123456789abcdefghijklmnopqrstuv"), "production")); err != nil {
		t.Errorf("a derived key is weak: %v", err)
	}
}
