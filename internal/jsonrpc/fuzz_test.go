package jsonrpc

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzRead holds whatever Read lets through against a reader that folds case and
// takes the last of two (Go's encoding/json into a struct) and one that is exact
// (into a map). All three must see the same message.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","arguments":{"a":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","Name":"admin"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"n\u0061me":"ok","tas\u212aId":"admin"}}`,
		`{"method":"tools/list","METHOD":"tools/call","jsonrpc":"2.0","id":"a"}`,
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"b"}],"cacheScope":"public"}}`,
		`[{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}]`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}`,
		"\ufeff{}", `{}{}`, `[]`, `null`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		messages, batch, err := Read(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			return
		}
		raws := []json.RawMessage{body}
		if batch {
			raws = nil // or it would be decoded into body
			if err := json.Unmarshal(body, &raws); err != nil {
				t.Fatalf("encoding/json does not read the batch: %v", err)
			}
		}
		if len(raws) != len(messages) {
			t.Fatalf("%d messages, encoding/json sees %d", len(messages), len(raws))
		}
		for i, m := range messages {
			agree(t, m, raws[i])
		}
		replaceable(t, body, messages)
	})
}

// replaceable replaces every cursor: that alone may change.
func replaceable(t *testing.T, body []byte, messages []Message) {
	t.Helper()
	const other = `another "cursor"`
	cursors, back := make([]Text, len(messages)), make([]Text, len(messages))
	for i, m := range messages {
		back[i] = m.Params.Cursor
		cursors[i] = Text{other, m.Params.Cursor.Present}
	}
	replaced := AppendCursors(nil, body, messages, cursors)
	again, _, err := Read(replaced)
	if err != nil || len(again) != len(messages) {
		t.Fatalf("%v in %s", err, replaced)
	}
	for i, m := range again {
		if m.Params.Cursor.Present != cursors[i].Present || m.Params.Cursor.Present && m.Params.Cursor.Value != other {
			t.Errorf("message %d: the cursor is %v in %s", i, m.Params.Cursor, replaced)
		}
	}
	// With escapes that are not ours, only the meaning comes back.
	if !bytes.Contains(body, []byte(`\`)) {
		if got := AppendCursors(nil, replaced, again, back); !bytes.Equal(got, body) {
			t.Errorf("there and back: %s became %s", body, got)
		}
	}
}

func agree(t *testing.T, m Message, raw []byte) {
	t.Helper()
	if !bytes.Equal(bytes.TrimSpace(raw), m.Raw) {
		t.Fatalf("raw is %q of %q", m.Raw, raw)
	}
	var folding struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Name, URI, Cursor, TaskID string
			Arguments                 json.RawMessage
			Ref                       struct{ Type, Name, URI string }
		}
	}
	if err := json.Unmarshal(raw, &folding); err != nil {
		t.Fatalf("encoding/json refuses what was read: %v", err)
	}
	var exact struct {
		Params map[string]any
	}
	if err := json.Unmarshal(raw, &exact); err != nil {
		t.Fatal(err)
	}
	same := func(what, ours, theirs string) {
		if ours != theirs {
			t.Errorf("%s: read %q, encoding/json sees %q", what, ours, theirs)
		}
	}
	same("method", m.Method, folding.Method)
	if m.ID != "" {
		same("id", string(m.ID), string(folding.ID))
	}
	same("name", m.Params.Name.Value, folding.Params.Name)
	same("uri", m.Params.URI.Value, folding.Params.URI)
	same("cursor", m.Params.Cursor.Value, folding.Params.Cursor)
	same("taskId", m.Params.TaskID.Value, folding.Params.TaskID)
	same("arguments", string(m.Params.Arguments), string(folding.Params.Arguments))
	same("ref.type", m.Params.Ref.Type.Value, folding.Params.Ref.Type)
	same("ref.name", m.Params.Ref.Name.Value, folding.Params.Ref.Name)
	same("ref.uri", m.Params.Ref.URI.Value, folding.Params.Ref.URI)
	if name, _ := exact.Params["name"].(string); name != m.Params.Name.Value {
		t.Errorf("name: read %q, an exact reader sees %q", m.Params.Name.Value, name)
	}
}

// FuzzFilter holds a filtered answer against encoding/json: no list of it may hold
// a hidden item, the cursor must be the one that was put there and the instructions
// gone or replaced, and nothing else may be gone.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok"},{"name":"admin"}],"cacheScope":"public","x":[1]}}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"admin"}]}},{"jsonrpc":"2.0","id":2,"result":{}}]`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"instructions":"admin" , "tools":[],"nextCursor":"admin"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"x":[], "instructions":{"a":","}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, batch, err := ReadAnswer(body)
		if err != nil || batch {
			return
		}
		m := messages[0]
		got := m.AppendFiltered(nil, body, Filter{Keep: keepOK, Private: true, Cursor: Text{"sealed", true}, Instructions: &Text{}})
		added := m.AppendFiltered(nil, body, Filter{Keep: keepOK, Instructions: &Text{"told", true}})
		var after, before struct{ Result map[string]json.RawMessage }
		if json.Unmarshal(m.Raw, &before) != nil {
			return // a result that is no object
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("not JSON after filtering: %v\n%s", err, got)
		}
		var lists struct {
			Tools, Prompts      []struct{ Name string }
			Resources, Contents []struct{ URI string }
			ResourceTemplates   []struct{ URITemplate string }
			CacheScope          any
		}
		var told struct{ Result map[string]json.RawMessage }
		if err := json.Unmarshal(added, &told); err != nil || before.Result != nil && string(told.Result["instructions"]) != `"told"` {
			t.Fatalf("instructions were not added: %v\n%s", err, added)
		}
		if _, ok := after.Result["instructions"]; ok {
			t.Errorf("instructions are still there: %s", got)
		}
		if _, ok := before.Result["nextCursor"]; ok && string(after.Result["nextCursor"]) != `"sealed"` {
			t.Errorf("the cursor was not replaced: %s", got)
		}
		raw, _ := json.Marshal(after.Result)
		if err := json.Unmarshal(raw, &lists); err != nil {
			t.Fatalf("lists: %v\n%s", err, raw)
		}
		var keys []string
		for _, x := range append(lists.Tools, lists.Prompts...) {
			keys = append(keys, x.Name)
		}
		for _, x := range append(lists.Resources, lists.Contents...) {
			keys = append(keys, x.URI)
		}
		for _, x := range lists.ResourceTemplates {
			keys = append(keys, x.URITemplate)
		}
		for _, key := range keys {
			if strings.Contains(key, "admin") {
				t.Errorf("%q is still there: %s", key, got)
			}
		}
		for name, value := range before.Result {
			switch name {
			case "tools", "prompts", "resources", "resourceTemplates", "contents", "cacheScope", "nextCursor", "instructions":
			default:
				if !bytes.Equal(after.Result[name], value) {
					t.Errorf("%q was %s, is %s", name, value, after.Result[name])
				}
			}
		}
	})
}
