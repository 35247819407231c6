package policy

import (
	"errors"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Some servers find an argument under its name in another letter case (Go's
// encoding/json does). So a condition that asks for a name must not be told that there
// is none, or what else there is, when there is one in another case.

// errSpelling is for arguments in which a name that the condition asks for stands in
// another letter case.
var errSpelling = errors.New("an argument differs only in case from one that the condition asks for")

// memberName is a name that a condition asks for, as it is written and without case.
type memberName struct{ name, folded string }

func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// memberNames returns the names of members that an expression asks for: after a dot, in
// brackets, before "in", in a map that it compares with, and any text in what it does
// with the members one by one. What it asks of the claims does not count.
func memberNames(e ast.Expr) []memberName {
	var names []memberName
	seen := make(map[string]bool)
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, memberName{name, fold(name)})
		}
	}
	addText := func(e ast.Expr) {
		if e.Kind() != ast.LiteralKind {
			return
		}
		if text, ok := e.AsLiteral().(types.String); ok {
			add(string(text))
		}
	}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if !ofClaims(e) {
				add(e.AsSelect().FieldName())
			}
		case ast.CallKind:
			switch args := e.AsCall().Args(); e.AsCall().FunctionName() {
			case operators.Index:
				if !ofClaims(e) {
					addText(args[1])
				}
			case operators.In:
				if args[1].Kind() != ast.ListKind && !ofClaims(args[1]) {
					addText(args[0])
				}
			}
		case ast.MapKind:
			for _, entry := range e.AsMap().Entries() {
				addText(entry.AsMapEntry().Key())
			}
		case ast.ComprehensionKind:
			if !ofClaims(e.AsComprehension().IterRange()) {
				ast.PreOrderVisit(e, ast.NewExprVisitor(addText))
			}
		default:
		}
	}))
	return names
}

// ofClaims reports whether an expression is a member of the claims, or of one of theirs.
func ofClaims(e ast.Expr) bool {
	for {
		switch {
		case e.Kind() == ast.IdentKind:
			return e.AsIdent() == "claims"
		case e.Kind() == ast.SelectKind:
			e = e.AsSelect().Operand()
		case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index:
			e = e.AsCall().Args()[0]
		default:
			return false
		}
	}
}

// spellings are the names of all members of the arguments by what they are without
// case; empty if one stands there in several cases.
type spellings map[string]string

func (s spellings) add(value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			folded := fold(name)
			if other, ok := s[folded]; ok && other != name {
				name = ""
			}
			s[folded] = name
			s.add(inner)
		}
	case []any:
		for _, inner := range value {
			s.add(inner)
		}
	}
}

// differ reports whether one of the names stands there in another case.
func (s spellings) differ(names []memberName) bool {
	for _, n := range names {
		if written, ok := s[n.folded]; ok && written != n.name {
			return true
		}
	}
	return false
}
