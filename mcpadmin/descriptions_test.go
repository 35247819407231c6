package mcpadmin_test

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
)

var update = flag.Bool("update", false, "write the doc comments of the API's types into descriptions.json")

// TestDescriptions: the doc comments that the API is described with are those of the
// source.
func TestDescriptions(t *testing.T) {
	w := newWorld(t)
	w.site = everything
	w.start()
	types, err := runningHandler(t).Types()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	parsed := make(map[string]map[string]*ast.TypeSpec)
	var add func(t *testing.T, of reflect.Type)
	add = func(t *testing.T, of reflect.Type) {
		t.Helper()
		folder, ours := strings.CutPrefix(of.PkgPath(), mcpadmin.Module)
		if !ours {
			return
		}
		folder = strings.TrimPrefix(folder, "/")
		if parsed[folder] == nil {
			parsed[folder] = parseTypes(t, filepath.Join("..", filepath.FromSlash(folder)))
		}
		name, _, _ := strings.Cut(of.Name(), "[")
		spec := parsed[folder][name]
		if spec == nil {
			t.Fatalf("there is no %s in %s", name, folder)
		}
		if text := comment(name, spec.Doc.Text()); text != "" {
			found[folder+"."+name] = text
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, member := range field.Names {
				if text := comment(member.Name, field.Doc.Text()); text != "" {
					found[folder+"."+name+"."+member.Name] = text
				}
			}
		}
		for field := range of.Fields() {
			if field.Anonymous {
				add(t, field.Type)
			}
		}
	}
	for _, of := range types {
		add(t, of)
	}
	if *update {
		text, err := json.MarshalIndent(found, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("descriptions.json", append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have := mcpadmin.Descriptions(); !maps.Equal(have, found) {
		t.Errorf("the doc comments have changed; run go test ./mcpadmin -run TestDescriptions -update\n%v\n%v", have, found)
	}
	if len(found) == 0 {
		t.Error("there are no doc comments")
	}
}

// parseTypes returns the structs of a package, with their doc comments.
func parseTypes(t *testing.T, dir string) map[string]*ast.TypeSpec {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no source: %v", dir, err)
	}
	all := make(map[string]*ast.TypeSpec)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range group.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if _, ok := spec.Type.(*ast.StructType); !ok {
					continue
				}
				if spec.Doc == nil {
					spec.Doc = group.Doc
				}
				all[spec.Name.Name] = spec
			}
		}
	}
	return all
}

// comment is a doc comment in one line, which begins without the name of what it is of.
func comment(name, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, name+verb); ok && rest != "" {
			text = strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return strings.TrimSuffix(text, ".")
}
