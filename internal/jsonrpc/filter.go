package jsonrpc

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Filter is what a response is reduced to before a principal sees it.
type Filter struct {
	// Keep says whether the item of that key may be seen.
	Keep func(list List, key string) bool
	// Rewrite returns what becomes of an item that is kept: itself, or another JSON
	// object. Nil rewrites nothing.
	Rewrite func(list List, key string, item []byte) []byte
	// Private sets the result's cacheScope to "private" (MCP 2026-07-28, caching):
	// what was made for one principal must not be served to another.
	Private bool
	// Cursor is put in the place of the result's nextCursor, if it is Present.
	Cursor Text
	// Instructions are put in the place of the result's instructions, or added to a
	// result that has none. If the text is not Present they are taken out. Nil leaves
	// them as they are.
	Instructions *Text
}

// edit replaces a part of a body.
type edit struct {
	span
	by string
	// items are written as an array in the place of by, unless they are nil.
	items [][]byte
}

// grows is by how much the edit makes a body longer, or at most that.
func (e *edit) grows() int {
	n := len(e.by) + len("[]") - (e.to - e.from)
	for _, item := range e.items {
		n += len(item) + len(",")
	}
	return n
}

// AppendFiltered appends the message as f leaves it, which is Raw when nothing has
// to go. What is not filtered keeps its bytes, order and white space. The message
// must come from ReadAnswer of body.
func (m *Message) AppendFiltered(dst, body []byte, f Filter) []byte {
	var edits []edit
	for _, list := range m.Result.Lists {
		kept, changed := make([][]byte, 0, len(list.Items)), false
		for _, item := range list.Items {
			if !f.Keep(list.List, item.Key) {
				changed = true
				continue
			}
			text := item.at.of(body)
			if f.Rewrite != nil {
				rewritten := f.Rewrite(list.List, item.Key, text)
				changed = changed || !bytes.Equal(rewritten, text)
				text = rewritten
			}
			kept = append(kept, text)
		}
		if changed {
			edits = append(edits, edit{span: list.whole, items: kept})
		}
	}
	edits = m.Result.members(edits, body, f)
	// What is put between two members goes before what takes the place of one.
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Or(a.from-b.from, a.to-b.to) })

	at, end, size := m.offset, m.offset+len(m.Raw), len(m.Raw)
	for _, e := range edits {
		size += e.grows()
	}
	dst = slices.Grow(dst, size)
	for _, e := range edits {
		dst = append(dst, body[at:e.from]...)
		if e.items == nil {
			dst = append(dst, e.by...)
		} else {
			dst = appendArray(dst, e.items)
		}
		at = e.to
	}
	return append(dst, body[at:end]...)
}

// private is the edit that makes a result's cacheScope "private".
func (r *Result) private() edit {
	if r.cacheScope.to > 0 {
		return edit{span: r.cacheScope, by: `"private"`}
	}
	by := `"cacheScope":"private",`
	if r.empty {
		by = `"cacheScope":"private"`
	}
	return edit{span: span{r.inside, r.inside}, by: by}
}

// members appends what f does to a result beside its lists.
func (r *Result) members(edits []edit, body []byte, f Filter) []edit {
	if at := r.nextCursor.value; f.Cursor.Present && at.to > 0 {
		edits = append(edits, edit{span: at, by: quote(f.Cursor.Value)})
	}
	at, private := r.instructions, f.Private && len(r.Lists) > 0
	switch given := at.value.to > 0; {
	case f.Instructions == nil:
	case f.Instructions.Present && given:
		edits = append(edits, edit{span: at.value, by: quote(f.Instructions.Value)})
	case f.Instructions.Present && r.inside > 0:
		by := `"instructions":` + quote(f.Instructions.Value) + ","
		if r.empty {
			by = strings.TrimSuffix(by, ",")
		}
		edits = append(edits, edit{span: span{r.inside, r.inside}, by: by})
	case given:
		gone := without(body, at.whole)
		if private = f.Private; private && r.cacheScope.to == 0 {
			// In the place of the other, so that the commas stay right.
			name := bytes.IndexByte(at.whole.of(body), '"')
			gone, private = edit{span: span{at.whole.from + name, at.whole.to}, by: `"cacheScope":"private"`}, false
		}
		edits = append(edits, gone)
	}
	if private {
		edits = append(edits, r.private())
	}
	return edits
}

// without is the edit that takes out a member: with the comma before it or, if it is
// the first, the one after it.
func without(body []byte, whole span) edit {
	const space = " \t\r\n"
	if bytes.TrimLeft(whole.of(body), space)[0] != ',' {
		rest := bytes.TrimLeft(body[whole.to:], space)
		if rest[0] == ',' {
			whole.to = len(body) - len(rest) + 1
		}
	}
	return edit{span: whole}
}

func quote(s string) string { return string(appendString(nil, s)) }

func appendArray(dst []byte, items [][]byte) []byte {
	dst = append(dst, '[')
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, item...)
	}
	return append(dst, ']')
}

// AppendNarrowed appends the message with its params.notifications replaced by n,
// everything else as it was. The message must come from Read of body and have that
// member.
func (m *Message) AppendNarrowed(dst, body []byte, n Notifications) []byte {
	at := m.Params.Notifications.at
	dst = append(dst, body[m.offset:at.from]...)
	dst = append(dst, ":{"...)
	empty := true
	member := func(name string) {
		if !empty {
			dst = append(dst, ',')
		}
		empty = false
		dst = append(appendString(dst, name), ':')
	}
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"toolsListChanged", n.ToolsListChanged},
		{"promptsListChanged", n.PromptsListChanged},
		{"resourcesListChanged", n.ResourcesListChanged},
	} {
		if f.on {
			member(f.name)
			dst = append(dst, "true"...)
		}
	}
	for _, f := range []struct {
		name string
		of   []string
	}{
		{"resourceSubscriptions", n.ResourceSubscriptions},
		{"taskIds", n.TaskIDs},
	} {
		if len(f.of) > 0 {
			member(f.name)
			dst = appendStrings(dst, f.of)
		}
	}
	dst = append(dst, '}')
	return append(dst, body[at.to:m.offset+len(m.Raw)]...)
}
