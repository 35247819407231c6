package mcpadmin

import (
	"context"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

var sessionDuties = []duty{
	{
		method: http.MethodGet, path: "/mcp-sessions", summary: "Lists the MCP sessions of all users, or of one", query: []string{"user", "issuer", "limit", "offset"},
		answer: sessionList{}, status: http.StatusOK, refusals: []int{http.StatusNotFound}, do: listMCPSessions,
	},
	{
		method: http.MethodDelete, path: "/mcp-sessions/{id}", summary: "Ends an MCP session, and its event streams",
		status: http.StatusNoContent, do: endMCPSession,
	},
}

func listMCPSessions(ctx context.Context, e *errand) (any, error) {
	limit, err := e.number("limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return nil, err
	}
	offset, err := e.number("offset", 0, 0, maxOffset)
	if err != nil {
		return nil, err
	}
	meant, err := e.whose(ctx)
	if err != nil {
		return nil, err
	}
	page, total, err := e.app.SessionTable().List(ctx, meant, offset, limit)
	if err != nil {
		return nil, err
	}
	list := sessionList{Sessions: make([]sessionInfo, 0, len(page)), Total: total}
	known := make(map[string]string)
	for _, s := range page {
		user := s.Owner.Subject
		if issuer := e.app.Issuer(); issuer != nil && s.Owner.Issuer == issuer.Name() {
			if user, err = e.address(ctx, known, user); err != nil {
				return nil, err
			}
		}
		list.Sessions = append(list.Sessions, infoOf(s, user))
	}
	return list, nil
}

// whose are the sessions that the query is about: those of everybody, of a user of the
// gateway, or of whom an issuer calls by a name.
func (e *errand) whose(ctx context.Context) (session.Filter, error) {
	user, issuer := e.query.Get("user"), e.query.Get("issuer")
	switch {
	case user == "" && issuer == "":
		return session.Filter{}, nil
	case user == "":
		return session.Filter{}, badQuery("issuer is nothing without user")
	case issuer != "" && (e.app.Issuer() == nil || issuer != e.app.Issuer().Name()):
		return session.Filter{Issuer: issuer, Subject: user}, nil
	}
	desk, err := e.desk()
	if err != nil {
		return session.Filter{}, err
	}
	found, err := desk.Accounts().User(ctx, user)
	return session.Filter{Issuer: e.app.Issuer().Name(), Subject: found.ID}, err
}

// address is that of a user; known are those that were looked up before. Of one who is
// gone there is nothing but the ID.
func (e *errand) address(ctx context.Context, known map[string]string, id string) (string, error) {
	if email, ok := known[id]; ok {
		return email, nil
	}
	known[id] = id
	desk := e.app.Desk()
	if desk == nil {
		return id, nil
	}
	user, err := desk.Accounts().UserByID(ctx, id)
	var gone *account.Error
	if errors.As(err, &gone) && gone.Kind == account.Unknown {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	known[id] = user.Email
	return user.Email, nil
}

func endMCPSession(ctx context.Context, e *errand) (any, error) {
	id := e.value("id")
	err := e.app.SessionTable().End(ctx, id, session.Filter{})
	if errors.Is(err, state.ErrNotFound) {
		return nil, errNoSession
	}
	if err != nil {
		return nil, err
	}
	e.audit("mcp_session_end", zap.String("target", id))
	return nil, nil
}
