package differential

import (
	"slices"
	"strings"
	"unicode"
)

// body makes one: a message, or a few, with mutations of the tree and of the bytes. Most
// have one at most, so that much of what is made is let through.
func (g *generator) body(message func() *object) []byte {
	var root any = message()
	if g.one(10) {
		batch := &array{[]any{root}}
		for range g.IntN(3) {
			batch.items = append(batch.items, message())
		}
		root = batch
	}
	for range pick(g, 0, 0, 1, 1, 1, 2, 4) {
		g.mutate(root)
	}
	var b strings.Builder
	s := g.style()
	g.write(&b, root, s)
	text := []byte(b.String())
	if g.one(8) {
		text = g.mutateBytes(text)
	}
	if g.one(16) {
		text = g.wrap(text)
	}
	return text
}

// place is a node that can be replaced, and the object that it stands in.
type place struct {
	set func(any)
	of  any
	in  *object
	i   int
}

func places(node any, set func(any), found []place) []place {
	switch node := node.(type) {
	case *object:
		for i := range node.members {
			m := &node.members[i]
			found = append(found, place{func(v any) { m.value = v }, m.value, node, i})
			found = places(m.value, func(v any) { m.value = v }, found)
		}
	case *array:
		for i := range node.items {
			found = append(found, place{func(v any) { node.items[i] = v }, node.items[i], nil, 0})
			found = places(node.items[i], func(v any) { node.items[i] = v }, found)
		}
	}
	return found
}

// mutate changes one place of a tree.
func (g *generator) mutate(root any) {
	all := places(root, nil, nil)
	if len(all) == 0 {
		return
	}
	p := all[g.IntN(len(all))]
	if p.in != nil && p.in.members[p.i].name == text("jsonrpc") && !g.one(8) {
		p = all[g.IntN(len(all))] // a wrong version is refused at once
	}
	if p.in == nil {
		p.set(g.value(2))
		return
	}
	name, _ := p.in.members[p.i].name.(text)
	insert := func(e entry) {
		p.in.members = slices.Insert(p.in.members, g.IntN(len(p.in.members)+1), e)
	}
	switch g.IntN(14) {
	case 0: // The member twice, exactly or nearly.
		insert(entry{name, g.like(p.of)})
	case 1, 2:
		insert(entry{g.near(string(name)), g.like(p.of)})
	case 3: // Only a near one.
		p.in.members[p.i].name = g.near(string(name))
	case 4: // One that is not known.
		insert(entry{text(g.name()), g.value(3)})
	case 5: // One that is known elsewhere.
		insert(entry{g.near(pick(g, "method", "params", "name", "uri", "result", "error", "id", "task", "ref", "_meta", "arguments", "cursor", "taskId", "type", "tools", "prompts", "resources", "contents", "resourceTemplates", "uriTemplate", "inputRequests")), g.like(p.of)})
	case 6: // One with a meaning in JavaScript.
		insert(entry{text(pick(g, "__proto__", "__proto__", "constructor", "prototype", "toString", "toJSON", "hasOwnProperty", "then")), pick[any](g, g.like(p.of), obj("name", text("admin")), obj("params", obj("name", text("admin"))), raw("null"), raw("1"))})
	case 7:
		p.set(g.value(3))
	case 8:
		p.set(g.like(p.of))
	case 9:
		p.in.members = slices.Delete(p.in.members, p.i, p.i+1)
	case 10:
		g.Shuffle(len(p.in.members), func(i, j int) {
			p.in.members[i], p.in.members[j] = p.in.members[j], p.in.members[i]
		})
	case 11: // What is no JSON, or just so.
		p.set(pick(g, invalidValues...))
	case 12:
		depth := pick(g, 10, 100, 252, 260, 1100)
		p.set(raw(strings.Repeat(pick(g, "[", `{"a":`), depth) + "1"))
		if of, ok := p.in.members[p.i].value.(raw); ok && g.IntN(10) > 0 {
			p.in.members[p.i].value = of + raw(strings.Map(func(c rune) rune {
				switch c {
				case '[':
					return ']'
				case '{':
					return '}'
				}
				return -1
			}, string(of)))
		}
	case 13: // Two objects where one is expected.
		if o, ok := p.of.(*object); ok && len(o.members) > 0 {
			i := g.IntN(len(o.members))
			moved := obj()
			moved.members = append(moved.members, o.members[i])
			insert(entry{g.near(string(name)), moved})
		} else {
			p.set(&array{[]any{p.of}})
		}
	}
}

