package mcpauth

import (
	"context"
	"encoding/hex"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// usageCounter is what the keys of the counters of tokens begin with.
const usageCounter = "usage"

// count counts a request of a token with limits, in the store, where all nodes do and
// where it outlives the process. The store is asked for no other token. When it cannot
// count, the request is refused, allow_stale or not: what is known of a counter that
// others use too says nothing, and a limit that does not hold when it is most needed is
// none.
func (h *Handler) count(ctx context.Context, p *Principal) *scope.Refusal {
	return count(ctx, h.store, h.logger, p.Scope, p.Claims)
}

func count(ctx context.Context, store state.Store, logger *zap.Logger, reach *scope.Scope, claims *token.Claims) *scope.Refusal {
	key, limits, ok := reach.Usage()
	if !ok {
		return nil
	}
	// Both windows are counted, so that a limit which is set later finds what was used.
	wait, err := store.Take(ctx, state.Key(usageCounter, hex.EncodeToString(key[:])), 1,
		state.PerHour(int(limits.PerHour)), state.PerDay(int(limits.PerDay)))
	switch {
	case err != nil:
		logger.Error("requests can't be counted", zap.Error(err), zap.String("issuer", claims.Issuer), zap.String("token", claims.TokenID))
		return scope.Uncounted()
	case wait > 0:
		return scope.Exceeded(wait)
	}
	return nil
}
