package mcpauth

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Instructions says what becomes of the instructions with which a server tells models
// how to use it, in its answers to initialize and server/discover. They may name what
// a principal may not see, and unlike a list they cannot be filtered. By default they
// are passed on to principals who may see every tool, prompt, resource and template of
// the server, and left out for others.
type Instructions struct {
	// Mode is pass, to pass them on to everybody; drop, to leave them out for
	// everybody; or text, to have everybody told Text instead. Required.
	Mode string `json:"mode"`

	// Text is what everybody is told when the mode is text, whether or not the server
	// has instructions. Placeholders that are known when the configuration is loaded
	// are replaced, such as {file./etc/mcp/tickets.md}.
	Text string `json:"text,omitempty"`
}

// The modes of Instructions.
const (
	InstructionsPass = "pass"
	InstructionsDrop = "drop"
	InstructionsText = "text"
)

// EveryServer stands in Handler.Instructions for the servers that are not named.
const EveryServer = "*"

func (i Instructions) check() error {
	switch i.Mode {
	case InstructionsPass, InstructionsDrop:
		if i.Text != "" {
			return fmt.Errorf("instructions %s takes no text; use the mode text", i.Mode)
		}
	case InstructionsText:
		if i.Text == "" {
			return fmt.Errorf("instructions text needs the text; to have none, use the mode drop")
		}
	default:
		return fmt.Errorf("instructions must be pass, drop or text, not %q", i.Mode)
	}
	return nil
}

// provisionInstructions completes the endpoints with what becomes of their servers'
// instructions.
func (h *Handler) provisionInstructions() error {
	for server, instructions := range h.Instructions {
		if server != EveryServer && !slices.Contains(h.Servers, server) {
			return fmt.Errorf("instructions of %s: there is no such server", server)
		}
		if err := instructions.check(); err != nil {
			return fmt.Errorf("server %s: %w", server, err)
		}
	}
	for _, e := range h.endpoints {
		given, ok := h.Instructions[e.server]
		if !ok {
			given = h.Instructions[EveryServer]
		}
		if given.Mode == InstructionsText {
			if given.Text = caddy.NewReplacer().ReplaceKnown(given.Text, ""); given.Text == "" {
				return fmt.Errorf("server %s: the text of its instructions has placeholders of which nothing is left", e.server)
			}
		}
		e.instructions = given
	}
	return nil
}

// seesEverything reports whether the principal may see all that the server lists.
func (p *Principal) seesEverything() bool {
	return p.seesAll[jsonrpc.Tools] && p.seesAll[jsonrpc.Prompts] &&
		p.seesAll[jsonrpc.Resources] && p.seesAll[jsonrpc.ResourceTemplates]
}

// passesInstructions reports whether the server's instructions are passed on as they
// are, so that they need not be looked for.
func (c *Call) passesInstructions() bool {
	mode := c.endpoint.instructions.Mode
	return mode == InstructionsPass || mode == "" && c.Principal.seesEverything()
}

// instruct is what the instructions in a response have to become, in the terms of
// jsonrpc.Filter. A response is judged by what it holds, as with lists; but where there
// is nothing to replace, it has to be the answer to who asked for it.
func (c *Call) instruct(m *jsonrpc.Message) *jsonrpc.Text {
	switch told := &c.endpoint.instructions; {
	case c.passesInstructions():
		return nil
	case told.Mode == InstructionsText:
		if m.Result.HasInstructions() || !m.Failed && c.asksForInstructions() {
			return &jsonrpc.Text{Value: told.Text, Present: true}
		}
	case m.Result.HasInstructions():
		return new(jsonrpc.Text)
	}
	return nil
}

// asksForInstructions reports whether the call is a single request whose answer may
// have instructions.
func (c *Call) asksForInstructions() bool {
	return len(c.Messages) == 1 && hasInstructions(mcp.Lookup(c.Messages[0].Method, mcp.Client, c.Messages[0].Kind, c.Version))
}

func hasInstructions(method *mcp.Method) bool { return method != nil && method.Instructions }
