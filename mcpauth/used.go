package mcpauth

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
)

// used counts a request with an API token of the gateway's own, and writes it into the
// audit log, when its answer is over. A status of 0 is for one that was cut off, or that
// another handler has yet to answer.
func (h *Handler) used(c *Call, r *http.Request, begun time.Time, status int, streamed bool) {
	held := c.issued
	if p := c.Principal; p != nil && p.standing != nil && p.standing.record != nil {
		held = p.Claims
	}
	if held == nil {
		return
	}
	use := catalogue.Use{ID: held.TokenID, Method: r.Method, Path: c.endpoint.path, Status: status, At: begun}
	took := time.Since(begun)
	if !streamed {
		use.Took = took
	}
	h.uses.Note(use)
	entry := h.logger.Check(zap.InfoLevel, "audit")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("action", "token_use"), zap.String("target", held.TokenID), zap.String("user_id", held.Subject), zap.String("server", c.Server),
		zap.String("http_method", r.Method), zap.String("path", use.Path), zap.Int("status", status), zap.Duration("took", took),
	}
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		fields = append(fields, zap.String("client_ip", ip))
	}
	if len(c.Messages) == 1 {
		fields = append(fields, zap.String("method", clip(c.Messages[0].Method)))
	}
	if status >= 400 && status < 500 {
		blocked := "http_" + strconv.Itoa(status)
		if status == http.StatusUnauthorized {
			blocked = "revoked_or_expired"
		}
		fields = append(fields, zap.String("blocked", blocked), zap.String("reason", c.reason))
	}
	entry.Write(fields...)
}

// statusOf is the status that Caddy will give an error.
func statusOf(err error) int {
	if failed, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return failed.StatusCode
	}
	return http.StatusInternalServerError
}
