// Package revocation knows which tokens were revoked, in memory, so that each request
// can be asked about without waiting for anything; and it ends the streams of tokens
// that are revoked while they run.
package revocation

import (
	"encoding/hex"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Token is what a revocation can go by.
type Token struct {
	// Issuer, ID, Subject and Client are its claims iss, jti and sub, and the client
	// it was issued to. All but Issuer may be empty.
	Issuer, ID, Subject, Client string
	// IssuedAt is its claim iat, or the zero time.
	IssuedAt time.Time
	// Hash tells tokens without an ID apart.
	Hash [32]byte
}

// Verdict is what is known about a token.
type Verdict uint8

const (
	// Unknown is for a token that may have been revoked without our knowledge: the
	// store is cut off. It has to be denied, for now.
	Unknown Verdict = iota
	// Valid is for a token that was not revoked.
	Valid
	// RevokedID to RevokedAll are for one that was, and say by what.
	RevokedID
	RevokedHash
	RevokedSubject
	RevokedClient
	RevokedAll
)

// Revoked reports whether the token was revoked.
func (v Verdict) Revoked() bool { return v > Valid }

// String is a word for logs.
func (v Verdict) String() string {
	switch v {
	case Valid:
		return "valid"
	case RevokedID:
		return "revoked_id"
	case RevokedHash:
		return "revoked_hash"
	case RevokedSubject:
		return "revoked_subject"
	case RevokedClient:
		return "revoked_client"
	case RevokedAll:
		return "revoked_all"
	default:
		return "unknown"
	}
}

// verdicts are those of each kind of revocation.
var verdicts = [...]Verdict{
	state.RevokeID:       RevokedID,
	state.RevokeHash:     RevokedHash,
	state.RevokeSubject:  RevokedSubject,
	state.RevokeClient:   RevokedClient,
	state.RevokeEveryone: RevokedAll,
}

const (
	// Grace is for how long nothing may be heard from the store before it is taken to
	// be cut off.
	Grace = state.Grace
	// MaxRevocations bounds the set, at 48 bytes or so each. With more, what is not
	// found is Unknown.
	MaxRevocations = 10_000_000
)

// Set is a set of revocations that follows a store. It is safe for concurrent use.
//
// It does not keep names but keyed hashes of 128 bits, so that a million revocations
// fit into 64 MB, and no token is taken for another one.
type Set struct {
	store  state.Store
	tables [state.RevocationKinds + 1]table
	seeds  [state.RevocationKinds + 1][2]maphash.Seed
	issuer maphash.Seed
	// every stands for every issuer, where the hash of one is.
	every uint64

	// fresh says whether the store is cut off.
	fresh *state.Freshness
	lag   atomic.Int64
	// full is whether the set is.
	full atomic.Bool

	watches watches
}

// New returns the set of a store's revocations, which knows nothing before Run.
func New(store state.Store) *Set {
	s := &Set{store: store, issuer: maphash.MakeSeed(), every: rand.Uint64(), fresh: state.NewFreshness(time.Now())} // #nosec G404 -- no secret
	for kind := range s.seeds {
		s.seeds[kind] = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
		s.tables[kind].init()
	}
	return s
}

// Known is closed when all was read for the first time that had been revoked.
func (s *Set) Known() <-chan struct{} { return s.fresh.Known() }

// SetAllowStale says for how long tokens are judged by what is known although the store
// is cut off. 0 is not at all: they are Unknown after the Grace.
func (s *Set) SetAllowStale(allow time.Duration) {
	s.fresh.SetAllowStale(allow)
}

// Check returns what is known about a token. It neither waits nor allocates, however
// many revocations there are.
func (s *Set) Check(t *Token, now time.Time) Verdict {
	if verdict := s.find(t, now); verdict.Revoked() {
		return verdict
	}
	if s.isStale(now) {
		return Unknown
	}
	return Valid
}

func (s *Set) isStale(now time.Time) bool {
	return s.fresh.IsStale(now) || s.full.Load()
}

func (s *Set) find(t *Token, now time.Time) Verdict {
	// Without an issue time it was issued before anything.
	q := query{now: seconds(now), issued: seconds(t.IssuedAt)}
	switch {
	case t.ID != "" && s.has(state.RevokeID, t.ID, t, q):
		return RevokedID
	case s.hasHash(t, q):
		return RevokedHash
	case t.Subject != "" && s.has(state.RevokeSubject, t.Subject, t, q):
		return RevokedSubject
	case t.Client != "" && s.has(state.RevokeClient, t.Client, t, q):
		return RevokedClient
	case s.has(state.RevokeEveryone, "", t, q):
		return RevokedAll
	}
	return Valid
}

// has looks for the first hash, which nearly always says that there is nothing. Only
// otherwise the rest is computed.
func (s *Set) has(kind state.RevocationKind, value string, t *Token, q query) bool {
	table, seeds := &s.tables[kind], &s.seeds[kind]
	first := maphash.String(seeds[0], value)
	return table.may(first) && table.has(first, maphash.String(seeds[1], value), maphash.String(s.issuer, t.Issuer), s.every, q)
}

func (s *Set) hasHash(t *Token, q query) bool {
	table, seeds := &s.tables[state.RevokeHash], &s.seeds[state.RevokeHash]
	first := maphash.Bytes(seeds[0], t.Hash[:])
	return table.may(first) && table.has(first, maphash.Bytes(seeds[1], t.Hash[:]), maphash.String(s.issuer, t.Issuer), s.every, q)
}

// Add enters revocations, and ends the streams of tokens that they revoke.
func (s *Set) Add(now time.Time, revocations ...state.Revocation) error {
	var failures error
	for _, r := range revocations {
		if err := state.CheckRevocation(r); err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		if r.Over(now) {
			continue
		}
		e := s.entry(r)
		if !s.tables[r.Kind].add(e, seconds(now)) {
			s.full.Store(true)
			failures = errors.Join(failures, errFull)
		}
		s.endRevoked(r.Kind, e, now)
	}
	return failures
}

var errFull = errors.New("there are more revocations than the set has room for; all tokens that are not revoked are denied")

// entry is a revocation as the tables have it.
func (s *Set) entry(r state.Revocation) entry {
	seeds := &s.seeds[r.Kind]
	var e entry
	if r.Kind == state.RevokeHash {
		hash, _ := hex.DecodeString(r.Value) // which was checked
		e.first, e.second = maphash.Bytes(seeds[0], hash), maphash.Bytes(seeds[1], hash)
	} else {
		e.first, e.second = maphash.String(seeds[0], r.Value), maphash.String(seeds[1], r.Value)
	}
	if r.Issuer == "" {
		e.second ^= s.every
	} else {
		e.second ^= maphash.String(s.issuer, r.Issuer)
	}
	e.first = nonzero(e.first)
	e.expires, e.before = forever, forever
	if !r.Expires.IsZero() {
		e.expires = secondsUp(r.Expires)
	}
	if !r.Before.IsZero() {
		e.before = secondsUp(r.Before)
	}
	return e
}

// seconds are those since 1970.
func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), forever-1)) // #nosec G115 -- bounded
}

