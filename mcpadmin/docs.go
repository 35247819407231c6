package mcpadmin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// page is an answer for people.
type page struct {
	html []byte
	// policy is its Content-Security-Policy.
	policy string
}

var (
	//go:embed docs.html
	docsHTML string
	//go:embed docs.css
	docsCSS string

	docsTemplate = template.Must(template.New("docs").Parse(docsHTML))
	// docsPolicy lets the page have its one style, which is in it, and nothing else:
	// no script, no picture, no form, no frame.
	docsPolicy = "default-src 'none'; style-src 'sha256-" + digest(docsCSS) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// routeDocs switches the description of the API on, which is made here, once.
func (h *Handler) routeDocs() error {
	h.add(operation{
		method: http.MethodGet, path: "/openapi.json", summary: "Describes the API in OpenAPI 3.1", access: readsDocs, group: "documentation",
		answer: map[string]any{}, status: http.StatusOK,
		act: func(_ http.ResponseWriter, r *http.Request) (*answer, error) {
			return &answer{http.StatusOK, h.described}, h.reader(r)
		},
	})
	h.add(operation{
		method: http.MethodGet, path: "/docs", summary: "Describes the API on a page", access: readsDocs, group: "documentation",
		answer: (*page)(nil), status: http.StatusOK,
		act: func(_ http.ResponseWriter, r *http.Request) (*answer, error) {
			return &answer{http.StatusOK, h.page}, h.reader(r)
		},
	})
	d, err := h.describe()
	if err != nil {
		return err
	}
	if h.described, err = d.bytes(); err != nil {
		return err
	}
	h.page, err = h.print(d)
	return err
}

// docs is what the page shows.
type docs struct {
	*description
	Style  template.CSS
	Groups []docsGroup
	Types  []*docsType
}

type docsGroup struct {
	Name  string
	Calls []docsCall
}

type docsCall struct {
	*describedCall
	Method, Path, Needs string
	Body, Answer        *docsType
	BodyKind, Status    string
	Errors              []docsError
}

type docsError struct{ Status, Text string }

// docsType is a type with its members. One that has none is told by its kind alone.
type docsType struct {
	Name string
	Kind docsKind
	Rows []docsRow
	// Text says what it is, and Label what the table of the rows is for those who do
	// not see it.
	Text, Label string
}

// Labelled returns the type with a label.
func (t *docsType) Labelled(label string) *docsType {
	labelled := *t
	labelled.Label = label
	return &labelled
}

type docsRow struct {
	Name     string
	Kind     docsKind
	Required bool
	Text     string
}

// docsKind is what a value can be, in words; Ref is the name of a type that they end in.
type docsKind struct{ Words, Ref string }

// print makes a page of a description.
func (h *Handler) print(d *description) (*page, error) {
	shown := docs{description: d, Style: template.CSS(docsCSS)} // #nosec G203 -- it is a file of this package
	for _, o := range h.operations {
		call := d.Paths[o.path][strings.ToLower(o.method)]
		i := slices.IndexFunc(shown.Groups, func(g docsGroup) bool { return g.Name == call.Tags[0] })
		if i < 0 {
			i = len(shown.Groups)
			shown.Groups = append(shown.Groups, docsGroup{Name: call.Tags[0]})
		}
		shown.Groups[i].Calls = append(shown.Groups[i].Calls, d.print(o, call))
	}
	for _, name := range sortedKeys(d.Components.Schemas) {
		shown.Types = append(shown.Types, &docsType{Name: name, Text: d.Components.Schemas[name].Description, Rows: rowsOf(d.Components.Schemas[name], "")})
	}
	var html bytes.Buffer
	if err := docsTemplate.Execute(&html, shown); err != nil {
		return nil, err
	}
	return &page{html.Bytes(), docsPolicy}, nil
}

// print makes of an operation what is shown of it.
func (d *description) print(o *operation, call *describedCall) docsCall {
	shown := docsCall{describedCall: call, Method: o.method, Path: o.path, Needs: "no credential"}
	if len(call.Security) > 0 {
		needed := make([]string, len(call.Security))
		for i, one := range call.Security {
			needed[i] = strings.Join(sortedKeys(one), " and ")
		}
		shown.Needs = strings.Join(needed, " or ")
	}
	if call.RequestBody != nil {
		for kind, content := range call.RequestBody.Content {
			shown.Body, shown.BodyKind = typeOf(content.Schema), kind
			if !call.RequestBody.Required {
				shown.BodyKind += ", or nothing"
			}
		}
	}
	for _, status := range sortedKeys(call.Responses) {
		r := call.Responses[status]
		if r.Ref != "" {
			text := d.Components.Responses[strings.TrimPrefix(r.Ref, "#/components/responses/")].Description
			shown.Errors = append(shown.Errors, docsError{status, text})
			continue
		}
		shown.Status = status
		for _, content := range r.Content {
			shown.Answer = typeOf(content.Schema)
		}
	}
	return shown
}

// typeOf is a type where it is used.
func typeOf(s *jsonschema.Schema) *docsType { return &docsType{Kind: kindOf(s), Rows: rowsOf(s, "")} }

// rowsOf are the members of a type, and those of members that have no type of their own.
func rowsOf(s *jsonschema.Schema, within string) (rows []docsRow) {
	for _, name := range s.PropertyOrder {
		member := s.Properties[name]
		rows = append(rows, docsRow{within + name, kindOf(member), slices.Contains(s.Required, name), member.Description})
		rows = append(rows, rowsOf(member, within+name+".")...)
		if member.Items != nil {
			rows = append(rows, rowsOf(member.Items, within+name+"[].")...)
		}
	}
	return rows
}

// kindOf says in words what a value can be.
func kindOf(s *jsonschema.Schema) docsKind {
	switch {
	case s.Ref != "":
		return docsKind{"", strings.TrimPrefix(s.Ref, componentRef)}
	case len(s.AnyOf) > 0:
		of := kindOf(s.AnyOf[0])
		return docsKind{"null or " + of.Words, of.Ref}
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, value := range s.Enum {
			values[i] = fmt.Sprintf("%q", value)
		}
		return docsKind{strings.Join(values, " or "), ""}
	case s.Items != nil:
		of := kindOf(s.Items)
		return docsKind{"array of " + of.Words, of.Ref}
	case s.AdditionalProperties != nil && s.Properties == nil:
		of := kindOf(s.AdditionalProperties)
		return docsKind{"object of any names, each " + of.Words, of.Ref}
	case s.Format != "":
		return docsKind{s.Format, ""}
	case s.Type == "" && len(s.Types) == 0:
		return docsKind{"any value", ""}
	}
	return docsKind{cmp.Or(s.Type, strings.Join(s.Types, " or ")), ""}
}
