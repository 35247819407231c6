package mcp

import (
	"encoding/base64"
	"strings"
)

// The headers of the Streamable HTTP transport, in the canonical form of
// net/http. The specification's spelling is MCP-Protocol-Version and, since
// 2025-11-25, MCP-Session-Id; names compare without case.
const (
	HeaderProtocolVersion = "Mcp-Protocol-Version"
	HeaderSessionID       = "Mcp-Session-Id"
	HeaderMethod          = "Mcp-Method"
	HeaderName            = "Mcp-Name"
	HeaderLastEventID     = "Last-Event-Id"
	// HeaderParamPrefix begins the headers that mirror a tool's arguments.
	HeaderParamPrefix = "Mcp-Param-"
)

// MirroredName returns the member of params that Mcp-Name mirrors for a method
// (2026-07-28, standard headers; tasks extension, routing headers): "name", "uri",
// "taskId", or none.
func MirroredName(method string) string {
	switch method {
	case "tools/call", "prompts/get":
		return "name"
	case "resources/read":
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId"
	}
	return ""
}

const (
	sentinelPrefix = "=?base64?"
	sentinelSuffix = "?="
)

// DecodeHeader decodes the value of Mcp-Name or Mcp-Param-* (2026-07-28, value
// encoding): text between the markers is standard padded Base64 of UTF-8, anything
// else is literal. It is false when markers surround what is not canonical Base64.
func DecodeHeader(value string) (string, bool) {
	inner, ok := strings.CutPrefix(value, sentinelPrefix)
	if !ok {
		return value, true
	}
	if inner, ok = strings.CutSuffix(inner, sentinelSuffix); !ok {
		return value, true
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil || strings.ContainsAny(inner, "\r\n") {
		return "", false
	}
	return string(decoded), true
}

// EncodeHeader is the inverse: the plain form wherever that is legal, because
// some servers do not decode the other.
func EncodeHeader(text string) string {
	if !plain(text) {
		return sentinelPrefix + base64.StdEncoding.EncodeToString([]byte(text)) + sentinelSuffix
	}
	return text
}

// plain reports whether text may stand in a header as it is.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c > 0x7e {
			return false
		}
	}
	if text != strings.Trim(text, " ") {
		return false
	}
	return !strings.HasPrefix(text, sentinelPrefix) || !strings.HasSuffix(text, sentinelSuffix)
}
