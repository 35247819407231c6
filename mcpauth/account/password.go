package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// Cost is what Argon2id (RFC 9106) is asked to spend on a password: how many passes over
// how much memory, in KiB, by how many threads.
type Cost struct {
	Passes, Memory uint32
	Threads        uint8
}

// defaultCost takes 64 MiB and three passes (behaviour.md section 5.5).
var defaultCost = Cost{Passes: 3, Memory: 64 << 10, Threads: 1}

const (
	hashLength = 32
	saltLength = 16
	// maxMemory bounds what a stored hash may ask for, in KiB.
	maxMemory = 256 << 10
	// maxWaiting bounds how many passwords wait for their turn. Whoever is one too
	// many is sent away at once, instead of waiting longer than a client does.
	maxWaiting = 64
)

// MaxPassword is how long a password may be, in bytes. It bounds what judging one costs.
const MaxPassword = 128

// hasher makes and checks the hashes of passwords, a few at a time, because each takes
// much memory.
type hasher struct {
	cost    Cost
	slots   chan struct{}
	waiting atomic.Int64
	// decoy is what a password is compared with when there is no account, so that
	// this takes as long.
	decoy string
	// compared, if any, is told of each comparison, for tests.
	compared func(stored string)
}

func newHasher(cost Cost) *hasher {
	h := &hasher{cost: cost, slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), 4))}
	h.decoy = cost.decoy()
	return h
}

// take waits for its turn.
func (h *hasher) take(ctx context.Context) error {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > maxWaiting {
		return errBusy
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

func (h *hasher) give() { <-h.slots }

// make returns what is kept of a password.
func (h *hasher) make(ctx context.Context, password string) (string, error) {
	if err := h.take(ctx); err != nil {
		return "", err
	}
	defer h.give()
	return h.cost.hash(password), nil
}

// verify reports whether a password is the one of a hash, and whether the hash should
// be made anew, because today's parameters are others.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	if err := h.take(ctx); err != nil {
		return false, false, err
	}
	defer h.give()
	return h.compare(stored, password)
}

// compare is verify for whoever has taken a turn.
func (h *hasher) compare(stored, password string) (ok, outdated bool, err error) {
	cost, salt, want, err := parseHash(stored)
	if err != nil {
		return false, false, err
	}
	if h.compared != nil {
		h.compared(stored)
	}
	// What cannot be a password costs as much as one that is wrong.
	prepared, valid := prepare(password)
	got := argon2.IDKey([]byte(prepared), salt, cost.Passes, cost.Memory, cost.Threads, uint32(len(want))) // #nosec G115 -- at most 64
	ok = subtle.ConstantTimeCompare(got, want) == 1 && valid
	return ok, cost != h.cost || len(want) != hashLength, nil
}

// hash returns what is kept of a password, in the PHC string format.
func (c Cost) hash(password string) string {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it never fails
	prepared, _ := prepare(password)
	return c.text(salt, argon2.IDKey([]byte(prepared), salt, c.Passes, c.Memory, c.Threads, hashLength))
}

// decoy returns what looks like a hash, and is that of no password that anybody knows.
func (c Cost) decoy() string {
	random := make([]byte, saltLength+hashLength)
	_, _ = rand.Read(random) // it never fails
	return c.text(random[:saltLength], random[saltLength:])
}

func (c Cost) text(salt, key []byte) string {
	return fmt.Sprintf("%s$%s$%s", c.prefix(), base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func (c Cost) prefix() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d", argon2.Version, c.Memory, c.Passes, c.Threads)
}

// prepare brings a password into the one form that is hashed (RFC 8265 section 4.2):
// keyboards differ in how they write the same letter. What cannot be brought into it,
// such as what has control characters, is no password.
func prepare(password string) (string, bool) {
	if len(password) > MaxPassword || !utf8.ValidString(password) {
		return "", false
	}
	prepared, err := precis.OpaqueString.String(password)
	return prepared, err == nil
}

// errHash does not tell what was read.
var errHash = errors.New("the password hash can't be read; it must be an Argon2id hash in the PHC string format, such as $argon2id$v=19$m=65536,t=3,p=1$<salt>$<hash>")

// CheckHash refuses what is no hash of a password that could be verified: one in the
// PHC string format, made by Argon2id with 8 to 256 MiB, 1 to 20 passes and 1 to 16
// threads, with a salt of 8 to 64 bytes and a hash of 16 to 64 bytes.
func CheckHash(stored string) error {
	cost, _, _, err := parseHash(stored)
	if err == nil && cost.Memory < 8<<10 {
		return errHash
	}
	return err
}

func parseHash(stored string) (cost Cost, salt, key []byte, err error) {
	fields := strings.Split(stored, "$")
	if len(fields) != 6 {
		return cost, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &cost.Memory, &cost.Passes, &cost.Threads); err != nil {
		return cost, nil, nil, errHash
	}
	// One text for one hash: what reads otherwise than it is written is none.
	if !strings.HasPrefix(stored, cost.prefix()+"$") || cost.Memory < 8*uint32(cost.Threads) || cost.Memory > maxMemory ||
		cost.Passes < 1 || cost.Passes > 20 || cost.Threads < 1 || cost.Threads > 16 {
		return cost, nil, nil, errHash
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(fields[4])
	key, keyErr := base64.RawStdEncoding.Strict().DecodeString(fields[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64 {
		return cost, nil, nil, errHash
	}
	return cost, salt, key, nil
}
