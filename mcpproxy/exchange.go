package mcpproxy

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// exchange is one request on its way to a server and back.
type exchange struct {
	*Handler
	call    *mcpauth.Call
	server  *Server
	request *http.Request
	// session is the one the request belongs to, if any.
	session *session.Session
	// begun are the requests that it carries in the session, answered is whether the
	// server has begun to answer, streamed whether the answer is an event stream.
	begun              []jsonrpc.ID
	answered, streamed bool
	// detach ends what ends the answer with the session.
	detach func()
	// made is the server's own id of a session, if its answer names one.
	made string
	// chosen is the upstream that the selection policy found, gone that it found
	// the session's own no longer there.
	chosen string
	gone   bool
}

// exchangeVar is the name of the exchange among a request's variables.
const exchangeVar = "mcp.exchange"

// carry sends the request to the server and its answer to the client.
func (x *exchange) carry(w http.ResponseWriter, next caddyhttp.Handler) error {
	forward, refusal := x.enter()
	// However it ends: a broken answer is a panic.
	defer x.release()
	if refusal != nil {
		x.logger.Info("refused", zap.String("reason", refusal.Reason), zap.String("server", x.server.Name))
		refusal.WriteTo(w)
		return nil
	}
	if !forward {
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	x.prepare()
	caddyhttp.SetVar(x.request.Context(), exchangeVar, x)
	x.call.OnHeader(x.header)
	x.call.OnMessage(x.message)
	if x.session != nil {
		x.call.OnEvent(x.session.Relayed)
		x.call.OnTask(x.session.TaskOf)
		x.session.Count(len(x.call.Messages), len(x.call.Body))
		x.call.CountBytes(x.session.Received())
	}
	err := x.server.proxy.ServeHTTP(w, x.request, next)
	var unreached reverseproxy.DialError
	if x.answered && !x.streamed || errors.As(err, &unreached) {
		// That was the answer, or there will be none. In a stream it is seen to
		// come; and after a client that went away, which is no error here, it may
		// still come to whoever asks with the same id.
		x.done(x.begun...)
	}
	if err == nil {
		return nil
	}
	x.call.OnHeader(nil)
	return x.failed(w, err)
}

// release lets go of the session. When a stream has ended before it was over, its client
// may come back to go on with it by another node, which has to know what was sent.
func (x *exchange) release() {
	s := x.session
	if s == nil {
		return
	}
	if x.detach != nil {
		x.detach()
		if len(x.begun) == 0 || s.Unanswered(x.begun) {
			s.Save()
		}
	}
	x.sessions.Release(s)
}

// done notes that requests of the session have been answered.
func (x *exchange) done(ids ...jsonrpc.ID) {
	for _, id := range ids {
		x.session.Done(id)
	}
}

// prepare turns the client's request into the one for the server. Of the client's
// headers only those go along that have a meaning there; what the gateway itself
// has to say is set last.
func (x *exchange) prepare() {
	r, h := x.request, x.request.Header
	target := *x.server.target
	r.URL, r.RequestURI = &target, x.server.Path
	for name := range h {
		if !x.forwards(name) {
			delete(h, name)
		}
	}

	// Many servers refuse a Host that is not their own. Without one, the address
	// that the request is sent to is its Host; as that is not what the client
	// asked for, it must not be passed off as X-Forwarded-Host.
	r.Host = x.server.Host

	h["X-Forwarded-Host"] = nil
	// An answer that may have to be looked into must not be compressed.
	h["Accept-Encoding"] = uncompressed
	maps.Copy(h, x.call.Principal.Identity)

	r.Trailer = nil
}

var uncompressed = []string{"identity"}

// forwards reports whether a header of the client goes to the server.
func (x *exchange) forwards(name string) bool {
	modern := x.call.Version.Modern()
	switch name {
	case "Accept", "Accept-Language", "Content-Type", "User-Agent", mcp.HeaderProtocolVersion,
		"Traceparent", "Tracestate", "Baggage", "X-Request-Id",
		// reverse_proxy believes these of trusted proxies only, and sets them.
		"X-Forwarded-For", "X-Forwarded-Proto":
		return true
	case mcp.HeaderMethod:
		// The older revisions do not have it, so nobody has compared it with
		// the body.
		return modern
	case mcp.HeaderName:
		// The same goes for the methods that have no name.
		return modern && mcp.MirroredName(x.call.Messages[0].Method) != ""
	case mcp.HeaderLastEventID:
		return !modern
	}
	return modern && strings.HasPrefix(name, mcp.HeaderParamPrefix) || slices.Contains(x.ForwardHeaders, name)
}

// header sees the header of the server's answer before the client does.
func (x *exchange) header(status int, h http.Header) *mcpauth.Refusal {
	// reverse_proxy makes an answer of its own when the client has gone away.
	x.answered = x.request.Context().Err() == nil
	x.streamed = strings.HasPrefix(h.Get("Content-Type"), "text/event-stream")
	h.Del("Set-Cookie")
	h.Del("WWW-Authenticate")
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired:
		// The client must not be sent to authenticate somewhere else.
		return x.unacceptable(status, "upstream_authorization", "the server refuses the gateway")
	case status >= 300 && status < 400:
		return x.unacceptable(status, "upstream_redirect", "the server redirects elsewhere")
	case x.call.Version.Modern():
		return nil
	case x.call.Is("initialize"):
		if x.made != "" && status < 300 {
			if refusal := x.begin(x.made, h); refusal != nil {
				return refusal
			}
		}
	case x.session != nil && status == http.StatusNotFound:
		x.remove(session.EndServer)
	case x.session != nil && x.request.Method == http.MethodDelete && status < 300:
		x.remove(session.EndClient)
	case x.session != nil && x.made != "":
		h.Set(mcp.HeaderSessionID, x.session.ID)
	}
	if !x.streamed && x.session != nil && status < 300 {
		x.session.Count(len(x.begun), 0) // which it answers, whether that is read or not
	}
	if x.streamed && x.session != nil {
		streamed := x.session
		x.detach = streamed.Attach(func() { x.call.EndStream(streamed.Revoked()) })
	}
	return nil
}

