package jsonrpc

// List says which list a result holds, by the member that holds it.
type List uint8

// The lists that are filtered.
const (
	NoList List = iota
	// Tools is "tools", whose items are known by their name.
	Tools
	// Prompts is "prompts", by name.
	Prompts
	// Resources is "resources", by uri.
	Resources
	// ResourceTemplates is "resourceTemplates", by uriTemplate.
	ResourceTemplates
	// Contents is "contents" of resources/read, by uri: reading a directory
	// gives other resources than the one asked for.
	Contents
)

// Result is what decides in a response's result. Offsets count from the start of
// the body it was read from.
type Result struct {
	Present bool
	// Lists are the lists found, in the order they stand.
	Lists []Items
	// Asks are the methods of the requests that the result has for the client
	// (MCP 2026-07-28, multi round-trip requests).
	Asks []string
	// ProtocolVersion is what initialize negotiated.
	ProtocolVersion Text
	// cacheScope is the value's place, empty when absent; inside is the offset
	// just after the opening brace, where a member can be put, and empty is
	// whether the object has no member.
	cacheScope span
	inside     int
	empty      bool
	// nextCursor and instructions are those members, their places empty when absent.
	nextCursor, instructions member
}

// member is where a member of an object stands: its value, and the whole, from the
// end of the member before it or from the opening brace.
type member struct{ value, whole span }

// Items is one list of a result.
type Items struct {
	List  List
	Items []Item
	// whole is the array, brackets included.
	whole span
}

// Item is one entry of a list. Key is its name, uri or uriTemplate.
type Item struct {
	Key string
	at  span
}

type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }

var (
	resultNames = []string{
		"tools", "prompts", "resources", "resourceTemplates", "contents", "cacheScope", "protocolVersion",
		"inputRequests", "nextCursor", "instructions",
	}
	askNames       = []string{"method"}
	nameKey        = []string{"name"}
	uriKey         = []string{"uri"}
	uriTemplateKey = []string{"uriTemplate"}
)

// result reads a response's result. From a client it is carried as it is.
func (r *reader) result(result *Result) error {
	result.Present = true
	if !r.answers || r.dec.PeekKind() != '{' {
		_, err := r.value()
		return err
	}
	inside, err := r.token()
	if err != nil {
		return err
	}
	result.inside, result.empty = inside, true
	n := names{resultNames, len(r.names)}
	for {
		before := int(r.dec.InputOffset())
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		result.empty = false
		switch string(name) {
		case "tools":
			err = r.list(result, Tools, nameKey)
		case "prompts":
			err = r.list(result, Prompts, nameKey)
		case "resources":
			err = r.list(result, Resources, uriKey)
		case "resourceTemplates":
			err = r.list(result, ResourceTemplates, uriTemplateKey)
		case "contents":
			err = r.list(result, Contents, uriKey)
		case "inputRequests":
			err = r.asks(result)
		case "cacheScope":
			var v []byte
			v, err = r.value()
			end := int(r.dec.InputOffset())
			result.cacheScope = span{end - len(v), end}
		case "nextCursor":
			result.nextCursor, err = r.member(before)
		case "instructions":
			result.instructions, err = r.member(before)
		case "protocolVersion":
			if r.dec.PeekKind() == '"' {
				result.ProtocolVersion, err = r.text("protocolVersion")
			} else {
				_, err = r.value()
			}
		default:
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}

// member reads the value of a member that begins after an offset.
func (r *reader) member(before int) (member, error) {
	v, err := r.value()
	end := int(r.dec.InputOffset())
	return member{span{end - len(v), end}, span{before, end}}, err
}

// HasNextCursor reports whether the result has a nextCursor, of whatever type.
func (r *Result) HasNextCursor() bool { return r.nextCursor.value.to > 0 }

// HasInstructions reports whether the result has instructions, of whatever type.
func (r *Result) HasInstructions() bool { return r.instructions.value.to > 0 }

// asks reads the requests that a result has for the client, by names of the server's.
func (r *reader) asks(result *Result) error {
	ok, err := r.open('{', "inputRequests must be an object")
	if !ok || err != nil {
		return err
	}
	requests := names{nil, len(r.names)}
	for {
		_, ok, err := r.next(&requests)
		if err != nil || !ok {
			return err
		}
		if ok, err = r.open('{', "an input request must be an object"); err != nil {
			return err
		}
		if !ok {
			continue
		}
		var method Text
		for n := (names{askNames, len(r.names)}); ; {
			name, ok, err := r.next(&n)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if string(name) == "method" {
				method, err = r.text("method")
			} else {
				_, err = r.value()
			}
			if err != nil {
				return err
			}
		}
		if !method.Present {
			r.refuse(CodeInvalidParams, "input_request", "an input request has no method")
		}
		result.Asks = append(result.Asks, method.Value)
	}
}

// list reads an array of objects and the key of each. What is no such array
// cannot be filtered, so it is refused.
func (r *reader) list(result *Result, list List, key []string) error {
	ok, err := r.open('[', "a list must be an array")
	if !ok || err != nil {
		return err
	}
	items := Items{List: list}
	items.whole.from = int(r.dec.InputOffset()) - 1
	for r.dec.PeekKind() != ']' {
		ok, err := r.open('{', "a list's items must be objects")
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		item := Item{at: span{from: int(r.dec.InputOffset()) - 1}}
		var found Text
		n := names{key, len(r.names)}
		for {
			name, ok, err := r.next(&n)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if string(name) == key[0] {
				found, err = r.text(key[0])
			} else {
				_, err = r.value()
			}
			if err != nil {
				return err
			}
		}
		if !found.Present {
			r.refuse(CodeInvalidParams, "list_item", "a list's item has no "+key[0])
		}
		item.Key = found.Value
		item.at.to = int(r.dec.InputOffset())
		items.Items = append(items.Items, item)
	}
	if items.whole.to, err = r.token(); err != nil {
		return err
	}
	result.Lists = append(result.Lists, items)
	return nil
}
