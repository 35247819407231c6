package mcpadmin

import (
	"cmp"
	_ "embed" // descriptions.json
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
)

// schemas are the JSON Schemas of what is read and written, made from the Go types that
// do it: members with omitzero or omitempty are optional, and descriptions are the doc
// comments of types and fields, which descriptions.json has, or the fields' jsonschema
// tags. Each named type has a component of its own.
type schemas struct {
	names map[reflect.Type]string
	// closed are those that are read: unknown members are refused. In answers there
	// may be more one day.
	closed map[reflect.Type]bool
}

// special are the types that are written in another way than their kind tells.
var special = map[reflect.Type]*jsonschema.Schema{
	reflect.TypeFor[time.Time]():          {Type: "string", Format: "date-time"},
	reflect.TypeFor[[]byte]():             {Type: "string", ContentEncoding: "base64"},
	reflect.TypeFor[jsontext.Value]():     {},
	reflect.TypeFor[account.MemberRole](): {Type: "string", Enum: []any{account.Owner, account.Member}},
}

// nullable are the types of which an optional member may be null where they are read.
// Most often, that is an error.
var nullable = map[reflect.Type]bool{
	reflect.TypeFor[TokenRequest]():               true,
	reflect.TypeFor[catalogue.Scope]():            true,
	reflect.TypeFor[catalogue.TimeRestrictions](): true,
	reflect.TypeFor[catalogue.UsageLimits]():      true,
}

func newSchemas() *schemas {
	return &schemas{names: make(map[reflect.Type]string), closed: make(map[reflect.Type]bool)}
}

// of returns the schema of a value's type. The components that it refers to are complete
// once this was called for all values.
func (s *schemas) of(value any, closed bool) (*jsonschema.Schema, error) {
	t := reflect.TypeOf(value)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if err := s.collect(t, closed, false); err != nil {
		return nil, err
	}
	return s.make(t, nil, closed)
}

// components returns the schemas of all named types, by their names.
func (s *schemas) components() (map[string]*jsonschema.Schema, error) {
	all := make(map[string]*jsonschema.Schema, len(s.names))
	for t, name := range s.names {
		made, err := s.make(t, t, s.closed[t])
		if err != nil {
			return nil, err
		}
		all[name] = made
	}
	return all, nil
}

// collect gives names to a type and those in it.
func (s *schemas) collect(t reflect.Type, closed, embedded bool) error {
	if special[t] != nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return s.collect(t.Elem(), closed, embedded)
	case reflect.Struct:
	default:
		return nil
	}
	if t.Name() != "" && !embedded {
		if s.names[t] != "" && (s.closed[t] || !closed) {
			return nil
		}
		s.closed[t] = closed
		if err := s.name(t); err != nil {
			return err
		}
	}
	for field := range t.Fields() {
		if !field.IsExported() && !field.Anonymous || field.Tag.Get("json") == "-" {
			continue
		}
		if err := s.collect(field.Type, closed, field.Anonymous); err != nil {
			return err
		}
	}
	return nil
}

