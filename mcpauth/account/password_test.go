package account

import (
	"context"
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	h := newHasher(cheap)
	stored := must[string](t)(h.make(t.Context(), good))
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Errorf("not in the PHC format: %s", stored)
	}
	if again := must[string](t)(h.make(t.Context(), good)); again == stored {
		t.Error("two hashes of one password are the same; there is no salt")
	}
	for _, tc := range []struct {
		name, password string
		ok             bool
	}{
		{"right", good, true},
		{"wrong", another, false},
		{"empty", "", false},
		{"with another letter at the end", good + "x", false},
		{"cut", good[:len(good)-1], false},
		{"in another case", strings.ToUpper(good), false},
		{"too long", strings.Repeat("a", MaxPassword+1), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ok, outdated, err := h.verify(t.Context(), stored, tc.password)
			if ok != tc.ok || outdated || err != nil {
				t.Errorf("got %v, outdated %v, %v", ok, outdated, err)
			}
		})
	}
	if _, outdated, _ := newHasher(Cost{2, 64, 1}).verify(t.Context(), stored, good); !outdated {
		t.Error("a hash of other parameters is not told to be outdated")
	}
}

// TestHashIsArgon2id compares with a hash that the reference implementation of Argon2 made:
// the test of its README, `echo -n "password" | argon2 somesalt -id ...`.
func TestHashIsArgon2id(t *testing.T) {
	const stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	ok, outdated, err := newHasher(defaultCost).verify(t.Context(), stored, "password")
	if !ok || !outdated || err != nil {
		t.Errorf("got %v, outdated %v, %v", ok, outdated, err)
	}
}

// Two ways of writing the same letters are one password, and a wide space is a space.
func TestHashOfSpellings(t *testing.T) {
	h := newHasher(cheap)
	stored := must[string](t)(h.make(t.Context(), "Br\u00fccken 77 Pfeiler"))
	if ok, _, err := h.verify(t.Context(), stored, "Bru\u0308cken\u300077 Pfeiler"); !ok || err != nil {
		t.Error("another spelling is another password", err)
	}
}

func TestCheckHash(t *testing.T) {
	const fine = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if err := CheckHash(fine); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct{ name, old, new string }{
		{"argon2i", "argon2id", "argon2i"},
		{"older version", "v=19", "v=16"},
		{"too much memory", "m=65536", "m=4294967295"},
		{"too little memory", "m=65536", "m=64"},
		{"no passes", "t=2", "t=0"},
		{"too many passes", "t=2", "t=21"},
		{"no threads", "p=1", "p=0"},
		{"overflowing threads", "p=1", "p=257"},
		{"more parameters", "p=1", "p=1,keyid=x"},
		{"another number", "t=2", "t=02"},
		{"sign", "t=2", "t=+2"},
		{"no salt", "c29tZXNhbHQ", ""},
		{"short salt", "c29tZXNhbHQ", "c29t"},
		{"padding", "c29tZXNhbHQ", "c29tZXNhbHQ="},
		{"no hash", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", ""},
		{"short hash", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "CTFh"},
		{"another field", fine, fine + "$"},
		{"bcrypt", fine, "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"},
		{"text", fine, "changeme"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckHash(strings.Replace(fine, tc.old, tc.new, 1))
			if err == nil {
				t.Error("it was accepted")
			} else if strings.Contains(err.Error(), "changeme") {
				t.Error("the error tells it")
			}
		})
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(cheap.hash("x"))
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, stored string) {
		cost, salt, key, err := parseHash(stored)
		if err == nil && (cost.Memory > maxMemory || cost.Passes > 20 || len(salt) > 64 || len(key) > 64 || !strings.HasPrefix(stored, cost.prefix())) {
			t.Errorf("%q was read as %+v", stored, cost)
		}
	})
}

