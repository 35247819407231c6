package soundness

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// The revisions of the checklist. v03, the first with this transport, has no header
// that names it.
const (
	v03 = "2025-03-26"
	v06 = "2025-06-18"
	v25 = "2025-11-25"
	v26 = "2026-07-28"
)

var (
	legacy   = []string{v03, v06, v25}
	versions = []string{v03, v06, v25, v26}
)

// legacyHeaders are those that a request of a revision before 2026-07-28 has.
func legacyHeaders(version string) []string {
	if version == v03 {
		return nil
	}
	return []string{"MCP-Protocol-Version: " + version}
}

// ask is a request as a client of the revision sends it. params is without its braces.
func ask(t *testing.T, version string, who person, method, params string, header ...string) message {
	t.Helper()
	if version == v26 {
		m := post(t, who, modern(method, params), header...)
		return m.with(modernHeaders(method, mirrored(m.body))...)
	}
	if params != "" {
		params = "{" + params + "}"
	}
	return post(t, who, call("1", method, params), append(legacyHeaders(version), header...)...)
}

// callOf is the call of a tool in a revision.
func callOf(t *testing.T, version string, who person, name string, header ...string) message {
	t.Helper()
	return ask(t, version, who, "tools/call", fmt.Sprintf(`"name":%q,"arguments":{}`, name), header...)
}

// both are the revisions, each with both versions of HTTP.
func both(in []string) iter.Seq2[string, wire] {
	return func(yield func(string, wire) bool) {
		for _, version := range in {
			for _, w := range wires {
				if !yield(version, w) {
					return
				}
			}
		}
	}
}

// everywhere runs a test of a row in each of the revisions and over both versions of
// HTTP.
func everywhere(t *testing.T, row string, in []string, f func(t *testing.T, version string, w wire)) {
	t.Helper()
	for version, w := range both(in) {
		t.Run(row+"/"+version+"/"+w.name, func(t *testing.T) { f(t, version, w) })
	}
}

// mirrored is what Mcp-Name says of a body, as a header has it; empty for none.
func mirrored(body []byte) string {
	var m struct {
		Method string
		Params map[string]any
	}
	if json.Unmarshal(body, &m) != nil {
		return ""
	}
	name, ok := m.Params[mcp.MirroredName(m.Method)].(string)
	if ok && name == "" {
		return " "
	}
	return mcp.EncodeHeader(name)
}

// version is the revision by which the message is to be judged.
func (m message) version() string {
	for _, line := range m.header {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "MCP-Protocol-Version") {
			return strings.TrimSpace(value)
		}
	}
	if strings.Contains(string(m.body), modernMeta) {
		return v26
	}
	return v03
}

// in returns the message as one of another revision, as far as it can be: what is wrong
// with it stays wrong. It reports false for a message that says itself which revision it
// is of, and for one that 2026-07-28 does not have.
func (m message) in(version string) (message, bool) {
	own := m.version()
	if own == version {
		return m, true
	}
	if own != v03 || strings.Contains(fmt.Sprint(m.header), "MCP-Protocol-Version") {
		return m, false
	}
	if version != v26 {
		return m.with(legacyHeaders(version)...), true
	}
	if m.body == nil {
		return m, false
	}
	if body := string(m.body); strings.Contains(body, `"params":{`) {
		m.body = []byte(strings.Replace(strings.Replace(body, `"params":{`, `"params":{`+modernMeta+",", 1), ",}", "}", 1))
	} else if before, ok := strings.CutSuffix(body, "}"); ok && !strings.Contains(body, `"params":`) {
		m.body = []byte(before + `,"params":{` + modernMeta + "}}")
	}
	var sent struct{ Method string }
	if json.Unmarshal(m.body, &sent) != nil || sent.Method == "" || mcp.EncodeHeader(sent.Method) != sent.Method {
		sent.Method = "tools/call"
	}
	return m.with(modernHeaders(sent.Method, mirrored(m.body))...), true
}

// in returns how the same is refused in another revision.
func (w want) in(version string) want {
	switch {
	case version != v26:
	case w == noResource:
		return notFound
	case w == unknownMethod, w == unknownNotification:
		return unknownModern
	}
	return w
}

