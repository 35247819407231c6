package differential

import (
	"slices"
	"testing"
)

func requestReaders() []reader[*passed, opinion] {
	ask := func(p *passed) question { return question{Headers: p.headers, body: p.body} }
	views := func(read func([]byte) view) func(*passed) opinion {
		return func(p *passed) opinion { return opinion{Views: []view{read(p.body)}} }
	}
	return []reader[*passed, opinion]{
		ofProcess[*passed, opinion](world.js, ask),
		ofProcess[*passed, opinion](world.py, ask),
		inGo("Go encoding/json struct", views(goStruct)),
		inGo("Go encoding/json map", views(goMap)),
		some(ofProcess[*passed, opinion](world.ts1, ask)),
		some(ofProcess[*passed, opinion](world.ts2, ask)),
		some(inGo("Go SDK", goSDK)),
	}
}

// differs tells what a reader sees otherwise than the gateway did.
func differs(o *opinion, p *passed) string {
	for i := range o.Views {
		if what := o.Views[i].differ(p.messages, p.batch); what != "" {
			return what
		}
	}
	return unjudged(o.Calls, p.messages)
}

// anyDiffers asks all readers about one body.
func anyDiffers(t testing.TB, readers []reader[*passed, opinion], body []byte) string {
	t.Helper()
	p, _ := world.gate.request(body)
	if p == nil {
		return ""
	}
	given, err := opinions(readers, []*passed{p})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		if what := differs(&given[i][0], p); what != "" {
			return r.name + ": " + what
		}
	}
	return ""
}

// TestRequests makes bodies near valid ones and gives those that the gateway lets through
// to all readers.
func TestRequests(t *testing.T) {
	t.Parallel()
	readers := requestReaders()
	s := newRun(*duration)
	makeBody := func(g *generator) (body []byte, p *passed, reason string) {
		body = g.body(g.request)
		p, reason = world.gate.request(body)
		return body, p, reason
	}
	for c := range chunks(t, s, makeBody) {
		given, err := opinions(readers, c.passed)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range c.passed {
			for r := range readers {
				o := &given[r][i]
				s.count(readers[r].name, len(o.Calls) > 0 || slices.ContainsFunc(o.Views, func(v view) bool { return v.Error == "" }))
				if what := differs(o, p); what != "" {
					shrunk := shrink(c.bodies[i], func(b []byte) bool { return anyDiffers(t, readers[r:r+1], b) != "" })
					s.report(t, "FuzzRequest", c.bodies[i], shrunk, anyDiffers(t, readers[r:r+1], shrunk))
				}
			}
		}
	}
	s.log(t)
}

// FuzzRequest holds one body against all readers.
func FuzzRequest(f *testing.F) {
	for n := range uint64(200) {
		g := newGenerator(1, n)
		f.Add(g.body(g.request))
	}
	readers := requestReaders()
	f.Fuzz(func(t *testing.T, body []byte) {
		if what := anyDiffers(t, readers, body); what != "" {
			t.Error(what)
		}
	})
}
