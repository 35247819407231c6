package jsonrpc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestReadRequest(t *testing.T) {
	body := `{ "method":"tools\/call", "params":{"n\u0061me":"\u0061dmin","arguments":{"a":[1,{"b":null}]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}},"jsonrpc":"2.0","id":1.0} `
	messages, batch, err := Read([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if batch || len(messages) != 1 {
		t.Fatalf("batch %v, %d messages", batch, len(messages))
	}
	m := messages[0]
	if m.Kind != Request || m.Method != "tools/call" || m.ID != "1.0" {
		t.Errorf("kind %v method %q id %q", m.Kind, m.Method, m.ID)
	}
	if m.Params.Name != (Text{"admin", true}) {
		t.Errorf("name %+v", m.Params.Name)
	}
	if got, want := string(m.Params.Arguments), `{"a":[1,{"b":null}]}`; got != want {
		t.Errorf("arguments %s, want %s", got, want)
	}
	if m.Params.Meta.ProtocolVersion.Value != "2026-07-28" || !m.Params.Meta.ClientCapabilities {
		t.Errorf("meta %+v", m.Params.Meta)
	}
	if got := string(m.Raw); got != strings.TrimSpace(body) {
		t.Errorf("raw %q", got)
	}
}

// TestReadKinds also covers rows A15 and A24 of the soundness checklist.
func TestReadKinds(t *testing.T) {
	for i, tc := range []struct {
		body string
		kind Kind
		id   ID
	}{
		{`{"jsonrpc":"2.0","id":"a","method":"ping"}`, Request, `"a"`},
		{`{"jsonrpc":"2.0","id":12345678901234567890123,"method":"ping"}`, Request, `12345678901234567890123`},
		{`{"jsonrpc":"2.0","id":1e0,"method":"ping"}`, Request, `1e0`},
		{`{"jsonrpc":"2.0","id":"\u0031","method":"ping"}`, Request, `"\u0031"`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, Notification, ""},
		{`{"jsonrpc":"2.0","id":1,"result":{"tools":3}}`, Response, "1"},
		{`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, Response, "1"},
	} {
		m, _, err := Read([]byte(tc.body))
		if err != nil {
			t.Errorf("Test %d: %v", i, err)
			continue
		}
		if m[0].Kind != tc.kind || m[0].ID != tc.id {
			t.Errorf("Test %d: kind %v id %q, want %v %q", i, m[0].Kind, m[0].ID, tc.kind, tc.id)
		}
	}
}

// TestReadRefuses has the rows of section A of the soundness checklist that a
// reader can decide.
func TestReadRefuses(t *testing.T) {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","method":"tools/call","params":` + params + `,"id":7}`
	}
	many := strings.Builder{}
	for i := range MaxMembers + 1 {
		fmt.Fprintf(&many, `"m%d":0,`, i)
	}
	for name, tc := range map[string]struct {
		body   string
		reason string
		code   int
		id     ID
	}{
		"A2 name twice":             {call(`{"name":"ok","name":"admin"}`), "json_duplicate_name", CodeInvalidRequest, ""},
		"A2 name twice, escaped":    {call(`{"name":"ok","n\u0061me":"admin"}`), "json_duplicate_name", CodeInvalidRequest, ""},
		"A2 twice in arguments":     {call(`{"name":"ok","arguments":{"a":1,"a":2}}`), "json_duplicate_name", CodeInvalidRequest, ""},
		"A3 method twice":           {`{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}`, "json_duplicate_name", CodeInvalidRequest, ""},
		"A4 params twice":           {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{"name":"admin"}}`, "json_duplicate_name", CodeInvalidRequest, ""},
		"A5 name and Name":          {call(`{"name":"ok","Name":"admin"}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 only Name":              {call(`{"Name":"admin"}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 METHOD":                 {`{"jsonrpc":"2.0","id":7,"METHOD":"tools/call"}`, "json_case_variant", CodeInvalidRequest, "7"},
		"A5 kelvin sign in taskId":  {call(`{"tas\u212aId":"x"}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 long s in params":       {`{"jsonrpc":"2.0","id":7,"method":"ping","param\u017f":{}}`, "json_case_variant", CodeInvalidRequest, "7"},
		"A5 unknown names collide":  {call(`{"name":"ok","x":1,"X":2}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 in _meta":               {call(`{"_meta":{"IO.modelcontextprotocol/protocolVersion":"2026-07-28"}}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 in ref":                 {call(`{"ref":{"type":"ref/prompt","NAME":"x"}}`), "json_case_variant", CodeInvalidRequest, "7"},
		"A5 in notifications":       {call(`{"notifications":{"ResourceSubscriptions":[]}}`), "json_case_variant", CodeInvalidRequest, "7"},
		"__proto__ in the message":  {`{"jsonrpc":"2.0","id":7,"method":"ping","__proto__":{"params":{}}}`, "json_prototype", CodeInvalidRequest, "7"},
		"__proto__ in params":       {call(`{"name":"ok","__proto__":{"task":{}}}`), "json_prototype", CodeInvalidRequest, "7"},
		"__proto__ in ref, escaped": {call(`{"ref":{"type":"ref/prompt","name":"ok","\u005f_proto__":{"uri":"x"}}}`), "json_prototype", CodeInvalidRequest, "7"},
		"__proto__ in _meta":        {call(`{"_meta":{"__proto__":null}}`), "json_prototype", CodeInvalidRequest, "7"},
		"A7 byte order mark":        {"\ufeff" + call(`{}`), "json_syntax", CodeParse, ""},
		"A11 two values":            {call(`{}`) + call(`{}`), "json_trailing", CodeParse, ""},
		"A11 trailing garbage":      {call(`{}`) + `x`, "json_trailing", CodeParse, ""},
		"A11 trailing NUL":          {call(`{}`) + "\x00", "json_trailing", CodeParse, ""},
		"A14 empty batch":           {`[]`, "batch_empty", CodeInvalidRequest, ""},
		"A14 nested array":          {`[[` + call(`{}`) + `]]`, "message_shape", CodeInvalidRequest, ""},
		"A14 mixed batch":           {`[` + call(`{}`) + `,{"jsonrpc":"2.0","id":1,"result":{}}]`, "batch_mixed", CodeInvalidRequest, ""},
		"A14 huge batch":            {`[` + strings.Repeat(call(`{}`)+",", 100000) + call(`{}`) + `]`, "batch_too_long", CodeInvalidRequest, ""},
		"A15 null id":               {`{"jsonrpc":"2.0","id":null,"method":"tools/call"}`, "id_null", CodeInvalidRequest, ""},
		"A16 method and result":     {`{"jsonrpc":"2.0","id":7,"method":"tools/call","result":{}}`, "message_shape", CodeInvalidRequest, "7"},
		"A17 params array":          {call(`["admin"]`), "member_type", CodeInvalidParams, "7"},
		"A17 params null":           {call(`null`), "member_type", CodeInvalidParams, "7"},
		"A17 name number":           {call(`{"name":1}`), "member_type", CodeInvalidParams, "7"},
		"A17 name object":           {call(`{"name":{"a":1}}`), "member_type", CodeInvalidParams, "7"},
		"A17 name null":             {call(`{"name":null}`), "member_type", CodeInvalidParams, "7"},
		"A17 arguments array":       {call(`{"name":"ok","arguments":[]}`), "member_type", CodeInvalidParams, "7"},
		"A18 invalid UTF-8":         {call("{\"name\":\"adm\xffin\"}"), "json_syntax", CodeParse, ""},
		"A18 lone surrogate":        {call(`{"name":"\ud800"}`), "json_syntax", CodeParse, ""},
		"A18 NUL in name":           {call(`{"name":"ok\u0000"}`), "control_character", CodeInvalidParams, "7"},
		"A18 NUL in uri":            {call(`{"uri":"file:///a\u0000b"}`), "control_character", CodeInvalidParams, "7"},
		"A18 NUL in method":         {`{"jsonrpc":"2.0","id":7,"method":"pi\u0000ng"}`, "control_character", CodeInvalidParams, "7"},
		"A22 nesting 10^4":          {call(strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000)), "json_syntax", CodeParse, ""},
		"A22 nesting past MaxDepth": {call(`{"a":` + strings.Repeat(`[`, MaxDepth) + strings.Repeat("]", MaxDepth) + `}`), "json_depth", CodeParse, "7"},
		"empty body":                {``, "json_truncated", CodeParse, ""},
		"cut short":                 {`{"jsonrpc":"2.0","id":7`, "json_truncated", CodeParse, ""},
		"scalar":                    {`"ping"`, "message_shape", CodeInvalidRequest, ""},
		"wrong version":             {`{"jsonrpc":"1.0","id":7,"method":"ping"}`, "message_version", CodeInvalidRequest, "7"},
		"no version":                {`{"id":7,"method":"ping"}`, "message_version", CodeInvalidRequest, "7"},
		"neither":                   {`{"jsonrpc":"2.0","id":7}`, "message_shape", CodeInvalidRequest, "7"},
		"result and error":          {`{"jsonrpc":"2.0","id":7,"result":{},"error":{}}`, "message_shape", CodeInvalidRequest, "7"},
		"response without id":       {`{"jsonrpc":"2.0","error":{}}`, "message_shape", CodeInvalidRequest, ""},
		"id object":                 {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, "id_type", CodeInvalidRequest, ""},
		"id boolean":                {`{"jsonrpc":"2.0","id":true,"method":"ping"}`, "id_type", CodeInvalidRequest, ""},
		"id long":                   {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", MaxID) + `","method":"ping"}`, "id_too_long", CodeInvalidRequest, ""},
		"many members":              {call(`{` + many.String() + `"z":1}`), "json_members", CodeInvalidRequest, "7"},
		"comment":                   {`{"jsonrpc":"2.0",/**/"id":7,"method":"ping"}`, "json_syntax", CodeParse, ""},
		"single quotes":             {`{'jsonrpc':'2.0'}`, "json_syntax", CodeParse, ""},
		"listen flag not boolean":   {call(`{"notifications":{"toolsListChanged":"yes"}}`), "member_type", CodeInvalidParams, "7"},
		"subscriptions not strings": {call(`{"notifications":{"resourceSubscriptions":["a",1]}}`), "member_type", CodeInvalidParams, "7"},
	} {
		t.Run(name, func(t *testing.T) {
			messages, _, err := Read([]byte(tc.body))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("read as %+v", messages)
			}
			if e.Reason != tc.reason || e.Code != tc.code || e.ID != tc.id {
				t.Errorf("%s (%d, id %q), want %s (%d, id %q)", e.Reason, e.Code, e.ID, tc.reason, tc.code, tc.id)
			}
		})
	}
}

// A name that is only like one that decides is another name, and is not taken for
// it (row A19).
func TestReadKeepsOtherNames(t *testing.T) {
	for _, params := range []string{
		`{"name ":"admin"}`, `{" name":"admin"}`, `{"ｎame":"admin"}`, `{"name\u200b":"admin"}`, `{"nam":"admin"}`,
	} {
		m, _, err := Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`))
		if err != nil {
			t.Errorf("%s: %v", params, err)
		} else if m[0].Params.Name.Present {
			t.Errorf("%s read as name %q", params, m[0].Params.Name.Value)
		}
	}
}

func TestReadAnswerAllowsErrorWithoutID(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`,
	} {
		m, _, err := ReadAnswer([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if m[0].Kind != Response || !m[0].Failed {
			t.Errorf("%s read as %+v", body, m[0])
		}
	}
	if _, _, err := ReadAnswer([]byte(`{"jsonrpc":"2.0","result":{}}`)); err == nil {
		t.Error("a result without id was read")
	}
}

func TestReadBatch(t *testing.T) {
	body := `[{"jsonrpc":"2.0","id":1,"method":"ping"} , {"jsonrpc":"2.0","method":"notifications/initialized"}]`
	m, batch, err := Read([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if !batch || len(m) != 2 || m[0].Method != "ping" || m[1].Kind != Notification {
		t.Fatalf("%+v", m)
	}
	if string(m[1].Raw) != `{"jsonrpc":"2.0","method":"notifications/initialized"}` {
		t.Errorf("raw %s", m[1].Raw)
	}
}

// A reader that is used again must remember nothing of the last body.
func TestReadForgets(t *testing.T) {
	if _, _, err := Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`)); err == nil {
		t.Fatal("an array was read as params")
	}
	if _, _, err := Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)); err != nil {
		t.Fatal(err)
	}
}

func TestIDKey(t *testing.T) {
	for _, same := range [][]ID{
		{"1", "1.0", "1e0", "0.1E1", "10e-1"},
		{"0", "-0", "0.0"},
		{"1000000", "1e6", "1000000.0"},
		{"999999999999999", "999999999999999.0"},
		{"1000000000000000000", "1e18"},
		{"9007199254740992", "9007199254740993"},
		{"1e400", "1e999"},
		{`"1"`, `"\u0031"`},
		{`"a/b"`, `"a\/b"`},
	} {
		for _, id := range same {
			if key := id.Key(); key != same[0].Key() {
				t.Errorf("%s and %s have the keys %q and %q", id, same[0], key, same[0].Key())
			}
		}
	}
	seen := map[string]ID{}
	for _, id := range []ID{"1", "2", "-1", `"1"`, `"n1"`, `"s1"`, `""`, `"a"`, `"A"`} {
		if other, ok := seen[id.Key()]; ok {
			t.Errorf("%s and %s have the same key", id, other)
		}
		seen[id.Key()] = id
	}
}
