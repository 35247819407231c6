package mcpadmin

import (
	"context"
	"net/http"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

var serverDuties = []duty{
	{
		method: http.MethodGet, path: "/servers", summary: "Tells how the MCP servers and their upstreams are, as far as the health checks of Caddy's reverse proxy know",
		answer: serverList{}, status: http.StatusOK, do: listServers,
	},
	{
		method: http.MethodGet, path: "/well-known", summary: "Lists what is published, and what each of it is answered with now",
		answer: pageList{}, status: http.StatusOK, do: listPages,
	},
	{
		method: http.MethodGet, path: "/security", summary: "Tells how safe the running configuration is, check by check",
		answer: score{}, status: http.StatusOK, do: showScore,
	},
}

// serverList is all MCP servers.
type serverList struct {
	Servers []report.Server `json:"servers"`
}

// pageList is all that is published.
type pageList struct {
	Pages []report.Page `json:"pages"`
}

func listServers(_ context.Context, e *errand) (any, error) {
	return serverList{e.app.Book().Servers()}, nil
}

func listPages(_ context.Context, e *errand) (any, error) {
	return pageList{e.app.Book().Pages()}, nil
}

func showScore(_ context.Context, e *errand) (any, error) {
	f := facts{
		Posture: e.app.Posture(), now: time.Now(), servers: e.app.Book().Servers(), pages: e.app.Book().Pages(),
		registration: e.app.Book().Registration, stale: e.app.Revocations().Status(steady.Now()).Stale,
	}
	if issuer := e.app.Issuer(); issuer != nil {
		f.issues, f.keys, f.maxLife = true, issuer.List(), issuer.MaxLife()
	}
	return f.score(), nil
}
