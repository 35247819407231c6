package differential

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	gateway "github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// goSDK gives a body to the Go SDK's Streamable HTTP server, and returns the calls that its
// handlers get.
func goSDK(p *passed) opinion {
	if p.headers[gateway.HeaderMethod] == "subscriptions/listen" {
		return opinion{} // its answer is a stream that stays open
	}
	var (
		mu    sync.Mutex
		calls []seen
	)
	implementation := &mcp.Implementation{Name: "go", Version: "1.0.0"}
	newServer := func(*http.Request) *mcp.Server {
		server := mcp.NewServer(implementation, &mcp.ServerOptions{
			Capabilities: &mcp.ServerCapabilities{
				Tools: &mcp.ToolCapabilities{}, Prompts: &mcp.PromptCapabilities{},
				Resources: &mcp.ResourceCapabilities{Subscribe: true}, Completions: &mcp.CompletionCapabilities{},
			},
			SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
			UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		})
		server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				call, result := goCall(method, req.GetParams())
				mu.Lock()
				calls = append(calls, call)
				mu.Unlock()
				if result != nil {
					return result, nil
				}
				return next(ctx, method, req)
			}
		})
		return server
	}
	handler := mcp.NewStreamableHTTPHandler(newServer, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	// Of a request that is cancelled in its own batch, no answer ever comes.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+"/mcp", io.NopCloser(bytes.NewReader(p.body)))
	if err != nil {
		return opinion{Views: []view{{Error: err.Error()}}}
	}
	r.RemoteAddr = "127.0.0.1:1"
	for name, value := range p.headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	mu.Lock()
	defer mu.Unlock()
	return opinion{Status: w.Code, Calls: slices.Clip(calls)}
}

// goCall is what a handler was called with, and a result for what has an object.
func goCall(method string, params mcp.Params) (seen, mcp.Result) {
	s := seen{"method": canonicalString(method)}
	switch p := params.(type) {
	case *mcp.CallToolParamsRaw:
		s["name"] = canonicalString(p.Name)
		if p.Arguments != nil {
			s["arguments"] = canonicalJSON(p.Arguments)
		}
		return s, &mcp.CallToolResult{}
	case *mcp.GetPromptParams:
		s["name"] = canonicalString(p.Name)
		return s, &mcp.GetPromptResult{}
	case *mcp.ReadResourceParams:
		s["uri"] = canonicalString(p.URI)
		return s, &mcp.ReadResourceResult{}
	case *mcp.SubscribeParams:
		s["uri"] = canonicalString(p.URI)
	case *mcp.UnsubscribeParams:
		s["uri"] = canonicalString(p.URI)
	case *mcp.CompleteParams:
		if p.Ref == nil {
			return s, nil
		}
		s["refType"] = canonicalString(p.Ref.Type)
		if p.Ref.Type == "ref/prompt" || p.Ref.Name != "" {
			s["refName"] = canonicalString(p.Ref.Name)
		}
		if p.Ref.Type == "ref/resource" || p.Ref.URI != "" {
			s["refURI"] = canonicalString(p.Ref.URI)
		}
		return s, &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{}}}
	}
	return s, nil
}
