package mcpauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/sse"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// answer is the ResponseWriter through which a server's answer reaches the client.
// What need not be looked into passes as it is. An event stream is looked into
// event by event, and nothing of an event is sent before the whole is judged; a
// JSON answer is kept back until it has been judged.
type answer struct {
	caddyhttp.ResponseWriterWrapper
	call   *Call
	limit  int
	cancel context.CancelCauseFunc
	mode   mode
	status int
	// body is a JSON answer as far as it has come, read whether it has to be read
	// in any case.
	body   []byte
	read   bool
	events *sse.Scanner
	expiry *time.Timer
	// renewal asks again about the token of a stream, if it needs that.
	renewal *renewal
	// watched is told when the token of a stream is revoked.
	watched *Watch
	// abiding is told when what is known of its holder changes.
	abiding *abiding
	// generation is that of the configuration that opened the stream, which stays in
	// memory as long as it is open. Listens is whether it answers no call.
	generation uint64
	listens    bool
	// drain ends the stream after a reload. The lock of all streams guards it.
	drain *time.Timer
	// ended is the reason for which the stream was ended by us.
	ended atomic.Pointer[error]
}

type mode uint8

const (
	undecided mode = iota
	pass
	stream
	whole
	// discard: the answer has been given, and what the server says is not sent.
	discard
)

// ErrStreamOver is the cause with which a request is cancelled to end its event stream,
// for a reason that the server has nothing to do with.
var ErrStreamOver = errors.New("the event stream is over")

// errTokenOver ends a stream whose token's time is up.
var errTokenOver = fmt.Errorf("%w: the access token has expired", ErrStreamOver)

func newAnswer(w http.ResponseWriter, call *Call, limit int, cancel context.CancelCauseFunc) *answer {
	return &answer{
		ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		call:                  call,
		limit:                 limit,
		cancel:                cancel,
	}
}

// WriteHeader decides, by the header of the server's answer, how it is treated.
func (a *answer) WriteHeader(status int) {
	if status < 200 {
		return // MCP has no use for what is said before the answer
	}
	if a.mode != undecided {
		return
	}
	a.status = status
	a.call.end = a.end
	header := a.Header()
	header.Del("Trailer") // nobody could judge them in time; finish drops the others
	allowOrigin(header, a.call.origin)
	if a.call.onHeader != nil {
		if refusal := a.call.onHeader(status, header); refusal != nil {
			a.refuse(refusal)
			return
		}
	}
	media := header.Get("Content-Type")
	if media != "application/json" && media != "text/event-stream" {
		media, _, _ = mime.ParseMediaType(media)
	}
	ok := status >= 200 && status < 300
	a.read = a.call.readJSON || a.call.filters()
	switch {
	case ok && media == "text/event-stream":
		a.mode = stream
	case status == http.StatusAccepted || status == http.StatusNoContent, ok && len(a.call.Messages) == 0:
		// There is nothing to say.
		a.mode = discard
		header.Del("Content-Length")
	case media == "application/json" && (a.read || a.call.anyAnswer || !a.call.Principal.askable || a.call.Version.Modern()):
		a.mode = whole
	case media == "application/json":
		a.mode = pass
	case ok && header.Get("Content-Length") == "0":
		a.mode = discard
	case ok:
		a.fail("answer_type", errors.New("the answer is neither JSON nor an event stream"))
		return
	case a.read || a.call.anyAnswer:
		// An error whose text cannot be judged: its status is enough.
		a.mode = discard
		header.Del("Content-Length")
	default:
		a.mode = pass
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" && (a.mode == stream || a.mode == whole) {
		a.mode = undecided
		a.fail("answer_encoding", errors.New("the answer is compressed although that was not asked for"))
		return
	}
	switch a.mode {
	case stream:
		header.Del("Content-Length")
		a.events = sse.NewScanner(a.limit)
		if deadline := a.call.Principal.Deadline(); !deadline.IsZero() {
			a.expiry = time.AfterFunc(deadline.Sub(steady.Now()), func() { a.end(errTokenOver) })
		}
		a.renew()
		a.watch()
		a.abide()
		if h := a.call.handler; h != nil {
			a.generation, a.listens = h.generation, a.call.listens()
			h.streams.enter(a)
		}
	case whole:
		if n, err := strconv.Atoi(header.Get("Content-Length")); err == nil && n <= a.limit {
			a.body = make([]byte, 0, n)
		}
		return // sent when the whole has been judged
	default:
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write takes a part of the answer's body.
func (a *answer) Write(p []byte) (int, error) {
	if a.mode == undecided {
		a.WriteHeader(http.StatusOK)
	}
	a.count(int64(len(p)))
	switch a.mode {
	case pass:
		return a.ResponseWriter.Write(p)
	case stream:
		if err := a.events.Feed(p, a.event); err != nil {
			a.call.logger.Error("event stream ended", zap.String("server", a.call.Server), zap.Error(err))
			return 0, err
		}
	case whole:
		if len(a.body)+len(p) > a.limit {
			a.fail("answer_too_large", errors.New("the answer is larger than max_answer"))
			return len(p), nil
		}
		a.body = append(a.body, p...)
	default:
	}
	return len(p), nil
}

// ReadFrom lets an answer that is not looked into be copied as fast as without us.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	if a.mode == undecided {
		a.WriteHeader(http.StatusOK)
	}
	if a.mode == pass {
		n, err := a.ResponseWriterWrapper.ReadFrom(r)
		a.count(n)
		return n, err
	}
	return io.Copy(struct{ io.Writer }{a}, r)
}

