package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goClient gives an answer to the Go SDK's client. Each gets a client of its own, so that
// the request has always the same id.
func goClient(a *answered) answerOpinion {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server := &answeringServer{answer: a}
	client := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1.0.0"}, nil)
	var (
		mu   sync.Mutex
		asks []string
	)
	client.AddReceivingMiddleware(func(mcp.MethodHandler) mcp.MethodHandler {
		return func(_ context.Context, method string, _ mcp.Request) (mcp.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			asks = append(asks, method)
			return nil, fmt.Errorf("not handled")
		}
	})
	transport := &mcp.StreamableClientTransport{
		Endpoint: origin + "/mcp", HTTPClient: &http.Client{Transport: server}, MaxRetries: -1, DisableStandaloneSSE: true,
	}
	session, err := client.Connect(ctx, transport, nil)
	if err != nil {
		return answerOpinion{[]answerView{{Error: err.Error()}}}
	}
	defer session.Close()
	// What was served is read soon, or is no answer.
	asking, unanswered := context.WithCancel(ctx)
	defer unanswered()
	server.served = func() { time.AfterFunc(50*time.Millisecond, unanswered) }
	keys, err := ask(asking, session, a.method)
	v := answerView{Messages: make([]answerMessage, 1)}
	if err != nil {
		v.Error = err.Error()
	}
	mu.Lock()
	defer mu.Unlock()
	v.Messages[0] = answerMessage{Lists: keys, Asks: slices.Clip(asks)}
	return answerOpinion{[]answerView{v}}
}

// ask sends the request that the answer is for, and returns the keys that it holds.
func ask(ctx context.Context, s *mcp.ClientSession, method string) (map[string][]string, error) {
	keys := map[string][]string{}
	add := func(list, key string) { keys[list] = append(keys[list], canonicalString(key)) }
	switch method {
	case "tools/list":
		r, err := s.ListTools(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, item := range r.Tools {
			add("tools", item.Name)
		}
	case "prompts/list":
		r, err := s.ListPrompts(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, item := range r.Prompts {
			add("prompts", item.Name)
		}
	case "resources/list":
		r, err := s.ListResources(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, item := range r.Resources {
			add("resources", item.URI)
		}
	case "resources/templates/list":
		r, err := s.ListResourceTemplates(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, item := range r.ResourceTemplates {
			add("resourceTemplates", item.URITemplate)
		}
	case "resources/read":
		r, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: "file:///ok"})
		if err != nil {
			return nil, err
		}
		for _, item := range r.Contents {
			add("contents", item.URI)
		}
	case "tools/call":
		_, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "ok"})
		return nil, err
	}
	return keys, nil
}

// answeringServer is the server that the client sees, without a network.
type answeringServer struct {
	answer *answered
	served func()
}

// RoundTrip implements http.RoundTripper.
func (s *answeringServer) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, media string, body []byte) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
	if r.Method != http.MethodPost {
		return answer(http.StatusMethodNotAllowed, "text/plain", nil)
	}
	var message struct {
		ID     json.RawMessage
		Method string
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		return nil, err
	}
	switch {
	case message.ID == nil || message.Method == "":
		return answer(http.StatusAccepted, "", nil)
	case message.Method == "initialize":
		return answer(http.StatusOK, "application/json", fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18",`+
			`"capabilities":{"tools":{},"prompts":{},"resources":{}},"serverInfo":{"name":"s","version":"1"}}}`, message.ID))
	case message.Method != s.answer.method:
		return answer(http.StatusBadRequest, "application/json", fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"none"}}`, message.ID))
	}
	if string(message.ID) != fmt.Sprint(answerID) {
		return nil, fmt.Errorf("the request's id is %s", message.ID)
	}
	s.served()
	return answer(http.StatusOK, s.answer.media, s.answer.body)
}

// Interface guard
var _ http.RoundTripper = (*answeringServer)(nil)
