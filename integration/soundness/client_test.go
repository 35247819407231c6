package soundness

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

var tlsConfig *tls.Config

// message is a request, byte for byte. Header lines are sent as they are written,
// in their order and as often as they stand there.
type message struct {
	port               int
	method, path, host string
	header             []string
	body               []byte
	// raw keeps HTTP/1.1 from adding a Content-Length.
	raw bool
}

// reply is what came back. err is how the connection or stream ended instead.
type reply struct {
	status int
	header http.Header
	body   []byte
	// hints are the informational answers before it.
	hints []http.Header
	err   error
}

// wire is a way to send a message.
type wire struct {
	name string
	send func(*testing.T, message) *reply
}

var (
	h1    = wire{"h1", sendH1}
	h2    = wire{"h2", sendH2}
	wires = []wire{h1, h2}
)

// spare are connections to the secure port that were made in advance, by protocol. While
// Caddy starts its TLS app, it races with the handshakes that it already takes (its events
// copy the app), so that a test must not begin one in the middle of a reload.
var spare = map[string]chan net.Conn{"http/1.1": make(chan net.Conn, 32), "h2": make(chan net.Conn, 32)}

// prepare makes the spare connections of a wire anew, and returns how many are left.
func (w wire) prepare(t *testing.T) (left func() int) {
	t.Helper()
	protocol := w.protocol()
	w.discard()
	made := make([]net.Conn, cap(spare[protocol]))
	for i := range made {
		made[i] = dial(t, world.secure, protocol)
	}
	for _, conn := range made {
		spare[protocol] <- conn
	}
	t.Cleanup(w.discard)
	return func() int { return len(spare[protocol]) }
}

// discard forgets the spare connections, which a reload ends.
func (w wire) discard() {
	for protocol := w.protocol(); len(spare[protocol]) > 0; {
		<-spare[protocol]
	}
}

func (w wire) protocol() string { return map[string]string{"h1": "http/1.1", "h2": "h2"}[w.name] }

// dial connects to a port of the gateway: over TLS if it is the secure one.
func dial(t *testing.T, port int, protocol string) net.Conn {
	t.Helper()
	if port == world.secure {
		select {
		case conn := <-spare[protocol]:
			return conn
		default:
		}
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	for range 10 {
		if !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		// A reload resets connections that the old listener has not accepted.
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if port != world.secure && port != world.teams {
		return conn
	}
	config := tlsConfig.Clone()
	config.NextProtos = []string{protocol}
	secured := tls.Client(conn, config)
	_ = secured.Handshake() // what is wrong with it, reading tells too
	return secured
}

// bytesH1 is the message as HTTP/1.1 has it.
func (m message) bytesH1() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", m.method, m.path)
	if m.host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", m.host)
	}
	for _, line := range m.header {
		b.WriteString(line + "\r\n")
	}
	if !m.raw && (m.body != nil || m.method == http.MethodPost) {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(m.body))
	}
	b.WriteString("\r\n")
	b.Write(m.body)
	return b.Bytes()
}

func sendH1(t *testing.T, m message) *reply {
	t.Helper()
	record(t, m.version(), "h1")
	return exchangeH1(t, m)
}

func exchangeH1(t *testing.T, m message) *reply {
	t.Helper()
	return overReload(func() *reply {
		conn := dial(t, m.port, "http/1.1")
		go func() { _, _ = conn.Write(m.bytesH1()) }()
		return readH1(bufio.NewReader(conn), m.method)
	})
}

// reloading reports whether Caddy is just loading a configuration.
func reloading() bool { return time.Unix(0, world.loaded.Load()).After(time.Now()) }

// overReload sends again what met the old listener as it closed: Caddy resets the
// connections that it has not accepted by then, shortly after a reload.
func overReload(send func() *reply) *reply {
	for {
		before := len(world.up.all())
		r := send()
		if r.status != 0 || time.Since(time.Unix(0, world.loaded.Load())) > 2*time.Second || len(world.up.all()) != before {
			return r
		}
	}
}

