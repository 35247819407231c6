package differential

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf16"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// A body is made as a tree that is near a valid message, mutated, and written down in one
// of the many ways there are. The nodes are *object, *array, text (a string) and raw (JSON
// text as it stands, valid or not).
type (
	object struct{ members []entry }
	array  struct{ items []any }
	text   string
	raw    string
	entry  struct {
		// name is text, or raw if it is to be written in a certain way.
		name, value any
	}
)

func obj(pairs ...any) *object {
	o := new(object)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			panic("a name is a string")
		}
		o.members = append(o.members, entry{text(name), pairs[i+1]})
	}
	return o
}

// generator makes bodies from a seed: the same ones from the same.
type generator struct {
	*rand.Rand
}

// version is what a message must have as "jsonrpc". Written with escapes it is refused, so it
// is not.
const version = raw(`"2.0"`)

// newGenerator is the one of the nth chunk of bodies of a run.
func newGenerator(seed, n uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, n))}
}

// one reports true once in n times.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// Names and URIs, of which some are near others.
var (
	objectNames = []string{
		"ok", "ok", "read", "ok2", "admin", "admin", "Ok", "OK", "ok ", " ok", "ok\u200b", "ｏk", "o\u212a", "a/b", "a__b", "",
		"__proto__", "constructor", "caf\u00e9", "cafe\u0301", "\U0001f600", "\ufffd", "\ufeffok", "ok\u2028", `o"k`, `o\k`, "ok\\u0000", "\uffff", "same",
	}
	objectURIs = []string{
		"file:///ok", "file:///ok", "file:///admin", "FILE:///ok", "file:///ok/../admin", "file:///%6fk", "db:{id}", "db:{+id}", "db:{ID}", "ui://a",
		"file:///o\u212a", "", "http://[::1]/", "file:///ok#x", "file:///ok\u00a0",
	}
	numbers = []raw{
		"0", "-0", "1", "-1", "1.0", "1e0", "0.1", "1e400", "-1e400", "1e-400", "9007199254740991", "9007199254740992", "9007199254740993",
		"-9007199254740993", "18446744073709551616", "123456789012345678901234567890", "1E+2", "0e1", "0.30000000000000004", "1.7976931348623157e308",
		"5e-324", "2.5", "1e2", "4503599627370497.5", "0.1e1", "100000000000000000000000",
	}
)

// value makes any value at all.
func (g *generator) value(depth int) any {
	switch n := g.IntN(12); {
	case n < 3:
		return text(g.text())
	case n < 5:
		return pick(g, numbers...)
	case n < 8:
		return pick(g, raw("true"), raw("false"), raw("null"))
	case depth <= 0:
		return pick[any](g, obj(), new(array))
	case n < 10:
		o := new(object)
		for range g.IntN(4) {
			o.members = append(o.members, entry{text(g.name()), g.value(depth - 1)})
		}
		return o
	}
	a := new(array)
	for range g.IntN(4) {
		a.items = append(a.items, g.value(depth-1))
	}
	return a
}

// name makes a member's name.
func (g *generator) name() string {
	if g.one(3) {
		return pick(g, objectNames...)
	}
	return pick(g, "name", "uri", "method", "params", "id", "result", "arguments", "ref", "_meta", "schema", "limit", "path", "a", "b", "x", "tools", "type")
}

func (g *generator) text() string {
	switch g.IntN(5) {
	case 0:
		return pick(g, objectURIs...)
	case 1:
		var b strings.Builder
		for range g.IntN(6) {
			b.WriteRune(pick(g, 'a', 'K', '\u212a', '\u017f', 0, '\n', '"', '\\', '/', 0x7f, 0x80, '\u00e9', '\u0301', '\u2028', '\u2029', '\ufeff', '\uffff', '\U0001f600', '\U0010ffff', ' ', '{', '}', ',', ':'))
		}
		return b.String()
	}
	return pick(g, objectNames...)
}

// arguments make those of a call; some of their names are compared without case by some.
func (g *generator) arguments() *object {
	o := obj("schema", text(pick(g, "public", "payroll")))
	if g.one(2) {
		o.members = append(o.members, entry{text("limit"), pick(g, numbers...)})
	}
	for range g.IntN(3) {
		o.members = append(o.members, entry{text(g.name()), g.value(3)})
	}
	return o
}

