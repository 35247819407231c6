package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/go-json-experiment/json/jsontext"
)

// The same value has the same text in every language: ASCII, members sorted, and a number
// as the bits of its nearest double. See canonical in integration/node/frames.mjs.

// canonicalText is that of a JSON text, read as the gateway reads.
func canonicalText(text []byte) string {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	s, err := canonicalNext(d)
	if err != nil {
		return "invalid: " + err.Error()
	}
	return s
}

func canonicalNext(d *jsontext.Decoder) (string, error) {
	token, err := d.ReadToken()
	if err != nil {
		return "", err
	}
	switch token.Kind() {
	case '"':
		return canonicalString(token.String()), nil
	case '0':
		return canonicalNumber(token.String()), nil
	case '{', '[':
		var parts []string
		isObject := token.Kind() == '{'
		for k := d.PeekKind(); k != '}' && k != ']'; k = d.PeekKind() {
			part, err := canonicalNext(d)
			if err != nil {
				return "", err
			}
			if isObject {
				value, err := canonicalNext(d)
				if err != nil {
					return "", err
				}
				part += ":" + value
			}
			parts = append(parts, part)
		}
		if _, err := d.ReadToken(); err != nil {
			return "", err
		}
		if isObject {
			slices.Sort(parts)
			return "{" + strings.Join(parts, ",") + "}", nil
		}
		return "[" + strings.Join(parts, ",") + "]", nil
	default:
		return token.String(), nil
	}
}

// canonicalValue is that of what encoding/json has read with UseNumber.
func canonicalValue(value any) string {
	switch value := value.(type) {
	case string:
		return canonicalString(value)
	case json.Number:
		return canonicalNumber(string(value))
	case []any:
		parts := make([]string, len(value))
		for i, v := range value {
			parts[i] = canonicalValue(v)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		parts := make([]string, 0, len(value))
		for name, v := range value {
			parts = append(parts, canonicalString(name)+":"+canonicalValue(v))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ",") + "}"
	case nil:
		return "null"
	}
	return fmt.Sprint(value)
}

// canonicalJSON is that of a JSON text, read by encoding/json.
func canonicalJSON(text []byte) string {
	var value any
	if err := unmarshal(text, &value); err != nil {
		return "invalid: " + err.Error()
	}
	return canonicalValue(value)
}

func canonicalNumber(text string) string {
	f, _ := strconv.ParseFloat(text, 64) // infinite if it is out of range
	return fmt.Sprintf("#%016x", math.Float64bits(f+0))
}

func canonicalString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		if i := strings.IndexRune("\"\\\b\f\n\r\t", c); i >= 0 {
			b.WriteByte('\\')
			b.WriteByte(`"\bfnrt`[i])
		} else if c >= 0x20 && c < 0x7f {
			b.WriteByte(byte(c))
		} else {
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unmarshal is encoding/json with numbers as they are written.
func unmarshal(text []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(value)
}
