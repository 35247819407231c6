//go:build unix

package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// upstream is the MCP server behind the nodes. It records the nonces that it receives,
// each the argument of a call, and keeps the streams open that it is asked for.
type upstream struct {
	*httptest.Server

	mu       sync.Mutex
	received map[string]int
	sessions int
}

// message is what it reads of one.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name            string `json:"name"`
		ProtocolVersion string `json:"protocolVersion"`
		Arguments       struct {
			Nonce string `json:"nonce"`
		} `json:"arguments"`
	} `json:"params"`
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{received: map[string]int{}}
	u.Server = httptest.NewServer(u)
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

// ServeHTTP implements http.Handler.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		stream(w, r, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
		return
	case http.MethodDelete:
		return
	}
	body, err := io.ReadAll(r.Body)
	var m message
	if err != nil || json.Unmarshal(body, &m) != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	if m.Params.Arguments.Nonce != "" {
		u.mu.Lock()
		u.received[m.Params.Arguments.Nonce]++
		u.mu.Unlock()
	}
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Params.Name == "wait" {
		stream(w, r, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"begun\"}}\n\n")
		return
	}
	result := `{"content":[{"type":"text","text":"done"}]}`
	if m.Method == "initialize" {
		u.mu.Lock()
		u.sessions++
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("upstream-session-%d", u.sessions))
		u.mu.Unlock()
		result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"recorder","version":"1"}}`, m.Params.ProtocolVersion)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// stream sends an event and then nothing, until whoever listens goes away.
func stream(w http.ResponseWriter, r *http.Request, event string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, event)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// all returns how often each nonce was received.
func (u *upstream) all() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.received)
}
