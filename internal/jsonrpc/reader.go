package jsonrpc

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// reader walks one body. jsontext gives the grammar, UTF-8, and unique names;
// the rest of what the package promises is added here.
//
// There are two sorts of trouble. What is not JSON ends the walk at once: the
// methods return it. What is JSON and yet refused is a fault: the first is kept
// and the walk goes on, so that the answer can name the request's id wherever in
// the message it stands.
type reader struct {
	dec  jsontext.Decoder
	buf  bytes.Buffer
	body []byte
	// names are the names read in the objects that decide and are not at their end.
	names [][]byte
	// answers is whether results are read too.
	answers bool
	fault   *Error
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func newReader(body []byte, answers bool) *reader {
	r := readers.Get().(*reader)
	r.buf = *bytes.NewBuffer(body)
	r.body, r.answers, r.fault = body, answers, nil
	r.dec.Reset(&r.buf)
	return r
}

// release gives the reader back, holding on to nothing of the body.
func (r *reader) release() {
	r.buf, r.body, r.fault = bytes.Buffer{}, nil, nil
	clear(r.names[:cap(r.names)])
	r.names = r.names[:0]
	r.dec.Reset(&r.buf)
	readers.Put(r)
}

// refuse notes a fault.
func (r *reader) refuse(code int, reason, detail string) {
	if r.fault == nil {
		r.fault = &Error{Code: code, Reason: reason, Detail: detail}
	}
}

// syntax is the error for what jsontext refused.
func (r *reader) syntax(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &Error{Code: CodeInvalidRequest, Reason: "json_duplicate_name", Detail: "an object has the same member twice"}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Code: CodeParse, Reason: "json_truncated", Detail: "the body ends before the message does"}
	}
	return &Error{Code: CodeParse, Reason: "json_syntax", Detail: "the body is not one valid JSON value in UTF-8"}
}

// value reads the next value whole and returns its bytes in the body.
func (r *reader) value() ([]byte, error) {
	v, err := r.dec.ReadValue()
	if err != nil {
		return nil, r.syntax(err)
	}
	end := int(r.dec.InputOffset())
	return r.body[end-len(v) : end : end], nil
}

// ahead is the offset at which the value begins whose name was just read.
func (r *reader) ahead() int {
	at := int(r.dec.InputOffset())
	for at < len(r.body) && strings.IndexByte(": \t\r\n", r.body[at]) >= 0 {
		at++
	}
	return at
}

// token reads the token that begins or ends an object or array and returns the
// offset just after it.
func (r *reader) token() (int, error) {
	if _, err := r.dec.ReadToken(); err != nil {
		return 0, r.syntax(err)
	}
	return int(r.dec.InputOffset()), nil
}

// open begins an object or array. If something else stands there it is read over,
// noted as a fault, and ok is false.
func (r *reader) open(kind jsontext.Kind, detail string) (ok bool, err error) {
	if r.dec.PeekKind() == kind {
		_, err = r.token()
		return true, err
	}
	if _, err = r.value(); err == nil {
		r.refuse(CodeInvalidParams, "member_type", detail)
	}
	return false, err
}

// text reads a string that decides something: it must be one, and hold no
// control character.
func (r *reader) text(name string) (Text, error) {
	isString := r.dec.PeekKind() == '"'
	v, err := r.value()
	if err != nil {
		return Text{}, err
	}
	if !isString {
		r.refuse(CodeInvalidParams, "member_type", name+" must be a string")
		return Text{}, nil
	}
	b, err := unquote(v)
	if err != nil {
		return Text{}, r.syntax(err)
	}
	s := string(b)
	if strings.IndexFunc(s, isControl) >= 0 {
		r.refuse(CodeInvalidParams, "control_character", name+" holds a control character")
	}
	return Text{Value: s, Present: true}, nil
}

// texts reads an array of strings as text does.
func (r *reader) texts(name string) ([]string, error) {
	all := []string{}
	if ok, err := r.open('[', name+" must be an array of strings"); !ok || err != nil {
		return nil, err
	}
	for r.dec.PeekKind() != ']' {
		t, err := r.text(name)
		if err != nil {
			return nil, err
		}
		all = append(all, t.Value)
	}
	_, err := r.token()
	return all, err
}

// flag reads a boolean.
func (r *reader) flag(name string) (bool, error) {
	v, err := r.value()
	if err != nil {
		return false, err
	}
	if v[0] != 't' && v[0] != 'f' {
		r.refuse(CodeInvalidParams, "member_type", name+" must be a boolean")
	}
	return v[0] == 't', nil
}

// identifier reads a request id: a string or a number, kept as it is written.
func (r *reader) identifier() (ID, error) {
	k := r.dec.PeekKind()
	v, err := r.value()
	if err != nil {
		return "", err
	}
	if k != '"' && k != '0' {
		r.refuse(CodeInvalidRequest, "id_type", "an id must be a string or a number")
		return "", nil
	}
	if len(v) > MaxID {
		r.refuse(CodeInvalidRequest, "id_too_long", "the id is too long")
		return "", nil
	}
	return ID(v), nil
}

// names is about one object that decides: by which names it does, and from where in
// the reader's names those stand that were read so far.
type names struct {
	deciding []string
	from     int
}

// next reads the next member's name, or the end of the object and ok=false.
func (r *reader) next(n *names) (name []byte, ok bool, err error) {
	if r.dec.PeekKind() == '}' {
		r.names = r.names[:n.from]
		_, err = r.token()
		return nil, false, err
	}
	v, err := r.value()
	if err != nil {
		return nil, false, err
	}
	if name, err = unquote(v); err != nil {
		return nil, false, r.syntax(err)
	}
	for _, d := range n.deciding {
		if len(name) >= len(d) && string(name) != d && bytes.EqualFold(name, []byte(d)) {
			r.refuse(CodeInvalidRequest, "json_case_variant", "a member differs only in case from "+d)
		}
	}
	seen := r.names[n.from:]
	if len(seen) == MaxMembers {
		r.refuse(CodeInvalidRequest, "json_members", "an object has too many members")
		return name, true, nil
	}
	for _, s := range seen {
		if bytes.EqualFold(s, name) {
			r.refuse(CodeInvalidRequest, "json_case_variant", "two members of an object differ only in case")
		}
	}
	r.names = append(r.names, name)
	return name, true, nil
}

// end makes sure that nothing but white space follows.
func (r *reader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &Error{Code: CodeParse, Reason: "json_trailing", Detail: "the body goes on after the message"}
	}
	return nil
}

// unquote decodes a JSON string; without escapes the result aliases it.
func unquote(v []byte) ([]byte, error) {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	return jsontext.AppendUnquote(nil, v)
}

func isControl(c rune) bool { return c < 0x20 || c == 0x7f }

// tooDeep reports whether a valid JSON text nests more than MaxDepth deep. It
// counts brackets outside strings, which is exact for a text that has been read.
func tooDeep(text []byte) bool {
	if len(text) <= MaxDepth {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
