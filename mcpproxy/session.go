package mcpproxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// enter finds the session that a request belongs to and checks that it may be
// used so. forward is false for a notification that has nowhere to go.
func (x *exchange) enter() (forward bool, refusal *mcpauth.Refusal) {
	r, call := x.request, x.call
	if call.Version.Modern() {
		// Here a client cancels by going away. What it might name otherwise could
		// be somebody else's request.
		return len(call.Messages) != 1 || call.Messages[0].Method != "notifications/cancelled", nil
	}
	id := r.Header.Get(mcp.HeaderSessionID)
	if call.Is("initialize") {
		if id != "" {
			return false, call.Refuse(http.StatusBadRequest, mcp.CodeSession, "session_given", "initialize begins a session and must not name one")
		}
		call.ReadJSON()
		return true, nil
	}
	if id == "" {
		return x.enterWithout()
	}
	found, err := x.sessions.Use(r.Context(), id, call.Principal.Owner(), call.Server)
	if err != nil {
		return false, x.notFound(err)
	}
	x.session = found
	if !found.Alone() {
		call.AnyAnswer() // it may be the answer to what came by another node
	}
	return true, x.check()
}

// notFound answers for a session that is unknown, or of which nothing is known now: who
// gets 404 begins a new one.
func (x *exchange) notFound(err error) *mcpauth.Refusal {
	if errors.Is(err, state.ErrNotFound) {
		return x.unknownSession()
	}
	x.logger.Error("the store of sessions is not available", zap.String("server", x.server.Name), zap.Error(err))
	return x.call.Refuse(http.StatusServiceUnavailable, mcp.CodeUpstream, "store_unavailable", "nothing is known about this session; try again")
}

// enterWithout is for a request without a session. The server may not have any,
// but then nothing ties a client's answer, or what it cancels, to what that client
// was asked or has asked for.
func (x *exchange) enterWithout() (bool, *mcpauth.Refusal) {
	if x.request.Header.Get(mcp.HeaderLastEventID) != "" {
		return false, x.call.Refuse(http.StatusBadRequest, mcp.CodeSession, "event_unknown", "a stream can be resumed only in its session")
	}
	for i := range x.call.Messages {
		m := &x.call.Messages[i]
		if m.Kind == jsonrpc.Response {
			return false, x.unasked()
		}
		if m.Method != "notifications/cancelled" && m.Method != "notifications/progress" {
			continue
		}
		if x.call.Batch {
			// To leave it out would lose what it came with.
			return false, x.call.Refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "batch", m.Method+" needs a session in a batch")
		}
		return false, nil
	}
	return true, nil
}

// check holds a request against its session.
func (x *exchange) check() *mcpauth.Refusal {
	call, negotiated := x.call, x.session.Negotiated()
	if call.Batch && !negotiated.Batches() {
		return call.Refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "batch", "the session's protocol version has no batches")
	}
	if !call.VersionGiven && negotiated != "" {
		call.Version = negotiated
	}
	if event := x.request.Header.Get(mcp.HeaderLastEventID); event != "" {
		relayed, err := x.sessions.Relayed(x.request.Context(), x.session, event)
		if err != nil {
			return x.notFound(err)
		}
		if !relayed {
			return call.Refuse(http.StatusBadRequest, mcp.CodeSession, "event_unknown", "no such event was sent in this session")
		}
	}
	for i := range call.Messages {
		switch m := &call.Messages[i]; m.Kind {
		case jsonrpc.Response:
			asked, err := x.sessions.Answered(x.request.Context(), x.session, m.ID)
			if err != nil {
				return x.notFound(err)
			}
			if !asked {
				return x.unasked()
			}
		case jsonrpc.Request:
			if x.session.Full() {
				x.sessions.Leave(x.session, session.EndFull)
				return x.unknownSession()
			}
			if !x.session.Begin(m.ID) {
				return call.Refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "id_in_use", "a request with this id has not been answered yet")
			}
			x.begun = append(x.begun, m.ID)
			if task, ok := call.Tasking(m); ok {
				x.session.Tasking(m.ID, task)
			}
		default:
		}
	}
	return nil
}

// unknownSession makes a client begin a new one (MCP transports, session
// management).
func (x *exchange) unknownSession() *mcpauth.Refusal {
	refusal := x.call.Refuse(http.StatusNotFound, mcp.CodeSession, "session_unknown", "Session not found")
	refusal.ID = "" // with an id, some clients take it for the answer to the request alone
	return refusal
}

func (x *exchange) unasked() *mcpauth.Refusal {
	refusal := x.call.Refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "response_unasked", "nothing was asked that this could answer")
	refusal.ID = "" // the id is the server's
	return refusal
}

// begin binds the session that a server has made to the principal, under an id of
// our own. The client learns it only when the store has the session.
func (x *exchange) begin(upstreamID string, h http.Header) *mcpauth.Refusal {
	begun := &session.Session{
		UpstreamID: upstreamID,
		Owner:      x.call.Principal.Owner(),
		Server:     x.server.Name,
		Upstream:   x.chosen,
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.request.Context()), beginTimeout)
	defer cancel()
	if err := x.sessions.Begin(ctx, begun, x.call.Token()); err != nil {
		x.logger.Error("session can't be kept: the store is not available", zap.String("server", x.server.Name), zap.Error(err))
		x.sessions.Part(begun)
		return x.call.Refuse(http.StatusServiceUnavailable, mcp.CodeUpstream, "store_unavailable", "a session can't be kept now; try again")
	}
	x.session = begun
	begun.Count(1, len(x.call.Body))
	if !x.streamed {
		begun.Count(1, 0)
	}
	x.call.OnEvent(begun.Relayed)
	x.call.CountBytes(begun.Received())
	h.Set(mcp.HeaderSessionID, begun.ID)
	return nil
}

// beginTimeout bounds how long the store may take to keep a session.
const beginTimeout = 5 * time.Second

// removeTimeout is the same for its end.
const removeTimeout = 5 * time.Second

// remove ends a session that its server does not know any more. It has ended here, even if
// the store cannot be told yet.
func (x *exchange) remove(cause session.Cause) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.request.Context()), removeTimeout)
	defer cancel()
	if err := x.sessions.Remove(ctx, x.session, cause); err != nil {
		x.logger.Error("the store can't be told yet that a session has ended", zap.String("server", x.server.Name), zap.Error(err))
	}
}

// leave has a session's server told that the gateway has no more use for it.
func (h *Handler) leave(ctx context.Context, p session.Parting) bool {
	server := h.byName[p.Server]
	if server == nil {
		return false
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, server.target.String(), nil)
	if err != nil {
		return true
	}
	x := &exchange{Handler: h, server: server, session: &session.Session{UpstreamID: p.UpstreamID, Server: p.Server, Upstream: p.Upstream}}
	if p.Version != "" {
		r.Header.Set(mcp.HeaderProtocolVersion, string(p.Version))
	}
	if err := x.tell(r, new(caddyhttp.Server)); err != nil {
		h.logger.Info("the server could not be told that a session is over", zap.String("server", p.Server), zap.Error(err))
	}
	return true
}
