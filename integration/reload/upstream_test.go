package reload

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
)

// upstream is an MCP server whose streams say what the test wants. Every event has an id
// and the number of the event in its session; a stream that names the last one it got
// goes on after it.
type upstream struct {
	address string

	mu       sync.Mutex
	sessions map[string]*session
	got      map[string]int // requests by their id
	sends    int
	hold     chan struct{} // if set, calls wait for it
	held     chan struct{} // and say so
}

type session struct {
	sent    int
	changed chan struct{} // closed when there is more
	streams int           // that were opened
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: listener.Addr().String(), sessions: map[string]*session{}, got: map[string]int{}}
	server := &http.Server{Handler: u} //nolint:gosec // loopback, for the life of the test
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("Mcp-Session-Id")
	if r.Method == http.MethodGet {
		u.stream(w, r, id)
		return
	}
	if r.Method == http.MethodDelete {
		u.mu.Lock()
		delete(u.sessions, id)
		u.mu.Unlock()
		return
	}
	var m struct {
		ID     any
		Method string
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.got[fmt.Sprint(m.ID)]++
	hold, held := u.hold, u.held
	result := `{"content":[{"type":"text","text":"done"}]}`
	if m.Method == "initialize" {
		id = rand.Text()
		u.sessions[id] = &session{changed: make(chan struct{})}
		result = `{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"u","version":"1"}}`
	}
	known := u.sessions[id] != nil
	u.mu.Unlock()
	switch {
	case !known:
		http.Error(w, "no such session", http.StatusNotFound)
		return
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Mcp-Session-Id", id)
	text, _ := json.Marshal(m.ID)
	answer := `{"jsonrpc":"2.0","id":` + string(text) + `,"result":` + result + `}`
	if m.Method == "tools/call" && hold != nil {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		held <- struct{}{}
		select {
		case <-hold:
			_, _ = fmt.Fprintf(w, "data: %s\n\n", answer)
		case <-r.Context().Done():
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprint(w, answer)
}

func (u *upstream) stream(w http.ResponseWriter, r *http.Request, id string) {
	u.mu.Lock()
	s := u.sessions[id]
	if s != nil {
		s.streams++
	}
	u.mu.Unlock()
	if s == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	next := 0
	if last := r.Header.Get("Last-Event-Id"); last != "" {
		if _, err := fmt.Sscanf(last, id+"-%d", &next); err != nil {
			http.Error(w, "no such event", http.StatusBadRequest)
			return
		}
		next++
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
	for {
		u.mu.Lock()
		sent, changed := s.sent, s.changed
		u.mu.Unlock()
		for ; next < sent; next++ {
			_, _ = fmt.Fprintf(w, "id: %s-%d\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":%d}}\n\n", id, next, next)
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// send has every stream say one more thing.
func (u *upstream) send() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sends++
	for _, s := range u.sessions {
		s.sent++
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// received is how often a request came.
func (u *upstream) received(id string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.got[id]
}

// opened is how many streams were ever opened.
func (u *upstream) opened() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.sessions {
		n += s.streams
	}
	return n
}

// sentTo is how many events there were for a client.
func (u *upstream) sentTo(c *client) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sends - c.joined
}

// holding has calls wait until the channel is closed.
func (u *upstream) holding() chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hold, u.held = make(chan struct{}), make(chan struct{}, 1)
	return u.hold
}
