package mcpauth

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Refusal is the gateway's own answer to a request: a status for HTTP and OAuth
// clients, a JSON-RPC error for MCP clients, and a stable reason for both, in
// error.data.reason.
type Refusal struct {
	Status int
	// Code is the JSON-RPC error's.
	Code int
	// Reason is a stable word, Message says it to a person. Neither holds
	// anything that the client may not know.
	Reason, Message string
	// ID is that of the request it answers, if there is one.
	ID jsonrpc.ID

	challenge  string
	allow      string
	retryAfter string
	data       []any
	// issued is the API token of the gateway's own that was refused, if it has one for
	// the record, and so before there is a principal.
	issued *token.Claims
}

func refuse(status, code int, reason, message string) *Refusal {
	return &Refusal{Status: status, Code: code, Reason: reason, Message: message}
}

// unread is the answer to a body that was refused by the reader.
func unread(err error) *Refusal {
	var e *jsonrpc.Error
	if !errors.As(err, &e) {
		return refuse(http.StatusBadRequest, jsonrpc.CodeParse, "json_syntax", "the body could not be read")
	}
	return &Refusal{Status: http.StatusBadRequest, Code: e.Code, Reason: e.Reason, Message: e.Detail, ID: e.ID}
}

// ignored is for a notification that goes nowhere. Nobody waits for an answer to it,
// and an error would end the session of some clients.
func ignored() *Refusal {
	return refuse(http.StatusAccepted, jsonrpc.CodeMethodNotFound, "notification_ignored", "Method not found")
}

// WriteTo writes the refusal as the whole answer.
func (f *Refusal) WriteTo(w http.ResponseWriter) {
	metric.Refused(f.Reason)
	if f.Status == http.StatusAccepted {
		w.WriteHeader(f.Status)
		return
	}
	h := w.Header()
	if f.challenge != "" {
		h.Set("WWW-Authenticate", f.challenge)
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	if f.retryAfter != "" {
		h.Set("Retry-After", f.retryAfter)
	}
	data := append([]any{"reason", f.Reason}, f.data...)
	body := jsonrpc.AppendError(nil, f.ID, f.Code, f.Message, data...)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(f.Status)
	_, _ = w.Write(body)
}

// challenge is the value of WWW-Authenticate (RFC 6750 section 3, RFC 9728
// section 5.1). error may be empty, as it must be when no token was sent; then so
// is the description. Neither holds a quote.
func (e *endpoint) challenge(code, description string, scopes []string) string {
	var b strings.Builder
	b.WriteString("Bearer ")
	if code != "" {
		b.WriteString(`error="` + code + `", error_description="` + description + `", `)
	}
	if len(scopes) > 0 {
		b.WriteString(`scope="` + strings.Join(scopes, " ") + `", `)
	}
	if e.metadata == "" {
		// A challenge needs a parameter, and a client nothing to follow.
		b.WriteString(`realm="` + e.audiences[0] + `"`)
	} else {
		b.WriteString(`resource_metadata="` + e.metadata + `"`)
	}
	return b.String()
}

// forbidden refuses what the principal is not allowed and what has no name that
// could be hidden. If a wider scope would help, scopes are all that are needed.
func (e *endpoint) forbidden(id jsonrpc.ID, scopes []string) *Refusal {
	if len(scopes) > 0 {
		return e.insufficient(id, scopes)
	}
	f := refuse(http.StatusForbidden, mcp.CodeForbidden, "forbidden", "this is not allowed")
	f.ID = id
	return f
}

// insufficient asks for wider scopes (RFC 6750 section 3.1, MCP authorization,
// "Scope Challenge Handling").
func (e *endpoint) insufficient(id jsonrpc.ID, scopes []string) *Refusal {
	f := refuse(http.StatusForbidden, mcp.CodeForbidden, "insufficient_scope", "the access token's scopes are not sufficient")
	f.ID = id
	f.challenge = e.challenge("insufficient_scope", f.Message, scopes)
	return f
}

// unknownObject answers for an object that the principal may not use in just the
// way it does for one that does not exist: as the protocol answers a request for
// an unknown one. Only the name that the client sent is in it.
func unknownObject(m *jsonrpc.Message, object mcp.Object, v mcp.Version, name string) *Refusal {
	f := refuse(http.StatusOK, jsonrpc.CodeInvalidParams, "not_found", "")
	f.ID = m.ID
	switch object {
	case mcp.Tool:
		f.Message = "Unknown tool: " + name
	case mcp.Prompt:
		f.Message = "Unknown prompt: " + name
	case mcp.Task:
		f.Message = "Task not found"
	default:
		f.Message = "Resource not found"
		f.data = []any{"uri", name}
		if !v.Modern() {
			f.Code = mcp.CodeResourceNotFound
		}
	}
	return f
}

// unknownMethod answers for a method that the revision does not have, or that
// the gateway does not carry, and for a request without an id.
func unknownMethod(m *jsonrpc.Message, v mcp.Version) *Refusal {
	if m.Kind == jsonrpc.Notification && mcp.IsRequest(m.Method) {
		return refuse(http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "id_missing", "a request needs an id")
	}
	f := refuse(http.StatusOK, jsonrpc.CodeMethodNotFound, "unknown_method", "Method not found")
	f.ID = m.ID
	if v.Modern() {
		f.Status = http.StatusNotFound
	} else if m.Kind == jsonrpc.Notification {
		f.Status = http.StatusBadRequest
	}
	return f
}
