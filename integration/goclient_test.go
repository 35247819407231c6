package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goVisitor is the Go SDK's client on its way through the scenario.
type goVisitor struct {
	visit
	session  *mcp.ClientSession
	arrivals *arrivals

	mu       sync.Mutex
	progress map[any]func(float64) // by progress token
}

// goScenario is the scenario of node/scenario.mjs, for the Go SDK's client.
func goScenario(ctx context.Context, t *testing.T, v visit) map[string]outcome {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	g := &goVisitor{visit: v, arrivals: newArrivals(), progress: make(map[any]func(float64))}
	outcomes := make(map[string]outcome)
	if err := g.connect(ctx); err != nil {
		outcomes["connect"] = outcome{Err: asStepError(err)}
		return outcomes
	}
	step := func(name string, run func() (any, error)) {
		value, err := run()
		if err != nil {
			outcomes[name] = outcome{Err: asStepError(err)}
			return
		}
		outcomes[name] = outcome{Value: canonical(value)}
	}
	modern := g.session.InitializeResult().ProtocolVersion >= "2026"

	step("version", func() (any, error) { return g.session.InitializeResult().ProtocolVersion, nil })
	step("tools", func() (any, error) {
		list, err := g.session.ListTools(ctx, nil)
		return names(list, err, func() (out []string) {
			for _, tool := range list.Tools {
				out = append(out, tool.Name)
			}
			return out
		})
	})
	step("resources", func() (any, error) {
		list, err := g.session.ListResources(ctx, nil)
		return names(list, err, func() (out []string) {
			for _, resource := range list.Resources {
				out = append(out, resource.URI)
			}
			return out
		})
	})
	step("templates", func() (any, error) {
		list, err := g.session.ListResourceTemplates(ctx, nil)
		return names(list, err, func() (out []string) {
			for _, template := range list.ResourceTemplates {
				out = append(out, template.URITemplate)
			}
			return out
		})
	})
	step("prompts", func() (any, error) {
		list, err := g.session.ListPrompts(ctx, nil)
		return names(list, err, func() (out []string) {
			for _, prompt := range list.Prompts {
				out = append(out, prompt.Name)
			}
			return out
		})
	})
	step("echo", func() (any, error) {
		return g.call(ctx, "echo", map[string]any{"text": fmt.Sprintf("hällo %q", g.Tag)})
	})
	step("add", func() (any, error) { return g.call(ctx, "add", map[string]any{"a": 2, "b": 3}) })
	step("read", func() (any, error) { return g.read(ctx, "test://a") })
	step("read template", func() (any, error) { return g.read(ctx, "test://b/7") })
	step("read hidden", func() (any, error) { return g.read(ctx, "test://hidden") })
	step("prompt", func() (any, error) { return g.prompt(ctx, "greet") })
	step("prompt secret", func() (any, error) { return g.prompt(ctx, "secret") })
	step("complete", func() (any, error) { return g.complete(ctx, "greet") })
	step("complete secret", func() (any, error) { return g.complete(ctx, "secret") })
	step("progress", func() (any, error) { return g.slow(ctx, g.Tag+" progress", false, func() {}) })
	step("cancel", func() (any, error) {
		abort, cancel := context.WithCancel(ctx)
		defer cancel()
		if _, err := g.slow(abort, g.Tag+" cancel", true, cancel); err == nil {
			return "finished", nil
		}
		return "cancelled", nil
	})
	step("admin", func() (any, error) { return g.call(ctx, "admin", nil) })
	step("unknown", func() (any, error) { return g.call(ctx, "no_such_tool", nil) })
	if g.Asks {
		step("ask", func() (any, error) { return g.call(ctx, "ask", nil) })
		step("sample", func() (any, error) { return g.call(ctx, "sample", nil) })
	}
	if g.Follows {
		step("subscribe", func() (any, error) { return g.subscribe(ctx, "test://a", modern) })
		step("subscribe hidden", func() (any, error) { return g.subscribe(ctx, "test://hidden", false) })
		meta := mcp.Meta{}
		if modern {
			meta[mcp.MetaKeyLogLevel] = "info"
		} else {
			step("log level", func() (any, error) {
				return "set", g.session.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "info"})
			})
		}
		step("notify", func() (any, error) {
			params := &mcp.CallToolParams{Meta: meta, Name: "notify", Arguments: map[string]any{"tag": g.Tag}}
			if _, err := g.session.CallTool(ctx, params); err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
			defer cancel()
			return g.arrivals.wait(ctx, "updated test://a", "tools changed", "notified "+g.Tag)
		})
	}
	if g.Resumes {
		step("resume", func() (any, error) {
			key := g.Tag + " resume"
			return g.slow(ctx, key, true, func() {
				if _, err := g.call(ctx, "release", map[string]any{"key": key, "cut": true}); err != nil {
					t.Errorf("release: %v", err)
				}
			})
		})
	}
	step("close", func() (any, error) { return "closed", g.session.Close() })
	return outcomes
}

