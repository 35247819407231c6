// Package docs_test runs what the documentation shows.
package docs_test

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

var update = flag.Bool("update", false, "have the page show what was answered")

// TestAPI sends every request of api.md, in their order and to the gateway of its first
// Caddyfile, runs every command, and expects what the page shows. Values that are others
// each time, such as ids, need only be of the same form. The page has to show every
// operation that the gateway has. With -update, it shows what was answered instead:
//
//	go test ./docs -run TestAPI -update
func TestAPI(t *testing.T) {
	p := open(t, "api.md")
	g := start(t, p.caddyfile)
	known := newGlossary()
	known.add(upstream, g.upstream)
	known.add(endpoint, g.endpoint)
	all, missing := operations(t), make(map[string]bool)
	for _, o := range all {
		missing[o] = true
	}
	answers := make([]string, len(p.steps))
	for i, s := range p.steps {
		do := g.ask
		if s.command {
			do = g.run
		} else {
			method, path, _ := strings.Cut(parse(s.asked).first, " ")
			if o := asksFor(all, method, path); o != "" {
				delete(missing, o)
			}
		}
		answers[i] = do(t, known, s)
		if !*update && answers[i] != s.answered {
			t.Errorf("%s:%d: %s is answered with\n%s\nnot with\n%s", p.name, s.line, s.asked, answers[i], s.answered)
		}
	}
	if *update {
		p.rewrite(t, answers)
	}
	g.wantMetrics(t)
	for o := range missing {
		t.Errorf("%s does not show %s", p.name, o)
	}
}

// asksFor returns the operation that a request is for, an exact path before a pattern.
func asksFor(all []string, method, path string) (found string) {
	path, _, _ = strings.Cut(path, "?")
	given := strings.Split(path, "/")
	for _, o := range all {
		of, pattern, _ := strings.Cut(o, " ")
		wanted := strings.Split(pattern, "/")
		if of != method || len(wanted) != len(given) {
			continue
		}
		same := true
		for i := range wanted {
			same = same && (strings.HasPrefix(wanted[i], "{") || wanted[i] == given[i])
		}
		if same && (found == "" || pattern == path) {
			found = o
		}
	}
	return found
}

// ask sends a request, and returns what the page should show for its answer.
func (g *gateway) ask(t *testing.T, known *glossary, s *step) string {
	t.Helper()
	asked := parse(known.realize(s.asked))
	method, path, _ := strings.Cut(asked.first, " ")
	url := "https://" + site + path
	if host := asked.get("Host"); host != "" {
		url = "http://" + g.endpoint + path
	}
	shown := parse(s.answered)
	send := func() *message {
		request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(asked.body))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range asked.header {
			if h[0] != "Host" {
				request.Header.Set(h[0], h[1])
			}
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
		answer := &message{first: "HTTP/1.1 " + response.Status}
		for _, h := range shown.header {
			answer.header = append(answer.header, [2]string{h[0], known.value(h[1], response.Header.Get(h[0]))})
		}
		if len(text) == 0 || shown.body == "" && shown.get("Content-Type") != "" {
			return answer // events, and what is too long for a page, are left out
		}
		var before *node
		if shown.body != "" {
			before = read(t, shown.body)
		}
		answer.body = known.node("", before, read(t, string(text))).print("", 0)
		return answer
	}
	answer := send()
	if strings.Contains(path, "/usage") && answer.String() != s.answered && !strings.Contains(s.answered, `"total_requests": 0`) {
		// It is written some seconds after the fact.
		statetest.Eventually(t, "the use of the token is known", func() bool {
			answer = send()
			return !strings.Contains(answer.body, `"total_requests": 0`)
		})
	}
	return answer.String()
}

// run runs a command, and returns what the page should show of what it prints.
func (g *gateway) run(t *testing.T, known *glossary, s *step) string {
	t.Helper()
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := launch.Build(t.Context(), root, "./xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Fields(known.realize(s.asked))
	if len(args) < 2 || args[0] != "caddy" || args[1] != "mcp" {
		t.Fatalf("api.md:%d: %s is no command of the gateway's", s.line, s.asked)
	}
	cmd := exec.CommandContext(t.Context(), bin, append(args[1:], "--address", g.endpoint)...) //nolint:gosec // the page's
	cmd.Env = os.Environ()
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil {
		t.Errorf("api.md:%d: %s: %v\n%s", s.line, s.asked, err, printed.String())
	}
	shown := strings.Split(s.answered, "\n")
	var lines []string
	same := true
	for i, line := range strings.Split(printed.String(), "\n") {
		var before []string
		if i < len(shown) {
			before = strings.Fields(shown[i])
		}
		fields := strings.Fields(line)
		for j, field := range fields {
			was := ""
			if j < len(before) {
				was = before[j]
			}
			fields[j] = known.value(was, field)
			line = strings.Replace(line, field, fields[j], 1)
			same = same && was == fields[j]
		}
		lines = append(lines, line)
	}
	if same && len(lines) == len(shown) {
		return s.answered // but for the spaces between columns
	}
	return strings.Join(lines, "\n")
}
