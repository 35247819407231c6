package reload

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// client is a user's, in a session.
type client struct {
	p       *process
	http    *http.Client
	token   string
	session string
	// joined is how many events there were before.
	joined int
}

// wires are the ways in which a client connects.
var wires = map[string]func() *http.Transport{
	"http/1.1, connections kept": func() *http.Transport { return &http.Transport{DisableCompression: true} },
	"http/1.1, a connection each": func() *http.Transport {
		return &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	},
	"http/2": func() *http.Transport {
		t := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
		t.Protocols.SetUnencryptedHTTP2(true)
		return t
	},
}

// join makes a client and begins a session.
func (p *process) join(subject string, wire func() *http.Transport) *client {
	p.t.Helper()
	transport := wire()
	p.t.Cleanup(transport.CloseIdleConnections)
	c := &client{p: p, http: &http.Client{Transport: transport}, token: p.tokenOf(subject, nil)}
	const initialize = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	resp, err := c.surely(p.t.Context(), http.MethodPost, initialize, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if c.session = resp.Header.Get("Mcp-Session-Id"); c.session == "" || err != nil {
		p.t.Fatalf("%d %s %v", resp.StatusCode, text, err)
	}
	p.up.mu.Lock()
	c.joined = p.up.sends
	p.up.mu.Unlock()
	return c
}

// do sends a request.
func (c *client) do(ctx context.Context, method, body string, more http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.p.url()+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if t := c.http.Transport.(*http.Transport); t.Protocols == nil {
		// With it, the transport would send some requests again by itself. They are to
		// be counted. In HTTP/2 the server tells which ones.
		r.GetBody = nil
	}
	r.Header = http.Header{
		"Authorization": {"Bearer " + c.token}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2025-06-18"}, "Accept-Encoding": {"identity"},
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	} else {
		r.Body, r.ContentLength = nil, 0
	}
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	maps.Copy(r.Header, more)
	return c.http.Do(r)
}

// surely sends a request again whose connection was closed by a reload before the gateway
// took it.
func (c *client) surely(ctx context.Context, method, body string, more http.Header) (*http.Response, error) {
	for {
		resp, err := c.do(ctx, method, body, more)
		if err == nil || closedBy(err) == "" {
			return resp, err
		}
	}
}

// call calls a tool. The error is that of the connection; an answer that is not what it
// has to be fails the test.
func (c *client) call(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodPost, `{"jsonrpc":"2.0","id":"`+id+`","method":"tools/call","params":{"name":"any"}}`, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), `"id":"`+id+`","result"`) {
		c.p.t.Errorf("call %s: %d %s %v", id, resp.StatusCode, text, err)
	}
	return nil
}

// answer calls a tool and returns the whole answer, or the error.
func (c *client) answer(id string) string {
	resp, err := c.surely(c.p.t.Context(), http.MethodPost, `{"jsonrpc":"2.0","id":"`+id+`","method":"tools/call","params":{"name":"any"}}`, nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stream is an open event stream.
type stream struct {
	t *testing.T
	// got is how many events came, each the one after the last.
	got atomic.Int64
	// last is the id of the last one, and end why the stream has ended; both are known
	// when it is closed.
	last  string
	end   error
	ended chan struct{}
	stop  context.CancelFunc
}

// listen opens a stream, from an event on if last is not empty, which is number from.
func (c *client) listen(last string, from int64) *stream {
	c.p.t.Helper()
	ctx, stop := context.WithCancel(c.p.t.Context())
	s := &stream{t: c.p.t, ended: make(chan struct{}), stop: stop, last: last}
	s.got.Store(from)
	var more http.Header
	if last != "" {
		more = http.Header{"Last-Event-Id": {last}}
	}
	resp, err := c.surely(ctx, http.MethodGet, "", more)
	if err != nil {
		c.p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		c.p.t.Fatalf("%d %s", resp.StatusCode, text)
	}
	go s.read(resp.Body)
	c.p.t.Cleanup(func() {
		stop()
		<-s.ended
	})
	return s
}

// errNotNext is for an event that is not the one that has to come.
var errNotNext = errors.New("an event that is not the next one")

func (s *stream) read(body io.ReadCloser) {
	defer close(s.ended)
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		line := lines.Text()
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			s.last = id
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		n := s.got.Load()
		if want := fmt.Sprintf(`"data":%d}`, n); !strings.Contains(data, want) {
			s.end = fmt.Errorf("%w: %s instead of number %d", errNotNext, data, n)
			return
		}
		s.got.Add(1)
	}
	s.end = lines.Err()
	if s.end == nil {
		s.end = io.EOF
	}
}

// running reports whether it has not ended.
func (s *stream) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}
