//go:build unix

package model

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// upstream is the MCP servers behind the nodes: notes, and crm, which has sessions. They
// record the nonces that they receive, each the argument of a call, with the tool and
// the session.
type upstream struct {
	servers map[string]*httptest.Server

	mu       sync.Mutex
	received map[string][]string
	sessions int
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{servers: map[string]*httptest.Server{}, received: map[string][]string{}}
	for _, name := range []string{"notes", "crm"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { u.serve(name, w, r) }))
		u.servers[name] = server
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
	}
	return u
}

func (u *upstream) serve(server string, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if r.Method == http.MethodDelete {
		return
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Name      string `json:"name"`
			Arguments struct {
				Nonce string `json:"nonce"`
			} `json:"arguments"`
		} `json:"params"`
	}
	if err != nil || json.Unmarshal(body, &m) != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	result := `{}`
	switch m.Method {
	case "initialize":
		u.mu.Lock()
		u.sessions++
		if server == "crm" {
			w.Header().Set("Mcp-Session-Id", fmt.Sprintf("upstream-%d", u.sessions))
		}
		u.mu.Unlock()
		result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"recorder","version":"1"}}`
	case "tools/list":
		result = `{"tools":[{"name":"read","inputSchema":{"type":"object"}},{"name":"write","inputSchema":{"type":"object"}}]}`
	case "tools/call":
		u.mu.Lock()
		at := server + "/" + m.Params.Name + " " + r.Header.Get("Mcp-Session-Id")
		u.received[m.Params.Arguments.Nonce] = append(u.received[m.Params.Arguments.Nonce], at)
		u.mu.Unlock()
		result = `{"content":[{"type":"text","text":"done"}]}`
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// got takes what was received with a nonce.
func (u *upstream) got(nonce string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer delete(u.received, nonce)
	return u.received[nonce]
}

// begun is the id of the session that was begun last.
func (u *upstream) begun() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return fmt.Sprintf("upstream-%d", u.sessions)
}
