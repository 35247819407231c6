package reload

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestDrain: streams that older configurations opened keep them in memory. With
// stream_drain they end as answers do, the clients go on after the last event they got,
// and the configurations are gone.
func TestDrain(t *testing.T) {
	p := prepare(t)
	plain := p.caddyfile("", "", everything)
	p.start(plain)
	const generations = 30
	var clients []*client
	var streams []*stream
	for i := range generations {
		wire := wires["http/1.1, connections kept"]
		if i%2 == 1 {
			wire = wires["http/2"]
		}
		c := p.join(fmt.Sprint("listener-", i), wire)
		clients, streams = append(clients, c), append(streams, c.listen("", 0))
	}
	together := p.settled()
	for i, s := range streams {
		s.stop()
		<-s.ended
		p.reload(plain)
		streams[i] = clients[i].listen("", 0)
		p.up.send()
	}
	p.reload(plain)
	text := p.ask("/metrics")
	// An old listener may accept a last connection after the reload.
	if old, kept := p.metric(text, "caddy_mcp_streams_old"), p.metric(text, "caddy_mcp_configurations"); old != generations || kept < generations/2 || kept > generations+1 {
		t.Errorf("%d streams of %d configurations", old, kept)
	}
	apart := p.settled()
	t.Logf("a configuration that is kept for a stream needs %d bytes and %.1f goroutines",
		(apart.heap-together.heap)/generations, float64(apart.goroutines-together.goroutines)/generations)

	p.reload(p.caddyfile("", "stream_drain 300ms", everything))
	// Some have ended, and others have not.
	for n := range 10 {
		p.up.send()
		p.eventually(fmt.Sprintf("that %d streams have ended", n*generations/10), func() bool {
			over := 0
			for _, s := range streams {
				if !s.running() {
					over++
				}
			}
			return over >= n*generations/10
		})
	}
	// back has each client whose stream has ended go on.
	back := func() {
		for i, s := range streams {
			if s.running() {
				continue
			}
			if !errors.Is(s.end, io.EOF) {
				t.Fatalf("stream %d did not end as an answer does: %v", i, s.end)
			}
			streams[i] = clients[i].listen(s.last, s.got.Load())
		}
	}
	begun := time.Now()
	sent := begun
	p.eventually("that all streams are those of the configuration that runs", func() bool {
		back()
		// A client may have given a connection up that was taken just before the reload.
		// That is noticed when there is something to send.
		if time.Since(sent) > time.Second {
			p.up.send()
			sent = time.Now()
		}
		text := p.ask("/metrics")
		old, open := p.metric(text, "caddy_mcp_streams_old"), p.metric(text, `caddy_mcp_streams\{kind="listen"\}`)
		if time.Since(begun) > patience-2*time.Second {
			t.Logf("%d old streams, %d of %d", old, open, generations)
		}
		return old == 0 && open == generations
	})
	p.up.send()
	p.eventually("that every event has come", func() bool {
		for i, s := range streams {
			if !s.running() {
				t.Fatalf("stream %d: %v", i, s.end)
			}
			if s.got.Load() < int64(p.up.sentTo(clients[i])) {
				return false
			}
		}
		return true
	})
	text = p.ask("/metrics")
	if kept := p.metric(text, "caddy_mcp_configurations"); kept != 1 {
		t.Errorf("%d configurations", kept)
	}
	if n := p.metric(text, `caddy_mcp_streams_ended_total\{cause="drained"\}`); n < generations {
		t.Errorf("%d streams were ended", n)
	}
	// Without its configurations, what the streams need is the same as before.
	after := p.settled()
	t.Logf("of one configuration %+v, of %d %+v, afterwards %+v", together, generations, apart, after)
	// The figures of so few are not exact.
	if over := after.heap - together.heap; over > (apart.heap-together.heap)*2/3 || after.goroutines > together.goroutines+10 {
		t.Errorf("the configurations are still there:\n%s", p.ask("/debug/pprof/goroutine?debug=1"))
	}
}

