package reload

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var reloads = flag.Int("reloads", 100, "how many reloads under load")

// figures are what a Caddy needs.
type figures struct {
	goroutines, heap int
}

// settled returns them when Caddy has nothing to do and has thrown away what it can: the
// least of many looks, of which the last ones were no less.
func (p *process) settled() figures {
	p.t.Helper()
	least := figures{math.MaxInt, math.MaxInt}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for same := 0; same < 20; same++ {
		p.ask("/debug/pprof/heap?gc=1")
		text := p.ask("/metrics")
		now := figures{p.metric(text, "go_goroutines"), p.metric(text, "go_memstats_heap_alloc_bytes")}
		if now.goroutines < least.goroutines || now.heap < least.heap-least.heap/100 {
			same = 0
		}
		least = figures{min(now.goroutines, least.goroutines), min(now.heap, least.heap)}
		<-tick.C
	}
	return least
}

func (p *process) metric(text, name string) int {
	p.t.Helper()
	match := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if match == nil {
		p.t.Fatalf("there is no %s in %s", name, text)
	}
	value, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return int(value)
}

// worker calls tools, one after the other.
type worker struct {
	name        string
	client      *client
	n, answered int64
	// closed are the connections that were closed before a request was taken, by the
	// error.
	closed map[string]int
}

// work goes on until the context ends. A request on a connection that was closed before
// the gateway took it is sent again. A reload cannot do without: net/http closes the
// connections of HTTP/1.1 that are idle, on one of which a request may be on its way, and
// does not look at what it reads while it shuts down; and the kernel resets connections
// that nobody had accepted when their listener is closed. None of these requests has
// reached a handler, and so none may have reached the server.
func (w *worker) work(ctx context.Context, t *testing.T) {
	var lost []string
	for ; ctx.Err() == nil; w.n++ {
		id := fmt.Sprintf("%s-%d", w.name, w.n)
		err := w.client.call(context.WithoutCancel(ctx), id)
		if err == nil {
			w.answered++
			if got := w.client.p.up.received(id); got != 1 {
				t.Errorf("the server received %d of %s", got, id)
			}
			continue
		}
		lost = append(lost, id)
		kind := closedBy(err)
		w.closed[kind]++
		if kind == "" {
			t.Errorf("%s: %v", id, err)
			break
		}
	}
	for _, id := range lost {
		if got := w.client.p.up.received(id); got != 0 {
			t.Errorf("%s was not answered, and the server has received it", id)
		}
	}
}

// closedBy is how a connection was closed on which a request was under way, or empty for
// another error.
func closedBy(err error) string {
	switch {
	case errors.Is(err, io.EOF), strings.Contains(err.Error(), "server closed idle connection"):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	default:
		return ""
	}
}

// TestReloadsUnderLoad reloads many times, with 100 open streams, while calls are sent.
// No call fails, each stream gets each event, and Caddy needs no more than before.
func TestReloadsUnderLoad(t *testing.T) {
	p := prepare(t)
	generation := 0
	// Not only its text changes.
	config := func() string {
		generation++
		site := everything + "\n\t\twell_known_text generation " + strconv.Itoa(generation)
		if generation%2 == 0 {
			site += "\n\t\trole more" + strconv.Itoa(generation%7) + " {\n\t\t\twhen groups some\n\t\t\tallow tools.execute main/x" + strconv.Itoa(generation) + "\n\t\t}"
		}
		return p.caddyfile("", "max_sessions "+strconv.Itoa(1000+generation%5), site)
	}
	p.start(config())

	const open = 100
	var streams []*stream
	var shared *client // of HTTP/2, with more than one stream on its connection
	for i := range open {
		wire := wires["http/1.1, connections kept"]
		if i%2 == 1 {
			wire = wires["http/2"]
		}
		c := p.join(fmt.Sprint("listener-", i), wire)
		if i%10 == 1 {
			shared = c
		} else if i%2 == 1 {
			c.http.CloseIdleConnections()
			c.http = shared.http
		}
		streams = append(streams, c.listen("", 0))
	}
	workers := map[string]*worker{}
	for name, wire := range wires {
		workers[name] = &worker{name: name, client: p.join(name, wire), closed: map[string]int{}}
	}
	sent := int64(0)
	// run reloads under load, with an event in every stream after each reload.
	run := func(n int) {
		ctx, stop := context.WithCancel(t.Context())
		var working sync.WaitGroup
		for _, w := range workers {
			working.Go(func() { w.work(ctx, t) })
		}
		for range n {
			p.reload(config())
			p.up.send()
			sent++
			p.eventually(fmt.Sprintf("that event %d is in every stream", sent), func() bool {
				for i, s := range streams {
					if !s.running() {
						t.Fatalf("stream %d has ended after %d events: %v", i, s.got.Load(), s.end)
					}
					if s.got.Load() < sent {
						return false
					}
				}
				return true
			})
			if t.Failed() {
				break
			}
		}
		stop()
		working.Wait()
		for _, w := range workers {
			w.client.http.CloseIdleConnections()
		}
	}
	run(20)
	before := p.settled()
	for _, w := range workers {
		w.answered, w.closed = 0, map[string]int{}
	}
	from := time.Now()
	run(*reloads)
	took := time.Since(from)

	var answered int64
	for name, w := range workers {
		answered += w.answered
		t.Logf("%s: %d requests answered; sent again because the connection was: %v", name, w.answered, w.closed)
		if w.answered == 0 {
			t.Errorf("%s: no request was answered", name)
		}
		// There the gateway says which requests it will not take, and what a client is
		// made of sends them again by itself.
		if name == "http/2" && len(w.closed) > 0 {
			t.Error("a request over HTTP/2 was lost")
		}
	}
	for i, s := range streams {
		if s.got.Load() != sent {
			t.Errorf("stream %d got %d events of %d", i, s.got.Load(), sent)
		}
	}
	if n := p.up.opened(); n != open {
		t.Errorf("%d streams were opened, there are %d", n, open)
	}
	// The ids of events of a session are remembered, 1,024 of 8 bytes each.
	const slack = 10
	enough := figures{before.goroutines + slack, before.heap + open*1024*8 + 4<<20}
	after := p.settled()
	if after.goroutines > enough.goroutines || after.heap > enough.heap {
		t.Errorf("before %+v, after %+v, which is more than %+v:\n%s", before, after, enough, p.ask("/debug/pprof/goroutine?debug=1"))
	}
	t.Logf("%d reloads in %s: %d requests answered, %d streams with %d events each, before %+v, after %+v",
		*reloads, took.Round(time.Second), answered, open, sent, before, after)
}
