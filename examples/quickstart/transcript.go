package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// call is a tool call of the transcript.
type call struct {
	server, tool string
	args         map[string]any
}

// withToken adds a bearer token to every request.
type withToken string

// RoundTrip implements [http.RoundTripper].
func (t withToken) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+string(t))
	return http.DefaultTransport.RoundTrip(req)
}

func endpoint(publicURL, server string) string { return publicURL + "/servers/" + server + "/mcp" }

// transcript lets each identity list the tools of both servers and call some, and writes
// down what the gateway made of it.
func transcript(ctx context.Context, out io.Writer, publicURL string, ids []identity) error {
	fmt.Fprint(out, "\n== What each token may see and do\n")
	calls := []call{
		{"notes", "notes_add", map[string]any{"title": "Heating", "text": "Ask for 21 degrees in the kitchen."}},
		{"thermostat", "temperature_read", map[string]any{"room": "kitchen"}},
		{"thermostat", "temperature_set", map[string]any{"room": "kitchen", "celsius": 21}},
	}
	for _, id := range ids {
		for _, server := range []string{"notes", "thermostat"} {
			if err := session(ctx, out, publicURL, server, id, calls); err != nil {
				return fmt.Errorf("%s at %s: %w", id.role, server, err)
			}
		}
	}
	return withoutToken(ctx, out, endpoint(publicURL, "notes"))
}

// session is one identity's visit to one server.
func session(ctx context.Context, out io.Writer, publicURL, server string, id identity, calls []call) error {
	client := mcp.NewClient(&mcp.Implementation{Name: "quickstart", Version: "1.0.0"}, nil)
	s, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   endpoint(publicURL, server),
		HTTPClient: &http.Client{Transport: withToken(id.token)},
	}, nil)
	if err != nil {
		return err
	}
	defer s.Close()

	tools, err := s.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	fmt.Fprintf(out, "\n%s (%s) at %s, protocol %s\n", id.name, id.role, server, s.InitializeResult().ProtocolVersion)
	fmt.Fprintf(out, "  tools/list  %s\n", strings.Join(names, ", "))

	for _, c := range calls {
		if c.server != server {
			continue
		}
		args, err := json.Marshal(c.args)
		if err != nil {
			return err
		}
		res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: c.tool, Arguments: c.args})
		var refusal *jsonrpc.Error
		switch {
		case errors.As(err, &refusal):
			fmt.Fprintf(out, "  tools/call  %s %s\n    refused   %d %s\n", c.tool, args, refusal.Code, refusal.Message)
		case err != nil:
			return err
		case res.IsError || len(res.Content) == 0:
			return fmt.Errorf("%s answered %+v", c.tool, res)
		default:
			fmt.Fprintf(out, "  tools/call  %s %s\n    allowed   %s\n", c.tool, args, res.Content[0].(*mcp.TextContent).Text)
		}
	}
	return nil
}

// withoutToken shows the answer that tells an MCP client where to log in.
func withoutToken(ctx context.Context, out io.Writer, url string) error {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fmt.Fprintf(out, "\nwithout a token\n  POST %s\n    refused   %s\n              WWW-Authenticate: %s\n", url, res.Status, res.Header.Get("WWW-Authenticate"))
	return nil
}
