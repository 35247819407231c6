package mcpadmin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// routeSessions switches /reverse-proxy/sessions on.
func (h *Handler) routeSessions() {
	h.add(operation{
		method: http.MethodGet, path: "/reverse-proxy/sessions", summary: "Lists MCP sessions: one's own, for an administrator all", query: paging,
		answer: sessionList{}, status: http.StatusOK, act: h.listSessions,
	})
	h.add(operation{
		method: http.MethodDelete, path: "/reverse-proxy/sessions/{id}", summary: "Ends an MCP session, and its event streams",
		answer: sessionEnd{}, status: http.StatusOK, act: h.endSession,
	})
}

// sessionList is a part of the sessions.
type sessionList struct {
	Sessions []sessionInfo `json:"sessions"`
	// Total is how many there are in all.
	Total int `json:"total"`
}

// sessionInfo is an MCP session.
type sessionInfo struct {
	// ID names the session here. It is made from the session's Mcp-Session-Id, which it
	// cannot be used for.
	ID     string     `json:"session_id"`
	Server serverInfo `json:"server_info"`
	// Connected is when it was begun, Active when it was used last.
	Connected time.Time `json:"connected_at"`
	Active    time.Time `json:"last_activity"`
	// Messages and Bytes are those in both directions.
	Messages int64 `json:"message_count"`
	Bytes    int64 `json:"bytes_transferred"`
	// User is the address of the account whose session it is; for somebody who has none,
	// the subject of the token.
	User string `json:"user"`
	// Issuer and Client are those of the token: who made it, and for which OAuth client,
	// if it names one.
	Issuer string `json:"issuer"`
	Client string `json:"client_id,omitzero"`
}

// serverInfo is the MCP server of a session.
type serverInfo struct {
	Name string `json:"name"`
	// Version is the protocol revision that was negotiated, if that is known yet.
	Version string `json:"protocol_version,omitzero"`
}

// sessionEnd is the answer to the end of a session.
type sessionEnd struct {
	Status string `json:"status"`
	ID     string `json:"session_id"`
}

const (
	// defaultSessions is how many sessions are listed unless the request says how many,
	// maxSessions how many at most.
	defaultSessions, maxSessions = 100, 1000
)

var errNoSession = &refusal{status: http.StatusNotFound, reason: "session_unknown", message: "there is no such session"}

// overseen are the sessions that somebody may see and end: an administrator everybody's,
// unless the token is bounded to less than the account may do.
func (h *Handler) overseen(v *login.Visitor) session.Filter {
	reach, refused := v.Claims.Scope.ForAccount(scope.Account{Admin: v.Admin})
	if refused == nil && reach.Admin() && reach.Unrestricted() {
		return session.Filter{}
	}
	return session.Filter{Issuer: h.issuer, Subject: v.ID}
}

func (h *Handler) listSessions(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	v, err := h.visitor(r)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, reason: "query", message: "the query cannot be read"}
	}
	limit, err := number(query, "limit", defaultSessions, maxSessions)
	if err != nil {
		return nil, err
	}
	offset, err := number(query, "offset", 0, 1<<30)
	if err != nil {
		return nil, err
	}
	page, total, err := h.sessions.List(r.Context(), h.overseen(v), offset, limit)
	if err != nil {
		return nil, err
	}
	list := sessionList{Sessions: make([]sessionInfo, 0, len(page)), Total: total}
	users := map[string]string{v.ID: v.Email}
	for _, s := range page {
		user := s.Owner.Subject
		if s.Owner.Issuer == h.issuer {
			if user, err = h.userOf(r.Context(), users, s.Owner.Subject); err != nil {
				return nil, err
			}
		}
		list.Sessions = append(list.Sessions, infoOf(s, user))
	}
	return &answer{http.StatusOK, list}, nil
}

// infoOf tells of a session, whose user is called so.
func infoOf(s session.Info, user string) sessionInfo {
	return sessionInfo{
		s.ID, serverInfo{s.Server, string(s.Version)}, s.Created.UTC(), s.Used.UTC(), s.Messages, s.Bytes, user, s.Owner.Issuer, s.Owner.ClientID,
	}
}

// userOf is what a user is called; known are those that were looked up before.
func (h *Handler) userOf(ctx context.Context, known map[string]string, id string) (string, error) {
	if email, ok := known[id]; ok {
		return email, nil
	}
	user, err := h.desk.Accounts().UserByID(ctx, id)
	var gone *account.Error
	switch {
	case err == nil:
		known[id] = user.Email
	case errors.As(err, &gone) && gone.Kind == account.Unknown:
		known[id] = id
	default:
		return "", err
	}
	return known[id], nil
}

// number is a parameter of the query that may stand there once.
func number(query url.Values, name string, otherwise, most int) (int, error) {
	given := query[name]
	if len(given) == 0 {
		return otherwise, nil
	}
	n, err := strconv.Atoi(given[0])
	if err != nil || len(given) > 1 || n < 0 || n > most {
		return 0, &refusal{status: http.StatusBadRequest, reason: "query", message: name + " must be a number from 0 to " + strconv.Itoa(most)}
	}
	return n, nil
}

func (h *Handler) endSession(_ http.ResponseWriter, r *http.Request) (*answer, error) {
	v, err := h.visitor(r)
	if err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	err = h.sessions.End(r.Context(), id, h.overseen(v))
	if errors.Is(err, state.ErrNotFound) {
		return nil, errNoSession // somebody else's, too
	}
	if err != nil {
		return nil, err
	}
	h.logger.Info("MCP session ended", zap.String("by", v.Email), zap.String("session", id))
	return &answer{http.StatusOK, sessionEnd{"disconnected", id}}, nil
}
