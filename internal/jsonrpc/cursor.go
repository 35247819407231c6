package jsonrpc

import (
	"errors"
	"strings"
)

// ErrCursor is for a nextCursor with which no client could go on.
var ErrCursor = errors.New("the result's nextCursor is no text that a client could send")

// NextCursor is the nextCursor of a response that was read from body by ReadAnswer:
// where its list goes on. It is not Present when the member is absent or null, which
// some servers write at a list's end.
func (m *Message) NextCursor(body []byte) (Text, error) {
	v := m.Result.nextCursor.value.of(body)
	switch {
	case len(v) == 0 || string(v) == "null":
		return Text{}, nil
	case v[0] != '"':
		return Text{}, ErrCursor
	}
	b, err := unquote(v)
	if err != nil {
		return Text{}, err
	}
	text := string(b)
	if strings.IndexFunc(text, isControl) >= 0 {
		return Text{}, ErrCursor // Read refuses it
	}
	return Text{Value: text, Present: true}, nil
}

// AppendCursors appends the body that messages were read from by Read, the cursor of
// each replaced by the one of cursors in its place if that is Present. Such a message
// must have a cursor. Everything else keeps its bytes.
func AppendCursors(dst, body []byte, messages []Message, cursors []Text) []byte {
	at := 0
	for i, cursor := range cursors {
		if !cursor.Present {
			continue
		}
		place := messages[i].Params.cursorAt
		dst = append(dst, body[at:place.from]...)
		dst = appendString(dst, cursor.Value)
		at = place.to
	}
	return append(dst, body[at:]...)
}
