package mcpauth

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// narrow rewrites a listed tool whose arguments the principal may not choose freely:
// its input schema then names the values that are allowed, so that a model does not
// propose what would be refused. Everything else of the tool stays as it is.
func (c *Call) narrowTool(list jsonrpc.List, name string, tool []byte) []byte {
	if list != jsonrpc.Tools {
		return tool
	}
	constraints, ok := c.Principal.policy.Narrow(c.Principal.set, c.Server, name)
	if !ok {
		return tool
	}
	return rewrite(tool, "inputSchema", func(schema []byte) []byte {
		return rewrite(schema, "properties", func(properties []byte) []byte {
			for argument, constraint := range constraints {
				properties = rewrite(properties, argument, func(property []byte) []byte {
					return restrict(property, constraint)
				})
			}
			return properties
		})
	})
}

// rewrite replaces the value of one member of a JSON object, if it has it and the
// value is an object.
func rewrite(object []byte, name string, f func([]byte) []byte) []byte {
	return edit(object, func(member string, value []byte) ([]byte, bool) {
		if member == name && value[0] == '{' {
			value = f(value)
		}
		return value, true
	}, nil)
}

// restrict sets the values that a property's schema allows, fewer if it allows fewer
// already (JSON Schema 2020-12, validation, enum and const).
func restrict(property []byte, constraint policy.Constraint) []byte {
	values := make([]jsontext.Value, 0, len(constraint.Values))
	for _, value := range constraint.Values {
		text, err := json.Marshal(value)
		if err != nil {
			return property
		}
		values = append(values, text)
	}
	without := edit(property, func(member string, value []byte) ([]byte, bool) {
		var given []jsontext.Value
		switch member {
		case "enum":
			if json.Unmarshal(value, &given) != nil {
				return value, true
			}
		case "const":
			given = []jsontext.Value{value}
		default:
			return value, true
		}
		values = slices.DeleteFunc(values, func(v jsontext.Value) bool { return !slices.ContainsFunc(given, sameAs(v)) })
		return nil, false
	}, nil)
	if len(values) == 1 {
		return edit(without, nil, func(dst []byte) []byte { return append(append(dst, `"const":`...), values[0]...) })
	}
	return edit(without, nil, func(dst []byte) []byte {
		list, _ := json.Marshal(values)
		return append(append(dst, `"enum":`...), list...)
	})
}

func sameAs(a jsontext.Value) func(jsontext.Value) bool {
	return func(b jsontext.Value) bool {
		b = b.Clone()
		return b.Canonicalize() == nil && string(b) == string(a)
	}
}

// edit writes an object anew, in its order: keep says what becomes of each member,
// nil keeps all, and last adds a member at the end. What is no object stays as it is.
func edit(object []byte, keep func(name string, value []byte) ([]byte, bool), last func(dst []byte) []byte) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return object
	}
	out := []byte{'{'}
	separate := func() {
		if len(out) > 1 {
			out = append(out, ',')
		}
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return object
		}
		name = name.Clone()
		value, err := d.ReadValue()
		if err != nil {
			return object
		}
		kept, ok := []byte(value), true
		if keep != nil {
			plain, err := jsontext.AppendUnquote(nil, name)
			if err != nil {
				return object
			}
			kept, ok = keep(string(plain), value)
		}
		if ok {
			separate()
			out = append(append(append(out, name...), ':'), kept...)
		}
	}
	if last != nil {
		separate()
		out = last(out)
	}
	return append(out, '}')
}
