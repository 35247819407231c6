package jsonrpc

import (
	"errors"
	"testing"
)

func TestNextCursor(t *testing.T) {
	for name, tc := range map[string]struct {
		result string
		want   Text
		err    error
	}{
		"absent":              {`{"tools":[]}`, Text{}, nil},
		"null":                {`{"nextCursor":null}`, Text{}, nil},
		"text":                {`{"nextCursor": "a\u0062" }`, Text{"ab", true}, nil},
		"empty":               {`{"nextCursor":""}`, Text{"", true}, nil},
		"a number":            {`{"nextCursor":1}`, Text{}, ErrCursor},
		"an object":           {`{"nextCursor":{"a":1}}`, Text{}, ErrCursor},
		"a control character": {`{"nextCursor":"a\n"}`, Text{}, ErrCursor},
		"no object":           {`"nextCursor"`, Text{}, nil},
		"deeper":              {`{"x":{"nextCursor":"a"}}`, Text{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte(` {"jsonrpc":"2.0","id":1,"result":` + tc.result + `}`)
			m, _, err := ReadAnswer(body)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m[0].NextCursor(body); got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %v, %v; want %v, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestAppendCursors(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string
		cursors  []Text
	}{
		"one": {
			` {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1, "cursor" : "\u0061" ,"_meta":{}}} `,
			` {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1, "cursor" : "x\"" ,"_meta":{}}} `,
			[]Text{{`x"`, true}},
		},
		"its name escaped": {
			`{"params":{"c\u0075rsor":"a"},"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
			`{"params":{"c\u0075rsor":""},"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
			[]Text{{"", true}},
		},
		"some of a batch": {
			`[{"jsonrpc":"2.0","id":1,"method":"m","params":{"cursor":"a"}}, {"jsonrpc":"2.0","id":2,"method":"m","params":{"cursor":"b"}} ,{"jsonrpc":"2.0","id":3,"method":"m"},{"jsonrpc":"2.0","id":4,"method":"m","params":{"cursor":"d"}}]`,
			`[{"jsonrpc":"2.0","id":1,"method":"m","params":{"cursor":"longer than a"}}, {"jsonrpc":"2.0","id":2,"method":"m","params":{"cursor":"b"}} ,{"jsonrpc":"2.0","id":3,"method":"m"},{"jsonrpc":"2.0","id":4,"method":"m","params":{"cursor":"D"}}]`,
			[]Text{{"longer than a", true}, {}, {}, {"D", true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := Read([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			got := AppendCursors(nil, []byte(tc.in), m, tc.cursors)
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			again, _, err := Read(got)
			if err != nil {
				t.Fatal(err)
			}
			for i, cursor := range tc.cursors {
				if cursor.Present && again[i].Params.Cursor != cursor {
					t.Errorf("message %d has the cursor %v, not %v", i, again[i].Params.Cursor, cursor)
				}
			}
		})
	}
}