// TestStop: when Caddy is told to end, it does not wait for the streams that listen, which
// end as answers do. A call gets its answer.
func TestStop(t *testing.T) {
	p := prepare(t)
	p.start(p.caddyfile("", "", everything)) // without a grace period, which is for ever
	var streams []*stream
	for i, wire := range []string{"http/1.1, connections kept", "http/2"} {
		c := p.join(fmt.Sprint("listener-", i), wires[wire])
		streams = append(streams, c.listen("", 0))
		p.reload(p.caddyfile("", "", everything)) // the streams of every configuration
	}
	p.up.send()
	p.eventually("the event", func() bool { return streams[0].got.Load() == 1 && streams[1].got.Load() == 1 })
	release := p.up.holding()
	caller := p.join("caller", wires["http/1.1, a connection each"])
	answer := make(chan string, 1)
	go func() { answer <- caller.answer("held") }()
	<-p.up.held

	ended := make(chan error, 1)
	go func() { ended <- p.terminate() }()
	for i, s := range streams {
		<-s.ended
		if !errors.Is(s.end, io.EOF) {
			t.Errorf("stream %d did not end as an answer does: %v", i, s.end)
		}
	}
	close(release)
	if got := <-answer; !strings.Contains(got, `"id":"held","result"`) {
		t.Errorf("the call was answered with %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStopInTime: a call that lasts longer than the grace period is ended before that is
// over, and with it its stream, as an answer is.
func TestStopInTime(t *testing.T) {
	p := prepare(t)
	p.start(p.caddyfile("grace_period 2s", "", everything))
	release := p.up.holding()
	defer close(release)
	caller := p.join("caller", wires["http/1.1, a connection each"])
	answer := make(chan string, 1)
	go func() { answer <- caller.answer("held") }()
	<-p.up.held
	if err := p.terminate(); err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "" {
		t.Errorf("the call's stream has ended with %s", got)
	}
	if strings.Contains(p.log.String(), "graceful shutdown") {
		t.Error("the grace period was over before the streams")
	}
}

// TestRevokedInEveryGeneration: a revocation ends the streams that older configurations
// opened, and stream_drain does not hold it up. With another store, the sessions of the
// one before are over, and their streams with them.
func TestRevokedInEveryGeneration(t *testing.T) {
	p := prepare(t)
	p.start(p.caddyfile("", "", everything))
	wire := wires["http/1.1, connections kept"]
	c := p.join("alice", wire)
	streams := []*stream{c.listen("", 0)}
	for i, gateway := range []string{"", "session_lifetime 23h", "stream_drain 1h"} {
		p.reload(p.caddyfile("", gateway, everything))
		c.http = p.join(fmt.Sprint("other-", i), wire).http
		streams = append(streams, c.listen("", 0))
	}
	bob := p.join("bob", wire).listen("", 0)
	p.up.send()
	for i, s := range append(streams, bob) {
		p.eventually(fmt.Sprintf("an event in stream %d", i), func() bool { return s.got.Load() >= 1 })
	}
	p.revoke(`{"by":"subject","value":"alice"}`)
	begun := time.Now()
	for i, s := range streams {
		<-s.ended
		if !errors.Is(s.end, io.EOF) {
			t.Errorf("stream %d did not end as an answer does: %v", i, s.end)
		}
	}
	t.Logf("all streams had ended after %s", time.Since(begun))
	p.up.send()
	p.eventually("an event for bob", func() bool { return bob.got.Load() == 2 })
	if !bob.running() {
		t.Error("bob's stream has ended")
	}
	text := p.ask("/metrics")
	if got := p.metric(text, `caddy_mcp_streams_ended_total\{cause="token_revoked"\}`); got != len(streams) {
		t.Errorf("%d streams were ended", got)
	}
	p.reload(p.caddyfile("", "store embedded "+p.dir+"/other.db", everything))
	<-bob.ended
	if !errors.Is(bob.end, io.EOF) {
		t.Errorf("bob's stream did not end as an answer does: %v", bob.end)
	}
	if anew := p.join("bob", wire).listen("", 0); !anew.running() {
		t.Error("bob cannot begin again")
	}
}