// name gives a type the name that it has in Go, with that of its package in front if
// another one has it already.
func (s *schemas) name(t reflect.Type) error {
	var text strings.Builder
	// Of what a generic type is made comes behind its own name.
	for part := range strings.FieldsFuncSeq(t.Name(), func(r rune) bool { return strings.ContainsRune("[],*", r) }) {
		part = part[strings.LastIndexAny(part, "./")+1:]
		text.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	name := text.String()
	place := path.Base(t.PkgPath())
	for _, name := range []string{name, strings.ToUpper(place[:1]) + place[1:] + name} {
		if !s.taken(t, name) {
			s.names[t] = name
			return nil
		}
	}
	return fmt.Errorf("too many types are called %s", name)
}

func (s *schemas) taken(t reflect.Type, name string) bool {
	for other, taken := range s.names {
		if taken == name && other != t {
			return true
		}
	}
	return false
}

// make returns a type's schema, in which other named types are references; the one that
// is to be itself is none.
func (s *schemas) make(t, itself reflect.Type, closed bool) (*jsonschema.Schema, error) {
	known := make(map[reflect.Type]*jsonschema.Schema, len(special)+len(s.names))
	maps.Copy(known, special)
	for other, name := range s.names {
		if other != itself {
			known[other] = &jsonschema.Schema{Ref: componentRef + name}
		}
	}
	if itself != nil {
		// The members of what is embedded are the type's own.
		for _, field := range reflect.VisibleFields(itself) {
			if field.Anonymous {
				delete(known, field.Type)
			}
		}
	}
	made, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: known})
	if err != nil {
		return nil, err
	}
	if closed && nullable[t] {
		for _, name := range made.PropertyOrder {
			if member := made.Properties[name]; slices.Contains(member.Types, "null") && !slices.Contains(made.Required, name) {
				made.Properties[name] = orNull(member)
			}
		}
	}
	tidy(made, closed)
	if t.Kind() == reflect.Struct && made.Ref == "" {
		comment(t, made)
	}
	return made, nil
}

// comment puts doc comments into the schema of a struct.
func comment(t reflect.Type, s *jsonschema.Schema) {
	s.Description = cmp.Or(s.Description, descriptions[typeName(t)])
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		member := s.Properties[cmp.Or(name, field.Name)]
		if member == nil || field.Anonymous {
			continue
		}
		owner := t
		if len(field.Index) > 1 {
			owner = t.FieldByIndex(field.Index[:len(field.Index)-1]).Type
		}
		member.Description = cmp.Or(member.Description, descriptions[typeName(owner)+"."+field.Name])
	}
}

// descriptions are the doc comments of types and their fields, without the names that
// they begin with: a compiled program does not have them otherwise. A test keeps them
// as they are in the source, and writes them anew with -update.
var descriptions = func() map[string]string {
	all := make(map[string]string)
	if err := json.Unmarshal(descriptionsJSON, &all); err != nil {
		panic(err) // the file is a part of the program
	}
	return all
}()

//go:embed descriptions.json
var descriptionsJSON []byte

// typeName is the name of a type with the folder of its package.
func typeName(t reflect.Type) string {
	name, _, _ := strings.Cut(t.Name(), "[")
	return strings.TrimPrefix(strings.TrimPrefix(t.PkgPath(), modulePath), "/") + "." + name
}

const componentRef = "#/components/schemas/"

// orNull is a schema that null satisfies, too.
func orNull(s *jsonschema.Schema) *jsonschema.Schema {
	bare := s.CloneSchemas()
	bare.Types = slices.DeleteFunc(bare.Types, func(t string) bool { return t == "null" })
	if len(bare.Types) == 1 {
		bare.Type, bare.Types = bare.Types[0], nil
	} else if len(bare.Types) == 0 {
		bare.Types = nil
	}
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{bare, {Type: "null"}}}
}

// tidy takes out of a schema what is not so here: an empty list is written as one and
// not as null, what is read or optional is not null either, and answers are open.
func tidy(s *jsonschema.Schema, closed bool) {
	if s == nil {
		return
	}
	if slices.Equal(s.Types, []string{"null", "array"}) {
		s.Type, s.Types = "array", nil
	}
	if !closed && s.Properties != nil {
		s.AdditionalProperties = nil
	}
	for name, member := range s.Properties {
		switch {
		case len(member.Types) == 0:
		case closed, !slices.Contains(s.Required, name):
			if member.Types = slices.DeleteFunc(member.Types, func(t string) bool { return t == "null" }); len(member.Types) == 1 {
				member.Type = member.Types[0]
			}
			if len(member.Types) < 2 {
				member.Types = nil
			}
		case member.Ref != "":
			s.Properties[name] = orNull(member)
		}
		tidy(member, closed)
	}
	tidy(s.Items, closed)
	if s.AdditionalProperties != nil && s.AdditionalProperties.Not == nil {
		tidy(s.AdditionalProperties, closed)
	}
}
