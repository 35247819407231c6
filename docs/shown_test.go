package docs_test

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// glossary knows what the values are in this run that a page shows as they were once:
// ids, tokens and addresses. What the page calls one and the same is so in every answer,
// and in the requests that follow.
type glossary struct {
	real  map[string]string // by what the page shows
	shown map[string]string // by what is real
}

func newGlossary() *glossary {
	return &glossary{make(map[string]string), make(map[string]string)}
}

func (g *glossary) add(shown, is string) { g.real[shown], g.shown[is] = is, shown }

// realize puts what is real into a request.
func (g *glossary) realize(text string) string { return replace(text, g.real) }

func replace(text string, by map[string]string) string {
	var pairs []string
	for from := range by {
		pairs = append(pairs, from)
	}
	// The longest first.
	slices.SortFunc(pairs, func(a, b string) int { return len(b) - len(a) })
	var all []string
	for _, from := range pairs {
		all = append(all, from, by[from])
	}
	return strings.NewReplacer(all...).Replace(text)
}

var (
	moment = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
	random = regexp.MustCompile(`^[\w-]{20,}(\.[\w-]+)*$|^[\w.-]+\.\.\.[\w-]+$`)
	varied = regexp.MustCompile(`[0-9A-Z]`)
)

// form is what kind of value it is that is another one in each run, or "".
func form(value string) string {
	switch {
	case moment.MatchString(value):
		return "time"
	case !random.MatchString(value) || !varied.MatchString(value):
		return ""
	case strings.HasPrefix(value, "eyJ"):
		return "token"
	}
	return "id"
}

// value is what the page should show for a value: what it shows, if that is of the same
// form and does not stand for another one.
func (g *glossary) value(shown, is string) string {
	if known, ok := g.shown[is]; ok {
		return known
	}
	is = replace(is, g.shown)
	kind := form(is)
	switch {
	case kind == "":
		return is
	case kind == "time" && form(shown) == kind:
		return shown
	case kind == "time":
		return is
	}
	if _, taken := g.real[shown]; taken || form(shown) != kind {
		if shown = is; len(is) > 60 {
			shown = is[:20] + "..." + is[len(is)-8:]
		}
	}
	g.add(shown, is)
	return shown
}

// node is a JSON value with its members in their order.
type node struct {
	token jsontext.Token
	names []string
	parts []*node
}

func read(t *testing.T, text string) *node {
	t.Helper()
	d := jsontext.NewDecoder(strings.NewReader(text))
	n := readNode(t, d)
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		t.Fatalf("there is something after the JSON: %s", text)
	}
	return n
}

func readNode(t *testing.T, d *jsontext.Decoder) *node {
	t.Helper()
	token, err := d.ReadToken()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{token: token.Clone()}
	for token.Kind() == '{' && d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			t.Fatal(err)
		}
		n.names = append(n.names, name.String())
		n.parts = append(n.parts, readNode(t, d))
	}
	for token.Kind() == '[' && d.PeekKind() != ']' {
		n.parts = append(n.parts, readNode(t, d))
	}
	if n.token.Kind() == '{' || n.token.Kind() == '[' {
		if _, err := d.ReadToken(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// vary are the members whose numbers are others in each run.
var vary = []string{"refresh_expires_in", "age", "average_response_time_ms", "bytes_transferred"}

const more = "..."

// node is what the page should show for a JSON value, of which it shows something, or
// nothing yet. A list that ends with "..." on the page goes on.
func (g *glossary) node(name string, shown, is *node) *node {
	if shown == nil || shown.token.Kind() != is.token.Kind() {
		shown = &node{}
	}
	switch is.token.Kind() {
	case '{':
		n := &node{token: is.token, names: is.names}
		for i, part := range is.parts {
			var before *node
			if at := slices.Index(shown.names, is.names[i]); at >= 0 {
				before = shown.parts[at]
			}
			n.parts = append(n.parts, g.node(is.names[i], before, part))
		}
		return n
	case '[':
		n := &node{token: is.token}
		last := len(shown.parts) - 1
		cut := last >= 0 && shown.parts[last].token.Kind() == '"' && shown.parts[last].token.String() == more
		for i, part := range is.parts {
			if cut && i == last {
				n.parts = append(n.parts, shown.parts[last])
				break
			}
			var before *node
			if i < len(shown.parts) {
				before = shown.parts[i]
			}
			n.parts = append(n.parts, g.node("", before, part))
		}
		return n
	case '"':
		before := ""
		if shown.token.Kind() == '"' {
			before = shown.token.String()
		}
		return &node{token: jsontext.String(g.value(before, is.token.String()))}
	case '0':
		if slices.Contains(vary, name) && shown.token.Kind() == '0' {
			return shown
		}
		return is
	default:
		return is
	}
}

// width is up to where an object or a list is in one line.
const width = 110

// print writes a value for people.
func (n *node) print(indent string, used int) string {
	flat := n.flat()
	if len(indent)+used+len(flat) <= width || len(n.parts) == 0 {
		return flat
	}
	var b strings.Builder
	b.WriteString(n.token.String() + "\n")
	inner := indent + "  "
	for i, part := range n.parts {
		key := ""
		if n.names != nil {
			key = strconv.Quote(n.names[i]) + ": "
		}
		b.WriteString(inner + key + part.print(inner, len(key)+1))
		if i < len(n.parts)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(indent + n.end())
	return b.String()
}

func (n *node) end() string { return map[jsontext.Kind]string{'{': "}", '[': "]"}[n.token.Kind()] }

func (n *node) flat() string {
	switch n.token.Kind() {
	case '"':
		text, _ := jsontext.AppendQuote(nil, n.token.String())
		return string(text)
	case '{', '[':
	default:
		return n.token.String()
	}
	parts := make([]string, len(n.parts))
	for i, part := range n.parts {
		if parts[i] = part.flat(); n.names != nil {
			parts[i] = strconv.Quote(n.names[i]) + ": " + parts[i]
		}
	}
	return n.token.String() + strings.Join(parts, ", ") + n.end()
}
