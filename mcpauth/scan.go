package mcpauth

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// The members by which an answer must be read: it could hold a request or
// notification, or a result of another kind than the ordinary.
const (
	memberMethod = "method"
	memberType   = "resultType"
	ordinary     = `"complete"`
)

// maxEscaped is how long one of these names can be when all of it is escaped.
const maxEscaped = len(memberType) * len(`\u0000`)

// mayDecide reports whether something in a JSON text could be decided on: whether it
// can have a member named "method", in any letter case, or a "resultType" that is
// anything but "complete". It need not be read to know that it has not: a name stands
// between two quotes, as it is or with escapes, and there is none within.
func mayDecide(text []byte) bool {
	escapes := bytes.Contains(text, []byte(`\u`))
	for {
		quote := bytes.IndexByte(text, '"')
		if quote < 0 || len(text) < quote+2 {
			return false
		}
		text = text[quote+1:]
		switch text[0] | 0x20 { // letters in lower case
		case 'm':
			if begins(text, memberMethod, len(memberMethod)) {
				return true
			}
		case 'r':
			// Some readers fold the long s, which is two bytes.
			if begins(text, memberType, len(memberType)) && (!bytes.HasPrefix(text, []byte(memberType)) || !isOrdinary(text[len(memberType)+1:])) ||
				begins(text, memberType, len(memberType)+1) {
				return true
			}
		}
		if escapes && isEscaped(text) {
			return true
		}
	}
}

// begins reports whether the text begins with a name in any letter case, of that many
// bytes, and a quote.
func begins(text []byte, name string, length int) bool {
	return len(text) > length && text[length] == '"' && bytes.EqualFold(text[:length], []byte(name))
}

// isEscaped reports whether the text begins with one of the names, escaped, and a
// quote.
func isEscaped(text []byte) bool {
	length := bytes.IndexByte(text[:min(len(text), maxEscaped+1)], '"')
	if length < 0 || !bytes.Contains(text[:length], []byte(`\u`)) {
		return false
	}
	name, err := jsontext.AppendUnquote(nil, `"`+string(text[:length])+`"`)
	return err != nil || bytes.EqualFold(name, []byte(memberMethod)) || bytes.EqualFold(name, []byte(memberType))
}

// isOrdinary reports whether what follows a name is the ordinary value.
func isOrdinary(text []byte) bool {
	const space = " \t\r\n"
	text, ok := bytes.CutPrefix(bytes.TrimLeft(text, space), []byte{':'})
	return ok && bytes.HasPrefix(bytes.TrimLeft(text, space), []byte(ordinary))
}
