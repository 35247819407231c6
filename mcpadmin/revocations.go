package mcpadmin

import (
	"context"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

var revocationDuties = []duty{
	{
		method: http.MethodGet, path: "/revocations", summary: "Tells how the set of revocations is",
		answer: mcpauth.RevocationStatus{}, status: http.StatusOK, do: showRevocations,
	},
	{
		method: http.MethodPost, path: "/revocations", summary: "Revokes tokens, on every node and at once",
		body: mcpauth.RevocationRequest{}, status: http.StatusNoContent, do: revoke,
	},
}

func showRevocations(_ context.Context, e *errand) (any, error) {
	now := e.app.Revocations().Status(steady.Now())
	return mcpauth.RevocationStatus{Revocations: now.Revocations, Streams: now.Watches, Age: now.Age.Seconds(), Stale: now.Stale}, nil
}

func revoke(ctx context.Context, e *errand) (any, error) {
	var asked mcpauth.RevocationRequest
	if err := e.read(&asked); err != nil {
		return nil, err
	}
	revoked, err := asked.Revocation()
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, reason: "revocation_invalid", message: err.Error()}
	}
	if err := e.app.Revocations().Revoke(ctx, revoked); err != nil {
		return nil, err
	}
	e.audit("revoke", zap.String("by", asked.By), zap.String("target", asked.Value), zap.String("issuer", asked.Issuer), zap.Time("before", asked.Before))
	return nil, nil
}
