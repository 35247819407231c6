package mcpauth

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzMayDecide: whatever any reader could take for a member named "method", or for a
// "resultType" that is not the ordinary one, must not be overlooked, and in an answer that
// may be foreign nothing that could be hidden.
func FuzzMayDecide(f *testing.F) {
	for _, seed := range []string{
		`{"method":"ping"}`, `{"m\u0065thod":"ping"}`, `{"\u006d\u0065\u0074\u0068\u006F\u0064":1}`,
		`[{"id":1,"result":{}},{"metho\u0064":1}]`, `{"result":{"content":"\"method\""}}`, `{"a":"\u0061"}`, `{"METHOD":1}`,
		`{"resultType":"task"}`, `{"resultType" :` + "\n" + `"complete"}`, `{"resultType":"complete","result\u0054ype":7}`,
		`{"resultType":"complete","re\u017fultType":"task"}`, `{"reſulttype":"complete"}`, `{"resultType":"complet\u0065"}`, `{"\\":"\"","method":1}`,
		`{"result":{"tools":[]}}`, `{"PROMPTS":1}`, `{"r\u0065sources":[]}`, `{"re\u017fourceTemplate\u017f":[]}`, `{"ta\u017f\u212a\u017f":[]}`,
		`{"taſKſ":[]}`, `[{"result":{"contents":[]}}]`, `{"instructionſ":""}`, `{"nextcursor":null,"task":{}}`, `{"inputRequests":{}}`,
		`{"reſourceTemplateſ":[]}`, `{"\u0072\u0065\u0073\u006f\u0075\u0072\u0063\u0065\u0054\u0065\u006d\u0070\u006c\u0061\u0074\u0065\u0073":[]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var value any
		if json.Unmarshal(text, &value) != nil {
			return
		}
		if decides(value, nil) && !mayDecide(text, false) {
			t.Errorf("overlooked in %s", text)
		}
		if decides(value, others) && !mayDecide(text, true) {
			t.Errorf("overlooked in %s, which may be foreign", text)
		}
	})
}

func decides(value any, others []string) bool {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if strings.EqualFold(name, "method") || strings.EqualFold(name, "resultType") && inner != "complete" || decides(inner, others) ||
				slices.ContainsFunc(others, func(other string) bool { return strings.EqualFold(name, other) }) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, func(inner any) bool { return decides(inner, others) })
	}
	return false
}

// TestMayDecideOtherEncodings: what is written in an encoding that some readers find out by
// themselves is not looked at in vain.
func TestMayDecideOtherEncodings(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
		var sixteen, thirtytwo []byte
		for _, r := range `{"method":"ping"}` {
			sixteen, thirtytwo = order.AppendUint16(sixteen, uint16(r)), order.AppendUint32(thirtytwo, uint32(r)) //nolint:gosec // ASCII
		}
		if !mayDecide(sixteen, false) || !mayDecide(thirtytwo, false) {
			t.Errorf("overlooked in %s UTF-16 or UTF-32", order)
		}
	}
}

func TestMayDecideSpares(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"the \"method\" of \u00e9t\u00e9"}]}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"methods":[],"m\u0065thods":1}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType" : "complete","content":[],"_meta":{"x":"resultTypes"}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"resource","resource":{"uri":"a:b","text":"tool","name":"prompt"}}],"structuredContent":{"total":1,"t\u006ftal":2,"number":3},"isError":false}}`,
		`{}`, ``, `"`, `{"a`, `{"tools`,
	} {
		for _, foreign := range []bool{false, true} {
			if mayDecide([]byte(text), foreign) {
				t.Errorf("%s is read for nothing, foreign: %v", text, foreign)
			}
			if n := testing.AllocsPerRun(100, func() { mayDecide([]byte(text), foreign) }); strings.Contains(text, "complete") && n > 1 { // the copy
				t.Errorf("%s: %v allocations", text, n)
			}
		}
	}
}

func BenchmarkMayDecide(b *testing.B) {
	for name, text := range map[string]string{
		"small": `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"ok"}],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"a","version":"1"}}}}`,
		"rows":  `{"resultType":"complete","rows":[` + strings.TrimSuffix(strings.Repeat(`{"id":1,"name":"some value"},`, 3000), ",") + `]}`,
		"text":  fmt.Sprintf(`{"resultType":"complete","content":[{"type":"text","text":%q}]}`, strings.Repeat("x", 100_000)),
	} {
		for _, foreign := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/foreign=%v", name, foreign), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(text)))
				text := []byte(text)
				for b.Loop() {
					if mayDecide(text, foreign) {
						b.Fatal("read for nothing")
					}
				}
			})
		}
	}
}
