package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tagHeader is sent by every client of these tests, so that a server that serves
// several runs at a time can tell whose request it received.
const tagHeader = "X-Test-Tag"

// mcpServer is a server under test and what it received.
type mcpServer struct {
	name string
	url  string
	log  serverLog
}

// received is a request as it reached the server.
type received struct {
	Method  string
	Headers map[string]any
	Body    string
}

// header returns a header's value; those of Node come in lower case, and a
// repeated one as Node or Go joins it.
func (r received) header(name string) string {
	value, _ := r.Headers[strings.ToLower(name)].(string)
	return value
}

// serverLog is what a server reports.
type serverLog struct {
	mu        sync.Mutex
	requests  []received
	cancelled []string
	closed    []string // sessions
	faults    []string
	changed   chan struct{} // closed at the next report
}

// line takes a line of a Node server.
func (l *serverLog) line(line []byte) {
	var event struct {
		received
		Event   string
		Key     string
		Session string
		Message string
	}
	if err := json.Unmarshal(line, &event); err != nil {
		l.report(func() { l.faults = append(l.faults, string(line)) })
		return
	}
	l.report(func() {
		switch event.Event {
		case "http":
			l.requests = append(l.requests, event.received)
		case "cancelled":
			l.cancelled = append(l.cancelled, event.Key)
		case "session closed":
			l.closed = append(l.closed, event.Session)
		default:
			l.faults = append(l.faults, string(line))
		}
	})
}

func (l *serverLog) report(add func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	add()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// request notes a request that reached a Go server.
func (l *serverLog) request(r *http.Request, body []byte) {
	headers := make(map[string]any, len(r.Header))
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	l.report(func() {
		l.requests = append(l.requests, received{Method: r.Method, Headers: headers, Body: string(body)})
	})
}

// of returns what the server received in one run.
func (l *serverLog) of(tag string) []received {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.requests), func(r received) bool { return r.header(tagHeader) != tag })
}

// await waits for a report: a cancelled key, or a closed session.
func (l *serverLog) await(t *testing.T, what string, find func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		l.mu.Lock()
		if find() {
			l.mu.Unlock()
			return
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Errorf("the server did not see it within 15 s: %s", what)
			return
		}
	}
}

func (l *serverLog) awaitCancelled(t *testing.T, key string) {
	t.Helper()
	l.await(t, "cancellation of "+key, func() bool { return slices.Contains(l.cancelled, key) })
}

func (l *serverLog) awaitClosed(t *testing.T, session string) {
	t.Helper()
	l.await(t, "end of session "+session, func() bool { return slices.Contains(l.closed, session) })
}

// The servers under test. Each name is a server of the gateway's Caddyfile.
var servers = map[string]func() (*mcpServer, error){
	"go-stateful":  sync.OnceValues(func() (*mcpServer, error) { return startGoServer("go-stateful", false) }),
	"go-stateless": sync.OnceValues(func() (*mcpServer, error) { return startGoServer("go-stateless", true) }),
	"ts1":          sync.OnceValues(func() (*mcpServer, error) { return startTSServer("ts1") }),
	"ts2":          sync.OnceValues(func() (*mcpServer, error) { return startTSServer("ts2") }),
}

// serverNames are the names of servers, in a fixed order.
var serverNames = []string{"go-stateful", "go-stateless", "ts1", "ts2"}

func startTSServer(name string) (*mcpServer, error) {
	s := &mcpServer{name: name}
	var err error
	s.url, err = startNodeServer("server-"+name+".mjs", "SERVER_CONFIG", nil, s.log.line)
	return s, err
}
