package differential

import (
	"bytes"
	"strings"
)

// smuggled is an answer that nobody may see.
const smuggled = `{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"admin","inputSchema":{"type":"object"}}],"prompts":[{"name":"admin"}]}}`

// frame writes a body as an event stream, in one of the many ways there are.
func (g *generator) frame(body []byte) []byte {
	var b strings.Builder
	end := pick(g, "\n", "\n", "\n", "\r\n", "\r")
	eol := func() {
		if g.one(20) {
			b.WriteString(pick(g, "\n", "\r\n", "\r"))
			return
		}
		b.WriteString(end)
	}
	if g.one(20) {
		b.WriteString("\ufeff")
	}
	around := func() {
		for g.one(4) {
			if g.one(4) {
				// What only some take for the end of a line, and an event of its own.
				end := pick(g, "\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x00", "\u2029\n")
				b.WriteString(pick(g, ": ", "id: ", "foo: ", "event: message", "") + end + end + "data: " + smuggled + end + end)
				eol()
			}
			b.WriteString(pick(g, ":", ": a comment", "id: 1", "id", "retry: 1", "event: message", "event:message", "event", "event: other", "foo: bar", "data", "data:", " data: {}", "data : {}", "Data: {}"))
			eol()
		}
	}
	for range pick(g, 1, 1, 1, 2) {
		around()
		for line := range bytes.FieldsFuncSeq(body, func(c rune) bool { return c == '\n' || c == '\r' }) {
			b.WriteString(pick(g, "data: ", "data: ", "data: ", "data:", "data:  "))
			b.Write(line)
			eol()
			if g.one(4) {
				around()
			}
		}
		around()
		if !g.one(20) {
			eol()
		}
	}
	text := []byte(b.String())
	if g.one(10) {
		text = g.mutateBytes(text)
	}
	return text
}

// answer makes one, to a request with the method, as JSON or as an event stream.
func (g *generator) answer() (body []byte, method, media string) {
	method = pick(g, "tools/list", "tools/list", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "tools/call")
	body = g.body(func() *object { return g.response(method) })
	media = "application/json"
	if g.one(4) {
		media, body = eventStream, g.frame(body)
	}
	return body, method, media
}

// response makes an answer that the server means well, or seldom something else that it may
// send.
func (g *generator) response(method string) *object {
	m := obj("jsonrpc", version)
	switch g.IntN(20) {
	case 0:
		m.members = append(m.members, entry{text("method"), text(pick(g, "notifications/tools/list_changed", "notifications/message", "notifications/x"))})
		return m
	case 1:
		m.members = append(m.members, entry{text("id"), raw("9")}, entry{text("method"), text(pick(g, "sampling/createMessage", "elicitation/create", "roots/list", "ping"))})
		return m
	case 2:
		m.members = append(m.members, entry{text("id"), raw("3")}, entry{text("error"), obj("code", raw("1"), "message", text(g.text()))})
		return m
	}
	m.members = append(m.members, entry{text("id"), pick(g, raw("3"), raw("3"), raw("3"), raw("3"), raw("3"), raw("3"), raw("3.0"), raw("4"))})
	result := new(object)
	m.members = append(m.members, entry{text("result"), result})
	if g.one(20) {
		// What only some take for a request that the principal's client must not get.
		m.members = append(m.members, entry{g.near("method"), text("sampling/createMessage")})
	}
	list := listMethods[method]
	items := new(array)
	for range g.IntN(5) {
		items.items = append(items.items, g.item(list))
	}
	result.members = append(result.members, entry{text(list), items})
	if g.one(8) {
		other := pick(g, "tools", "prompts", "resources", "resourceTemplates", "contents")
		if other != list {
			result.members = append(result.members, entry{text(other), &array{[]any{g.item(other)}}})
		}
	}
	if g.one(4) {
		result.members = append(result.members, entry{text("nextCursor"), text(g.text())})
	}
	if g.one(4) {
		result.members = append(result.members, entry{text("_meta"), obj(g.name(), g.value(2))})
	}
	return m
}

// item makes one of a list.
func (g *generator) item(list string) *object {
	var o *object
	switch list {
	case "tools":
		o = obj("name", text(pick(g, objectNames...)), "inputSchema", obj("type", text("object"), "properties", obj("schema", obj("type", text("string")))))
	case "prompts":
		o = obj("name", text(pick(g, objectNames...)))
	case "resources":
		o = obj("name", text(g.text()), "uri", text(pick(g, objectURIs...)))
	case "resourceTemplates":
		o = obj("name", text(g.text()), "uriTemplate", text(pick(g, objectURIs...)))
	case "contents":
		o = obj("uri", text(pick(g, objectURIs...)), "text", text(g.text()))
	default:
		o = obj("type", text("text"), "text", text(g.text()))
	}
	if g.one(3) {
		o.members = append(o.members, entry{text("description"), text(g.text())})
	}
	if g.one(6) {
		o.members = append(o.members, entry{text(g.name()), g.value(2)})
	}
	return o
}
