// Command notes is an example MCP server: a notebook kept in memory. It speaks Streamable
// HTTP with sessions (protocol 2025-11-25 and older) at /mcp.
//
// It has no login of its own. The gateway in front of it says who is calling in the
// X-Mcp-Subject header, and a note remembers that name.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type note struct {
	ID     int    `json:"id"`
	Title  string `json:"title"`
	Text   string `json:"text"`
	Author string `json:"author"`
}

// uri is the note's resource.
func (n note) uri() string { return "note:///" + strconv.Itoa(n.ID) }

type notebook struct {
	mu    sync.Mutex
	last  int
	notes map[int]note
}

func (b *notebook) add(n note) note {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	n.ID = b.last
	b.notes[n.ID] = n
	return n
}

func (b *notebook) get(id int) (note, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.notes[id]
	if !ok {
		return note{}, fmt.Errorf("there is no note %d", id)
	}
	return n, nil
}

func (b *notebook) remove(id int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.notes[id]; !ok {
		return fmt.Errorf("there is no note %d", id)
	}
	delete(b.notes, id)
	return nil
}

func (b *notebook) all() []note {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.notes), func(x, y note) int { return x.ID - y.ID })
}

type idArgs struct {
	ID int `json:"id" jsonschema:"number of the note"`
}

type addArgs struct {
	Title string `json:"title" jsonschema:"a short title"`
	Text  string `json:"text" jsonschema:"the text of the note"`
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

func newServer(book *notebook) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	reads := &mcp.ToolAnnotations{ReadOnlyHint: true}

	mcp.AddTool(s, &mcp.Tool{Name: "notes_list", Description: "List all notes.", Annotations: reads},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			var lines strings.Builder
			for _, n := range book.all() {
				fmt.Fprintf(&lines, "%d: %s (by %s)\n", n.ID, n.Title, n.Author)
			}
			return text("%s", lines.String()), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "notes_read", Description: "Read one note.", Annotations: reads},
		func(_ context.Context, _ *mcp.CallToolRequest, in idArgs) (*mcp.CallToolResult, note, error) {
			n, err := book.get(in.ID)
			return nil, n, err
		})
	mcp.AddTool(s, &mcp.Tool{Name: "notes_add", Description: "Add a note."},
		func(_ context.Context, req *mcp.CallToolRequest, in addArgs) (*mcp.CallToolResult, any, error) {
			author := req.Extra.Header.Get("X-Mcp-Subject")
			if author == "" {
				author = "someone"
			}
			n := book.add(note{Title: in.Title, Text: in.Text, Author: author})
			return text("added note %d: %s (by %s)", n.ID, n.Title, n.Author), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "notes_delete", Description: "Delete one note."},
		func(_ context.Context, _ *mcp.CallToolRequest, in idArgs) (*mcp.CallToolResult, any, error) {
			if err := book.remove(in.ID); err != nil {
				return nil, nil, err
			}
			return text("deleted note %d", in.ID), nil, nil
		})

	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "note", URITemplate: "note:///{id}", MIMEType: "text/plain"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			id, err := strconv.Atoi(strings.TrimPrefix(req.Params.URI, "note:///"))
			if err != nil {
				return nil, mcp.ResourceNotFoundError(req.Params.URI)
			}
			n, err := book.get(id)
			if err != nil {
				return nil, mcp.ResourceNotFoundError(req.Params.URI)
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: n.uri(), MIMEType: "text/plain", Text: n.Text}}}, nil
		})

	s.AddPrompt(&mcp.Prompt{Name: "notes_summary", Description: "Summarize all notes."},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			var all strings.Builder
			for _, n := range book.all() {
				fmt.Fprintf(&all, "# %s\n%s\n\n", n.Title, n.Text)
			}
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
				Role:    "user",
				Content: &mcp.TextContent{Text: "Summarize these notes in three sentences.\n\n" + all.String()},
			}}}, nil
		})
	return s
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8811", "address to listen on")
	flag.Parse()

	book := &notebook{notes: map[int]note{}}
	book.add(note{Title: "Welcome", Text: "This notebook lives in memory.", Author: "notes"})
	book.add(note{Title: "Groceries", Text: "Bread, olives, lemons.", Author: "notes"})
	server := newServer(book)

	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	log.Printf("notes: http://%s/mcp", *listen)
	log.Fatal((&http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
}
