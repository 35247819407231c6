package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goServer is an MCP server on the Go SDK with the same tools, prompts and
// resources as node/server-ts1.mjs.
type goServer struct {
	*mcpServer
	mcp *mcp.Server

	mu    sync.Mutex
	gates map[string]chan struct{} // calls of the tool "slow" that wait, by key
	conns map[string]net.Conn      // the connections they came in on
}

type connKey struct{}

func startGoServer(name string, stateless bool) (*mcpServer, error) {
	s := &goServer{
		mcpServer: &mcpServer{name: name},
		gates:     make(map[string]chan struct{}),
		conns:     make(map[string]net.Conn),
	}
	accept := func(context.Context, *mcp.SubscribeRequest) error { return nil }
	forget := func(context.Context, *mcp.UnsubscribeRequest) error { return nil }
	s.mcp = mcp.NewServer(&mcp.Implementation{Name: name, Version: "1.0.0"}, &mcp.ServerOptions{
		SubscribeHandler:   accept,
		UnsubscribeHandler: forget,
		CompletionHandler:  complete,
	})
	s.addTools()
	s.addResourcesAndPrompts()
	options := &mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true}
	if !stateless {
		options.EventStore = mcp.NewMemoryEventStore(nil)
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, options)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler: s.record(handler),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go func() { _ = server.Serve(listener) }()
	atEnd(func() { _ = server.Close() })
	s.url = "http://" + listener.Addr().String() + "/mcp"
	return s.mcpServer, nil
}

// record reports every request, the end of sessions, and remembers the
// connection of a call of "slow" so that it can be broken.
func (s *goServer) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.log.request(r, body)
		var call struct {
			Params struct {
				Name      string
				Arguments struct{ Key string }
			}
		}
		if json.Unmarshal(body, &call) == nil && call.Params.Name == "slow" {
			s.mu.Lock()
			s.conns[call.Params.Arguments.Key], _ = r.Context().Value(connKey{}).(net.Conn)
			s.mu.Unlock()
		}
		next.ServeHTTP(w, r)
		if r.Method == http.MethodDelete {
			s.log.report(func() { s.log.closed = append(s.log.closed, r.Header.Get("Mcp-Session-Id")) })
		}
	})
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

func (s *goServer) addTools() {
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "echo"},
		func(_ context.Context, _ *mcp.CallToolRequest, in struct {
			Text string `json:"text"`
		},
		) (*mcp.CallToolResult, any, error) {
			return text("%s", in.Text), nil, nil
		})
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "add"},
		func(_ context.Context, _ *mcp.CallToolRequest, in struct {
			A int `json:"a"`
			B int `json:"b"`
		},
		) (*mcp.CallToolResult, any, error) {
			return text("%s", strconv.Itoa(in.A+in.B)), nil, nil
		})
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "admin"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return text("done"), nil, nil
		})
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "slow"}, s.slow)
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "release"}, s.release)
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "notify"}, s.notify)
	none := json.RawMessage(`{"type":"object"}`)
	s.mcp.AddTool(&mcp.Tool{Name: "ask", InputSchema: none}, ask)
	s.mcp.AddTool(&mcp.Tool{Name: "sample", InputSchema: none}, sample)
}

type slowInput struct {
	Key   string `json:"key"`
	Steps int    `json:"steps"`
	Hold  bool   `json:"hold"`
}

func (s *goServer) slow(ctx context.Context, req *mcp.CallToolRequest, in slowInput) (*mcp.CallToolResult, any, error) {
	gate := make(chan struct{})
	s.mu.Lock()
	s.gates[in.Key] = gate
	s.mu.Unlock()
	for i := 1; i <= in.Steps; i++ {
		err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: req.Params.GetProgressToken(), Progress: float64(i), Total: float64(in.Steps),
		})
		if err != nil {
			return nil, nil, err
		}
		if i > 1 || !in.Hold {
			continue
		}
		select {
		case <-gate:
		case <-ctx.Done():
			s.log.report(func() { s.log.cancelled = append(s.log.cancelled, in.Key) })
			return nil, nil, ctx.Err()
		}
	}
	return text("slow %d", in.Steps), nil, nil
}

type releaseInput struct {
	Key string `json:"key"`
	Cut bool   `json:"cut"`
}

func (s *goServer) release(_ context.Context, _ *mcp.CallToolRequest, in releaseInput) (*mcp.CallToolResult, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.Cut {
		conn := s.conns[in.Key]
		if conn == nil {
			return nil, nil, fmt.Errorf("no connection is open for %s", in.Key)
		}
		if err := conn.Close(); err != nil {
			return nil, nil, err
		}
	}
	close(s.gates[in.Key])
	return text("released"), nil, nil
}

// ask and sample return what they need to know; the SDK asks clients of versions
// before 2026-07-28 by requests of its own.
func ask(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if answer, ok := req.Params.InputResponses["color"].(*mcp.ElicitResult); ok {
		return text("%s %v", answer.Action, answer.Content["color"]), nil
	}
	schema := json.RawMessage(`{"type":"object","properties":{"color":{"type":"string"}},"required":["color"]}`)
	return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{
		"color": &mcp.ElicitParams{Mode: "form", Message: "Which color?", RequestedSchema: schema},
	}}, nil
}

func sample(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if answer, ok := req.Params.InputResponses["haiku"].(*mcp.CreateMessageWithToolsResult); ok {
		return text("%s: %s", answer.Model, answer.Content[0].(*mcp.TextContent).Text), nil
	}
	message := &mcp.SamplingMessage{Role: "user", Content: &mcp.TextContent{Text: "a haiku"}}
	return &mcp.CallToolResult{
		InputRequests: mcp.InputRequestMap{
			"haiku": &mcp.CreateMessageParams{Messages: []*mcp.SamplingMessage{message}, MaxTokens: 10},
		},
		RequestState: "opaque",
	}, nil
}

type notifyInput struct {
	Tag string `json:"tag"`
}

func (s *goServer) notify(ctx context.Context, req *mcp.CallToolRequest, in notifyInput) (*mcp.CallToolResult, any, error) {
	err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: "notified " + in.Tag})
	if err != nil {
		return nil, nil, err
	}
	if err := s.mcp.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "test://a"}); err != nil {
		return nil, nil, err
	}
	// Adding it once more is a change, of which the SDK tells its clients.
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "notify"}, s.notify)
	return text("notified"), nil, nil
}

func (s *goServer) addResourcesAndPrompts() {
	read := func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		contents := &mcp.ResourceContents{URI: req.Params.URI, Text: "content of " + req.Params.URI}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{contents}}, nil
	}
	s.mcp.AddResource(&mcp.Resource{Name: "a", URI: "test://a"}, read)
	s.mcp.AddResource(&mcp.Resource{Name: "hidden", URI: "test://hidden"}, read)
	s.mcp.AddResourceTemplate(&mcp.ResourceTemplate{Name: "b", URITemplate: "test://b/{id}"}, read)
	for name, greeting := range map[string]string{"greet": "Hello, ", "secret": "Secret of "} {
		prompt := &mcp.Prompt{Name: name, Arguments: []*mcp.PromptArgument{{Name: "name", Required: true}}}
		s.mcp.AddPrompt(prompt, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			content := &mcp.TextContent{Text: greeting + req.Params.Arguments["name"]}
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: content}}}, nil
		})
	}
}

func complete(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	result := &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{}}}
	for _, name := range []string{"ada", "alan", "grace"} {
		if strings.HasPrefix(name, req.Params.Argument.Value) {
			result.Completion.Values = append(result.Completion.Values, name)
		}
	}
	return result, nil
}
