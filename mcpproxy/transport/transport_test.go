package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// provision makes a transport, and says that it takes the short way.
func provision(t *testing.T, transport *Transport) *Transport {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := transport.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := transport.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return transport
}

func direct(t *testing.T) *Transport {
	t.Helper()
	transport := provision(t, new(Transport))
	if transport.direct == nil {
		t.Fatal("a transport without options does not take the short way")
	}
	return transport
}

// upstream is a server that counts its connections.
type upstream struct {
	*httptest.Server
	opened atomic.Int32
	closed chan struct{}
}

func serve(t *testing.T, handler http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{closed: make(chan struct{}, 1000)}
	u.Server = httptest.NewUnstartedServer(handler)
	u.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			u.opened.Add(1)
		}
		if state == http.StateClosed {
			u.closed <- struct{}{}
		}
	}
	u.Start()
	t.Cleanup(u.Close)
	return u
}

func post(t *testing.T, ctx context.Context, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// send makes a round trip and reads the answer.
func send(transport http.RoundTripper, r *http.Request) (answer, error) {
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, fmt.Sprint(response.Header), string(read), fmt.Sprint(response.Trailer)}, err
}

type answer struct {
	status                int
	header, body, trailer string
}

// Whatever a server says, and however, is read as net/http's client reads it.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"length": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", r.Host+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(body))
			_, _ = io.WriteString(w, strings.Repeat("x", 300))
		},
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 5 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				_ = http.NewResponseController(w).Flush()
			}
		},
		"large": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("y"), 1<<20)) },
		"trailer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set("X-Sum", "4")
		},
		"empty":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"nothing":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"failure":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"close": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "last")
		},
		"early hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "then")
		},
		"several values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Vary"] = []string{"Origin", "Accept"}
			_, _ = io.WriteString(w, "v")
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
				answer(w, r)
			})
			ours, theirs := direct(t), &http.Transport{DisableCompression: true}
			t.Cleanup(theirs.CloseIdleConnections)
			for round := range 3 { // the second and third on a used connection
				got, err := send(ours, post(t, t.Context(), u.URL+"/mcp?a=b", "{}"))
				if err != nil {
					t.Fatal(err)
				}
				want, err := send(theirs, post(t, t.Context(), u.URL+"/mcp?a=b", "{}"))
				if err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("round %d: %.200v, net/http says %.200v", round, got, want)
				}
			}
		})
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok")
	})
	transport := direct(t)
	for range 50 {
		if _, err := send(transport, post(t, t.Context(), u.URL, "{}")); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.opened.Load(); n != 1 {
		t.Errorf("50 requests took %d connections", n)
	}
}

// A connection that the server has closed is not used, and nothing is sent twice.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	var seen atomic.Int32
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		_, _ = io.WriteString(w, "ok")
	})
	transport := direct(t)
	for round := range 20 {
		if _, err := send(transport, post(t, t.Context(), u.URL, "{}")); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		u.CloseClientConnections()
		<-u.closed
	}
	if seen.Load() != 20 || u.opened.Load() != 20 {
		t.Errorf("the server saw %d requests on %d connections, want 20 on 20", seen.Load(), u.opened.Load())
	}
}

// Who reads a request and then hangs up gets it once only.
func TestNothingIsSentTwice(t *testing.T) {
	var seen atomic.Int32
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if seen.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	})
	transport := direct(t)
	if _, err := send(transport, post(t, t.Context(), u.URL, "{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := send(transport, post(t, t.Context(), u.URL, "{}")); err == nil {
		t.Fatal("no error although the server hung up")
	}
	if seen.Load() != 2 {
		t.Errorf("the server saw %d requests, want 2", seen.Load())
	}
}

func TestCancellation(t *testing.T) {
	reached, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		reached <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	transport := direct(t)
	t.Run("before the header", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		if _, err := send(transport, post(t, ctx, u.URL, "{}")); !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
		<-gone
	})
	for name, tc := range map[string]struct{ cause, want error }{
		"in the body": {nil, context.Canceled},
		"at its end":  {fmt.Errorf("%w: for a test", mcpauth.ErrStreamOver), io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			response, err := transport.RoundTrip(post(t, ctx, u.URL+"/body", "{}"))
			if err != nil {
				t.Fatal(err)
			}
			event := make([]byte, len("data: 1\n\n"))
			if _, err := io.ReadFull(response.Body, event); err != nil || string(event) != "data: 1\n\n" {
				t.Fatalf("read %q, %v", event, err)
			}
			<-reached
			cancel(tc.cause)
			for range 2 {
				if _, err := response.Body.Read(event); err != tc.want { //nolint:errorlint // reverse_proxy compares so
					t.Errorf("the error is %v, want %v", err, tc.want)
				}
			}
			<-gone
		})
	}
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := send(transport, post(t, ctx, u.URL, "{}")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		<-reached
		<-gone
	})
	t.Run("before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := send(transport, post(t, ctx, u.URL, "{}")); !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestUnreadAnswerEndsItsConnection(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	})
	response, err := direct(t).RoundTrip(post(t, t.Context(), u.URL, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	<-u.closed
	if _, err := response.Body.Read(make([]byte, 1)); err == nil {
		t.Error("a closed body can be read")
	}
}

// raw is a server that answers every connection with the same bytes, once it has read
// something, and then closes it.
func raw(t *testing.T, answer []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer func() { _ = c.Close() }()
				if _, err := c.Read(make([]byte, 64<<10)); err == nil {
					_, _ = c.Write(answer)
				}
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })
	return "http://" + listener.Addr().String()
}

