package soundness

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// streamed is an answer that is read as it comes.
type streamed struct {
	*http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

// abandon sends a message and returns how to go away without having its answer.
func abandon(t *testing.T, w wire, m message) (leave func()) {
	t.Helper()
	r, transport, cancel := m.request(t, w)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := transport.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// stream sends a message with Go's own client and does not wait for its answer's
// end.
func stream(t *testing.T, w wire, m message) *streamed {
	t.Helper()
	var resp *http.Response
	var cancel context.CancelFunc
	var err error
	overReload(func() *reply {
		var r *http.Request
		var transport *http.Transport
		r, transport, cancel = m.request(t, w)
		if resp, err = transport.RoundTrip(r); err != nil {
			return &reply{err: err}
		}
		return &reply{status: resp.StatusCode}
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.name == "h2" && resp.ProtoMajor != 2 {
		t.Fatalf("the answer came over %s", resp.Proto)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &streamed{resp, bufio.NewReader(resp.Body), cancel}
}

// request is the message for Go's own client.
func (m message) request(t *testing.T, w wire) (*http.Request, *http.Transport, context.CancelFunc) {
	t.Helper()
	record(t, m.version(), w.name)
	transport := &http.Transport{DisableCompression: true}
	if m.port == world.secure {
		transport.TLSClientConfig = tlsConfig.Clone()
		transport.ForceAttemptHTTP2 = w.name == "h2"
	}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	scheme := "http://"
	if m.port == world.secure {
		scheme = "https://"
	}
	r, err := http.NewRequestWithContext(ctx, m.method, scheme+m.host+m.path, bytes.NewReader(m.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range m.header {
		name, value, _ := strings.Cut(line, ":")
		r.Header.Add(name, strings.TrimSpace(value))
	}
	return r, transport, cancel
}

// rest reads the answer to its end.
func (s *streamed) rest(t *testing.T) *reply {
	t.Helper()
	body, err := io.ReadAll(s.lines)
	return &reply{status: s.StatusCode, header: s.Header, body: body, err: err}
}

// data returns the data of the next event that has any.
func (s *streamed) data(t *testing.T) string {
	t.Helper()
	var data []string
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v, after %q", err, data)
		}
		line = strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(value, " "))
		}
		if line == "" && len(data) > 0 {
			return strings.Join(data, "\n")
		}
	}
}

// line returns the next line.
func (s *streamed) line(t *testing.T) string {
	t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the stream ended: %v", err)
	}
	return strings.TrimRight(line, "\r\n")
}

// source is an event stream of the server that a test feeds.
type source struct {
	feed  chan string
	ended chan struct{} // closed when the gateway has let go of the stream
	began chan received
}

func newSource() *source {
	return &source{feed: make(chan string), ended: make(chan struct{}), began: make(chan received, 1)}
}

// serve answers with the stream.
func (s *source) serve(w http.ResponseWriter, r *http.Request, got received) {
	defer close(s.ended)
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	s.began <- got
	for {
		select {
		case text, more := <-s.feed:
			if !more {
				return
			}
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// send writes to the stream.
func (s *source) send(t *testing.T, text string) {
	t.Helper()
	select {
	case s.feed <- text:
	case <-s.ended:
		t.Error("the gateway has let go of the stream")
	case <-time.After(patience):
		t.Fatal("the server could not write")
	}
}

// event is one with that data.
func event(data string) string { return "data: " + data + "\n\n" }

// get opens the stream of a session.
func get(t *testing.T, who person, header ...string) message {
	t.Helper()
	m := post(t, who, "", header...).without("Content-Type", "Accept").with("Accept: text/event-stream")
	m.method, m.body = http.MethodGet, nil
	return m
}
