package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

var (
	alice  = Owner{"https://issuer", "alice", "app"}
	limits = Limits{Idle: time.Minute, Life: time.Hour, Max: 100, PerOwner: 10}
	start  = time.Unix(1e9, 0)
)

func add(t *Sessions, owner Owner, server string, now time.Time) *Session {
	s := &Session{Owner: owner, Server: server}
	t.Add(s, now)
	return s
}

// Rows E1 and E3b: a session belongs to one issuer's subject in one client, and to
// one server.
func TestUseOnlyOwn(t *testing.T) {
	table := NewSessions(limits)
	s := add(table, alice, "a", start)
	for name, tc := range map[string]struct {
		owner  Owner
		server string
		want   bool
	}{
		"own":            {alice, "a", true},
		"other subject":  {Owner{"https://issuer", "bob", "app"}, "a", false},
		"other issuer":   {Owner{"https://other", "alice", "app"}, "a", false},
		"other client":   {Owner{"https://issuer", "alice", "evil"}, "a", false},
		"other server":   {alice, "b", false},
		"nobody":         {Owner{}, "a", false},
		"still own then": {alice, "a", true},
	} {
		if got := table.Use(s.ID, tc.owner, tc.server, start) != nil; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if table.Use("no-such", alice, "a", start) != nil {
		t.Error("an unknown id was found")
	}
	table.Remove(s)
	if table.Use(s.ID, alice, "a", start) != nil {
		t.Error("a removed session was found")
	}
	table.Remove(s) // twice is harmless
}

func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		after   time.Duration
		running bool
		want    bool
	}{
		"in use":                      {time.Minute - 1, false, true},
		"idle":                        {time.Minute, false, false},
		"idle with a request running": {time.Minute, true, true},
		"life with a request running": {time.Hour, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewSessions(limits)
			s := add(table, alice, "a", start)
			if tc.running {
				table.Use(s.ID, alice, "a", start)
			}
			if got := table.Use(s.ID, alice, "a", start.Add(tc.after)) != nil; got != tc.want {
				t.Errorf("found %v, want %v", got, tc.want)
			}
		})
	}
}

func TestReleaseMakesIdle(t *testing.T) {
	table := NewSessions(limits)
	s := add(table, alice, "a", start)
	table.Use(s.ID, alice, "a", start)
	table.Release(s, start.Add(30*time.Minute))
	last := start.Add(30*time.Minute + 59*time.Second)
	if table.Use(s.ID, alice, "a", last) == nil {
		t.Error("the idle time did not begin at the release")
	}
	table.Release(s, last)
	if table.Use(s.ID, alice, "a", start.Add(35*time.Minute)) != nil {
		t.Error("did not idle after the release")
	}
	table.Release(s, start) // after its end: harmless
}

func TestLimits(t *testing.T) {
	table := NewSessions(limits)
	first := add(table, alice, "a", start)
	second := add(table, alice, "a", start)
	for range limits.PerOwner - 2 {
		add(table, alice, "a", start)
	}
	table.Use(first.ID, alice, "a", start.Add(time.Second)) // so that second is the coldest
	add(table, alice, "a", start)
	if table.Use(first.ID, alice, "a", start) == nil || table.Use(second.ID, alice, "a", start) != nil {
		t.Error("one too many of an owner did not end the coldest of that owner")
	}
	for i := range 3 * limits.Max {
		add(table, Owner{Subject: fmt.Sprint(i)}, "a", start)
	}
	if table.Len() != limits.Max || len(table.owned) != limits.Max {
		t.Errorf("%d sessions of %d owners, want %d", table.Len(), len(table.owned), limits.Max)
	}
	add(table, alice, "a", start.Add(time.Hour))
	if table.Len() != 1 {
		t.Errorf("%d sessions after all but one were over", table.Len())
	}
	table.SetLimits(Limits{})
	if table.Len() != 0 || len(table.owned) != 0 {
		t.Error("new limits were not applied")
	}
}

// Row E10: an answer is taken once, and only to what was asked.
func TestAnswered(t *testing.T) {
	s := add(NewSessions(limits), alice, "a", start)
	if s.Answered("1") {
		t.Error("what was never asked was answered")
	}
	s.Asked("1")
	if s.Answered(`"1"`) {
		t.Error("ids of another type are taken for the same")
	}
	if !s.Answered("1.0") || s.Answered("1") {
		t.Error("want exactly one answer")
	}
	for i := range maxOpen {
		s.Asked(jsonrpc.ID(fmt.Sprint(i)))
	}
	if s.Asked("1000000") {
		t.Error("the open requests are not bounded")
	}
}

func TestBegin(t *testing.T) {
	s := add(NewSessions(limits), alice, "a", start)
	if !s.Begin("1") || s.Begin("1") || s.Begin("1.0") || !s.Begin(`"1"`) {
		t.Error("want an id to be open once")
	}
	s.Done("1")
	if !s.Begin("1e0") {
		t.Error("an id is still open after its answer")
	}
	if s.Answered("1") {
		t.Error("the client's requests are taken for the server's")
	}
	for i := range maxOpen {
		if s.Full() != (i >= maxOpen-2) {
			t.Fatalf("full: %v with %d open requests", s.Full(), i+2)
		}
		s.Begin(jsonrpc.ID(fmt.Sprint(100 + i)))
	}
	if s.Begin("2") {
		t.Error("the open requests are not bounded")
	}
}

// Row E13: a stream is resumed only from an event of the session itself.
func TestWasRelayed(t *testing.T) {
	table := NewSessions(limits)
	mine, other := add(table, alice, "a", start), add(table, alice, "a", start)
	mine.Relayed([]byte("1"))
	if !mine.WasRelayed("1") || mine.WasRelayed("2") || other.WasRelayed("1") {
		t.Error("want exactly the session's own event")
	}
	for i := range maxEvents {
		mine.Relayed([]byte(fmt.Sprint("e", i)))
	}
	if mine.WasRelayed("1") || !mine.WasRelayed("e0") || len(mine.events) != maxEvents {
		t.Error("want the last events and no more")
	}
}

func BenchmarkUse(b *testing.B) {
	table := NewSessions(Limits{Idle: time.Minute, Life: time.Hour, Max: 100000, PerOwner: 100000})
	for range 10000 {
		add(table, alice, "a", start)
	}
	s := add(table, alice, "a", start)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			table.Release(table.Use(s.ID, alice, "a", start), start)
		}
	})
}
