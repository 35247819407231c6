package wellknown

import (
	"io"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// readiness is what /ready asks of the mcp_gateway app: its checks by name, nil
// for each that succeeds. It is asked by every request, and must neither block
// nor fail before the app is started.
type readiness interface {
	Ready() map[string]error
}

// readyAnswer is the body of /ready.
type readyAnswer struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

// serveHealth says that the process serves requests, and nothing more: what it
// depends on must not get it restarted.
func serveHealth(w http.ResponseWriter, r *http.Request) error {
	return serveState(w, r, http.StatusOK, `{"status":"ok"}`)
}

// serveReady says whether requests should be sent here. Clients are told which
// check fails; why it fails may name inner hosts, and goes to the log alone.
func (h *Handler) serveReady(w http.ResponseWriter, r *http.Request) error {
	status, answer := http.StatusOK, readyAnswer{Status: "ready", Checks: make(map[string]string)}
	for name, err := range h.ready.Ready() {
		if err == nil {
			answer.Checks[name] = "ok"
			continue
		}
		status, answer.Status, answer.Checks[name] = http.StatusServiceUnavailable, "not ready", "failing"
		if c := h.logger.Check(zapcore.DebugLevel, "readiness check failing"); c != nil {
			c.Write(zap.String("check", name), zap.Error(err))
		}
	}
	body, err := json.Marshal(&answer, json.Deterministic(true))
	if err != nil {
		return err
	}
	return serveState(w, r, status, string(body))
}

// serveState sends an answer that is true only now.
func serveState(w http.ResponseWriter, r *http.Request, status int, body string) error {
	if err := checkMethod(w, r, false); err != nil {
		return err
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", applicationJSON)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	// A client that has gone needs no answer.
	_, _ = io.WriteString(w, body)
	return nil
}