// No more passwords are hashed at a time than there are slots, and no more wait than
// there is room.
func TestHashesAreBounded(t *testing.T) {
	h := newHasher(cheap)
	for range cap(h.slots) {
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	for range 2 * maxWaiting {
		go func() { results <- h.take(ctx) }()
	}
	for range maxWaiting { // those for whom there is no room
		want(t, <-results, "busy")
	}
	cancel()
	for range maxWaiting { // those whose request ended
		want(t, <-results, "busy")
	}
	h.give()
	if err := h.take(t.Context()); err != nil {
		t.Error("the slot is not free again:", err)
	}
}

func TestPolicy(t *testing.T) {
	var policy PasswordPolicy
	if err := policy.defaults(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		password string
		admin    bool
		reason   string
	}{
		{good, false, ""},
		{good22, true, ""},
		{"Tulip-42 way", false, ""},
		{"Tulip-42 wa", false, "password_short"},
		{"Tulip-42 walks sidewa", true, "password_short"},
		{"tulips walk sideways", false, "password_classes"},
		{"TULIPSWALK42TIMES", false, "password_classes"},
		{"Alice walks 42 tulips", false, "password_personal"},
		{"Tulips of ANDERSON 42", false, "password_personal"},
		{"42 tulips at eXample.", false, "password_personal"},
		{"Password1234!", false, "password_guessable"},
		{"P@ssw0rdP@ssw0rd", false, "password_guessable"},
		{"Qwertyuiop123!", false, "password_guessable"},
		{"Abcdefghij123!", false, "password_guessable"},
		{"Aaaaaaaaaaaa1!", false, "password_guessable"},
		{"January2026!!", false, "password_guessable"},
		{"Changeme1234", false, "password_guessable"},
		{good + "\x00", false, "password_malformed"},
		{good + "\n", false, "password_malformed"},
		{good + "\xff", false, "password_malformed"},
		{strings.Repeat("Tulip-42 walks sideways", 10), false, "password_malformed"},
		{"", false, "password_malformed"},
	} {
		t.Run(tc.password, func(t *testing.T) {
			err := policy.Check(tc.password, "alice@example.com", "Alice Anderson", tc.admin)
			want(t, err, tc.reason)
			if err != nil && tc.password != "" && strings.Contains(err.Error(), tc.password) {
				t.Error("the error tells the password")
			}
		})
	}
}

func TestPolicyBounds(t *testing.T) {
	for _, policy := range []PasswordPolicy{
		{MinLength: 11},
		{MinLength: -1},
		{MinLengthAdministrator: 11},
		{MinLength: 30, MinLengthAdministrator: 20},
		{MinLength: 65},
		{History: -1},
		{History: 25},
		{MaxAge: -1},
	} {
		if err := policy.defaults(); err == nil {
			t.Errorf("%+v was accepted", policy)
		}
	}
}

func TestEmail(t *testing.T) {
	for _, tc := range []struct{ address, email string }{
		{"alice@example.com", "alice@example.com"},
		{"Alice.B+x@Example.COM", "alice.b+x@example.com"},
		{"admin@localhost", "admin@localhost"},
		{"", ""},
		{"alice", ""},
		{"alice@", ""},
		{"@example.com", ""},
		{" alice@example.com", ""},
		{"alice@example.com ", ""},
		{"alice@example.com\n", ""},
		{"Alice <alice@example.com>", ""},
		{"<alice@example.com>", ""},
		{"alice@example.com (Alice)", ""},
		{`"alice"@example.com`, ""},
		{`"al ice"@example.com`, ""},
		{"alice@example.com,bob@example.com", ""},
		{"al/ice@example.com", ""},
		{"alic\u00e9@example.com", ""},
		{"\u0430lice@example.com", ""}, // Cyrillic
		{"\u212aate@example.com", ""},  // the Kelvin sign, in lower case a k
		{strings.Repeat("a", 250) + "@example.com", ""},
	} {
		got, err := Email(tc.address)
		if got != tc.email || (err == nil) != (tc.email != "") {
			t.Errorf("%q is %q, %v", tc.address, got, err)
		}
	}
}