func (a *answer) count(n int64) {
	if received := a.call.received; received != nil {
		received.Add(n)
	}
}

// FlushError implements http.ResponseController's Flush. An answer that is kept
// back cannot be flushed.
func (a *answer) FlushError() error {
	if a.mode == whole || a.mode == undecided {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// event judges one event of a stream and sends what may be sent of it.
func (a *answer) event(e *sse.Event) error {
	if a.ended.Load() != nil {
		return nil
	}
	if !a.call.refresh() {
		a.call.logger.Info("event stream ended: its request would be refused now", zap.String("server", a.call.Server))
		a.end(errRefusedNow)
		return nil
	}
	if e.HasID && a.call.onEvent != nil {
		a.call.onEvent(e.ID)
	}
	if !e.HasData || len(e.Data) == 0 {
		// A comment, an id to come back to, a time to wait. Anything else, such as
		// JSON that is labelled as an event stream, has not been judged.
		if !isFraming(e.Raw) || separates(e.Raw) {
			return errors.New("the stream holds what is no event")
		}
		_, err := a.ResponseWriter.Write(e.Raw)
		return err
	}
	if t := string(e.Type); t != "" && t != "message" {
		a.call.logger.Warn("event of an unknown type is dropped", zap.String("server", a.call.Server), zap.String("type", clip(t)))
		return nil
	}
	judged, err := a.call.carry(e.Data)
	if err != nil {
		return err
	}
	if judged.bytes == nil {
		return nil
	}
	raw := e.Raw
	switch {
	case loneCR(raw) || separates(raw):
		// Some clients end lines only at LF, or in more places, and would see other
		// lines than we do.
		if separates(e.ID) {
			return errors.New("the stream has an event whose id holds a line end")
		}
		e.Data = joined(judged.bytes)
		raw = sse.AppendEvent(nil, e)
	case judged.changed:
		raw = e.AppendData(nil, judged.bytes)
	}
	_, err = a.ResponseWriter.Write(raw)
	return err
}

// isFraming reports whether an event consists of comments and of the fields that the
// standard knows, and of nothing else (WHATWG HTML section 9.2.6).
func isFraming(raw []byte) bool {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	for line := range bytes.FieldsFuncSeq(raw, func(c rune) bool { return c == '\r' || c == '\n' }) {
		name, _, _ := bytes.Cut(line, []byte{':'})
		switch string(name) {
		case "", "event", "id", "retry", "data":
		default:
			return false
		}
	}
	return true
}

// loneCR reports whether a CR ends a line by itself.
func loneCR(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 {
			return false
		}
		if i+1 == len(rest) || rest[i+1] != '\n' {
			return true
		}
		rest = rest[i+2:]
	}
}

// finish judges and sends what was kept back. It is not called when the server's
// answer was cut short, so that nothing is ever sent of half an answer.
func (a *answer) finish() error {
	for name := range a.Header() {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			a.Header().Del(name)
		}
	}
	switch a.mode {
	case undecided:
		// Such as one that wants to go on with another protocol.
		a.fail("answer_missing", errors.New("the server gave no answer"))
		return nil
	case stream:
		if a.ended.Load() != nil {
			return nil // an event that has not come whole is none
		}
		return a.events.Finish(a.event)
	case whole:
	default:
		return nil
	}
	body := a.body
	if a.read || mayDecide(body, a.call.anyAnswer) {
		judged, err := a.call.carry(body)
		if err != nil {
			a.fail("answer_malformed", err)
			return nil
		}
		if judged.bytes == nil {
			a.fail("answer_refused", errors.New("the answer is none to the request"))
			return nil
		}
		body = judged.bytes
		a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	a.mode = pass
	a.ResponseWriter.WriteHeader(a.status)
	_, err := a.ResponseWriter.Write(body) //nolint:gosec // the server's application/json
	return err
}

// end ends an event stream for a reason of the gateway's.
func (a *answer) end(cause error) {
	a.ended.CompareAndSwap(nil, &cause)
	a.cancel(cause)
}

// stop releases what the answer holds on to.
func (a *answer) stop() {
	if a.expiry != nil {
		a.expiry.Stop()
	}
	a.renewal.stop()
	if a.watched != nil {
		a.watched.Close()
	}
	a.abiding.close()
	if a.mode == stream && a.call.handler != nil {
		a.call.handler.streams.leave(a)
		metric.StreamEnded(a.cause())
	}
}

// fail answers for a server whose answer cannot be judged.
func (a *answer) fail(reason string, err error) {
	a.call.logger.Error("answer refused", zap.String("server", a.call.Server), zap.String("reason", reason), zap.Error(err))
	a.refuse(a.call.Refuse(http.StatusBadGateway, mcp.CodeUpstream, reason, "the server's answer is not acceptable"))
}

func (a *answer) refuse(f *Refusal) {
	a.mode, a.body, a.status = discard, nil, f.Status
	header := a.Header()
	for _, name := range []string{"Content-Encoding", "Content-Length", "Etag", "Last-Modified", "Location", "Trailer"} {
		header.Del(name)
	}
	f.WriteTo(a.ResponseWriter)
}

// Interface guards
var (
	_ http.ResponseWriter = (*answer)(nil)
	_ io.ReaderFrom       = (*answer)(nil)
)
