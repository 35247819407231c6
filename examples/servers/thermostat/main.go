// Command thermostat is an example MCP server: the heating of a small house. It speaks
// Streamable HTTP without sessions (protocol 2026-07-28, and older versions for clients
// that need no session) at /mcp, so any number of copies could stand behind one gateway.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type room struct {
	Name    string  `json:"name"`
	Celsius float64 `json:"celsius"`
	Target  float64 `json:"target"`
}

type house struct {
	mu    sync.Mutex
	rooms map[string]room
}

type readArgs struct {
	Room string `json:"room" jsonschema:"name of the room"`
}

type setArgs struct {
	Room    string  `json:"room" jsonschema:"name of the room"`
	Celsius float64 `json:"celsius" jsonschema:"temperature to reach, 5 to 30"`
}

func (h *house) list(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := strings.Join(slices.Sorted(maps.Keys(h.rooms)), ", ")
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: names}}}, nil, nil
}

func (h *house) read(_ context.Context, _ *mcp.CallToolRequest, in readArgs) (*mcp.CallToolResult, room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.rooms[in.Room]
	if !ok {
		return nil, room{}, fmt.Errorf("there is no room %q", in.Room)
	}
	return nil, r, nil
}

func (h *house) set(_ context.Context, _ *mcp.CallToolRequest, in setArgs) (*mcp.CallToolResult, room, error) {
	if in.Celsius < 5 || in.Celsius > 30 {
		return nil, room{}, fmt.Errorf("%g degrees is outside 5 to 30", in.Celsius)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.rooms[in.Room]
	if !ok {
		return nil, room{}, fmt.Errorf("there is no room %q", in.Room)
	}
	r.Target = in.Celsius
	h.rooms[in.Room] = r
	return nil, r, nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8812", "address to listen on")
	flag.Parse()

	h := &house{rooms: map[string]room{
		"kitchen": {Name: "kitchen", Celsius: 19.5, Target: 20},
		"bedroom": {Name: "bedroom", Celsius: 17, Target: 17},
	}}
	reads := &mcp.ToolAnnotations{ReadOnlyHint: true}
	s := mcp.NewServer(&mcp.Implementation{Name: "thermostat", Version: "1.0.0"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "rooms_list", Description: "List the rooms.", Annotations: reads}, h.list)
	mcp.AddTool(s, &mcp.Tool{Name: "temperature_read", Description: "Read a room's temperature and target.", Annotations: reads}, h.read)
	mcp.AddTool(s, &mcp.Tool{Name: "temperature_set", Description: "Set a room's target temperature."}, h.set)

	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true}))
	log.Printf("thermostat: http://%s/mcp", *listen)
	log.Fatal((&http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
}