// where says in which revisions a row of the checklist, or a case of it by the
// beginning of its name, makes sense. The longest name counts; all do that are not
// here.
var where = []struct {
	name     string
	versions []string
	why      string
}{
	{"A12", []string{v03}, "no other revision has batches: A13"},
	{"A13", []string{v06, v25, v26}, "2025-03-26 has batches: A12, A14"},
	{"A14", []string{v03}, "no other revision has batches: A13"},
	{"A17 no name", legacy, "2026-07-28 has the name in a header too"},
	{"A17 no params", legacy, "2026-07-28 has the name in a header too"},
	{"B1", []string{v26}, "the header means nothing before: B4"},
	{"B2", []string{v26}, "the header means nothing before: B4"},
	{"B3", []string{v26}, "the headers are not required before"},
	{"B4", legacy, "in 2026-07-28 a lie is refused: B1, B2"},
	{"B5", []string{v26}, "it is what the body says"},
	{"B7", []string{v26}, "no other revision has them"},
	{"B8", []string{"2099-01-01"}, "it is about a revision that there is not"},
	{"B10", []string{v26}, "the header means nothing before: B4"},
	{"B11", []string{v26}, "the header means nothing before: B4"},
	{"B12", []string{v26}, "the header means nothing before: B4"},
	{"B13", []string{v26}, "the header means nothing before: B4"},
	{"B16", []string{v26}, "no other revision has such headers"},
	{"B17", []string{v26}, "no other revision has such headers"},
	{"B18", []string{v26}, "the others have sessions"},
	{"B20", []string{v26}, "in the others clients send responses: E10"},
	{"B21", []string{v26}, "the others have initialize"},
	{"B22", []string{v06, v25}, "2025-03-26 has batches, and 2026-07-28 no sessions"},
	{"C1 no uri", legacy, "2026-07-28 has the URI in a header too"},
	{"C6", legacy, "2026-07-28 has subscriptions/listen instead: C7, C8"},
	{"C7", []string{v26}, "no other revision has subscriptions/listen"},
	{"C8", []string{v26}, "no other revision has subscriptions/listen"},
	{"C9", []string{v25}, "no other revision asks for tasks in a call"},
	{"C9 a call as a task without a version", []string{v03}, "it names none"},
	{"C12 the log level", legacy, "2026-07-28 has no such method"},
	{"D3", legacy, "2026-07-28 sends nothing again"},
	{"D10", []string{v26}, "no other revision has cacheScope"},
	{"E1", legacy, "2026-07-28 has no sessions: B18"},
	{"E2", legacy, "2026-07-28 has no sessions: B18"},
	{"E3", legacy, "2026-07-28 has no sessions: B18"},
	{"E3b", legacy, "2026-07-28 has no sessions: B18"},
	{"E4", legacy, "2026-07-28 has no sessions: B18"},
	{"E5", legacy, "2026-07-28 has no sessions: B18"},
	{"E6", legacy, "2026-07-28 has no sessions: B18"},
	{"E9", legacy, "2026-07-28 has no such notification"},
	{"E10", legacy, "in 2026-07-28 clients send no responses: B20"},
	{"E11", legacy, "a server of 2026-07-28 asks in results, which is F8, or not at all: E12"},
	{"E12", []string{v26}, "in the others servers ask on the stream: E11"},
	{"E13", legacy, "2026-07-28 has no event ids: B18"},
	{"F1", []string{v25, v26}, "the others have no tasks"},
	{"F2", []string{v25}, "no other revision lists tasks"},
	{"F3", []string{v25, v26}, "the others have no tasks"},
	{"F4", []string{v25, v26}, "the others have no tasks"},
	{"F5", []string{v25, v26}, "the others have no tasks"},
	{"F6", []string{v26}, "in the others no request is sent again with an answer in it"},
	{"F7", []string{v26}, "in the others no request is sent again with an answer in it"},
	{"F8", []string{v26}, "in the others servers ask on the stream: E11"},
	{"F9", []string{v26}, "the others have one kind of results"},
}

func versionsOf(name string) []string {
	best, found := -1, versions
	for _, w := range where {
		if len(w.name) > best && (name == w.name || strings.HasPrefix(name, w.name+" ") || strings.HasPrefix(name, w.name) && strings.Contains(w.name, " ")) {
			best, found = len(w.name), w.versions
		}
	}
	return slices.Clone(found)
}
