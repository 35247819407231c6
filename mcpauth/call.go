package mcpauth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/tasks"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Call is a request that mcp_auth has allowed: who sends it, to which server, and
// what it says. It travels with the request to mcp_proxy, which carries it and may
// ask to see what comes back.
type Call struct {
	Principal *Principal
	// Server is the name of the server it is for.
	Server string
	// Version is the protocol revision it is judged by, VersionGiven whether the
	// request named it. mcp_proxy knows better what a session negotiated, and
	// sets it.
	Version      mcp.Version
	VersionGiven bool
	// Messages are what a POST carries, more than one only in a batch; Body is
	// their bytes, which are what is forwarded.
	Messages []jsonrpc.Message
	Batch    bool
	Body     []byte
	// Prefer is the address of the server's upstream that made the task which the call
	// is about, if that is known. Upstream is that of the one the call is sent to,
	// which mcp_proxy sets if it knows it.
	Prefer, Upstream string

	endpoint *endpoint
	origin   string
	// reason is that of the refusal, if it was refused, rule the one that decided
	// last, if one did, and team the one in which its role holds, if it does not
	// everywhere.
	reason string
	// issued is the API token of the gateway's own that was refused before there was a
	// principal.
	issued *token.Claims
	rule   *policy.Rule
	team   string
	// cause is why it is beyond the token, if it is.
	cause  scope.Cause
	logger *zap.Logger
	// handler is the one that judged it last, of the configuration of that
	// generation. incoming is the request, and authorization what it had for the
	// gateway only: by them a stream is judged anew.
	handler       *Handler
	generation    uint64
	incoming      *http.Request
	authorization []string
	// wanted is set while it is found out what is asked: everything is noted
	// there, and allowed.
	wanted *[]policy.Question
	// continued are the keys of the requests whose cursors were opened.
	continued []string
	tasks     *tasks.Tasks
	// looked is whether a rule looked at the arguments.
	looked bool

	// What mcp_proxy wants of the answer.
	onHeader  func(status int, header http.Header) *Refusal
	onMessage func(m *jsonrpc.Message, allowed bool) bool
	onEvent   func(id []byte)
	onTask    func(id jsonrpc.ID) (state.Task, bool)
	readJSON  bool
	anyAnswer bool
	// received counts the bytes of the server's answer, if somebody wants to know;
	// end ends it, if it is an event stream.
	received *atomic.Int64
	end      func(cause error)
}

// callVar is the name of the Call among a request's variables.
const callVar = "mcp.call"

// CallOf returns the Call that mcp_auth made of a request, or nil if it did not
// pass mcp_auth.
func CallOf(r *http.Request) *Call {
	c, _ := caddyhttp.GetVar(r.Context(), callVar).(*Call)
	return c
}

// ID is that of the request, if the call is a single one.
func (c *Call) ID() jsonrpc.ID {
	if len(c.Messages) == 1 {
		return c.Messages[0].ID
	}
	return ""
}

// forward has another body judged and forwarded than the client's, made from that.
func (c *Call) forward(body []byte) *Refusal {
	messages, _, err := jsonrpc.Read(body)
	if err != nil {
		return unread(err)
	}
	c.Body, c.Messages = body, messages
	return nil
}

// request gives a request the body that was judged, and no other.
func (c *Call) request(r *http.Request) *http.Request {
	r.TransferEncoding = nil
	if r.Method != http.MethodPost {
		r.Body, r.GetBody, r.ContentLength = http.NoBody, nil, 0
		return r
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.Body)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(c.Body))
	return r
}

// object is what a message is about: the name or URI that is judged, whatever other
// names it holds.
func (c *Call) object(m *jsonrpc.Message) (policy.ObjectKind, string) {
	method := mcp.Lookup(m.Method, mcp.Client, m.Kind, c.Version)
	if method == nil {
		return policy.KindNone, ""
	}
	switch method.Object {
	case mcp.Tool, mcp.Prompt:
		return policy.KindName, m.Params.Name.Value
	case mcp.Resource:
		return policy.KindURI, m.Params.URI.Value
	case mcp.Reference:
		if ref := &m.Params.Ref; ref.Type.Value == "ref/prompt" {
			return policy.KindName, ref.Name.Value
		} else if ref.Type.Value == "ref/resource" {
			return referenceKind(ref.URI.Value), ref.URI.Value
		}
	default:
	}
	return policy.KindNone, ""
}

