package expect

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// value is something in YAML that stands for JSON: claims, or arguments.
type value struct {
	text jsontext.Value
	// decoded is as a token's claims are decoded.
	decoded any
}

// maxNodes bounds what aliases can make of a small file.
const maxNodes = 100_000

// UnmarshalYAML reads what has a meaning in JSON, and refuses the rest.
func (v *value) UnmarshalYAML(node *yaml.Node) error {
	count := 0
	text, err := appendJSON(nil, node, &count)
	if err != nil {
		return err
	}
	v.text = text
	return json.Unmarshal(text, &v.decoded)
}

func wrong(node *yaml.Node, problem string) error {
	return fmt.Errorf("line %d: %s", node.Line, problem)
}

func appendJSON(dst []byte, node *yaml.Node, count *int) ([]byte, error) {
	if *count++; *count > maxNodes {
		return nil, wrong(node, "this is too large")
	}
	switch node.Kind {
	case yaml.AliasNode:
		return appendJSON(dst, node.Alias, count)
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for n, element := range node.Content {
			if n > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendJSON(dst, element, count); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case yaml.MappingNode:
		return appendObject(dst, node, count)
	case yaml.ScalarNode:
		return appendScalar(dst, node)
	default:
		return nil, wrong(node, "this is not a value")
	}
}

func appendObject(dst []byte, node *yaml.Node, count *int) ([]byte, error) {
	dst = append(dst, '{')
	seen := make(map[string]bool)
	for n := 0; n+1 < len(node.Content); n += 2 {
		key := node.Content[n]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, wrong(key, "a name must be text")
		}
		if seen[key.Value] {
			return nil, wrong(key, fmt.Sprintf("%q is there twice", key.Value))
		}
		seen[key.Value] = true
		if n > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = jsontext.AppendQuote(dst, key.Value); err != nil {
			return nil, wrong(key, "this is not valid UTF-8")
		}
		if dst, err = appendJSON(append(dst, ':'), node.Content[n+1], count); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendScalar(dst []byte, node *yaml.Node) ([]byte, error) {
	var decoded any
	switch node.ShortTag() {
	case "!!null":
		return append(dst, "null"...), nil
	case "!!int", "!!float":
		// As it is written, where JSON writes it like that, too.
		if number := jsontext.Value(node.Value); number.Kind() == '0' && number.IsValid() {
			return append(dst, number...), nil
		}
		fallthrough
	case "!!bool":
		if err := node.Decode(&decoded); err != nil {
			return nil, err
		}
		text, err := json.Marshal(decoded)
		if err != nil {
			return nil, wrong(node, "JSON has no such number")
		}
		return append(dst, text...), nil
	case "!!str", "!!timestamp":
		dst, err := jsontext.AppendQuote(dst, node.Value)
		if err != nil {
			err = errors.Join(wrong(node, "this is not valid UTF-8"), err)
		}
		return dst, err
	}
	return nil, wrong(node, "JSON has nothing like "+node.Tag)
}

// Interface guard
var _ yaml.Unmarshaler = (*value)(nil)
