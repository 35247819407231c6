// Package jsonrpc turns the bytes of an MCP message into a Message, strictly, and
// a Message back into bytes. It is the only JSON reader on the request path: what
// policy judges is what it read, and what is forwarded is the very bytes it read.
//
// A body that two readers could understand differently is refused. Beside what
// JSON itself demands (RFC 8259: UTF-8, one value), names must be unique in every
// object, and unique under case folding in every object that decides something:
// the message, its params, and within them _meta, ref and notifications. A name
// that differs only in case from one that decides is refused as well, because a
// reader that folds case would take it (Go's encoding/json does).
package jsonrpc

import (
	"math"
	"strconv"
	"strings"
)

// Limits of what Read accepts. They bound time and memory beyond the size of the
// body, which the caller limits.
const (
	// MaxDepth is how deeply objects and arrays may nest, the message's own
	// object included.
	MaxDepth = 256
	// MaxBatch is how many messages a batch may hold.
	MaxBatch = 100
	// MaxMembers is how many members an object that decides may have.
	MaxMembers = 100
	// MaxID is the length in bytes of a request id's JSON text.
	MaxID = 512
)

// Kind says what a message is.
type Kind uint8

const (
	// Request expects an answer: it has a method and an id.
	Request Kind = iota + 1
	// Notification has a method and no id.
	Notification
	// Response has an id and a result or an error.
	Response
)

// ID is the JSON text of a message's id, exactly as written: "1" and 1 are
// different ids, and so are 1 and 1.0. It is empty when there is none.
type ID string

// Key is the same for ids that some reader takes for the same one: texts that are
// escaped differently, and numbers that a reader with floating point rounds to the
// same value. It is not JSON. The ordinary id is its own key.
func (id ID) Key() string {
	text := string(id)
	switch {
	case text == "":
		return ""
	case text[0] == '"':
		if strings.IndexByte(text, '\\') < 0 {
			return text[:len(text)-1]
		}
		if decoded, err := unquote([]byte(text)); err == nil {
			return `"` + string(decoded)
		}
	case isSmallInteger(text):
	default:
		if f, err := strconv.ParseFloat(text, 64); err == nil || math.IsInf(f, 0) {
			return strconv.FormatFloat(f+0, 'f', -1, 64) // +0: there is no other zero
		}
	}
	return text
}

// isSmallInteger reports whether a number is written in the one way that FormatFloat
// would write it.
func isSmallInteger(text string) bool {
	if len(text) > 15 || text[0] == '0' && len(text) > 1 {
		return false
	}
	return strings.Trim(text, "0123456789") == ""
}

// Message is one JSON-RPC 2.0 message (MCP revisions 2025-03-26 to 2026-07-28).
type Message struct {
	Kind   Kind
	ID     ID
	Method string
	Params Params
	// Result is what a response read by ReadAnswer answers with.
	Result Result
	// Failed is whether a response is an error.
	Failed bool
	// Raw is the message's bytes within the body it was read from.
	Raw []byte
	// offset is where in that body Raw begins.
	offset int
}

// Text is a string member that may be absent. Value is the decoded text.
type Text struct {
	Value   string
	Present bool
}

// Params holds the members of a message's params that decide something, for any
// method. What is not named here is in Message.Raw and is carried untouched.
type Params struct {
	Present bool

	Name            Text // tools/call, prompts/get
	URI             Text // resources/*, notifications/resources/updated
	Cursor          Text // every list
	TaskID          Text // tasks/*
	ProtocolVersion Text // initialize
	// RequestID is the JSON text of the request that notifications/cancelled
	// names.
	RequestID ID
	// Task is whether the call asks to be run as a task (MCP 2025-11-25).
	Task bool
	// Arguments is the JSON text of the arguments' object, nil when absent.
	Arguments []byte

	Ref           Ref
	Meta          Meta
	Notifications Notifications
	// cursorAt is the cursor's place.
	cursorAt span
}

// Ref is what completion/complete completes for.
type Ref struct {
	Present         bool
	Type, Name, URI Text
}

// Meta is the _meta of a request, as far as MCP 2026-07-28 section "per-request
// metadata" decides by it.
type Meta struct {
	Present         bool
	ProtocolVersion Text
	// ClientCapabilities is whether the member is there and is an object.
	ClientCapabilities bool
}

// Notifications is the filter of subscriptions/listen (MCP 2026-07-28).
type Notifications struct {
	Present                                                    bool
	ToolsListChanged, PromptsListChanged, ResourcesListChanged bool
	ResourceSubscriptions                                      []string
	TaskIDs                                                    []string
	// Unknown is whether the filter has a member that is none of these.
	Unknown bool
	// at is the object's place, from the end of the name before it.
	at span
}
