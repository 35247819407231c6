package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// answerText is what every tool call answers; a call's whole answer has about 300 bytes.
var answerText = strings.Repeat("order 4711: 3 x lemons, shipped; ", 6)

// upstream is the fast MCP server behind all targets.
type upstream struct {
	url      string
	answered atomic.Int64 // tool calls
	sessions sync.Map     // session id -> nothing
	server   *http.Server
}

func startUpstream() (*upstream, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{url: "http://" + ln.Addr().String()}
	u.server = &http.Server{Handler: u} //nolint:gosec // loopback, for the life of the benchmark
	go func() { _ = u.server.Serve(ln) }()
	return u, nil
}

func (u *upstream) close() { _ = u.server.Close() }

// ServeHTTP answers the few messages that the benchmark sends. It does not parse them:
// they are known.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	withSessions := strings.HasPrefix(r.URL.Path, "/sessions/")
	switch {
	case bytes.Contains(body, []byte(`"method":"initialize"`)):
		if withSessions {
			id := rand.Text()
			u.sessions.Store(id, nil)
			w.Header().Set("Mcp-Session-Id", id)
		}
		answer(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`)
	case bytes.Contains(body, []byte(`"method":"notifications/`)):
		w.WriteHeader(http.StatusAccepted)
	default:
		if _, known := u.sessions.Load(r.Header.Get("Mcp-Session-Id")); withSessions && !known {
			http.Error(w, "unknown session", http.StatusNotFound)
			return
		}
		u.answered.Add(1)
		answer(w, body, `{"content":[{"type":"text","text":"`+answerText+`"}],"isError":false}`)
	}
}

// answer writes the result for the message's id, which is a number.
func answer(w http.ResponseWriter, message []byte, result string) {
	_, id, _ := bytes.Cut(message, []byte(`"id":`))
	if end := bytes.IndexByte(id, ','); end >= 0 {
		id = id[:end]
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(id)+`,"result":`+result+`}`)
}