// referenceKind is what a resource is by the uri of a reference to it.
func referenceKind(uri string) policy.ObjectKind {
	if strings.Contains(uri, "{") {
		return policy.KindTemplate
	}
	return policy.KindURI
}

// placeholder gives the values that the handler's documentation lists.
func (c *Call) placeholder(key string) (any, bool) {
	switch key {
	case "http.mcp.server":
		return c.Server, true
	case "http.mcp.reason":
		return c.reason, true
	case "http.mcp.decision":
		if c.reason == "" {
			return "allowed", true
		}
		return "refused", true
	case "http.mcp.method", "http.mcp.name":
		if len(c.Messages) != 1 {
			return "", true
		}
		if key == "http.mcp.name" {
			_, name := c.object(&c.Messages[0])
			return name, true
		}
		return c.Messages[0].Method, true
	}
	name, ok := strings.CutPrefix(key, "http.auth.user.")
	if !ok || c.Principal == nil {
		return nil, false
	}
	switch name {
	case "id":
		return c.Principal.Subject, true
	case "roles":
		return strings.Join(c.Principal.Roles, ","), true
	}
	switch claim, _ := c.Principal.Lookup(name); claim.(type) {
	case string, float64, bool:
		return claim, true
	}
	return nil, false
}

// Is reports whether the call is a single request of that method.
func (c *Call) Is(method string) bool {
	return len(c.Messages) == 1 && c.Messages[0].Method == method && c.Messages[0].Kind == jsonrpc.Request
}

// OnHeader has f see, and change, the header of the answer before the client does.
// If it returns a refusal, that is the answer, and what the server says is not.
func (c *Call) OnHeader(f func(status int, header http.Header) *Refusal) { c.onHeader = f }

// OnMessage has f see each message that the server sends in a stream, or in a JSON
// answer if ReadJSON was called, with whether the principal may be sent it. What f
// returns decides.
func (c *Call) OnMessage(f func(m *jsonrpc.Message, allowed bool) bool) { c.onMessage = f }

// OnEvent has f see the id of each event of a stream that has one. f must not keep
// it.
func (c *Call) OnEvent(f func(id []byte)) { c.onEvent = f }

// OnTask has f tell which task was asked for by a request that is not one of the
// call's own: its answer may come here when its stream was broken and is resumed.
func (c *Call) OnTask(f func(id jsonrpc.ID) (state.Task, bool)) { c.onTask = f }

// CountBytes has the bytes that the server answers with added up.
func (c *Call) CountBytes(received *atomic.Int64) { c.received = received }

// EndStream ends the event stream that answers the call, as a stream ends that has nothing
// more to say: its session is over, because the token was revoked that began it or for
// another reason. It must not be called before the header of the answer was seen.
func (c *Call) EndStream(revoked bool) {
	if revoked {
		c.end(errRevoked)
		return
	}
	c.end(errEnded)
}

// errEnded ends a stream together with its session.
var errEnded = fmt.Errorf("%w: the session has ended", ErrStreamOver)

// context is that of the request.
func (c *Call) context() context.Context {
	if c.incoming == nil {
		return context.Background()
	}
	return c.incoming.Context()
}

// ReadJSON has JSON answers read even where there is nothing to filter.
func (c *Call) ReadJSON() { c.readJSON = true }

// AnyAnswer says that what is answered may be the answer to another request of the same
// principal. JSON answers are then read if they may hold anything that could be hidden
// from it, whatever the call asks for.
func (c *Call) AnyAnswer() { c.anyAnswer = true }

// Refuse makes a refusal that answers the call.
func (c *Call) Refuse(status, code int, reason, message string) *Refusal {
	f := refuse(status, code, reason, message)
	f.ID = c.ID()
	return f
}

// filters reports whether the answer to a POST can hold a list of which the
// principal may not see everything, or instructions that are not passed on.
func (c *Call) filters() bool {
	for i := range c.Messages {
		m := mcp.Lookup(c.Messages[i].Method, mcp.Client, c.Messages[i].Kind, c.Version)
		if m != nil && m.List != jsonrpc.NoList && !c.Principal.seesAll[m.List] || hasInstructions(m) && !c.passesInstructions() {
			return true
		}
	}
	return false
}

// filter is what the principal may see of a list.
func (c *Call) filter() jsonrpc.Filter {
	return jsonrpc.Filter{
		Keep: func(list jsonrpc.List, key string) bool {
			if list == jsonrpc.Tasks {
				return c.mayFollow(key)
			}
			return c.Principal.maySee(c.Server, list, key)
		},
		Rewrite: c.narrowTool,
	}
}
