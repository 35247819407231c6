package jsonrpc

import (
	"bytes"
	"slices"
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
}

// edit replaces a part of a body.
type edit struct {
	span
	by string
	// items are written in the place of by when it is empty.
	items [][]byte
}

// AppendFiltered appends the message as f leaves it, which is Raw when nothing has
// to go. What is not filtered keeps its bytes, order and white space. The message
// must come from ReadAnswer of body.
func (m *Message) AppendFiltered(dst, body []byte, f Filter) []byte {
	var edits []edit
	for _, list := range m.Result.Lists {
		var kept [][]byte
		changed := false
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
	if f.Private && len(m.Result.Lists) > 0 {
		edits = append(edits, m.Result.private())
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })

	at, end := m.offset, m.offset+len(m.Raw)
	for _, e := range edits {
		dst = append(dst, body[at:e.from]...)
		if e.by != "" {
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