func (x *exchange) unacceptable(status int, reason, message string) *mcpauth.Refusal {
	x.logger.Error("answer refused", zap.String("server", x.server.Name), zap.String("reason", reason), zap.Int("upstream_status", status))
	return x.call.Refuse(http.StatusBadGateway, jsonrpc.CodeInternal, reason, message)
}

// message sees each message that the server sends, and decides whether the client
// does.
func (x *exchange) message(m *jsonrpc.Message, allowed bool) bool {
	if x.streamed && x.session != nil {
		x.session.Count(1, 0)
	}
	switch m.Kind {
	case jsonrpc.Response:
		if x.session != nil && m.Result.ProtocolVersion.Present && x.call.Is("initialize") {
			x.session.SetNegotiated(mcp.Version(m.Result.ProtocolVersion.Value))
		}
		if x.session != nil {
			x.session.Done(m.ID)
		}
		return true
	case jsonrpc.Request:
		if x.call.Version.Modern() || x.session == nil {
			// Without a session nobody could tell whose answer it is.
			x.logger.Error("request of the server is dropped", zap.String("server", x.server.Name), zap.String("method", m.Method))
			return false
		}
		if !allowed || !x.sessions.Asked(x.request.Context(), x.session, m.ID) {
			x.decline(m)
			return false
		}
		return true
	default:
		return allowed
	}
}

// decline tells the server that its request was not relayed.
func (x *exchange) decline(m *jsonrpc.Message) {
	x.logger.Info("request of the server is declined", zap.String("server", x.server.Name), zap.String("method", m.Method))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body := jsonrpc.AppendError(nil, m.ID, mcp.CodeForbidden, "the gateway does not relay this request")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.server.target.String(), bytes.NewReader(body))
	if err != nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	if v := x.session.Negotiated(); v != "" {
		r.Header.Set(mcp.HeaderProtocolVersion, string(v))
	}
	r.RemoteAddr = x.request.RemoteAddr
	serving, _ := x.request.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if err := x.tell(r, serving); err != nil {
		x.logger.Warn("the server could not be told", zap.String("server", x.server.Name), zap.Error(err))
	}
}

// tell sends the server a request of the gateway's own in the session, whatever the
// answer.
func (x *exchange) tell(r *http.Request, serving *caddyhttp.Server) error {
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Accept-Encoding", "identity")
	if r.RemoteAddr == "" {
		r.RemoteAddr = "127.0.0.1:0" // where it comes from: here
	}
	r.Host = x.server.Host
	// A request of its own: variables and placeholders must not be shared.
	repl := caddy.NewReplacer()
	nobody := &unheard{header: make(http.Header)}
	r = caddyhttp.PrepareRequest(r, repl, nobody, serving)
	caddyhttp.SetVar(r.Context(), exchangeVar, &exchange{Handler: x.Handler, server: x.server, session: x.session})
	defer func() {
		if aborted := recover(); aborted != nil && aborted != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			panic(aborted)
		}
	}()
	last := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	return x.server.proxy.ServeHTTP(nobody, r, last)
}

// unheard is a ResponseWriter for an answer that nobody waits for.
type unheard struct{ header http.Header }

func (u *unheard) Header() http.Header         { return u.header }
func (u *unheard) Write(p []byte) (int, error) { return len(p), nil }
func (u *unheard) WriteHeader(int)             {}

// failed answers for a server that could not be reached or did not answer.
func (x *exchange) failed(w http.ResponseWriter, err error) error {
	status := http.StatusBadGateway
	var handled caddyhttp.HandlerError
	if errors.As(err, &handled) && handled.StatusCode >= 400 {
		status = handled.StatusCode
	}
	if x.gone {
		// The session's upstream is no more, and the session with it.
		x.remove(session.EndServer)
		x.unknownSession().WriteTo(w)
		return nil
	}
	if status < 500 || x.request.Context().Err() != nil {
		return err // the client's own doing, such as going away
	}
	x.logger.Error("server can't be reached", zap.String("server", x.server.Name), zap.Int("status", status), zap.Error(err))
	reason := "upstream_unreachable"
	if status == http.StatusGatewayTimeout {
		reason = "upstream_timeout"
	}
	x.call.Refuse(status, mcp.CodeUpstream, reason, "the server can't be reached").WriteTo(w)
	return nil
}
