package soundness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// paginated is a real server of the Go SDK, whose cursors hold the name of the last item
// of a page, in pages of two.
func paginated() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "paginated", Version: "1"}, &mcp.ServerOptions{
		PageSize: 2, Instructions: "Never use the tool admin_1 before hidden_1.",
	})
	for _, name := range []string{"admin_1", "admin_2", "hidden_1", "ok", "secret_1"} {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
	}
	for _, name := range []string{"admin", "hidden", "open", "open_admin", "secret"} {
		s.AddPrompt(&mcp.Prompt{Name: name}, nil)
	}
	for _, path := range []string{"pub/a", "pub/b", "secret/a", "secret/b", "secret/c"} {
		s.AddResource(&mcp.Resource{Name: path[:3], URI: "file:///" + path}, nil)
	}
	for _, path := range []string{"hidden/{x}", "hidden/{y}", "pub/{name}", "secret/{x}", "secret/{y}"} {
		s.AddResourceTemplate(&mcp.ResourceTemplate{Name: path[:3], URITemplate: "file:///" + path}, nil)
	}
	return s
}

// tap sends a person's requests through the gateway and keeps what comes back.
type tap struct {
	base  http.RoundTripper
	token string

	mu     sync.Mutex
	bodies [][]byte
	header []http.Header
}

// RoundTrip implements http.RoundTripper.
func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := p.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies, p.header = append(p.bodies, nil), append(p.header, resp.Header)
	resp.Body = &tapped{resp.Body, p, len(p.bodies) - 1}
	return resp, nil
}

// tapped is a body of which what is read is kept.
type tapped struct {
	io.ReadCloser
	by    *tap
	index int
}

func (b *tapped) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.by.mu.Lock()
	defer b.by.mu.Unlock()
	b.by.bodies[b.index] = append(b.by.bodies[b.index], p[:n]...)
	return n, err
}

// seen is all that has come back, once the session is over.
func (p *tap) seen() *reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &reply{header: http.Header{}}
	for i, body := range p.bodies {
		r.body = append(r.body, body...)
		for name, values := range p.header[i] {
			r.header[name] = append(r.header[name], values...)
		}
	}
	return r
}

// collect walks all pages of a list.
func collect[T any](t *testing.T, items iter.Seq2[T, error], name func(T) string) (all []string) {
	t.Helper()
	for item, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name(item))
	}
	return all
}

// TestPaginatedServer walks all lists of a real server with a real client, in every
// version of both.
func TestPaginatedServer(t *testing.T) {
	everything := map[string][]string{
		"tools":     {"admin_1", "admin_2", "hidden_1", "ok", "secret_1"},
		"prompts":   {"admin", "hidden", "open", "open_admin", "secret"},
		"resources": {"file:///pub/a", "file:///pub/b", "file:///secret/a", "file:///secret/b", "file:///secret/c"},
		"templates": {"file:///hidden/{x}", "file:///hidden/{y}", "file:///pub/{name}", "file:///secret/{x}", "file:///secret/{y}"},
	}
	some := map[string][]string{
		"tools": {"ok"}, "prompts": {"open"}, "resources": {"file:///pub/a", "file:///pub/b"}, "templates": {"file:///pub/{name}"},
	}
	for _, w := range wires {
		for _, version := range []string{"2025-03-26", "2025-06-18", v25, v26} {
			for _, form := range []struct {
				name    string
				options mcp.StreamableHTTPOptions
			}{{"events", mcp.StreamableHTTPOptions{}}, {"JSON", mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true}}} {
				for _, who := range []person{viewer, root} {
					t.Run(fmt.Sprintf("D8 the Go SDK's %s in %s for %s/%s", form.name, version, who.subject, w.name), func(t *testing.T) {
						up := watch(t)
						server, options := paginated(), form.options
						options.Stateless = options.Stateless || version == v26 // which has no sessions
						handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &options)
						up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
							r.Body = io.NopCloser(bytes.NewReader(got.body))
							handler.ServeHTTP(w, r)
						})
						got, instructions, seen := walk(t, w, who, version)
						wants := everything
						if who == viewer {
							wants = some
							seen.undecodable(t)
						}
						for list, names := range wants {
							if !slices.Equal(got[list], names) {
								t.Errorf("%s: %q, not %q", list, got[list], names)
							}
						}
						if (instructions != "") != (who == root) {
							t.Errorf("the instructions are %q", instructions)
						}
						cursors := 0
						for _, one := range up.all() {
							cursor := cursorIn(t, one.body)
							if cursor == "" {
								continue
							}
							cursors++
							decoded, err := base64.URLEncoding.DecodeString(cursor)
							if err != nil || !bytes.Contains(decoded, []byte("LastUID")) {
								t.Errorf("the server received the cursor %q", cursor)
							}
							if verbatim := bytes.Contains(seen.body, []byte(`"nextCursor":"`+cursor+`"`)); verbatim != (who == root) {
								t.Errorf("the client received the server's own cursor: %t", verbatim)
							}
						}
						if cursors != 8 {
							t.Errorf("%d requests had a cursor; five items are three pages, of four lists", cursors)
						}
					})
				}
			}
		}
	}
}

func cursorIn(t *testing.T, body []byte) string {
	t.Helper()
	if len(body) == 0 {
		return ""
	}
	var m struct{ Params struct{ Cursor string } }
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m.Params.Cursor
}

// walk is a real client's way through all lists.
func walk(t *testing.T, w wire, who person, version string) (got map[string][]string, instructions string, seen *reply) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: tlsConfig.Clone(), DisableCompression: true, ForceAttemptHTTP2: w.name == "h2"}
	defer transport.CloseIdleConnections()
	through := &tap{base: transport, token: who.token(t)}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "walker", Version: "1"}, nil).Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: fmt.Sprintf("https://localhost:%d/mcp", world.secure), HTTPClient: &http.Client{Transport: through},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	if result := session.InitializeResult(); result != nil {
		instructions = result.Instructions
		if result.ProtocolVersion != version {
			t.Errorf("the version is %s", result.ProtocolVersion)
		}
	}
	got = map[string][]string{
		"tools":     collect(t, session.Tools(ctx, nil), func(x *mcp.Tool) string { return x.Name }),
		"prompts":   collect(t, session.Prompts(ctx, nil), func(x *mcp.Prompt) string { return x.Name }),
		"resources": collect(t, session.Resources(ctx, nil), func(x *mcp.Resource) string { return x.URI }),
		"templates": collect(t, session.ResourceTemplates(ctx, nil), func(x *mcp.ResourceTemplate) string { return x.URITemplate }),
	}
	_ = session.Close()
	seen = through.seen()
	if !strings.Contains(string(seen.body), "nextCursor") {
		t.Error("what came back was not kept")
	}
	return got, instructions, seen
}
