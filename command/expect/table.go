// Package expect reads and checks tables of what principals are expected to be allowed.
package expect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// Table is a file of expectations.
type Table struct {
	// Config is the configuration's file, Adapter its adapter's name. Both may be
	// empty.
	Config, Adapter string
	// PublicURL chooses between gateways that have servers of the same name.
	PublicURL string
	// Principals are the claims of the principals, by their names.
	Principals map[string]map[string]any
	// Expectations are in the order of the file.
	Expectations []*Expectation
}

// Expectation is what is expected of one question.
type Expectation struct {
	// Line is where it stands.
	Line      int
	Principal string
	// Target is server/object, as it was written.
	Target   string
	Question mcpauth.Question
	At       mcpauth.Circumstances
	// Allowed is whether it is expected to be allowed. Of the others, nil is for
	// whatever it is.
	Allowed                   bool
	Layer, Reason, Role, Rule *string
	Scopes                    *[]string
}

// file is how a table is written.
type file struct {
	Config     string           `yaml:"config"`
	Adapter    string           `yaml:"adapter"`
	PublicURL  string           `yaml:"public_url"`
	Principals map[string]value `yaml:"principals"`
	Expect     []entry          `yaml:"expect"`
}

type entry struct {
	Principal string    `yaml:"principal"`
	Method    string    `yaml:"method"`
	Object    string    `yaml:"object"`
	Args      value     `yaml:"args"`
	Ref       string    `yaml:"ref"`
	Protocol  string    `yaml:"protocol"`
	ClientIP  string    `yaml:"client_ip"`
	Time      string    `yaml:"time"`
	Allowed   *bool     `yaml:"allowed"`
	Layer     *string   `yaml:"layer"`
	Reason    *string   `yaml:"reason"`
	Role      *string   `yaml:"role"`
	Rule      *string   `yaml:"rule"`
	Scopes    *[]string `yaml:"scopes"`
}

// Read reads a table from a file. Where the file names a configuration, it is found
// from the file's folder. What is not known, or is there twice, is an error.
func Read(name string) (*Table, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, err
	}
	t, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if t.Config != "" && !filepath.IsAbs(t.Config) {
		t.Config = filepath.Join(filepath.Dir(name), t.Config)
	}
	return t, nil
}

func parse(text []byte) (*Table, error) {
	var f file
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	} else if err != nil {
		return nil, plain(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document in the file")
	}
	if len(f.Expect) == 0 {
		return nil, errors.New("nothing is expected; write a list under expect")
	}
	t := &Table{Config: f.Config, Adapter: f.Adapter, PublicURL: f.PublicURL, Principals: make(map[string]map[string]any)}
	for name, claims := range f.Principals {
		object, ok := claims.decoded.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("principal %s has no claims; write {} for none", name)
		}
		t.Principals[name] = object
	}
	lines, err := lines(text)
	if err != nil {
		return nil, err
	}
	for n, written := range f.Expect {
		e, err := t.expectation(written)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", lines[n], err)
		}
		e.Line = lines[n]
		t.Expectations = append(t.Expectations, e)
	}
	return t, nil
}

// plain is an error of YAML without what is about this program.
func plain(err error) error {
	var several *yaml.TypeError
	if !errors.As(err, &several) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	list := make([]string, len(several.Errors))
	for n, text := range several.Errors {
		list[n], _, _ = strings.Cut(text, " in type expect.")
	}
	return errors.New(strings.Join(list, "; "))
}

// lines returns where each expectation begins.
func lines(text []byte) ([]int, error) {
	var root struct {
		Expect []yaml.Node `yaml:"expect"`
	}
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	list := make([]int, len(root.Expect))
	for n := range root.Expect {
		list[n] = root.Expect[n].Line
	}
	return list, nil
}

func (t *Table) expectation(w entry) (*Expectation, error) {
	e := &Expectation{
		Principal: w.Principal, Target: w.Object,
		Layer: w.Layer, Reason: w.Reason, Role: w.Role, Rule: w.Rule, Scopes: w.Scopes,
	}
	switch _, known := t.Principals[w.Principal]; {
	case w.Principal == "":
		return nil, errors.New("principal is missing: say who asks")
	case !known:
		return nil, fmt.Errorf("there is no principal %q; there are %s", w.Principal, strings.Join(slices.Sorted(maps.Keys(t.Principals)), ", "))
	case w.Method == "":
		return nil, errors.New("method is missing: write one of MCP, such as tools/call")
	case w.Allowed == nil:
		return nil, errors.New("allowed is missing: write true or false")
	}
	e.Allowed = *w.Allowed
	_, object, _ := strings.Cut(w.Object, "/")
	e.Question = mcpauth.Question{Method: w.Method, Object: object, Reference: w.Ref, Version: w.Protocol, Arguments: w.Args.text}
	var err error
	if w.ClientIP != "" {
		if e.At.ClientIP, err = netip.ParseAddr(w.ClientIP); err != nil {
			return nil, fmt.Errorf("client_ip %q is not an address", w.ClientIP)
		}
	}
	if w.Time != "" {
		if e.At.Now, err = time.Parse(time.RFC3339, w.Time); err != nil {
			return nil, fmt.Errorf("time %q is not like 2026-01-31T12:00:00Z", w.Time)
		}
	}
	return e, nil
}

// Server is the name of the server it is about, empty for the only one.
func (e *Expectation) Server() string {
	server, _, _ := strings.Cut(e.Target, "/")
	return server
}
