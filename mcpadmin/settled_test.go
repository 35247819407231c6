package mcpadmin_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/argon2"
)

// Hashes of passwords take long, and most tests are not about them. Their accounts are
// declared with hashes that are cheap to check, and have a password already that is
// not the first one.

// hashed is accounts with the hashes of the passwords.
var hashed = strings.NewReplacer(
	"password {env.MCPADMIN_TEST_ADMIN}", "password_hash "+cheapHash(adminFirst),
	"password {env.MCPADMIN_TEST_BOB}", "password_hash "+cheapHash(bobFirst),
).Replace(accounts)

// cheapHash is a hash of a password that is as weak as one may be that is declared.
func cheapHash(password string) string {
	salt := []byte("somesalt")
	key := argon2.IDKey([]byte(password), salt, 1, 8192, 1, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=8192,t=1,p=1$%s$%s", argon2.Version, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// settled is a store in which admin@example.com and bob@example.com have adminNext and
// bobNext as their passwords. It is made once, and copied for each world.
var settled struct {
	once  sync.Once
	store []byte
}

// newSettled is a world in which everybody can log in.
func newSettled(t *testing.T) *world {
	t.Helper()
	settled.once.Do(func() {
		w := newWorld(t)
		w.start()
		w.change("admin@example.com", adminFirst, adminNext).want(http.StatusOK, "")
		w.change("bob@example.com", bobFirst, bobNext).want(http.StatusOK, "")
		w.stop()
		var err error
		if settled.store, err = os.ReadFile(filepath.Join(w.dir, "state.db")); err != nil {
			t.Fatal(err)
		}
	})
	w := newWorld(t)
	if err := os.WriteFile(filepath.Join(w.dir, "state.db"), settled.store, 0o600); err != nil {
		t.Fatal(err)
	}
	w.settled = true
	return w
}
