package mcpauth

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// single are the headers of which a second one could be read in its place.
var single = []string{
	"Content-Type", "Content-Encoding", "Content-Length",
	mcp.HeaderProtocolVersion, mcp.HeaderSessionID, mcp.HeaderMethod, mcp.HeaderName, mcp.HeaderLastEventID,
}

// readHeader finds out the protocol revision that a request names.
func (c *Call) readHeader(r *http.Request) *Refusal {
	for _, name := range single {
		if len(r.Header[name]) > 1 {
			return refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, "header_several", "there is more than one "+name+" header")
		}
	}
	c.Version = mcp.Default
	if given := r.Header[mcp.HeaderProtocolVersion]; len(given) == 1 {
		c.VersionGiven = true
		known, ok := mcp.Known(given[0])
		if !ok {
			// Told only after the body, which may name another.
			known = mcp.Version(given[0])
		}
		c.Version = known
	}
	if id := r.Header.Get(mcp.HeaderSessionID); !isSessionID(id) {
		return refuse(http.StatusBadRequest, mcp.CodeTransport, "session_malformed", "the session id is not one")
	}
	return nil
}

// maxSessionID is the length in bytes up to which a session id is looked at.
const maxSessionID = 256

// isSessionID reports whether id is empty or visible ASCII (MCP transports,
// session management).
func isSessionID(id string) bool {
	if len(id) > maxSessionID {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

func unsupportedVersion(id jsonrpc.ID, requested string) *Refusal {
	f := refuse(http.StatusBadRequest, mcp.CodeUnsupportedVersion, "protocol_version", "Unsupported protocol version")
	f.ID = id
	supported := make([]string, len(mcp.Versions))
	for i, v := range mcp.Versions {
		supported[i] = string(v)
	}
	f.data = []any{"supported", supported, "requested", requested}
	return f
}

// readBody reads the messages of a POST.
func (h *Handler) readBody(c *Call, w http.ResponseWriter, r *http.Request) *Refusal {
	if !isJSON(r.Header.Get("Content-Type")) {
		return refuse(http.StatusUnsupportedMediaType, mcp.CodeTransport, "content_type", "the body must be application/json in UTF-8")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return refuse(http.StatusUnsupportedMediaType, mcp.CodeTransport, "content_encoding", "the body must not be compressed")
	}
	if r.ContentLength > h.MaxBody {
		return refuse(http.StatusRequestEntityTooLarge, mcp.CodeTransport, "body_too_large", "the body is too large")
	}
	body, err := h.read(w, r)
	if err != nil {
		return unreadable(err)
	}
	c.Body = body
	if c.Messages, c.Batch, err = jsonrpc.Read(body); err != nil {
		return unread(err)
	}
	return nil
}

// read reads the whole body, in the time and up to the size that are configured.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	late := newLate(w, time.Duration(h.BodyTimeout))
	body, err := h.readAll(w, r)
	if late.stop() {
		return nil, os.ErrDeadlineExceeded
	}
	return body, err
}

func (h *Handler) readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, h.MaxBody))
	return body.Bytes(), err
}

// late ends the reading of a body that takes too long. Setting the connection's
// deadline only then costs the requests in time next to nothing.
type late struct {
	timer *time.Timer

	mu sync.Mutex
	// w is what the body is read from, nil when that is over.
	w     http.ResponseWriter
	fired bool
}

var lates = sync.Pool{New: func() any { return new(late) }}

func newLate(w http.ResponseWriter, after time.Duration) *late {
	l := lates.Get().(*late)
	l.w = w
	if l.timer == nil {
		l.timer = time.AfterFunc(after, l.fire)
	} else {
		l.timer.Reset(after)
	}
	return l
}

func (l *late) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		l.fired = true
		_ = http.NewResponseController(l.w).SetReadDeadline(time.Unix(1, 0))
	}
}

// stop reports whether it was too late.
func (l *late) stop() bool {
	stopped := l.timer.Stop()
	l.mu.Lock()
	l.w = nil
	fired := l.fired
	l.mu.Unlock()
	if stopped {
		lates.Put(l) // its function has not run and will not
	}
	return fired
}

