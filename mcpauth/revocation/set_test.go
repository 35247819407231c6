package revocation

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

var (
	now   = time.Unix(1_800_000_000, 0)
	alice = Token{Issuer: "https://login.example.com", ID: "jti-1", Subject: "alice", Client: "app", IssuedAt: now.Add(-time.Hour), Hash: [32]byte{31: 7}}
)

// known returns a set that knows all there is.
func known() *Set {
	s := New(nil)
	s.fresh = state.NewFreshness(now)
	s.fresh.Told(state.Update{Current: now})
	return s
}

func TestCheck(t *testing.T) {
	const issuer, other = "https://login.example.com", "https://other.example.com"
	soon := now.Add(time.Minute)
	for name, tc := range map[string]struct {
		revoked state.Revocation
		change  func(*Token)
		want    Verdict
	}{
		"nothing":                     {state.Revocation{Kind: state.RevokeID, Value: "other"}, nil, Valid},
		"id of the issuer":            {state.Revocation{Kind: state.RevokeID, Issuer: issuer, Value: "jti-1"}, nil, RevokedID},
		"id of any issuer":            {state.Revocation{Kind: state.RevokeID, Value: "jti-1", Expires: soon}, nil, RevokedID},
		"id of another issuer":        {state.Revocation{Kind: state.RevokeID, Issuer: other, Value: "jti-1"}, nil, Valid},
		"id that is a subject":        {state.Revocation{Kind: state.RevokeID, Value: "alice"}, nil, Valid},
		"id in another case":          {state.Revocation{Kind: state.RevokeID, Value: "JTI-1"}, nil, Valid},
		"id that has expired":         {state.Revocation{Kind: state.RevokeID, Value: "jti-1", Expires: now}, nil, Valid},
		"no id":                       {state.Revocation{Kind: state.RevokeID, Value: "jti-1"}, func(t *Token) { t.ID = "" }, Valid},
		"hash":                        {state.Revocation{Kind: state.RevokeHash, Value: strings.Repeat("00", 31) + "07"}, nil, RevokedHash},
		"hash of the issuer":          {state.Revocation{Kind: state.RevokeHash, Issuer: issuer, Value: strings.Repeat("00", 31) + "07"}, nil, RevokedHash},
		"another hash":                {state.Revocation{Kind: state.RevokeHash, Value: strings.Repeat("00", 31) + "08"}, nil, Valid},
		"subject":                     {state.Revocation{Kind: state.RevokeSubject, Issuer: issuer, Value: "alice"}, nil, RevokedSubject},
		"subject of another issuer":   {state.Revocation{Kind: state.RevokeSubject, Issuer: other, Value: "alice"}, nil, Valid},
		"subject of any issuer":       {state.Revocation{Kind: state.RevokeSubject, Value: "alice"}, nil, RevokedSubject},
		"subject, issued before":      {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-time.Hour + time.Second)}, nil, RevokedSubject},
		"subject, in that second":     {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-time.Hour + time.Millisecond)}, nil, RevokedSubject},
		"subject, issued then":        {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-time.Hour)}, nil, Valid},
		"subject, issued after":       {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-2 * time.Hour)}, nil, Valid},
		"subject, no issue time":      {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now.Add(-24 * time.Hour)}, func(t *Token) { t.IssuedAt = time.Time{} }, RevokedSubject},
		"subject, issued in future":   {state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now}, func(t *Token) { t.IssuedAt = now.Add(200 * 365 * 24 * time.Hour) }, Valid},
		"all, issued in future":       {state.Revocation{Kind: state.RevokeSubject, Value: "alice"}, func(t *Token) { t.IssuedAt = now.Add(200 * 365 * 24 * time.Hour) }, RevokedSubject},
		"client":                      {state.Revocation{Kind: state.RevokeClient, Issuer: issuer, Value: "app", Expires: soon}, nil, RevokedClient},
		"client of another issuer":    {state.Revocation{Kind: state.RevokeClient, Issuer: other, Value: "app"}, nil, Valid},
		"no client":                   {state.Revocation{Kind: state.RevokeClient, Value: "app"}, func(t *Token) { t.Client = "" }, Valid},
		"everyone":                    {state.Revocation{Kind: state.RevokeEveryone}, nil, RevokedAll},
		"everyone of the issuer":      {state.Revocation{Kind: state.RevokeEveryone, Issuer: issuer}, nil, RevokedAll},
		"everyone of another issuer":  {state.Revocation{Kind: state.RevokeEveryone, Issuer: other}, nil, Valid},
		"everyone, issued before":     {state.Revocation{Kind: state.RevokeEveryone, Before: now}, nil, RevokedAll},
		"everyone, issued after":      {state.Revocation{Kind: state.RevokeEveryone, Before: now.Add(-2 * time.Hour)}, nil, Valid},
		"everyone, of the year 2200":  {state.Revocation{Kind: state.RevokeEveryone, Expires: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, RevokedAll},
		"everyone, a second too late": {state.Revocation{Kind: state.RevokeEveryone, Expires: now.Add(-time.Second)}, nil, Valid},
	} {
		t.Run(name, func(t *testing.T) {
			s, token := known(), alice
			if tc.change != nil {
				tc.change(&token)
			}
			if got := s.Check(&token, now); got != Valid {
				t.Fatalf("before: %s", got)
			}
			if err := s.Add(now, tc.revoked); err != nil {
				t.Fatal(err)
			}
			if got := s.Check(&token, now); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// TestJoins: what is revoked twice is revoked for the longer time.
func TestJoins(t *testing.T) {
	s := known()
	add := func(r state.Revocation) {
		t.Helper()
		if err := s.Add(now, r); err != nil {
			t.Fatal(err)
		}
	}
	subject := state.Revocation{Kind: state.RevokeSubject, Value: "alice", Before: now, Expires: now.Add(time.Hour)}
	add(subject)
	subject.Before, subject.Expires = now.Add(-2*time.Hour), now.Add(time.Minute)
	add(subject)
	if got := s.Check(&alice, now.Add(30*time.Minute)); got != RevokedSubject {
		t.Errorf("%s after less was revoked", got)
	}
	subject.Before, subject.Expires = time.Time{}, time.Time{}
	add(subject)
	later := alice
	later.IssuedAt = now.Add(time.Hour)
	if got := s.find(&later, now.Add(1000*time.Hour)); got != RevokedSubject {
		t.Errorf("%s after more was revoked", got)
	}
	if n := s.Status(now).Revocations; n != 1 {
		t.Errorf("%d revocations", n)
	}
}

// TestRefuses: what is no revocation is an error, and the others are entered.
func TestRefuses(t *testing.T) {
	s := known()
	err := s.Add(now, state.Revocation{Kind: state.RevokeHash, Value: "zz"}, state.Revocation{}, state.Revocation{Kind: state.RevokeID, Value: "jti-1"})
	if err == nil || s.Check(&alice, now) != RevokedID {
		t.Errorf("%v, %s", err, s.Check(&alice, now))
	}
}

// TestRandom compares a set with a list.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	s := known()
	issuers := []string{"", "https://a", "https://b"}
	clock := now
	// Of those that are the same, what they cover together counts.
	var list []state.Revocation
	for step := range 3000 {
		clock = clock.Add(time.Duration(random.IntN(60)) * time.Second)
		name := fmt.Sprint(random.IntN(60))
		r := state.Revocation{Kind: state.RevocationKind(1 + random.IntN(4)), Issuer: issuers[random.IntN(3)], Value: name}
		switch {
		case r.Kind == state.RevokeHash:
			r.Value = fmt.Sprintf("%064d", random.IntN(60))
		case random.IntN(200) == 0:
			r = state.Revocation{Kind: state.RevokeEveryone, Issuer: issuers[1+random.IntN(2)], Before: clock.Add(-24 * time.Hour)}
		case r.Kind != state.RevokeID && random.IntN(2) == 0:
			r.Before = clock.Add(time.Duration(random.IntN(7200)-3600) * time.Second)
		}
		if random.IntN(10) > 0 {
			r.Expires = clock.Add(time.Duration(1+random.IntN(7200)) * time.Second)
		}
		if random.IntN(3) == 0 {
			if err := s.Add(clock, r); err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(list, r.Same); i < 0 {
				list = append(list, r)
			} else if list[i].Over(clock) {
				list[i] = r
			} else {
				list[i] = list[i].Join(r)
			}
		}
		if random.IntN(100) == 0 {
			s.purge(clock)
		}
		token := Token{
			Issuer: issuers[1+random.IntN(2)], ID: fmt.Sprint(random.IntN(60)), Subject: fmt.Sprint(random.IntN(60)),
			Client: fmt.Sprint(random.IntN(60)), IssuedAt: clock.Add(time.Duration(random.IntN(7200)-7200) * time.Second),
		}
		hash := fmt.Sprintf("%064d", random.IntN(60))
		for i := range token.Hash {
			var b int
			if _, err := fmt.Sscanf(hash[2*i:2*i+2], "%x", &b); err != nil {
				t.Fatal(err)
			}
			token.Hash[i] = byte(b)
		}
		want := Valid
		for _, r := range list {
			if r.Over(clock) || r.Issuer != "" && r.Issuer != token.Issuer || !r.Before.IsZero() && !token.IssuedAt.Before(r.Before) {
				continue
			}
			value := map[state.RevocationKind]string{state.RevokeID: token.ID, state.RevokeHash: hash, state.RevokeSubject: token.Subject, state.RevokeClient: token.Client}[r.Kind]
			if v := verdicts[r.Kind]; value == r.Value && (want == Valid || v < want) {
				want = v
			}
		}
		if got := s.find(&token, clock); got != want {
			t.Fatalf("seed %d, step %d: %s, want %s", seed, step, got, want)
		}
	}
}

// TestPurge: what has expired is removed an hour later, and the memory given back.
func TestPurge(t *testing.T) {
	s := known()
	for i := range 20_000 {
		r := state.Revocation{Kind: state.RevokeID, Value: fmt.Sprint(i), Expires: now.Add(time.Minute)}
		if i%100 == 0 {
			r.Expires = time.Time{}
		}
		if err := s.Add(now, r); err != nil {
			t.Fatal(err)
		}
	}
	slots := func() (n int) {
		for i := range s.tables[state.RevokeID].parts {
			n += len(s.tables[state.RevokeID].parts[i].slots.Load().all)
		}
		return n
	}
	full := slots()
	s.purge(now.Add(30 * time.Minute))
	if n := s.Status(now).Revocations; n != 20_000 {
		t.Errorf("%d are left half an hour later", n)
	}
	if token := (Token{ID: "1"}); s.find(&token, now.Add(30*time.Minute)) != Valid || s.find(&token, now) != RevokedID {
		t.Error("the clock was put back, and what was revoked is not")
	}
	s.purge(now.Add(2 * time.Hour))
	if n := s.Status(now).Revocations; n != 200 {
		t.Errorf("%d are left two hours later", n)
	}
	if n := slots(); n > full/20 {
		t.Errorf("%d of %d slots are left", n, full)
	}
	for i := range 20_000 {
		token := Token{ID: fmt.Sprint(i)}
		if got := s.find(&token, now.Add(2*time.Hour)); (got == RevokedID) != (i%100 == 0) {
			t.Fatalf("%d: %s", i, got)
		}
	}
}

// million returns a set with as many revocations.
func million(tb testing.TB, n int) *Set {
	tb.Helper()
	s := known()
	batch := make([]state.Revocation, 0, 1000)
	for i := range n {
		batch = append(batch, state.Revocation{
			Kind: state.RevokeID, Issuer: alice.Issuer, Value: "revoked-" + strconv.Itoa(i), Expires: now.Add(24 * time.Hour),
		})
		if len(batch) == cap(batch) {
			if err := s.Add(now, batch...); err != nil {
				tb.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	return s
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMillion: a million fit into 64 MB, all of them are found and nothing else, and a
// check allocates nothing.
func TestMillion(t *testing.T) {
	before := heap()
	s := million(t, 1_000_000)
	used := heap() - before
	if used > 64_000_000 {
		t.Errorf("%d bytes for a million", used)
	}
	t.Logf("%.1f MB for a million", float64(used)/1e6)
	token := alice
	for i := 0; i < 1_000_000; i += 7 {
		token.ID = "revoked-" + strconv.Itoa(i)
		if got := s.Check(&token, now); got != RevokedID {
			t.Fatalf("%s is %s", token.ID, got)
		}
		token.ID = "valid-" + strconv.Itoa(i)
		if got := s.Check(&token, now); got != Valid {
			t.Fatalf("%s is %s", token.ID, got)
		}
	}
	for _, id := range []string{"revoked-1", "valid"} {
		token.ID = id
		if n := testing.AllocsPerRun(100, func() { s.Check(&token, now) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	runtime.KeepAlive(s)
}

// TestLongestRun bounds the slots that a check looks at, which is what it takes.
func TestLongestRun(t *testing.T) {
	s := million(t, 100_000)
	longest, looked, parts := 0, 0, 0
	for i := range s.tables[state.RevokeID].parts {
		slots := s.tables[state.RevokeID].parts[i].slots.Load().all
		run := 0
		for j := range slots {
			if slots[j].first.Load() == 0 {
				run = 0
				continue
			}
			run++
			looked += run
			longest = max(longest, run)
		}
		parts += len(slots)
	}
	if mean := float64(looked) / float64(parts); longest > 200 || mean > 4 {
		t.Errorf("the longest run is %d, the mean %.1f", longest, mean)
	}
}

// TestFilter: with as many entries as a table may have, the filter lets few others
// through, and all of those that are there.
func TestFilter(t *testing.T) {
	s := known()
	// As full as tables get before they grow.
	for i := range 16 * 8192 * 3 / 5 {
		if err := s.Add(now, state.Revocation{Kind: state.RevokeSubject, Value: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	seed, table := s.seeds[state.RevokeSubject][0], &s.tables[state.RevokeSubject]
	let := 0
	const n = 100_000
	for i := range n {
		if i < 50_000 && !table.may(maphash.String(seed, strconv.Itoa(i))) {
			t.Fatalf("%d is there", i)
		}
		if table.may(maphash.String(seed, strconv.Itoa(-i-1))) {
			let++
		}
	}
	if let > n/100 {
		t.Errorf("%d of %d are let through", let, n)
	}
	t.Logf("%d of %d are let through", let, n)
}

// TestConcurrent checks, adds and purges at the same time. What was added is found from
// then on.
func TestConcurrent(t *testing.T) {
	s := known()
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.purge(now.Add(2 * time.Hour))
				s.Status(now)
			}
		}
	})
	var adding sync.WaitGroup
	for worker := range 4 {
		adding.Go(func() {
			for i := range 3000 {
				token := alice
				token.ID = fmt.Sprintf("%d-%d", worker, i)
				expires := now.Add(time.Minute)
				if i%2 == 0 {
					expires = time.Time{}
				}
				w, verdict := s.Watch(&token, now, func(Verdict) {})
				if verdict != Valid {
					t.Errorf("%s before it was revoked", verdict)
				}
				if err := s.Add(now, state.Revocation{Kind: state.RevokeID, Value: token.ID, Expires: expires}); err != nil {
					t.Error(err)
				}
				if got := s.Check(&token, now); i%2 == 0 && got != RevokedID {
					t.Errorf("%s after it was revoked", got)
				}
				w.Close()
			}
		})
	}
	adding.Wait()
	close(stop)
	running.Wait()
	if n := s.Status(now).Watches; n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{0, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := million(b, n)
			tokens := make([]Token, 1024)
			for i := range tokens {
				tokens[i] = Token{
					Issuer: alice.Issuer, ID: fmt.Sprintf("9b2f0c1e-77aa-4c3d-8e11-%012d", i), Subject: fmt.Sprintf("user-%d@example.com", i),
					Client: fmt.Sprint("client-", i%10), IssuedAt: now,
				}
				tokens[i].Hash[0], tokens[i].Hash[1] = byte(i), byte(i>>8)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if s.Check(&tokens[i%len(tokens)], now) != Valid {
					b.Fatal("revoked")
				}
			}
		})
	}
}

func BenchmarkAddMillion(b *testing.B) {
	for range b.N {
		million(b, 1_000_000)
	}
}
