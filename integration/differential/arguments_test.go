package differential

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

// call is a tools/call that was let through: what the readers make of its arguments is
// then told to the gateway, as a claim, to be compared in a condition with what it makes
// of them.
type call struct {
	*passed
	arguments []byte
}

// argumentReaders are those that see arguments as values, in every language.
func argumentReaders() []reader[*call, opinion] {
	ask := func(c *call) question { return question{Headers: c.headers, body: c.body} }
	return []reader[*call, opinion]{
		ofProcess[*call, opinion](world.js, ask),
		ofProcess[*call, opinion](world.py, ask),
		inGo("Go encoding/json map", func(c *call) opinion { return opinion{Views: []view{goMap(c.body)}} }),
		some(ofProcess[*call, opinion](world.ts1, ask)),
		some(ofProcess[*call, opinion](world.ts2, ask)),
		some(inGo("Go SDK", func(c *call) opinion { return goSDK(c.passed) })),
	}
}

// argumentsOf is what a reader sees as arguments, as canonical text, or nothing.
func argumentsOf(o *opinion) string {
	for _, v := range o.Views {
		if v.Error == "" && len(v.Messages) == 1 {
			return v.Messages[0]["arguments"]
		}
	}
	if len(o.Calls) == 1 {
		return o.Calls[0]["arguments"]
	}
	return ""
}

// callOf is a body that calls a tool with arguments.
func callOf(tool string, arguments []byte) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, tool, arguments)
}

// callWith returns the call of a body that has arguments.
func callWith(body []byte) (*call, string) {
	p, reason := world.gate.request(body)
	if p == nil {
		return nil, reason
	}
	messages, batch, err := jsonrpc.Read(p.body)
	if err != nil || batch || messages[0].Method != "tools/call" || messages[0].Params.Arguments == nil {
		return nil, "no arguments"
	}
	return &call{p, messages[0].Params.Arguments}, ""
}

// misjudged tells which condition holds for the arguments that does not hold for what a
// reader sees, and whether the arguments were judged at all.
func misjudged(c *call, seen string) (what string, judged bool, err error) {
	value, ok := jsonOf(seen)
	if !ok {
		// One of the numbers is infinite. What it stands for can't be told.
		value = "null"
	}
	token, err := token("equal", json.RawMessage(value))
	if err != nil {
		return "", false, err
	}
	headers := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
	holds := func(tool string) bool {
		p, _ := world.gate.send(callOf(tool, c.arguments), headers, token, answerNothing)
		return p != nil
	}
	// As servers in Go read them.
	var args struct{ Schema json.RawMessage }
	inGo := json.Unmarshal(c.arguments, &args) == nil
	switch {
	case holds("other"):
		return "the arguments were judged to be other than " + seen, true, nil
	case holds("rounded"):
		return "limit was judged to be a number that JavaScript does not have", true, nil
	case holds("without") && (strings.Contains(seen, `"schema":`) && hasMember(seen, "schema") || inGo && args.Schema != nil):
		return "schema was judged to be absent", true, nil
	case holds("public") && inGo && canonicalJSON(args.Schema) != `"public"`:
		return fmt.Sprintf("schema was judged to be public, encoding/json sees %s", args.Schema), true, nil
	}
	return "", holds("same"), nil
}

// hasMember reports whether an object in canonical text has a member.
func hasMember(text, name string) bool {
	value, _ := jsonOf(text)
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(value), &object); err != nil {
		return false
	}
	_, ok := object[name]
	return ok
}

// jsonOf turns canonical text into JSON, which has no infinite numbers.
func jsonOf(text string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(text); {
		switch text[i] {
		case '"':
			end := i + 1
			for text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			b.WriteString(text[i : end+1])
			i = end + 1
		case '#':
			bits, err := strconv.ParseUint(text[i+1:i+17], 16, 64)
			f := math.Float64frombits(bits)
			if err != nil || math.IsInf(f, 0) {
				return "", false
			}
			b.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
			i += 17
		default:
			b.WriteByte(text[i])
			i++
		}
	}
	return b.String(), true
}

// anyMisjudged asks all readers about the arguments of one call.
func anyMisjudged(t testing.TB, readers []reader[*call, opinion], arguments []byte) string {
	t.Helper()
	c, _ := callWith(callOf("ok", arguments))
	if c == nil {
		return ""
	}
	given, err := opinions(readers, []*call{c})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		if seen := argumentsOf(&given[i][0]); seen != "" {
			what, _, err := misjudged(c, seen)
			if err != nil {
				t.Fatal(err)
			}
			if what != "" {
				return r.name + ": " + what
			}
		}
	}
	return ""
}

// TestArguments makes calls whose arguments are judged by conditions, and holds what the
// conditions were told against what the readers see.
func TestArguments(t *testing.T) {
	t.Parallel()
	readers := argumentReaders()
	r := newRun(*duration / 2)
	judged := 0
	makeBody := func(g *generator) (body []byte, c *call, reason string) {
		body = g.body(func() *object {
			return obj("jsonrpc", version, "id", raw("1"), "method", text("tools/call"), "params", obj("name", text("ok"), "arguments", g.arguments()))
		})
		if c, reason = callWith(body); c != nil {
			body = c.arguments
		}
		return body, c, reason
	}
	for made := range chunks(t, r, makeBody) {
		given, err := opinions(readers, made.passed)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range made.passed {
			done := map[string]bool{}
			for n := range readers {
				seen := argumentsOf(&given[n][i])
				r.count(readers[n].name, seen != "")
				if seen == "" || done[seen] {
					continue
				}
				done[seen] = true
				what, one, err := misjudged(c, seen)
				if err != nil {
					t.Fatal(err)
				}
				if one {
					judged++
				}
				if what != "" {
					shrunk := shrink(made.bodies[i], func(b []byte) bool { return anyMisjudged(t, readers[n:n+1], b) != "" })
					r.report(t, "FuzzArguments", made.bodies[i], shrunk, anyMisjudged(t, readers[n:n+1], shrunk))
				}
			}
		}
	}
	r.log(t)
	t.Logf("%d were judged to be the same", judged)
	if judged*3 < r.compared {
		t.Errorf("only %d of %d arguments were judged", judged, r.compared)
	}
}

// FuzzArguments holds the arguments of one call against all readers.
func FuzzArguments(f *testing.F) {
	for _, body := range []string{
		`{"schema":"public","limit":9007199254740993}`, `{"schema":"public","Schema":"payroll"}`, `{"\u0053chema":1}`,
		`{"schema":"public","__proto__":{"schema":"payroll"}}`, `{"limit":-0,"a":[1e2,1.0,{"b":null}]}`, `{"limit":1e400}`,
	} {
		f.Add([]byte(body))
	}
	for _, n := range numbers {
		f.Add([]byte(`{"limit":` + n + `}`))
	}
	readers := argumentReaders()
	f.Fuzz(func(t *testing.T, arguments []byte) {
		if what := anyMisjudged(t, readers, arguments); what != "" {
			t.Error(what)
		}
	})
}
