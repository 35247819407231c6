package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// page is a document with what can be run in it: a Caddyfile; requests, each with its
// answer; and commands with what they print.
type page struct {
	name string
	text []byte
	// steps are the requests and commands, in their order.
	steps []*step
	// caddyfile is the first of the page.
	caddyfile string
}

// step is a request or a command, and what the page shows for an answer.
type step struct {
	line            int
	command         bool
	asked, answered string
	// from and to are where the answer is in the text.
	from, to int
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// open reads a page. A block of the language http is a request, or the answer to the one
// before it if it begins with HTTP/1.1; one of the language console begins with a command
// after a dollar sign, and goes on with what that prints.
func open(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{name: name, text: text}
	for _, at := range fence.FindAllSubmatchIndex(text, -1) {
		language, content := string(text[at[2]:at[3]]), string(text[at[4]:at[5]])
		line := bytes.Count(text[:at[0]], []byte("\n")) + 1
		switch {
		case language == "caddyfile" && p.caddyfile == "":
			p.caddyfile = content
		case language == "console":
			command, _, _ := strings.Cut(content, "\n")
			p.steps = append(p.steps, &step{
				line: line, command: true, asked: strings.TrimPrefix(command, "$ "), answered: content[len(command)+1:], from: at[4] + len(command) + 1, to: at[5],
			})
		case language == "http" && strings.HasPrefix(content, "HTTP/1.1 "):
			if len(p.steps) == 0 || p.steps[len(p.steps)-1].to != 0 {
				t.Fatalf("%s:%d: an answer without a request", name, line)
			}
			last := p.steps[len(p.steps)-1]
			last.answered, last.from, last.to = content, at[4], at[5]
		case language == "http":
			p.steps = append(p.steps, &step{line: line, asked: content})
		}
	}
	for _, s := range p.steps {
		if s.to == 0 {
			t.Fatalf("%s:%d: a request without an answer", name, s.line)
		}
	}
	return p
}

// rewrite has the page show these answers.
func (p *page) rewrite(t *testing.T, answers []string) {
	t.Helper()
	var b bytes.Buffer
	end := 0
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%s%s", p.text[end:s.from], answers[i])
		end = s.to
	}
	b.Write(p.text[end:])
	if err := os.WriteFile(p.name, b.Bytes(), 0o644); err != nil { //nolint:gosec // a page for everybody
		t.Fatal(err)
	}
}

// message is a request or an answer, as HTTP/1.1 writes it.
type message struct {
	first  string
	header [][2]string
	body   string
}

func parse(text string) message {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	m := message{first: lines[0], body: strings.TrimSuffix(body, "\n")}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		m.header = append(m.header, [2]string{name, value})
	}
	return m
}

func (m message) get(name string) string {
	for _, h := range m.header {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

func (m message) String() string {
	text := m.first + "\n"
	for _, h := range m.header {
		text += h[0] + ": " + h[1] + "\n"
	}
	if m.body != "" {
		text += "\n" + m.body + "\n"
	}
	return text
}
