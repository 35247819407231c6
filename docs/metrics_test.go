package docs_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	gathered = regexp.MustCompile(`(?m)^# TYPE (caddy_mcp_\w+) (\w+)$`)
	sample   = regexp.MustCompile(`(?m)^(caddy_mcp_\w+)\{(.*)\} `)
	label    = regexp.MustCompile(`(\w+)="`)
	row      = regexp.MustCompile("(?m)^\\| `(caddy_mcp_\\w+)` \\| (\\w+) \\|([^|]*)\\|")
)

// wantMetrics expects the table of operations.md to have each metric that the gateway
// shows, with its type and its labels.
func (g *gateway) wantMetrics(t *testing.T) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.endpoint+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := g.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	types, labels := make(map[string]string), make(map[string]string)
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		types[m[1]], labels[m[1]] = m[2], m[3]
	}
	found := gathered.FindAllStringSubmatch(string(text), -1)
	if len(found) < 10 {
		t.Errorf("the gateway shows only %d metrics", len(found))
	}
	for _, m := range found {
		if types[m[1]] != m[2] {
			t.Errorf("operations.md has no %s of type %s", m[1], m[2])
		}
	}
	for _, m := range sample.FindAllStringSubmatch(string(text), -1) {
		name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(m[1], "_bucket"), "_count"), "_sum")
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && !strings.Contains(labels[name], "`"+l[1]+"`") {
				t.Errorf("operations.md does not name the label %s of %s", l[1], name)
			}
		}
	}
}