func TestBadAnswers(t *testing.T) {
	for name, tc := range map[string]struct{ answer, want string }{
		"none":           {"", "EOF"},
		"not HTTP":       {"SSH-2.0-OpenSSH\r\n\r\n", "malformed"},
		"half a header":  {"HTTP/1.1 200 OK\r\nContent-Le", "malformed"},
		"half a body":    {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "unexpected EOF"},
		"half a chunk":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "unexpected EOF"},
		"switching":      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "another protocol"},
		"endless header": {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1<<16)+"\r\n", 170), "larger than"},
		"endless 1xx":    {strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("y", 1<<10)+"\r\n\r\n", 12_000), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := send(direct(t), post(t, t.Context(), raw(t, []byte(tc.answer)), "{}"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want one about %q", err, tc.want)
			}
		})
	}
}

// What follows an answer is not the answer to the next request.
func TestSurplusIsNotTheNextAnswer(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	url := raw(t, append(answer, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"...))
	transport := direct(t)
	for range 5 {
		got, err := send(transport, post(t, t.Context(), url, "{}"))
		if err != nil || got.body != "ok" {
			t.Fatalf("got %q, %v", got.body, err)
		}
	}
}

// A server may refuse a large request without reading it.
func TestEarlyAnswer(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	got, err := send(direct(t), post(t, t.Context(), u.URL, strings.Repeat("x", 64<<10)))
	if err != nil || got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d, %v", got.status, err)
	}
}

func TestInformationalAnswersAreTraced(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		_, _ = io.WriteString(w, "ok")
	})
	var codes []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { codes = append(codes, code); return nil },
	})
	if got, err := send(direct(t), post(t, ctx, u.URL, "{}")); err != nil || got.body != "ok" {
		t.Fatalf("got %q, %v", got.body, err)
	}
	if fmt.Sprint(codes) != "[103 102]" {
		t.Errorf("traced %v", codes)
	}
}

func TestConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	_, err = send(direct(t), post(t, t.Context(), "http://"+listener.Addr().String(), "{}"))
	// reverse_proxy tries another upstream after this error only.
	if _, ok := errors.AsType[reverseproxy.DialError](err); !ok {
		t.Errorf("the error is %v, want a DialError", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })} //nolint:gosec // a test's
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	transport := direct(t)
	dial := transport.direct.dial
	transport.direct.dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "unix", path) }
	for range 3 {
		if got, err := send(transport, post(t, t.Context(), "http://socket/", "{}")); err != nil || got.body != "ok" {
			t.Fatalf("got %q, %v", got.body, err)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		idle time.Duration
		end  func(t *testing.T, transport *Transport)
	}{
		"after a time": {20 * time.Millisecond, func(*testing.T, *Transport) {}},
		"at cleanup":   {time.Hour, func(_ *testing.T, transport *Transport) { transport.direct.close() }},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
			transport := direct(t)
			transport.direct.idleTimeout = tc.idle
			if _, err := send(transport, post(t, t.Context(), u.URL, "{}")); err != nil {
				t.Fatal(err)
			}
			tc.end(t, transport)
			<-u.closed
		})
	}
}

// However many requests there are at once, so many connections are kept and no more.
func TestConcurrency(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	transport := direct(t)
	var group sync.WaitGroup
	for worker := range 100 {
		group.Go(func() {
			for i := range 20 {
				want := fmt.Sprintf(`{"id":"%d-%d"}`, worker, i)
				got, err := send(transport, post(t, t.Context(), u.URL, want))
				if err != nil || got.body != want {
					t.Errorf("got %q, %v, want %q", got.body, err, want)
				}
			}
		})
	}
	group.Wait()
	transport.direct.mu.Lock()
	defer transport.direct.mu.Unlock()
	for key, idle := range transport.direct.idle {
		if len(idle) > transport.direct.maxIdle {
			t.Errorf("%d idle connections to %s", len(idle), key)
		}
	}
}

// An option that only net/http's client knows is not passed over.
func TestOptionsTakeTheOtherWay(t *testing.T) {
	for name, h := range map[string]reverseproxy.HTTPTransport{
		"tls":                     {TLS: new(reverseproxy.TLSConfig)},
		"versions":                {Versions: []string{"h2c"}},
		"keepalive":               {KeepAlive: new(reverseproxy.KeepAlive)},
		"max_conns_per_host":      {MaxConnsPerHost: 1},
		"response_header_timeout": {ResponseHeaderTimeout: caddy.Duration(time.Second)},
		"expect_continue_timeout": {ExpectContinueTimeout: caddy.Duration(time.Second)},
		"max_response_header":     {MaxResponseHeaderSize: 1000},
		"proxy_protocol":          {ProxyProtocol: "v1"},
		"write_buffer":            {WriteBufferSize: 1000},
		"read_buffer":             {ReadBufferSize: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if transport := provision(t, &Transport{HTTPTransport: h}); transport.direct != nil {
				t.Error("it takes the short way")
			}
		})
	}
}

// The proxy that the environment names is used, by net/http's client.
func TestProxyOfTheEnvironment(t *testing.T) {
	proxied := make(chan string, 1)
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		proxied <- r.URL.String()
		_, _ = io.WriteString(w, "proxied")
	})
	transport := direct(t)
	transport.HTTPTransport.Transport.Proxy = func(r *http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	got, err := send(transport, post(t, t.Context(), "http://server.example/mcp", "{}"))
	if err != nil || got.body != "proxied" {
		t.Fatalf("got %q, %v", got.body, err)
	}
	if asked := <-proxied; asked != "http://server.example/mcp" {
		t.Errorf("the proxy was asked for %s", asked)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 300))
	}))
	b.Cleanup(server.Close)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	b.Cleanup(cancel)
	ours := new(Transport)
	if err := ours.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	for name, transport := range map[string]http.RoundTripper{"direct": ours, "net/http": &ours.HTTPTransport} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL, strings.NewReader("{}"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := send(transport, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
