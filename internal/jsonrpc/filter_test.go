package jsonrpc

import (
	"errors"
	"strings"
	"testing"
)

func keepOK(_ List, key string) bool { return !strings.Contains(key, "admin") }

func TestAppendFiltered(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string
		private  bool
	}{
		"D7 D15 D16 only the item goes": {
			in:   `{"jsonrpc":"2.0", "id":1 ,"result":{"x":1,"tools": [ {"name":"a","inputSchema":{"$schema":"s","b":1,"a":2},"x-mcp-header":1} , {"name":"admin"},{"description":"z","name":"b"} ],"nextCursor":"c","_meta":{"k":null},"resultType":"complete"}}`,
			want: `{"jsonrpc":"2.0", "id":1 ,"result":{"x":1,"tools": [{"name":"a","inputSchema":{"$schema":"s","b":1,"a":2},"x-mcp-header":1},{"description":"z","name":"b"}],"nextCursor":"c","_meta":{"k":null},"resultType":"complete"}}`,
		},
		"nothing goes, nothing changes": {
			in:   `{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a"} , {"name":"b"} ]}}`,
			want: `{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a"} , {"name":"b"} ]}}`,
		},
		"D7 everything goes": {
			in:   `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"admin"}],"nextCursor":"c"}}`,
			want: `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"nextCursor":"c"}}`,
		},
		"escaped key": {
			in:   `{"jsonrpc":"2.0","id":1,"result":{"t\u006fols":[{"n\u0061me":"\u0061dmin"}]}}`,
			want: `{"jsonrpc":"2.0","id":1,"result":{"t\u006fols":[]}}`,
		},
		"D10 cacheScope": {
			in:      `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public","tools":[{"name":"admin"}],"ttlMs":5}}`,
			want:    `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private","tools":[],"ttlMs":5}}`,
			private: true,
		},
		"D10 cacheScope absent": {
			in:      `{"jsonrpc":"2.0","id":1,"result":{ "tools":[{"name":"a"}]}}`,
			want:    `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private", "tools":[{"name":"a"}]}}`,
			private: true,
		},
		"D10 not a list": {
			in:      `{"jsonrpc":"2.0","id":1,"result":{}}`,
			want:    `{"jsonrpc":"2.0","id":1,"result":{}}`,
			private: true,
		},
		"every list": {
			in:   `{"jsonrpc":"2.0","id":1,"result":{"prompts":[{"name":"admin"}],"resources":[{"uri":"admin:"},{"uri":"b:"}],"resourceTemplates":[{"uriTemplate":"admin:{x}"}],"contents":[{"uri":"admin:","text":""},{"uri":"b:"}]}}`,
			want: `{"jsonrpc":"2.0","id":1,"result":{"prompts":[],"resources":[{"uri":"b:"}],"resourceTemplates":[],"contents":[{"uri":"b:"}]}}`,
		},
		"an error": {
			in:   `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`,
			want: `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, around := range []string{"", " \n"} {
				body := []byte(around + tc.in + around)
				m, _, err := ReadAnswer(body)
				if err != nil {
					t.Fatal(err)
				}
				got := m[0].AppendFiltered(nil, body, Filter{Keep: keepOK, Private: tc.private})
				if string(got) != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
				if _, _, err := ReadAnswer(got); err != nil {
					t.Errorf("what was written can't be read: %v", err)
				}
			}
		})
	}
}

// Rows D5 and D6: what cannot be filtered with certainty is refused.
func TestReadAnswerRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ result, reason string }{
		"D6 tools twice":       {`{"tools":[],"tools":[{"name":"admin"}]}`, "json_duplicate_name"},
		"D6 tools and Tools":   {`{"tools":[],"Tools":[{"name":"admin"}]}`, "json_case_variant"},
		"only Tools":           {`{"TOOLS":[{"name":"admin"}]}`, "json_case_variant"},
		"name twice":           {`{"tools":[{"name":"ok","name":"admin"}]}`, "json_duplicate_name"},
		"item name and Name":   {`{"tools":[{"name":"ok","Name":"admin"}]}`, "json_case_variant"},
		"no name":              {`{"tools":[{"title":"admin"}]}`, "list_item"},
		"name not a string":    {`{"tools":[{"name":["admin"]}]}`, "member_type"},
		"item not an object":   {`{"tools":["admin"]}`, "member_type"},
		"list not an array":    {`{"tools":{"name":"admin"}}`, "member_type"},
		"list null":            {`{"tools":null}`, "member_type"},
		"D5 not JSON":          {`{"tools":[}`, "json_syntax"},
		"resource without uri": {`{"resources":[{"name":"x"}]}`, "list_item"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ReadAnswer([]byte(`{"jsonrpc":"2.0","id":1,"result":` + tc.result + `}`))
			var e *Error
			if !errors.As(err, &e) || e.Reason != tc.reason {
				t.Errorf("got %v, want %s", err, tc.reason)
			}
		})
	}
}

func TestAppendError(t *testing.T) {
	for i, tc := range []struct{ got, want string }{
		{string(AppendError(nil, "", -32700, "no")), `{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}`},
		{
			string(AppendError(nil, `"a"`, 7, "a\"b\xff", "reason", "r", "supported", []string{"x", "y"}, "id", ID("1.0"))),
			`{"jsonrpc":"2.0","id":"a","error":{"code":7,"message":"a\"b` + "\ufffd" + `","data":{"reason":"r","supported":["x","y"],"id":1.0}}}`,
		},
	} {
		if tc.got != tc.want {
			t.Errorf("Test %d: got %s, want %s", i, tc.got, tc.want)
		}
	}
}

// Rows C7 and C8.
func TestAppendNarrowed(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string
		n        Notifications
	}{
		"less": {
			in:   `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"a":1, "notifications" : {"toolsListChanged":true,"resourceSubscriptions":["a:","b:"],"everything":true} ,"_meta":{}}}`,
			want: `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"a":1, "notifications":{"toolsListChanged":true,"resourceSubscriptions":["a:"]} ,"_meta":{}}}`,
			n:    Notifications{ToolsListChanged: true, ResourceSubscriptions: []string{"a:"}},
		},
		"nothing": {
			in:   `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"taskIds":["t"]}}}`,
			want: `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{}}}`,
		},
		"all": {
			in:   `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{}}}`,
			want: `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["\u0022"],"taskIds":["t"]}}}`,
			n:    Notifications{ToolsListChanged: true, PromptsListChanged: true, ResourcesListChanged: true, ResourceSubscriptions: []string{`"`}, TaskIDs: []string{"t"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := Read([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			got := string(m[0].AppendNarrowed(nil, []byte(tc.in), tc.n))
			if want := strings.ReplaceAll(tc.want, `\u0022`, `\"`); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if _, _, err := Read([]byte(got)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Rows D8 and D13: what a result tells beside its lists.
func TestAppendFilteredMembers(t *testing.T) {
	const drop = "drop"
	for name, tc := range map[string]struct {
		in, want             string
		cursor, instructions string
		private              bool
	}{
		"D8 a cursor": {
			in:     `{"tools":[{"name":"a"}], "nextCursor" : "a\u0064min" ,"x":1}`,
			want:   `{"tools":[{"name":"a"}], "nextCursor" : "s\"" ,"x":1}`,
			cursor: `s"`,
		},
		"D8 a cursor before a list that is filtered, with cacheScope": {
			in:      `{"nextCursor":"c","cacheScope":"public","tools":[{"name":"admin"}]}`,
			want:    `{"nextCursor":"s","cacheScope":"private","tools":[]}`,
			cursor:  "s",
			private: true,
		},
		"D8 no cursor": {
			in:     `{"tools":[{"name":"a"}]}`,
			want:   `{"tools":[{"name":"a"}]}`,
			cursor: "s",
		},
		"D13 dropped, last":   {in: `{ "a":1 , "instructions" : "admin" }`, want: `{ "a":1 }`, instructions: drop},
		"D13 dropped, middle": {in: `{"a":1,"instructions":"admin","b":2}`, want: `{"a":1,"b":2}`, instructions: drop},
		"D13 dropped, first":  {in: `{ "instructions":"admin" , "b":2}`, want: `{ "b":2}`, instructions: drop},
		"D13 dropped, alone":  {in: `{ "instructions":"admin" }`, want: `{ }`, instructions: drop},
		"D13 dropped, escaped and of another type": {
			in: `{"a":1,"instruct\u0069ons":{"admin":[",",{}]},"b":2}`, want: `{"a":1,"b":2}`, instructions: drop,
		},
		"D13 none to drop": {in: `{"cacheScope":"public"}`, want: `{"cacheScope":"public"}`, instructions: drop, private: true},
		"D13 dropped and private": {
			in: `{"a":1, "instructions":"admin","cacheScope":"public"}`, want: `{"a":1,"cacheScope":"private"}`,
			instructions: drop, private: true,
		},
		"D13 dropped and private, first": {
			in: `{"instructions":"admin", "cacheScope":"public"}`, want: `{ "cacheScope":"private"}`,
			instructions: drop, private: true,
		},
		"D13 dropped and private, without cacheScope": {
			in: `{"a":1, "instructions":"admin","b":2}`, want: `{"a":1, "cacheScope":"private","b":2}`,
			instructions: drop, private: true,
		},
		"D13 dropped and private, first without cacheScope": {
			in: `{ "instructions":"admin","b":2}`, want: `{ "cacheScope":"private","b":2}`,
			instructions: drop, private: true,
		},
		"D13 dropped and private, alone": {
			in: `{"instructions":"admin"}`, want: `{"cacheScope":"private"}`, instructions: drop, private: true,
		},
		"D13 replaced":         {in: `{"a":1,"instructions": "admin" }`, want: `{"a":1,"instructions": "t\"" }`, instructions: `t"`},
		"D13 added":            {in: `{ "a":1}`, want: `{"instructions":"t", "a":1}`, instructions: "t"},
		"D13 added to nothing": {in: `{}`, want: `{"instructions":"t"}`, instructions: "t"},
		"D13 no object":        {in: `"a"`, want: `"a"`, instructions: "t"},
		"D13 everything": {
			in:      `{"tools":[{"name":"admin"}],"instructions":"admin","nextCursor":"admin"}`,
			want:    `{"tools":[],"cacheScope":"private","nextCursor":"s"}`,
			cursor:  "s",
			private: true, instructions: drop,
		},
		"D13 added to a private list": {
			in:           `{"tools":[{"name":"admin"}]}`,
			want:         `{"instructions":"t","cacheScope":"private","tools":[]}`,
			instructions: "t", private: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			const before, after = ` {"jsonrpc":"2.0","id":1,"result":`, `, "x": 1} `
			body := []byte(before + tc.in + after)
			m, _, err := ReadAnswer(body)
			if err != nil {
				t.Fatal(err)
			}
			f := Filter{Keep: keepOK, Private: tc.private, Cursor: Text{tc.cursor, tc.cursor != ""}}
			if tc.instructions != "" {
				f.Instructions = &Text{tc.instructions, tc.instructions != drop}
			}
			got := string(m[0].AppendFiltered(nil, body, f))
			want := strings.TrimSpace(before + tc.want + after)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if _, _, err := ReadAnswer([]byte(got)); err != nil {
				t.Errorf("what was written can't be read: %v", err)
			}
		})
	}
}
