package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// extension is the tasks extension of 2026-07-28 (SEP-2663), which no SDK for Go or
// TypeScript serves yet.
const extension = "io.modelcontextprotocol/tasks"

type object = map[string]any

// taskHost is a server of 2026-07-28 with the tools that the suite's scenarios about
// tasks call. Each tool but greet runs as a task.
type taskHost struct {
	mu    sync.Mutex
	tasks map[string]*hostedTask
}

// hostedTask is one task. It is over when its time has come and nothing is asked.
type hostedTask struct {
	created, due, updated time.Time
	cancelled             bool
	asks                  object // input requests that are not answered
	result, failure       object
}

// serveTasks serves until the context ends, and returns the URL.
func serveTasks(ctx context.Context) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	h := &taskHost{tasks: make(map[string]*hostedTask)}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + listener.Addr().String() + "/", nil
}

// rpcError is a JSON-RPC error and the HTTP status that goes with it.
type rpcError struct {
	status, code int
	message      string
	data         any
}

func (e *rpcError) Error() string { return e.message }

func invalid(message string) error { return &rpcError{http.StatusBadRequest, -32602, message, nil} }

// call is a request as far as the host looks at it.
type call struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string
		TaskID    string `json:"taskId"`
		Arguments struct {
			Seconds float64
			Name    string
		}
		InputResponses map[string]struct{ Content object }
		Meta           struct {
			Version      string `json:"io.modelcontextprotocol/protocolVersion"`
			Capabilities *struct {
				Elicitation object
				Extensions  map[string]object
			} `json:"io.modelcontextprotocol/clientCapabilities"`
		} `json:"_meta"`
	}
}

