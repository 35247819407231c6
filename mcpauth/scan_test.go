package mcpauth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzMayDecide: whatever any reader could take for a member named "method", or for a
// "resultType" that is not the ordinary one, must not be overlooked.
func FuzzMayDecide(f *testing.F) {
	for _, seed := range []string{
		`{"method":"ping"}`, `{"m\u0065thod":"ping"}`, `{"\u006d\u0065\u0074\u0068\u006F\u0064":1}`,
		`[{"id":1,"result":{}},{"metho\u0064":1}]`, `{"result":{"content":"\"method\""}}`, `{"a":"\u0061"}`, `{"METHOD":1}`,
		`{"resultType":"task"}`, `{"resultType" :` + "\n" + `"complete"}`, `{"resultType":"complete","result\u0054ype":7}`,
		`{"resultType":"complete","re\u017fultType":"task"}`, `{"reſulttype":"complete"}`, `{"resultType":"complet\u0065"}`, `{"\\":"\"","method":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var value any
		if json.Unmarshal(text, &value) == nil && decides(value) && !mayDecide(text) {
			t.Errorf("overlooked in %s", text)
		}
	})
}

func decides(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if strings.EqualFold(name, "method") || strings.EqualFold(name, "resultType") && inner != "complete" || decides(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, decides)
	}
	return false
}

func TestMayDecideSpares(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"the \"method\" of \u00e9t\u00e9"}]}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"methods":[],"m\u0065thods":1}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType" : "complete","content":[],"_meta":{"x":"resultTypes"}}}`,
		`{}`, ``, `"`, `{"a`,
	} {
		if mayDecide([]byte(text)) {
			t.Errorf("%s is read for nothing", text)
		}
		if n := testing.AllocsPerRun(100, func() { mayDecide([]byte(text)) }); strings.Contains(text, "complete") && n > 1 { // the copy
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

func BenchmarkMayDecide(b *testing.B) {
	for name, text := range map[string]string{
		"small": `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"ok"}],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"a","version":"1"}}}}`,
		"rows":  `{"resultType":"complete","rows":[` + strings.TrimSuffix(strings.Repeat(`{"id":1,"name":"some value"},`, 3000), ",") + `]}`,
		"text":  fmt.Sprintf(`{"resultType":"complete","content":[{"type":"text","text":%q}]}`, strings.Repeat("x", 100_000)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			text := []byte(text)
			for b.Loop() {
				if mayDecide(text) {
					b.Fatal("read for nothing")
				}
			}
		})
	}
}
