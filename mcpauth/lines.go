package mcpauth

import "bytes"

// separators are the characters of UTF-8 that end a line for some clients and not in the
// standard (WHATWG HTML section 9.2.6): Python's str.splitlines takes them for line
// ends, and with it httpx-sse up to 0.4.0, on which the Python SDK builds. The last
// three may stand in JSON, in a string.
var separators = [][]byte{{'\v'}, {'\f'}, {0x1c}, {0x1d}, {0x1e}, []byte("\u0085"), []byte("\u2028"), []byte("\u2029")}

// separates reports whether a part of an event stream has a line end for some clients
// that it has not for others.
func separates(raw []byte) bool {
	for _, s := range separators {
		if bytes.Contains(raw, s) {
			return true
		}
	}
	return false
}

// joined writes those of the separators that may stand in JSON as escapes.
func joined(text []byte) []byte {
	for separator, escaped := range map[string]string{"\u0085": `\u0085`, "\u2028": `\u2028`, "\u2029": `\u2029`} {
		text = bytes.ReplaceAll(text, []byte(separator), []byte(escaped))
	}
	return text
}