// secondsUp rounds up.
func secondsUp(t time.Time) uint32 {
	if t.Nanosecond() > 0 {
		t = t.Add(time.Second)
	}
	return seconds(t)
}

// Status is how the set is.
type Status struct {
	// Revocations is how many there are, those included that have just expired.
	Revocations int
	// Watches is how many streams would be ended by a revocation.
	Watches int
	// Loaded is whether the set has ever known all that the store has. Age is how
	// long ago that was, at most.
	Loaded bool
	Age    time.Duration
	// Lag is how long the store's last news took to arrive.
	Lag time.Duration
	// Stale is whether tokens are Unknown now.
	Stale bool
	// Err is why the store is cut off, or nil.
	Err error
}

// Status returns how the set is.
func (s *Set) Status(now time.Time) Status {
	status := Status{Lag: time.Duration(s.lag.Load()), Stale: s.isStale(now), Watches: s.watches.len()}
	for i := range s.tables {
		status.Revocations += s.tables[i].len()
	}
	status.Age, status.Loaded = s.fresh.Age(now)
	status.Err = s.fresh.Err()
	return status
}

// Ready returns an error while tokens are Unknown.
func (s *Set) Ready(now time.Time) error {
	if !s.isStale(now) {
		return nil
	}
	if err := s.fresh.Err(); err != nil {
		return err
	}
	return errNotLoaded
}

var errNotLoaded = errors.New("the revocations have not been read yet")
