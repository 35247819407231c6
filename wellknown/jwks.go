package wellknown

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// jwksPath is where the keys of the gateway's own tokens are. There is no registered
// name for that; this one is common.
const jwksPath = "/.well-known/jwks.json"

// jwksMaxAge is how long others may keep the keys. It is no longer than a new key is
// published before it signs.
const jwksMaxAge = 5 * time.Minute

// keySet is what is asked of the mcp_gateway app. The answer is a JWK Set (RFC 7517).
type keySet interface {
	// Issues is whether there are any.
	Issues() bool
	JWKS(ctx context.Context) ([]byte, error)
}

func (h *Handler) findKeys(ctx caddy.Context) error {
	app, err := ctx.App("mcp_gateway")
	if err != nil {
		return fmt.Errorf("jwks: %w", err)
	}
	keys, ok := app.(keySet)
	if !ok {
		return fmt.Errorf("jwks: %T has no keys; build Caddy with the app of this plugin", app)
	}
	if !keys.Issues() {
		return errors.New("jwks: the gateway makes no tokens; name their issuer in the global option mcp_gateway, such as: tokens https://mcp.example.com")
	}
	h.keys = keys
	return nil
}

// serveKeys answers with the keys as they are now.
func (h *Handler) serveKeys(w http.ResponseWriter, r *http.Request) error {
	body, err := h.keys.JWKS(r.Context())
	if err != nil {
		h.logger.Warn("the keys can't be published", zap.Error(err))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}
	d := newDocument(body, "application/jwk-set+json", fmt.Sprintf("public, max-age=%d", jwksMaxAge/time.Second))
	d.cors = true
	return d.serve(w, r)
}