func (g *goVisitor) connect(ctx context.Context) error {
	client := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1.0.0"}, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"color": "blue"}}, nil
		},
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "parrot", Role: "assistant", Content: r.Params.Messages[0].Content}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { g.arrivals.add("tools changed") },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			g.arrivals.add("updated " + r.Params.URI)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			g.arrivals.add(fmt.Sprint(r.Params.Data))
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			g.mu.Lock()
			report := g.progress[r.Params.ProgressToken]
			g.mu.Unlock()
			if report != nil {
				report(r.Params.Progress)
			}
		},
	})
	// The client says nothing of the acknowledgement of subscriptions/listen, but
	// a notification sent before it would be lost.
	client.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if ack, ok := req.GetParams().(*mcp.SubscriptionsAcknowledgedParams); ok {
				for _, uri := range ack.Notifications.ResourceSubscriptions {
					g.arrivals.add("following " + uri)
				}
			}
			return next(ctx, method, req)
		}
	})
	transport := &mcp.StreamableClientTransport{
		Endpoint:     g.URL,
		HTTPClient:   &http.Client{Transport: g.visit},
		OAuthHandler: g.handler,
	}
	options := &mcp.ClientSessionOptions{}
	if g.Legacy {
		options.ProtocolVersion = "2025-11-25"
	}
	var err error
	g.session, err = client.Connect(ctx, transport, options)
	return err
}

func (g *goVisitor) call(ctx context.Context, name string, args map[string]any) (any, error) {
	if args == nil {
		args = map[string]any{}
	}
	return callText(g.session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args}))
}

func callText(result *mcp.CallToolResult, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	text := result.Content[0].(*mcp.TextContent).Text
	if result.IsError {
		return nil, fmt.Errorf("tool error: %s", text)
	}
	return text, nil
}

func (g *goVisitor) read(ctx context.Context, uri string) (any, error) {
	result, err := g.session.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
	if err != nil {
		return nil, err
	}
	return result.Contents[0].Text, nil
}

func (g *goVisitor) prompt(ctx context.Context, name string) (any, error) {
	result, err := g.session.GetPrompt(ctx, &mcp.GetPromptParams{Name: name, Arguments: map[string]string{"name": "ada"}})
	if err != nil {
		return nil, err
	}
	return result.Messages[0].Content.(*mcp.TextContent).Text, nil
}

func (g *goVisitor) complete(ctx context.Context, prompt string) (any, error) {
	result, err := g.session.Complete(ctx, &mcp.CompleteParams{
		Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: prompt},
		Argument: mcp.CompleteParamsArgument{Name: "name", Value: "a"},
	})
	if err != nil {
		return nil, err
	}
	return result.Completion.Values, nil
}

// slow calls the tool "slow"; when it is held, onHeld is called after its first
// report of progress.
func (g *goVisitor) slow(ctx context.Context, key string, hold bool, onHeld func()) (any, error) {
	const steps = 3
	reports := make(chan float64, 2*steps)
	params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"key": key, "steps": steps, "hold": hold}}
	params.SetProgressToken(key)
	g.mu.Lock()
	g.progress[key] = func(progress float64) {
		reports <- progress
		if progress == 1 && hold {
			go onHeld()
		}
	}
	g.mu.Unlock()
	text, err := callText(g.session.CallTool(ctx, params))
	if err != nil {
		return nil, err
	}
	// The client handles notifications on another goroutine than the answer.
	var progress []float64
	for len(progress) < steps {
		select {
		case report := <-reports:
			progress = append(progress, report)
		case <-ctx.Done():
			return nil, fmt.Errorf("progress %v: %w", progress, ctx.Err())
		}
	}
	return map[string]any{"text": text, "progress": progress}, nil
}

func (g *goVisitor) subscribe(ctx context.Context, uri string, awaitAck bool) (any, error) {
	if err := g.session.Subscribe(ctx, &mcp.SubscribeParams{URI: uri}); err != nil {
		return nil, err
	}
	if awaitAck {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		if _, err := g.arrivals.wait(ctx, "following "+uri); err != nil {
			return nil, err
		}
	}
	return "subscribed", nil
}

// names returns the sorted names of a list that was fetched without an error.
func names(_ any, err error, list func() []string) (any, error) {
	if err != nil {
		return nil, err
	}
	out := list()
	slices.Sort(out)
	return out, nil
}

func asStepError(err error) *stepError {
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return &stepError{Code: float64(rpc.Code), Message: rpc.Message}
	}
	return &stepError{Code: 0.0, Message: err.Error()}
}
