package soundness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// post is a POST to the secure site's endpoint by somebody.
func post(t *testing.T, who person, body string, header ...string) message {
	t.Helper()
	return message{
		port: world.secure, method: http.MethodPost, path: "/mcp", host: fmt.Sprintf("localhost:%d", world.secure),
		header: append([]string{
			"Authorization: Bearer " + who.token(t),
			"Content-Type: application/json",
			"Accept: application/json, text/event-stream",
		}, header...),
		body: []byte(body),
	}
}

// to sends the message to another port instead, with a token for that site.
func (m message) to(t *testing.T, port int, host, resource string, who person) message {
	t.Helper()
	m = m.without("Authorization")
	m.port, m.host = port, host
	m.header = append(m.header, "Authorization: Bearer "+who.token(t, aud(resource)))
	return m
}

// toPlain sends it to the site with two servers.
func (m message) toPlain(t *testing.T, who person, server string) message {
	t.Helper()
	host := fmt.Sprintf("127.0.0.1:%d", world.plain)
	m = m.to(t, world.plain, host, "http://"+host, who)
	m.path = "/servers/" + server + "/mcp"
	return m
}

func (m message) without(names ...string) message {
	m.header = slices.DeleteFunc(slices.Clone(m.header), func(line string) bool {
		field, _, _ := strings.Cut(line, ":")
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, field) })
	})
	return m
}

func (m message) with(lines ...string) message {
	m.header = append(slices.Clone(m.header), lines...)
	return m
}

// call is a JSON-RPC request.
func call(id, method, params string) string {
	if params == "" {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q}`, id, method)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params)
}

func callTool(name string) string {
	return call("1", "tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, name))
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern is a request of 2026-07-28. params is without its braces.
func modern(method, params string) string {
	if params != "" {
		params = "," + params
	}
	return call("1", method, "{"+modernMeta+params+"}")
}

// modernHeaders are those that go with it; an empty name for methods without.
func modernHeaders(method, name string) []string {
	lines := []string{"MCP-Protocol-Version: " + v26, "Mcp-Method: " + method}
	if name != "" {
		lines = append(lines, "Mcp-Name: "+name)
	}
	return lines
}

// refusal is what a client sees of one.
type refusal struct {
	ID    json.RawMessage `json:"id"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Reason    string   `json:"reason"`
			Supported []string `json:"supported"`
			Requested string   `json:"requested"`
		} `json:"data"`
	} `json:"error"`
}

func (r *reply) refusal(t *testing.T) refusal {
	t.Helper()
	var f refusal
	if err := json.Unmarshal(r.body, &f); err != nil || f.Error == nil {
		t.Fatalf("no JSON-RPC error: status %d, %q, %v", r.status, clip(r.body), r.err)
	}
	return f
}

// want is how a request is refused.
type want struct {
	status, code int
	reason       string
}

// check fails the test if the reply is any other.
func (w want) check(t *testing.T, r *reply) {
	t.Helper()
	if r.status != w.status {
		t.Fatalf("status %d, want %d: %q, %v", r.status, w.status, clip(r.body), r.err)
	}
	f := r.refusal(t)
	if f.Error.Code != w.code || f.Error.Data.Reason != w.reason {
		t.Errorf("code %d, reason %q; want %d, %q", f.Error.Code, f.Error.Data.Reason, w.code, w.reason)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
}

// The ways to refuse that many tests want.
var (
	notFound       = want{200, -32602, "not_found"}
	noResource     = want{200, -32002, "not_found"}
	duplicate      = want{400, -32600, "json_duplicate_name"}
	caseVariant    = want{400, -32600, "json_case_variant"}
	malformed      = want{400, -32700, "json_syntax"}
	trailing       = want{400, -32700, "json_trailing"}
	wrongShape     = want{400, -32600, "message_shape"}
	wrongType      = want{400, -32602, "member_type"}
	control        = want{400, -32602, "control_character"}
	noBatch        = want{400, -32600, "batch"}
	mediaType      = want{415, 40000, "content_type"}
	compressed     = want{415, 40000, "content_encoding"}
	unknownMethod  = want{200, -32601, "unknown_method"}
	unknownModern  = want{404, -32601, "unknown_method"}
	idMissing      = want{400, -32600, "id_missing"}
	headerMismatch = want{400, -32020, "header_mismatch"}
	headerMissing  = want{400, -32020, "header_missing"}
	headerSeveral  = want{400, -32020, "header_several"}
	unsupported    = want{400, -32022, "protocol_version"}
	noSession      = want{404, 40400, "session_unknown"}
	notAllowed     = want{403, 40300, "forbidden"}
	noEndpoint     = want{404, 40000, "no_endpoint"}

	unknownNotification = want{400, -32601, "unknown_method"}
)

// attack is a request that must be refused, and of which nothing may arrive.
type attack struct {
	row  string
	send message
	want want
}

// refuseAll sends every attack in each revision that it makes sense in, over both
// versions of HTTP.
func refuseAll(t *testing.T, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.row, func(t *testing.T) {
			for _, version := range versionsOf(a.row) {
				m, ok := a.send.in(version)
				if !ok {
					continue
				}
				for _, w := range wires {
					if a.send.port != world.secure && w.name == "h2" {
						continue // plain sites have HTTP/1.1
					}
					t.Run(version+"/"+w.name, func(t *testing.T) {
						up := watch(t)
						r := w.send(t, m)
						up.nothing(t)
						a.want.in(version).check(t, r)
					})
				}
			}
		})
	}
}

// ok fails the test unless the request was answered by the server.
func (r *reply) ok(t *testing.T) *reply {
	t.Helper()
	if r.status != http.StatusOK || r.err != nil || strings.Contains(string(r.body), `"error"`) {
		t.Fatalf("status %d, %q, %v", r.status, clip(r.body), r.err)
	}
	return r
}

// session begins one of a legacy revision and returns its id.
func session(t *testing.T, who person, version string) string {
	t.Helper()
	r := exchangeH1(t, post(t, who, initialize(version))).ok(t) // no part of the row
	id := r.header.Get("Mcp-Session-Id")
	if id == "" || strings.Contains(id, "upstream") {
		t.Fatalf("the session id is %q", id)
	}
	return id
}

func initialize(version string) string {
	return call("0", "initialize", fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}`, version))
}

// inSession are the headers of a request within one.
func inSession(id, version string) []string {
	return append(legacyHeaders(version), "Mcp-Session-Id: "+id)
}
