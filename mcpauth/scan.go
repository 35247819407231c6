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

// others are the members by which an answer must be read that may be the one to another
// request than its own: the lists, and what else of a result is not for everybody.
var others = []string{
	"tools", "prompts", "resources", "resourceTemplates", "contents", "tasks", "task",
	"instructions", "nextCursor", "inputRequests",
}

const (
	// maxName is the length in bytes of the longest of these names, of which some
	// letters can be longer in readers that fold them: s has two bytes then, k three.
	maxName = len("resourceTemplates") + 2
	// maxEscaped is how long one of them can be when all of it is escaped.
	maxEscaped = len("resourceTemplates") * len(`\u0000`)
)

// mayDecide reports whether something in a JSON text could be decided on: whether it
// can have a member named "method", in any letter case, or a "resultType" that is
// anything but "complete"; if it may be foreign, the answer to another request, also one of the others. It need
// not be read to know that it has not: a name stands between two quotes, as it is or with
// escapes, and there is none within. What is no UTF-8 text, and yet read by some, has a
// zero in it.
func mayDecide(text []byte, foreign bool) bool {
	if bytes.IndexByte(text, 0) >= 0 {
		return true
	}
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
			if foreign && isOther(text) {
				return true
			}
		case 't', 'p', 'c', 'i', 'n':
			if foreign && isOther(text) {
				return true
			}
		}
		if escapes && isEscaped(text, foreign) {
			return true
		}
	}
}

// isOther reports whether the text begins with one of the others in any letter case, and
// a quote.
func isOther(text []byte) bool {
	length := bytes.IndexByte(text[:min(len(text), maxName+1)], '"')
	return length > 0 && anyOther(text[:length])
}

func anyOther(name []byte) bool {
	for _, other := range others {
		// The fold of no letter is shorter than the letter.
		if len(name) >= len(other) && name[0]|0x20 == other[0] && bytes.EqualFold(name, []byte(other)) {
			return true
		}
	}
	return false
}

// begins reports whether the text begins with a name in any letter case, of that many
// bytes, and a quote.
func begins(text []byte, name string, length int) bool {
	return len(text) > length && text[length] == '"' && bytes.EqualFold(text[:length], []byte(name))
}

// isEscaped reports whether the text begins with one of the names, escaped, and a
// quote.
func isEscaped(text []byte, foreign bool) bool {
	length := bytes.IndexByte(text[:min(len(text), maxEscaped+1)], '"')
	if length < 0 || !bytes.Contains(text[:length], []byte(`\u`)) {
		return false
	}
	name, err := jsontext.AppendUnquote(nil, `"`+string(text[:length])+`"`)
	return err != nil || bytes.EqualFold(name, []byte(memberMethod)) || bytes.EqualFold(name, []byte(memberType)) ||
		foreign && len(name) > 0 && anyOther(name)
}

// isOrdinary reports whether what follows a name is the ordinary value.
func isOrdinary(text []byte) bool {
	const space = " \t\r\n"
	text, ok := bytes.CutPrefix(bytes.TrimLeft(text, space), []byte{':'})
	return ok && bytes.HasPrefix(bytes.TrimLeft(text, space), []byte(ordinary))
}
