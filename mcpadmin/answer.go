package mcpadmin

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// answer is what a client gets: a status, and a body that is written as JSON unless it
// is nil.
type answer struct {
	status int
	body   any
}

// refusal is the gateway's own error.
type refusal struct {
	status int
	// reason is a stable word, message says it to a person.
	reason, message string
	retryAfter      time.Duration
}

func (e *refusal) Error() string { return e.message }

var (
	errNoPath = &refusal{status: http.StatusNotFound, reason: "not_found", message: "there is nothing here"}
	errMethod = &refusal{status: http.StatusMethodNotAllowed, reason: "method", message: "this HTTP method is not allowed"}
)

// errorBody is the body of every error.
type errorBody struct {
	// What is wrong, for people.
	Error string `json:"error"`
	// What is wrong, as a stable word for programs.
	Reason string `json:"reason"`
}

// statuses are those of the kinds of errors.
var statuses = map[account.Kind]int{
	account.Invalid:       http.StatusBadRequest,
	account.Unknown:       http.StatusNotFound,
	account.Taken:         http.StatusConflict,
	account.Refused:       http.StatusBadRequest,
	account.Full:          http.StatusConflict,
	account.Credentials:   http.StatusUnauthorized,
	account.Forbidden:     http.StatusForbidden,
	account.Busy:          http.StatusServiceUnavailable,
	account.Unprocessable: http.StatusUnprocessableEntity,
}

// challenge is the value of WWW-Authenticate (RFC 6750 section 3).
const challenge = "Bearer"

// refuse answers with an error. What is nobody's business is logged, not told.
func (h *table) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, body := http.StatusInternalServerError, errorBody{"something went wrong", "internal"}
	header := w.Header()
	var ours *refusal
	var accounts *account.Error
	var tokens *token.Error
	if known := ofKeys(err); known != nil {
		err = known
	}
	switch {
	case errors.As(err, &ours):
		status, body = ours.status, errorBody{ours.message, ours.reason}
		if ours.retryAfter > 0 {
			header.Set("Retry-After", strconv.FormatInt(int64((ours.retryAfter+time.Second-1)/time.Second), 10))
		}
	case errors.As(err, &accounts):
		status, body = statuses[accounts.Kind], errorBody{accounts.Message, accounts.Reason}
		if accounts.Kind == account.Busy {
			header.Set("Retry-After", "1")
		}
		if errors.Is(err, login.ErrMustChange) {
			header.Set("X-Password-Change-Required", "true")
		}
	case errors.As(err, &tokens) && tokens.Reason != token.KeysUnavailable:
		status, body = http.StatusUnauthorized, errorBody{tokens.Reason.Description(), string(tokens.Reason)}
		header.Set("WWW-Authenticate", challenge+` error="invalid_token"`)
	case errors.Is(err, state.ErrUnavailable), errors.As(err, &tokens):
		h.logger.Error("the store is not available", zap.Error(err))
		status, body = http.StatusServiceUnavailable, errorBody{"this cannot be decided now; try again", "store_unavailable"}
		header.Set("Retry-After", "1")
	default:
		h.logger.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
	if status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "" {
		header.Set("WWW-Authenticate", challenge)
	}
	var basic *basicError
	if status == http.StatusUnauthorized && errors.As(err, &basic) {
		header.Add("WWW-Authenticate", basicChallenge)
	}
	h.write(w, &answer{status, body})
}

// write writes an answer. Nobody may keep it, and no page may show it.
func (h *table) write(w http.ResponseWriter, a *answer) {
	kind, policy := "application/json", "default-src 'none'; frame-ancestors 'none'"
	var body []byte
	var err error
	if p, ok := a.body.(*page); ok {
		kind, policy, body = "text/html; charset=utf-8", p.policy, p.html
	} else if a.body != nil {
		body, err = json.Marshal(a.body, json.Deterministic(true))
	}
	if err != nil {
		h.logger.Error("an answer can't be written", zap.Error(err))
		a.status, body = http.StatusInternalServerError, []byte(`{"error":"something went wrong","reason":"internal"}`)
	}
	header := w.Header()
	for name, value := range map[string]string{
		"Content-Type":            kind,
		"Content-Length":          strconv.Itoa(len(body)),
		"Cache-Control":           "no-store",
		"Pragma":                  "no-cache",
		"Vary":                    "Authorization",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
		"Referrer-Policy":         "no-referrer",
		"Content-Security-Policy": policy,
	} {
		header.Set(name, value)
	}
	if len(body) == 0 {
		header.Del("Content-Type")
	}
	if a.status == http.StatusNoContent {
		header.Del("Content-Length")
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
}
