package soundness

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// ran is where each row of the checklist has really been run: in which revisions, and
// over which version of HTTP.
var ran = struct {
	sync.Mutex
	rows map[string]map[place]bool
	// tests are the names of those that have sent anything, and of those they are in.
	tests map[string]bool
}{rows: make(map[string]map[place]bool), tests: make(map[string]bool)}

type place struct{ version, wire string }

// record notes that the row of the running test was run.
func record(t *testing.T, version, wire string) {
	recordTest(t)
	ran.Lock()
	defer ran.Unlock()
	for part := range strings.SplitSeq(t.Name(), "/") {
		m := rowName.FindStringSubmatch(strings.ReplaceAll(part, "_", " "))
		if m == nil {
			continue
		}
		if ran.rows[m[1]] == nil {
			ran.rows[m[1]] = make(map[place]bool)
		}
		ran.rows[m[1]][place{version, wire}] = true
		return
	}
}

// recordTest notes that a test was run, and those that it is in.
func recordTest(t *testing.T) {
	ran.Lock()
	defer ran.Unlock()
	for name := t.Name(); ; name = name[:strings.LastIndexByte(name, '/')] {
		ran.tests[name] = true
		if !strings.Contains(name, "/") {
			return
		}
	}
}

// elsewhere are the versions of HTTP in which a row makes no sense, and why.
var elsewhere = []struct{ row, wire, why string }{
	{"B15", "h2", "HTTP/2 has no Connection header; TestHTTP2 shows that it is refused"},
}

// checkCoverage looks, after all tests, whether every row that is not listed for later
// has been run wherever it makes sense.
func checkCoverage() error {
	if partial() {
		return nil
	}
	var missing []error
	for _, row := range allRows() {
		if slices.ContainsFunc(later, func(l postponed) bool { return l.row == row }) {
			continue
		}
		for _, version := range versionsOf(row) {
			for _, w := range wires {
				needless := slices.ContainsFunc(elsewhere, func(e struct{ row, wire, why string }) bool { return e.row == row && e.wire == w.name })
				if !ran.rows[row][place{version, w.name}] && !needless {
					missing = append(missing, fmt.Errorf("row %s was not run in %s over %s", row, version, w.name))
				}
			}
		}
	}
	return errors.Join(missing...)
}

// partial reports whether not all tests were asked for.
func partial() bool {
	return slices.ContainsFunc([]string{"run", "skip", "list"}, func(name string) bool {
		f := flag.Lookup("test." + name)
		return f != nil && f.Value.String() != ""
	})
}

// Whatever is said to make no sense is about a row that there is, with a reason.
func TestWhere(t *testing.T) {
	all := allRows()
	for _, w := range where {
		row, _, _ := strings.Cut(w.name, " ")
		if !slices.Contains(all, row) || w.why == "" || len(w.versions) == 0 || len(w.versions) == len(versions) {
			t.Errorf("%s is nothing, or has no reason", w.name)
		}
	}
	for _, e := range elsewhere {
		if !slices.Contains(all, e.row) || e.why == "" {
			t.Errorf("%s is nothing, or has no reason", e.row)
		}
	}
	for name, want := range map[string]int{"A12": 1, "A12 anything": 1, "A1": 4, "A1 plain": 4, "A13": 3} {
		if got := versionsOf(name); len(got) != want {
			t.Errorf("%s in %v", name, got)
		}
	}
}
