package jsonrpc

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// The codes of JSON-RPC 2.0 section 5.1.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Error is why a body was refused. Code is the JSON-RPC code to answer with;
// Reason is a stable word for the cause and Detail says it to a person, neither
// with anything the sender wrote; ID is the request's id when it was read before
// the fault.
type Error struct {
	Code   int
	Reason string
	Detail string
	ID     ID
}

func (e *Error) Error() string { return e.Reason + ": " + e.Detail }

// AppendError appends a JSON-RPC error response. An empty id leaves the member
// out, as MCP asks of an error that answers no request. data holds the members of
// error.data in turn, name and value; a value of type ID is written as it stands,
// []string as an array.
func AppendError(dst []byte, id ID, code int, message string, data ...any) []byte {
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if id != "" {
		dst = append(dst, `"id":`...)
		dst = append(dst, id...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	for i := 0; i+1 < len(data); i += 2 {
		if i == 0 {
			dst = append(dst, `,"data":{`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(dst, data[i].(string))
		dst = append(dst, ':')
		switch v := data[i+1].(type) {
		case string:
			dst = appendString(dst, v)
		case ID:
			dst = append(dst, v...)
		case []string:
			dst = appendStrings(dst, v)
		}
	}
	if len(data) > 1 {
		dst = append(dst, '}')
	}
	return append(dst, `}}`...)
}

// appendString quotes s; bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

func appendStrings(dst []byte, all []string) []byte {
	dst = append(dst, '[')
	for i, s := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}
