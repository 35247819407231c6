package mcpproxy

import (
	"net/http"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
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
	x.session = x.sessions.Use(id, call.Principal.Owner(), call.Server, steady.Now())
	if x.session == nil {
		return false, x.unknownSession()
	}
	return true, x.check()
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
	if event := x.request.Header.Get(mcp.HeaderLastEventID); event != "" && !x.session.WasRelayed(event) {
		return call.Refuse(http.StatusBadRequest, mcp.CodeSession, "event_unknown", "no such event was sent in this session")
	}
	for i := range call.Messages {
		switch m := &call.Messages[i]; m.Kind {
		case jsonrpc.Response:
			if !x.session.Answered(m.ID) {
				return x.unasked()
			}
		case jsonrpc.Request:
			if x.session.Full() {
				x.session.Because(state.EndFull)
				x.sessions.Remove(x.session)
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
// our own.
func (x *exchange) begin(upstreamID string, h http.Header) *mcpauth.Refusal {
	x.session = &state.Session{
		UpstreamID: upstreamID,
		Owner:      x.call.Principal.Owner(),
		Server:     x.server.Name,
		Upstream:   x.chosen,
	}
	begun := x.session
	watch := x.call.Watch(func() {
		begun.Because(state.EndRevoked)
		x.sessions.Remove(begun)
	})
	begun.OnUse, begun.OnEnd = watch.Renew, func() {
		watch.Close()
		metric.SessionEnded(string(begun.Ended()))
	}
	x.sessions.Add(begun, steady.Now())
	metric.SessionBegun()
	watch.Renew() // not before it could be removed
	x.call.OnEvent(x.session.Relayed)
	h.Set(mcp.HeaderSessionID, x.session.ID)
	return nil
}
