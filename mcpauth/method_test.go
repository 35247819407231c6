package mcpauth

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzMayHoldMethod: whatever any reader could take for a member named "method" must
// not be overlooked.
func FuzzMayHoldMethod(f *testing.F) {
	for _, seed := range []string{
		`{"method":"ping"}`, `{"m\u0065thod":"ping"}`, `{"\u006d\u0065\u0074\u0068\u006F\u0064":1}`,
		`[{"id":1,"result":{}},{"metho\u0064":1}]`, `{"result":{"content":"\"method\""}}`, `{"a":"\u0061"}`, `{"METHOD":1}`, `{"id":1,"Meth\u004fd":1}`, `{"a":"d","id":"","methoD":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var value any
		if json.Unmarshal(text, &value) == nil && hasMethod(value) && !mayHoldMethod(text) {
			t.Errorf("overlooked in %s", text)
		}
	})
}

func hasMethod(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if strings.EqualFold(name, "method") || hasMethod(inner) {
				return true
			}
		}
	case []any:
		if slices.ContainsFunc(value, hasMethod) {
			return true
		}
	}
	return false
}

func TestMayHoldMethodSpares(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"the \"method\" of \u00e9t\u00e9"}]}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"methods":[]}}`,
	} {
		if mayHoldMethod([]byte(text)) {
			t.Errorf("%s is read for nothing", text)
		}
	}
}
