package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// client is an HTTP/1.1 client (RFC 9112) that works on its caller's goroutine. How a
// request is written and an answer is read is net/http's business (Request.Write,
// ReadResponse); this is about connections only.
type client struct {
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	maxIdle     int
	idleTimeout time.Duration

	mu sync.Mutex
	// idle are the connections by the address they go to, the last used one last.
	idle   map[string][]*conn
	sweep  *time.Timer
	closed bool
}

// maxHeader is the size in bytes of an answer's header up to which it is read, 1xx
// answers included; net/http's default.
const maxHeader = 10 << 20

var (
	errHeaderTooLarge = errors.New("the header of the server's answer is larger than 10 MiB")
	errUpgrade        = errors.New("the server wants to go on with another protocol")
)

// newClient makes a client that connects and keeps connections as t does.
func newClient(t *http.Transport) *client {
	return &client{
		dial:        t.DialContext,
		maxIdle:     t.MaxIdleConnsPerHost,
		idleTimeout: t.IdleConnTimeout,
		idle:        make(map[string][]*conn),
	}
}

// conn is one connection, used by one request at a time.
type conn struct {
	net.Conn
	key string
	r   *bufio.Reader
	w   *bufio.Writer
	// left is how much of an answer's header may still be read, negative in its body.
	left  int
	since time.Time
}

// Read lets a header be just so long.
func (c *conn) Read(p []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// roundTrip sends a request and returns the answer, whose body is yet to be read.
func (c *client) roundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cn, err := c.connect(r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cn.SetDeadline(time.Unix(1, 0)) })
	response, err := cn.exchange(r)
	if err != nil {
		stop()
		_ = cn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	b := &body{ReadCloser: response.Body, client: c, conn: cn, stop: stop, ctx: ctx, keep: !response.Close && !r.Close}
	if response.Body == http.NoBody {
		b.end(true)
		return response, nil
	}
	response.Body = b
	return response, nil
}

// exchange writes a request and reads the answer's header.
func (c *conn) exchange(r *http.Request) (*http.Response, error) {
	// A server may answer before it has read everything, and close; what it has to
	// say is of more use than that it did not listen.
	written := r.Write(c.w)
	if written == nil {
		written = c.w.Flush()
	}
	c.left = maxHeader
	defer func() { c.left = -1 }()
	for {
		response, err := http.ReadResponse(c.r, r)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) && c.r.Buffered() == 0 {
				err = io.EOF
			}
			return nil, errors.Join(written, err)
		}
		switch {
		case response.StatusCode == http.StatusSwitchingProtocols:
			return nil, errUpgrade
		case response.StatusCode < 200:
			if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
				if err := trace.Got1xxResponse(response.StatusCode, textproto.MIMEHeader(response.Header)); err != nil {
					return nil, err
				}
			}
			continue
		}
		if written != nil {
			response.Close = true
		}
		return response, nil
	}
}

// connect takes a connection that is idle, or makes one.
func (c *client) connect(r *http.Request) (*conn, error) {
	network, address := "tcp", r.URL.Host
	if to, ok := reverseproxy.GetDialInfo(r.Context()); ok {
		network, address = to.Network, to.Address
	}
	key := address
	if network != "tcp" {
		key = network + "/" + address
	}
	for {
		cn := c.take(key)
		if cn == nil {
			break
		}
		// What the server has closed in the meantime cannot be used, and a request
		// must not be sent twice. The server may still close it just now; then the
		// request fails, as it does with any client.
		if quiet(cn.Conn) {
			return cn, nil
		}
		_ = cn.Close()
	}
	dialed, err := c.dial(r.Context(), network, address)
	if err != nil {
		return nil, err
	}
	cn := &conn{Conn: dialed, key: key, left: -1}
	cn.r, cn.w = bufio.NewReader(cn), bufio.NewWriter(dialed)
	return cn, nil
}

func (c *client) take(key string) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := c.idle[key]
	if len(idle) == 0 {
		return nil
	}
	cn := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	c.idle[key] = idle[:len(idle)-1]
	return cn
}

// give takes a connection back, to be used again.
func (c *client) give(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle[cn.key]) >= c.maxIdle {
		_ = cn.Close()
		return
	}
	cn.since = time.Now()
	c.idle[cn.key] = append(c.idle[cn.key], cn)
	if c.sweep == nil {
		c.sweep = time.AfterFunc(c.idleTimeout, c.expire)
	}
}

// expire closes the connections that were idle for too long.
func (c *client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep = nil
	before := time.Now().Add(-c.idleTimeout)
	oldest := time.Time{}
	for key, idle := range c.idle {
		kept := slices.DeleteFunc(idle, func(cn *conn) bool {
			if cn.since.After(before) {
				return false
			}
			_ = cn.Close()
			return true
		})
		if len(kept) == 0 {
			delete(c.idle, key)
			continue
		}
		c.idle[key] = kept
		if oldest.IsZero() || kept[0].since.Before(oldest) {
			oldest = kept[0].since
		}
	}
	if !oldest.IsZero() {
		c.sweep = time.AfterFunc(time.Until(oldest.Add(c.idleTimeout)), c.expire)
	}
}

// close closes the idle connections, and from now on every other when its answer has
// been read.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, idle := range c.idle {
		for _, cn := range idle {
			_ = cn.Close()
		}
	}
	clear(c.idle)
	if c.sweep != nil {
		c.sweep.Stop()
		c.sweep = nil
	}
}

// body is that of an answer; with its end the connection is free again.
type body struct {
	io.ReadCloser
	client *client
	conn   *conn
	stop   func() bool
	ctx    context.Context
	keep   bool
	err    error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	complete := errors.Is(err, io.EOF)
	b.end(complete)
	if !complete && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	b.err = err
	return n, err
}

// Close gives up what has not been read.
func (b *body) Close() error {
	if b.err == nil {
		b.err = errors.New("the body is closed")
		b.end(false)
	}
	return nil
}

// end is called once. A connection is kept if the answer is complete, nothing follows it,
// and its deadline has not been touched.
func (b *body) end(complete bool) {
	if b.stop() && complete && b.keep && b.conn.r.Buffered() == 0 {
		b.client.give(b.conn)
		return
	}
	_ = b.conn.Close()
}
