package mcpauth

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Question is what a principal might send to a server, or a server to it.
type Question struct {
	// Method is that of MCP, such as tools/call.
	Method string
	// Object is the name or URI that it is about. With a method that lists, the
	// question is whether that item is listed; without it, whether the list may be
	// asked for.
	Object string
	// Reference says what completion/complete completes for: prompt or resource.
	// Default: a resource if the object begins with a scheme, such as file:.
	Reference string
	// Arguments are those of a tool or prompt, as JSON text.
	Arguments []byte
	// Version is the protocol revision. Default: the newest that has the method.
	Version string
}

// composed is a question as a request.
type composed struct {
	// body is a message, nil for a GET, which opens a stream.
	body []byte
	// mirrored are the headers that repeat what the body says (MCP 2026-07-28).
	mirrored http.Header
	// received is what the server sends in its answer, if that is the question.
	received *jsonrpc.Message
	// item is what to look for in a list, followed among the subscriptions.
	list     jsonrpc.List
	item     *string
	followed string
}

func (a *composed) header(h http.Header) { maps.Copy(h, a.mirrored) }

// find returns the method's row of the table and the revision.
func (q *Question) find() (*mcp.Method, mcp.From, mcp.Version, error) {
	versions := mcp.Versions
	if q.Version != "" {
		version, ok := mcp.Known(q.Version)
		if !ok {
			return nil, 0, "", fmt.Errorf("protocol version %q is not carried", q.Version)
		}
		versions = []mcp.Version{version}
	}
	for _, from := range []mcp.From{mcp.Client, mcp.Server} {
		for _, version := range versions {
			for _, kind := range []jsonrpc.Kind{jsonrpc.Request, jsonrpc.Notification} {
				if m := mcp.Lookup(q.Method, from, kind, version); m != nil {
					return m, from, version, nil
				}
			}
		}
	}
	in := ""
	if q.Version != "" {
		in = " in " + q.Version
	}
	return nil, 0, "", fmt.Errorf("there is no method %q%s; write one of MCP, such as tools/call or resources/read", q.Method, in)
}

// compose writes the message.
func (q *Question) compose() (*composed, error) {
	m, from, version, err := q.find()
	if err != nil {
		return nil, err
	}
	if len(q.Arguments) > 0 {
		if m.Object != mcp.Tool && m.Object != mcp.Prompt {
			return nil, fmt.Errorf("%s has no arguments; those of tools/call and prompts/get are looked at", q.Method)
		}
		if err := checkObject(q.Arguments); err != nil {
			return nil, err
		}
	}
	a := &composed{list: m.List, mirrored: make(http.Header)}
	params, err := q.params(m, a)
	if err != nil {
		return nil, err
	}
	message := map[string]any{"jsonrpc": "2.0", "method": q.Method}
	if m.Kind == jsonrpc.Request {
		message["id"] = 1
	}
	a.mirrored.Set(mcp.HeaderProtocolVersion, string(version))
	if version.Modern() && from == mcp.Client {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    string(version),
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
		a.mirrored.Set(mcp.HeaderMethod, q.Method)
		if mcp.MirroredName(q.Method) != "" {
			a.mirrored.Set(mcp.HeaderName, mcp.EncodeHeader(q.Object))
		}
	}
	message["params"] = params
	// What is wrong with the arguments is for the reader to find.
	if a.body, err = json.Marshal(message, json.Deterministic(true), jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, errors.New("the question is not valid UTF-8")
	}
	if from == mcp.Server {
		return answered(a, version)
	}
	return a, nil
}

// answered makes a message of the server what comes in answer to a request: without
// one that is allowed there is no stream to send it in.
func answered(a *composed, version mcp.Version) (*composed, error) {
	messages, _, err := jsonrpc.ReadAnswer(a.body)
	if err != nil {
		return nil, err
	}
	opened := &composed{mirrored: a.mirrored}
	if version.Modern() {
		opener := Question{Method: "server/discover", Version: string(version)}
		if opened, err = opener.compose(); err != nil {
			return nil, err
		}
	}
	opened.received = &messages[0]
	return opened, nil
}

// params are those that a client sends with the method, or a server, and that decide.
func (q *Question) params(m *mcp.Method, a *composed) (map[string]any, error) {
	what := map[mcp.Object]string{mcp.Tool: "tool", mcp.Prompt: "prompt", mcp.Resource: "URI", mcp.Reference: "prompt or URI", mcp.Task: "task"}[m.Object]
	if what != "" && q.Object == "" {
		return nil, fmt.Errorf("%s is about a %s: write server/%s", q.Method, what, strings.ReplaceAll(what, " ", "-"))
	}
	if q.Reference != "" && m.Object != mcp.Reference {
		return nil, fmt.Errorf("%s has no reference; only completion/complete has", q.Method)
	}
	params := make(map[string]any)
	switch m.Object {
	case mcp.Tool, mcp.Prompt:
		params["name"] = q.Object
		if len(q.Arguments) > 0 {
			params["arguments"] = jsontext.Value(q.Arguments)
		}
	case mcp.Resource:
		params["uri"] = q.Object
	case mcp.Task:
		params["taskId"] = q.Object
	case mcp.Reference:
		params["argument"] = map[string]any{"name": "", "value": ""}
		switch q.Reference {
		case "resource":
			params["ref"] = map[string]any{"type": "ref/resource", "uri": q.Object}
		case "prompt":
			params["ref"] = map[string]any{"type": "ref/prompt", "name": q.Object}
		case "":
			guessed := *q
			guessed.Reference = "prompt"
			if hasScheme(q.Object) {
				guessed.Reference = "resource"
			}
			return guessed.params(m, a)
		default:
			return nil, fmt.Errorf("a reference is to a prompt or a resource, not to a %q", q.Reference)
		}
	case mcp.Subscription:
		filter := map[string]any{}
		if q.Object != "" {
			filter["resourceSubscriptions"], a.followed = []string{q.Object}, q.Object
		}
		params["notifications"] = filter
	default:
		switch {
		case q.Object == "":
		case m.List == jsonrpc.NoList:
			return nil, fmt.Errorf("%s is about a server as a whole: write the server alone", q.Method)
		default:
			a.item = &q.Object
		}
	}
	return params, nil
}

// hasScheme reports whether a text begins as a URI does (RFC 3986 section 3.1).
func hasScheme(text string) bool {
	scheme, _, ok := strings.Cut(text, ":")
	return ok && scheme != "" && !strings.ContainsFunc(scheme, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("+-.", c)
	})
}

// checkObject refuses what is not one JSON object: it must not become another part of
// the message.
func checkObject(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	value, err := d.ReadValue()
	if err != nil || value.Kind() != '{' {
		return errors.New("the arguments are not a JSON object")
	}
	if _, err := d.ReadToken(); err == nil || d.InputOffset() < int64(len(bytes.TrimRight(text, " \t\r\n"))) {
		return errors.New("there is more than one JSON object in the arguments")
	}
	return nil
}