// request makes one that its sender means well.
func (g *generator) request() *object {
	all := mcp.Methods()
	method := all[g.IntN(len(all))]
	// Those of tasks are for who made the task, and none is made here.
	for method.From&mcp.Client == 0 || (method.Object == mcp.NoObject || method.Object == mcp.Task) && !g.one(4) {
		method = all[g.IntN(len(all))]
	}
	m := obj("jsonrpc", version)
	if method.Kind == jsonrpc.Request {
		m.members = append(m.members, entry{text("id"), pick[any](g, raw("1"), raw("2"), text("a"), text("1"), pick(g, numbers...))})
	}
	m.members = append(m.members, entry{text("method"), text(method.Name)})
	params := new(object)
	add := func(name string, value any) { params.members = append(params.members, entry{text(name), value}) }
	switch method.Object {
	case mcp.Tool:
		add("name", text(pick(g, objectNames...)))
		add("arguments", g.arguments())
	case mcp.Prompt:
		add("name", text(pick(g, objectNames...)))
		if g.one(2) {
			add("arguments", obj("x", text(g.text())))
		}
	case mcp.Resource:
		add("uri", text(pick(g, objectURIs...)))
	case mcp.Task:
		add("taskId", text(g.text()))
	case mcp.Reference:
		if g.one(2) {
			add("ref", obj("type", text("ref/prompt"), "name", text(pick(g, objectNames...))))
		} else {
			add("ref", obj("type", text("ref/resource"), "uri", text(pick(g, objectURIs...))))
		}
		add("argument", obj("name", text("a"), "value", text(g.text())))
	case mcp.Subscription:
		add("notifications", obj("toolsListChanged", raw("true"), "resourceSubscriptions", &array{[]any{text(pick(g, objectURIs...))}}))
	default:
	}
	switch method.Name {
	case "initialize":
		add("protocolVersion", text("2025-06-18"))
		add("capabilities", obj())
		add("clientInfo", obj("name", text("c"), "version", text("1")))
	case "notifications/cancelled":
		add("requestId", pick[any](g, raw("7"), text("a"), pick(g, numbers...)))
	case "notifications/progress":
		add("progressToken", raw("1"))
		add("progress", raw("1"))
	case "logging/setLevel":
		add("level", text("debug"))
	}
	if method.List != jsonrpc.NoList && g.one(2) {
		add("cursor", text(g.text()))
	}
	if method.Since == mcp.V20260728 || method.Until == "" && g.one(2) {
		add("_meta", obj(
			"io.modelcontextprotocol/protocolVersion", text("2026-07-28"),
			"io.modelcontextprotocol/clientCapabilities", obj(),
			"io.modelcontextprotocol/clientInfo", obj("name", text("c"), "version", text("1")),
		))
	} else if g.one(4) {
		add("_meta", obj("progressToken", pick(g, numbers...)))
	}
	if len(params.members) > 0 || g.one(2) {
		m.members = append(m.members, entry{text("params"), params})
	}
	return m
}

// style is a way to write a tree down.
type style struct {
	// One string in escape has characters written as escapes, and one place in space
	// has white space; 0 is never.
	escape, space int
}

func (g *generator) style() style {
	return style{pick(g, 0, 0, 1, 3, 10), pick(g, 0, 0, 0, 2, 8)}
}

// write writes a node down.
func (g *generator) write(b *strings.Builder, node any, s style) {
	space := func() {
		for s.space > 0 && g.one(s.space) {
			b.WriteByte(pick[byte](g, ' ', '\n', '\t', '\r'))
		}
	}
	switch node := node.(type) {
	case *object:
		b.WriteByte('{')
		for i, m := range node.members {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			g.write(b, m.name, s)
			space()
			b.WriteByte(':')
			space()
			g.write(b, m.value, s)
			space()
		}
		b.WriteByte('}')
	case *array:
		b.WriteByte('[')
		for i, item := range node.items {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			g.write(b, item, s)
			space()
		}
		b.WriteByte(']')
	case text:
		g.quote(b, string(node), s.escape > 0 && g.one(s.escape))
	case raw:
		b.WriteString(string(node))
	}
}

func (g *generator) quote(b *strings.Builder, s string, escaped bool) {
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case escaped && g.one(3) || c < 0x20:
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(b, pick(g, `\u%04x`, `\u%04X`), unit)
			}
		case c == '"' || c == '\\' || escaped && c == '/' && g.one(2):
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
}