// unreadable tells why a body could not be read. What another handler has to say
// about it, such as request_body, is said with its status.
func unreadable(err error) *Refusal {
	var tooLarge *http.MaxBytesError
	var handled caddyhttp.HandlerError
	switch {
	case errors.As(err, &handled) && handled.StatusCode == http.StatusRequestEntityTooLarge, errors.As(err, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, mcp.CodeTransport, "body_too_large", "the body is too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, mcp.CodeTransport, "body_too_slow", "the body did not come in time")
	}
	return refuse(http.StatusBadRequest, mcp.CodeTransport, "body_unreadable", "the body could not be read")
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/json" {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// checkEra finds out by which era's rules the messages are to be judged, and
// applies those rules: the body is what counts, and the headers must agree with it.
func (c *Call) checkEra(r *http.Request) *Refusal {
	header := string(c.Version)
	if !c.VersionGiven {
		header = ""
	}
	for i := range c.Messages {
		if m := &c.Messages[i]; m.Params.Meta.ProtocolVersion.Present || c.Version.Modern() {
			return c.checkModern(r, m, header)
		}
	}
	if _, known := mcp.Known(string(c.Version)); !known {
		return unsupportedVersion(c.ID(), header)
	}
	if c.Batch && !c.Version.Batches() {
		return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "batch", "this protocol version has no batches")
	}
	return nil
}

// checkModern checks a request of 2026-07-28 or later (transports, standard
// headers; per-request metadata).
func (c *Call) checkModern(r *http.Request, m *jsonrpc.Message, header string) *Refusal {
	mismatch := func(reason, message string) *Refusal {
		f := refuse(http.StatusBadRequest, mcp.CodeHeaderMismatch, reason, message)
		f.ID = m.ID
		return f
	}
	meta := &m.Params.Meta
	switch {
	case c.Batch:
		return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "batch", "this protocol version has no batches")
	case m.Kind == jsonrpc.Response:
		return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "response", "this protocol version has no responses of clients")
	case header == "":
		return mismatch("header_missing", mcp.HeaderProtocolVersion+" is missing")
	case meta.ProtocolVersion.Present && meta.ProtocolVersion.Value != header:
		return mismatch("header_mismatch", mcp.HeaderProtocolVersion+" and _meta name different protocol versions")
	}
	if v, known := mcp.Known(header); !known || !v.Modern() {
		return unsupportedVersion(m.ID, header)
	}
	switch {
	case mcp.Lookup(m.Method, mcp.Client, m.Kind, c.Version) == nil:
		return unknownMethod(m, c.Version)
	case !meta.ProtocolVersion.Present && m.Kind == jsonrpc.Request:
		return c.invalid(m, "meta_version", "_meta must name the protocol version")
	case !meta.ClientCapabilities && m.Kind == jsonrpc.Request:
		return c.invalid(m, "meta_capabilities", "_meta must have the client's capabilities")
	}
	if given := r.Header[mcp.HeaderMethod]; len(given) == 0 && m.Kind == jsonrpc.Request {
		return mismatch("header_missing", mcp.HeaderMethod+" is missing")
	} else if len(given) > 0 && given[0] != m.Method {
		return mismatch("header_mismatch", mcp.HeaderMethod+" is not the body's method")
	}
	var named jsonrpc.Text
	switch mcp.MirroredName(m.Method) {
	case "name":
		named = m.Params.Name
	case "uri":
		named = m.Params.URI
	case "taskId":
		named = m.Params.TaskID
	default:
		return nil
	}
	given := r.Header[mcp.HeaderName]
	if len(given) == 0 {
		return mismatch("header_missing", mcp.HeaderName+" is missing")
	}
	if text, ok := mcp.DecodeHeader(given[0]); !ok || !named.Present || text != named.Value {
		return mismatch("header_mismatch", mcp.HeaderName+" is not the name in the body")
	}
	return nil
}