// ServeHTTP implements http.Handler.
func (h *taskHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var c call
	err := error(&rpcError{http.StatusBadRequest, -32700, "not JSON", nil})
	var result object
	if json.NewDecoder(r.Body).Decode(&c) == nil {
		if c.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		if err = c.check(r.Header); err == nil {
			result, err = h.answer(&c)
		}
	}
	answer := object{"jsonrpc": "2.0", "id": c.ID, "result": result}
	status := http.StatusOK
	if err != nil {
		var e *rpcError
		if !errors.As(err, &e) {
			e = &rpcError{http.StatusInternalServerError, -32603, err.Error(), nil}
		}
		failure := object{"code": e.code, "message": e.message}
		if e.data != nil {
			failure["data"] = e.data
		}
		answer, status = object{"jsonrpc": "2.0", "id": c.ID, "error": failure}, e.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// check holds the headers against the body, and looks at what every request has.
func (c *call) check(header http.Header) error {
	var name string
	switch c.Method {
	case "tools/call":
		name = c.Params.Name
	case "tasks/get", "tasks/update", "tasks/cancel":
		name = c.Params.TaskID
	}
	switch {
	case c.Params.Meta.Version != "2026-07-28":
		return &rpcError{http.StatusBadRequest, -32022, "unsupported protocol version", object{"supported": []string{"2026-07-28"}, "requested": c.Params.Meta.Version}}
	case c.Params.Meta.Capabilities == nil:
		return invalid("no capabilities")
	case header.Get("MCP-Protocol-Version") != c.Params.Meta.Version, header.Get("Mcp-Method") != c.Method, header.Get("Mcp-Name") != name:
		return &rpcError{http.StatusBadRequest, -32020, "headers and body disagree", nil}
	}
	return nil
}

// needTasks refuses a client that does not know tasks.
func (c *call) needTasks() error {
	if c.Params.Meta.Capabilities.Extensions[extension] != nil {
		return nil
	}
	return &rpcError{http.StatusBadRequest, -32021, "missing required client capability", object{"requiredCapabilities": object{"extensions": object{extension: object{}}}}}
}

func (h *taskHost) answer(c *call) (object, error) {
	switch c.Method {
	case "server/discover":
		return object{
			"resultType": "complete", "supportedVersions": []string{"2026-07-28"}, "ttlMs": 0, "cacheScope": "private",
			"capabilities": object{"tools": object{}, "extensions": object{extension: object{}}},
		}, nil
	case "tools/list":
		var tools []object
		for _, name := range []string{"greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input", "test_tool_with_task"} {
			tools = append(tools, object{"name": name, "inputSchema": object{"type": "object"}})
		}
		return object{"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"}, nil
	case "tools/call":
		return h.call(c)
	case "tasks/get", "tasks/update", "tasks/cancel":
		if err := c.needTasks(); err != nil {
			return nil, err
		}
		return h.about(c)
	}
	return nil, &rpcError{http.StatusNotFound, -32601, "method not found", nil}
}

func text(value string) object {
	return object{"resultType": "complete", "content": []object{{"type": "text", "text": value}}}
}

func elicit(member string) object {
	return object{"method": "elicitation/create", "params": object{
		"mode": "form", "message": "?", "requestedSchema": object{"type": "object", "properties": object{member: object{"type": "string"}}},
	}}
}

func (h *taskHost) call(c *call) (object, error) {
	t := &hostedTask{result: text("done")}
	switch c.Params.Name {
	case "greet":
		return text("Hello, " + c.Params.Arguments.Name + "!"), nil
	case "slow_compute":
		if c.needTasks() != nil {
			return text("done at once"), nil
		}
		t.due = time.Now().Add(time.Duration(c.Params.Arguments.Seconds * float64(time.Second)))
	case "failing_job":
		t.result["isError"] = true
	case "protocol_error_job":
		t.failure = object{"code": -32603, "message": "failed"}
	case "confirm_delete":
		t.asks = object{"confirm": elicit("confirm")}
	case "multi_input":
		t.asks = object{"first": elicit("name"), "second": elicit("name")}
	case "test_tool_with_task":
		given, ok := c.Params.InputResponses["user_name"]
		if !ok {
			return object{"resultType": "input_required", "inputRequests": object{"user_name": elicit("name")}, "requestState": "state"}, nil
		}
		t.result = text(fmt.Sprint("Hello, ", given.Content["name"]))
	default:
		return nil, invalid("unknown tool")
	}
	if err := c.needTasks(); err != nil {
		return nil, err
	}
	t.created, t.updated = time.Now(), time.Now()
	id := rand.Text()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tasks[id] = t
	created := t.state(id, false)
	created["resultType"] = "task"
	return created, nil
}

// state is what is told of the task, with its outcome if that is wanted. The host's lock
// is held.
func (t *hostedTask) state(id string, detailed bool) object {
	told := object{
		"resultType": "complete", "taskId": id, "status": "working", "ttlMs": 600_000, "pollIntervalMs": 50,
		"createdAt": t.created.UTC().Format(time.RFC3339Nano), "lastUpdatedAt": t.updated.UTC().Format(time.RFC3339Nano),
	}
	switch {
	case t.cancelled:
		told["status"] = "cancelled"
	case !detailed:
	case len(t.asks) > 0:
		told["status"], told["inputRequests"] = "input_required", t.asks
	case time.Now().Before(t.due):
	case t.failure != nil:
		told["status"], told["error"] = "failed", t.failure
	default:
		told["status"], told["result"] = "completed", t.result
	}
	return told
}

func (h *taskHost) about(c *call) (object, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := c.Params.TaskID
	t := h.tasks[id]
	if t == nil {
		return nil, invalid("task not found")
	}
	switch c.Method {
	case "tasks/get":
		return t.state(id, true), nil
	case "tasks/update":
		for key := range c.Params.InputResponses {
			delete(t.asks, key)
		}
	case "tasks/cancel":
		status := t.state(id, true)["status"]
		t.cancelled = status == "working" || status == "input_required" || t.cancelled
	}
	t.updated = time.Now()
	return object{"resultType": "complete"}, nil
}
