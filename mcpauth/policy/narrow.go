package policy

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Constraint says which values an argument can have in a call that is allowed.
type Constraint struct {
	// Values are scalars of JSON: nil, bool, int64 (less than 2^53 either way),
	// float64 or string. Each is there once, in an order that is always the same;
	// there is at least one.
	Values []any
}

// Narrow returns what the conditions say about the arguments of a tool, by their
// names: with any other value in its place, or without the argument, a call is not
// allowed. It is for narrowing the schema of a tool that is listed.
//
// It returns false when there is nothing to say: the tool cannot be called at all,
// or some grant without a condition allows it, or there is no argument that every
// grant fixes. A condition fixes an argument by args.x == "c", args["x"] == "c",
// args.x in ["a", "b"], several conditions joined by &&, or several joined by ||
// that all fix it; what else it says is not looked at. The values are those of all
// the grants together.
func (p *Policy) Narrow(rs RoleSet, server, tool string) (map[string]Constraint, bool) {
	q, ok := p.newQuestion(rs, &Question{Permission: mcp.ToolsExecute, Server: server, Kind: KindName, Object: tool})
	if !ok || !p.allowIf.any || p.ask(&p.deny, &q) || p.ask(&p.allow, &q) {
		return nil, false
	}
	q.mode = collecting
	p.ask(&p.allowIf, &q)
	if len(q.tried) == 0 {
		return nil, false
	}
	fixes := q.tried[0].condition.fixes
	for _, r := range q.tried[1:] {
		fixes = either(fixes, r.condition.fixes)
	}
	narrowed := make(map[string]Constraint)
	for name, values := range fixes {
		if len(values) > 0 {
			narrowed[name] = Constraint{slices.SortedFunc(slices.Values(values), compareScalars)}
		}
	}
	return narrowed, len(narrowed) > 0
}

// Narrows reports whether there could be a tool of that server about which
// [Policy.Narrow] has something to say. Without one, a list of tools of which
// everything is allowed can be left as it is.
func (p *Policy) Narrows(rs RoleSet, server string) bool {
	q, ok := p.newQuestion(rs, &Question{Permission: mcp.ToolsExecute, Server: server})
	q.mode = touching
	return ok && p.ask(&p.allowIf, &q)
}

// compareScalars sorts by type, then by value.
func compareScalars(a, b any) int {
	if c := cmp.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case string:
		return cmp.Compare(a, b.(string))
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		return cmp.Compare(a, b.(float64))
	case bool:
		if a == b {
			return 0
		} else if !a {
			return -1
		}
		return 1
	}
	return 0
}

// valueSet is a set of scalars, each once.
type valueSet []any

// fixed returns the arguments that must have one of some values for the expression
// to be true, and these values.
func fixed(e ast.Expr) map[string]valueSet {
	if e.Kind() != ast.CallKind {
		return nil
	}
	call := e.AsCall()
	switch args := call.Args(); call.FunctionName() {
	case operators.LogicalAnd:
		fixes := fixed(args[0])
		for _, arg := range args[1:] {
			fixes = both(fixes, fixed(arg))
		}
		return fixes
	case operators.LogicalOr:
		// True means that one side is, even when the other is an error.
		fixes := fixed(args[0])
		for _, arg := range args[1:] {
			fixes = either(fixes, fixed(arg))
		}
		return fixes
	case operators.Equals:
		for i := range args {
			if name, ok := argument(args[i]); ok {
				if v, ok := scalar(args[1-i]); ok {
					return map[string]valueSet{name: {v}}
				}
			}
		}
	case operators.In:
		name, ok := argument(args[0])
		if !ok || args[1].Kind() != ast.ListKind {
			return nil
		}
		values := valueSet{}
		for _, element := range args[1].AsList().Elements() {
			v, ok := scalar(element)
			if !ok {
				return nil
			}
			if !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
		return map[string]valueSet{name: values}
	}
	return nil
}

// argument returns the name in args.name or args["name"].
func argument(e ast.Expr) (string, bool) {
	if e.Kind() == ast.SelectKind {
		s := e.AsSelect()
		return s.FieldName(), !s.IsTestOnly() && isArgs(s.Operand())
	}
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.Index {
		return "", false
	}
	call := e.AsCall()
	if !isArgs(call.Args()[0]) || call.Args()[1].Kind() != ast.LiteralKind {
		return "", false
	}
	name, ok := call.Args()[1].AsLiteral().(types.String)
	return string(name), ok
}

func isArgs(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == "args"
}

// maxExact is the number below which every whole number is a float64, so that it is
// equal to nothing else however it is compared.
const maxExact = 1 << 53

// scalar returns the value of a literal that JSON can write as it is.
func scalar(e ast.Expr) (any, bool) {
	if e.Kind() != ast.LiteralKind {
		return nil, false
	}
	return jsonScalar(e.AsLiteral())
}

func jsonScalar(v ref.Val) (any, bool) {
	switch v := v.(type) {
	case types.Null:
		return nil, true
	case types.Bool:
		return bool(v), true
	case types.String:
		return string(v), true
	case types.Int:
		return int64(v), v > -maxExact && v < maxExact
	case types.Uint:
		if v >= maxExact {
			return nil, false
		}
		return int64(v), true
	case types.Double:
		f := float64(v)
		if !(math.Abs(f) < maxExact) {
			return nil, false
		}
		if f == math.Trunc(f) {
			return int64(f), true
		}
		return f, true
	}
	return nil, false
}

// both returns what is fixed where both are true.
func both(a, b map[string]valueSet) map[string]valueSet {
	all := make(map[string]valueSet, len(a)+len(b))
	for name, values := range a {
		if others, ok := b[name]; ok {
			values = slices.DeleteFunc(slices.Clone(values), func(v any) bool { return !slices.Contains(others, v) })
		}
		all[name] = values
	}
	for name, values := range b {
		if _, ok := a[name]; !ok {
			all[name] = values
		}
	}
	return all
}

// either returns what is fixed where one of them is true.
func either(a, b map[string]valueSet) map[string]valueSet {
	common := make(map[string]valueSet)
	for name, values := range a {
		others, ok := b[name]
		if !ok {
			continue
		}
		union := slices.Clone(values)
		for _, v := range others {
			if !slices.Contains(union, v) {
				union = append(union, v)
			}
		}
		common[name] = union
	}
	return common
}