var invalidValues = []any{
	raw("01"), raw("-01"), raw("+1"), raw(".5"), raw("1."), raw("1e"), raw("0x10"), raw("NaN"), raw("Infinity"), raw("-Infinity"), raw("undefined"),
	raw("True"), raw("nul"), raw("'a'"), raw("`a`"), raw(`"\ud800"`), raw(`"\udc00\ud800"`), raw(`"\ud83d"`), raw("\"\xed\xa0\x80\""), raw("\"\xff\""), raw("\"\xc0\xae\""), raw("\"\xc1\xad\""),
	raw("\"\xf4\x90\x80\x80\""), raw("\"\xe0\x80\xaf\""), raw("\"a\x00b\""), raw("\"a\nb\""), raw("\"a\tb\""), raw(`"\x41"`), raw(`"\u00"`), raw(`"\u00g1"`), raw(`"\U00000041"`), raw(`"\'"`), raw(`"\0"`),
	raw("/**/1"), raw("1//"), raw("{,}"), raw("[1,]"), raw(`{"a":1,}`), raw(`{a:1}`), raw(`{"a" 1}`), raw("[1 2]"), raw(""), raw("\u00a01"), raw("\ufeff1"), raw("\v1"), raw("1_000"), raw("1n"), raw(`"\u000"`),
	raw(`"\uD83D\uDE00"`), raw(`"\u0000"`), raw(`"ok\u0000"`), raw("\"ok\x7f\""), raw(`"ok\u007f"`), raw(`"\ud83d\u0041"`), raw(`"\/ok"`), raw("-"), raw("--1"), raw("1e+"), raw("1E400"), raw("\"\\\xff\""),
}

// near makes a name that somebody could take for the given one.
func (g *generator) near(name string) any {
	if name == "" {
		return text(name)
	}
	runes := []rune(name)
	i := g.IntN(len(runes))
	switch g.IntN(7) {
	case 0: // The very same, written otherwise.
		var b strings.Builder
		g.quote(&b, name, true)
		return raw(b.String())
	case 1, 2: // Another case, as Unicode has it.
		folded := unicode.SimpleFold(runes[i])
		for range g.IntN(2) {
			folded = unicode.SimpleFold(folded)
		}
		runes[i] = folded
	case 3:
		for i := range runes {
			runes[i] = unicode.ToUpper(runes[i])
		}
	case 4: // What looks like it.
		if like, ok := confusable[runes[i]]; ok {
			runes[i] = like
		} else {
			runes[i] += 0xfee0 // the full-width forms
		}
	case 5:
		runes = slices.Insert(runes, i, pick(g, '\u200b', '\u0301', 0, ' ', '\ufeff', '\u00ad', '_', '\u2060'))
	case 6:
		runes = append(runes, pick(g, '\u200b', 0, ' ', '\t', 's', '[', ']', '\u0000'))
	}
	return text(runes)
}

var confusable = map[rune]rune{'a': '\u0430', 'e': '\u0435', 'o': '\u043e', 'i': '\u0131', 'I': '\u0130', 'n': '\u0578', 's': '\u0455', 'm': '\u217f', 'd': '\u217e', 'c': '\u0441', 'r': '\u0433', 'p': '\u0440'}

// like makes another value of the sort of the given one.
func (g *generator) like(value any) any {
	switch value := value.(type) {
	case text:
		if strings.Contains(string(value), ":") {
			return text(pick(g, objectURIs...))
		}
		if strings.Contains(string(value), "/") {
			return text(pick(g, "tools/call", "tools/list", "Tools/Call", "tools/call ", "tools//call", "prompts/get", "resources/read", "ref/prompt", "ref/resource", "ref/Prompt", "notifications/x"))
		}
		return text(pick(g, objectNames...))
	case *object:
		other := new(object)
		for _, m := range value.members {
			if !g.one(4) {
				other.members = append(other.members, entry{m.name, g.like(m.value)})
			}
		}
		return other
	case *array:
		other := &array{slices.Clone(value.items)}
		if g.one(2) {
			other.items = append(other.items, g.value(1))
		}
		return other
	}
	return pick(g, numbers...)
}

// mutateBytes changes a few bytes.
func (g *generator) mutateBytes(b []byte) []byte {
	b = slices.Clone(b)
	for range 1 + g.IntN(2) {
		if len(b) == 0 {
			return b
		}
		i := g.IntN(len(b))
		j := min(len(b), i+1+g.IntN(12))
		switch g.IntN(6) {
		case 0:
			b[i] = byte(g.IntN(256))
		case 1:
			b[i] ^= 1 << g.IntN(8)
		case 2:
			b = slices.Delete(b, i, j)
		case 3:
			b = slices.Insert(b, i, slices.Clone(b[i:j])...)
		case 4:
			b = slices.Insert(b, i, []byte(pick(g, `"`, `\`, `,`, `:`, `{`, `}`, `[`, `]`, `\u0061`, "\x00", "\ufeff", "\u2028", "\xff", "\r", "//", "/*", `"name":"admin",`, `,"Name":"admin"`, `"method":"ping",`, "\x1e", "\x0c", "\x85", "\xc2\xa0"))...)
		case 5:
			to := g.IntN(len(b))
			b = slices.Insert(b, to, slices.Clone(b[i:j])...)
		}
	}
	return b
}

// wrap puts something around a body.
func (g *generator) wrap(b []byte) []byte {
	before := pick(g, "", "", "", "\ufeff", "\xff\xfe", " \n", "\x00", ")]}'\n", "//x\n", "data: ", "\x1e", "[", "\v", "\u00a0", "\x0c")
	after := pick(g, "", "", "", string(b), "{}", "\n{}", "\x00", "]", "}", " \t\r\n", ";", "//", ",", "\ufeff", "\x1a", "null")
	return slices.Concat([]byte(before), b, []byte(after))
}