// readH1 reads one answer of HTTP/1.1, informational ones before it included.
func readH1(from *bufio.Reader, method string) *reply {
	r := &reply{}
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			r.err = err
			return r
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			r.hints = append(r.hints, resp.Header)
			continue
		}
		r.status, r.header = resp.StatusCode, resp.Header
		r.body, r.err = io.ReadAll(resp.Body)
		for name, values := range resp.Trailer {
			r.header["Trailer:"+name] = values
		}
		return r
	}
}

// sendRaw sends bytes on one connection of HTTP/1.1, a last request that ends the
// connection after them, and returns every answer but that to the last request, if
// there was one.
func sendRaw(t *testing.T, port int, data []byte) []*reply {
	t.Helper()
	conn := dial(t, port, "http/1.1")
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second)) // some have no last request
	last := fmt.Sprintf("GET /health HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n", port)
	go func() { _, _ = conn.Write(append(data, last...)) }()
	from := bufio.NewReader(conn)
	var all []*reply
	for {
		r := readH1(from, http.MethodPost)
		if r.status == 0 || strings.Contains(string(r.body), `"status":"ok"`) {
			return all
		}
		all = append(all, r)
	}
}

// field is a header field of HTTP/2, pseudo-headers included.
type field struct{ name, value string }

func (m message) fieldsH2() []field {
	fields := []field{{":method", m.method}, {":scheme", "https"}, {":authority", m.host}, {":path", m.path}}
	for _, line := range m.header {
		name, value, _ := strings.Cut(line, ":")
		fields = append(fields, field{strings.ToLower(name), strings.Trim(value, " \t")})
	}
	return fields
}

func sendH2(t *testing.T, m message) *reply {
	t.Helper()
	record(t, m.version(), "h2")
	return overReload(func() *reply { return sendFields(t, m.port, m.fieldsH2(), m.body) })
}

// sendFields sends a request of HTTP/2 that need not be a valid one.
func sendFields(t *testing.T, port int, fields []field, body []byte) *reply {
	t.Helper()
	framer := openH2(t, port, fields, body == nil)
	if len(body) > 60_000 {
		t.Fatal("a body this large needs flow control; send it with stream")
	}
	for body != nil {
		chunk := body[:min(len(body), 16000)]
		body = body[len(chunk):]
		if err := framer.WriteData(1, len(body) == 0, chunk); err != nil || len(body) == 0 {
			break
		}
	}
	return readH2(framer)
}

// openH2 sends the header of a request of HTTP/2, which may be all of it.
func openH2(t *testing.T, port int, fields []field, whole bool) *http2.Framer {
	t.Helper()
	conn := dial(t, port, "h2")
	framer := http2.NewFramer(conn, conn)
	framer.AllowIllegalWrites = true
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	// What is wrong with the connection, reading tells too.
	_, _ = conn.Write([]byte(http2.ClientPreface))
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	_ = framer.WriteWindowUpdate(0, 1<<24)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		must(encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}))
	}
	first := true
	for rest := block.Bytes(); first || len(rest) > 0; first = false {
		chunk := rest[:min(len(rest), 16000)]
		rest = rest[len(chunk):]
		if first {
			_ = framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: chunk, EndStream: whole, EndHeaders: len(rest) == 0,
			})
		} else if err := framer.WriteContinuation(1, len(rest) == 0, chunk); err != nil {
			break // refused before its end
		}
	}
	return framer
}

func readH2(framer *http2.Framer) *reply {
	r := &reply{header: http.Header{}}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			r.err = err
			return r
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			header := http.Header{}
			for _, f := range frame.RegularFields() {
				header.Add(f.Name, f.Value)
			}
			switch status := frame.PseudoValue("status"); {
			case status == "": // trailers
				for name, values := range header {
					r.header["Trailer:"+name] = values
				}
			case status[0] == '1':
				r.hints = append(r.hints, header)
			default:
				_, _ = fmt.Sscan(status, &r.status)
				r.header = header
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			r.body = append(r.body, frame.Data()...)
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			r.err = fmt.Errorf("stream reset: %v", frame.ErrCode)
			return r
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				r.err = fmt.Errorf("connection ended: %v", frame.ErrCode)
				return r
			}
		}
		if ended {
			return r
		}
	}
}
