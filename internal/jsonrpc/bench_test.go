package jsonrpc

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 100 << 10} {
		body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query_orders","arguments":{"region":"eu","rows":[` +
			strings.TrimSuffix(strings.Repeat(`{"id":1,"name":"some value"},`, size/30), ",") + `]},"_meta":{"progressToken":1}}}`)
		b.Run(fmt.Sprintf("%dB", len(body)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, _, err := Read(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFilter reduces a tools/list of 1,000 tools of about 1 KB each.
func BenchmarkFilter(b *testing.B) {
	var list strings.Builder
	list.WriteString(`{"jsonrpc":"2.0","id":1,"result":{"tools":[`)
	for i := range 1000 {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"name":"tool_%d","description":%q,"inputSchema":{"type":"object","properties":{%s"z":{"type":"string"}}}}`,
			i, strings.Repeat("d", 300), strings.Repeat(fmt.Sprintf(`"p%d":{"type":"string","description":"a parameter"},`, i), 1)+
				`"a":{"type":"string","description":"a parameter of it"},"b":{"type":"string","description":"a parameter of it"},"c":{"type":"array","items":{"type":"string","description":"a parameter of it"}},"d":{"type":"string","description":"a parameter of it"},"e":{"type":"object","properties":{"f":{"type":"string","description":"a parameter of it"}}}`+",")
	}
	list.WriteString(`]}}`)
	body := []byte(list.String())
	var out []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		m, _, err := ReadAnswer(body)
		if err != nil {
			b.Fatal(err)
		}
		out = m[0].AppendFiltered(out[:0], body, Filter{Keep: func(_ List, key string) bool { return len(key)%2 == 0 }})
	}
}

// TestReadAllocations: what is not judged costs no memory, however much of it there is.
func TestReadAllocations(t *testing.T) {
	for _, rows := range []int{1, 10, 1000} {
		body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","arguments":{"a":[` +
			strings.Repeat(`{"b":"\u0061","c":[1]},`, rows) + `1]},"_meta":{}}}`)
		// Beside the reader itself, which the race detector has the pool forget at times.
		if n := testing.AllocsPerRun(1000, func() { _, _, _ = Read(body) }); n > 14 {
			t.Errorf("%d rows: %v allocations, want at most 14", rows, n)
		}
	}
}

// TestFilterAllocations: a list that is filtered costs a text for the name of each item,
// and otherwise the same however long it is.
func TestFilterAllocations(t *testing.T) {
	for _, tools := range []int{10, 100, 1000} {
		body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[` +
			strings.Repeat(`{"name":"keep","x":{}},{"name":"admin"},`, tools/2) + `{"name":"keep"}],"nextCursor":"c"}}`)
		n := testing.AllocsPerRun(100, func() {
			m, _, err := ReadAnswer(body)
			if err != nil {
				t.Fatal(err)
			}
			m[0].AppendFiltered(nil, body, Filter{Keep: keepOK, Cursor: Text{"sealed", true}})
		})
		// Beside the reader itself, and the table of items, which doubles as it grows.
		if limit := float64(tools + 32); n > limit {
			t.Errorf("%d tools: %v allocations, want at most %v", tools, n, limit)
		}
	}
}
