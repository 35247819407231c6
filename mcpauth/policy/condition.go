package policy

import (
	"errors"
	"fmt"
	"regexp"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

const (
	// maxCondition bounds the text of a condition, in bytes.
	maxCondition = 4096
	// maxConditionCost bounds what evaluating one may cost: about one for each
	// operation, and for every ten bytes of text or element that it looks at.
	maxConditionCost = 20_000
	// maxPatternText bounds the text that a regular expression is tried on, in
	// bytes, and maxPattern the size of its program: its cost is only counted when
	// it has been run.
	maxPatternText = 16 << 10
	maxPattern     = 1000
)

// condition is a compiled condition.
type condition struct {
	program cel.Program
	// args and claims are whether it looks at these.
	args, claims bool
	// fixes are the arguments that must have one of certain values for it to hold.
	fixes map[string]valueSet
	// names are those of members that it asks for.
	names []memberName
}

// environment is what conditions are written in: CEL's standard library and our
// variables.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	values := cel.MapType(cel.StringType, cel.DynType)
	return cel.NewEnv(
		cel.Variable("args", values),
		cel.Variable("claims", values),
		cel.Variable("server", cel.StringType),
		cel.Variable("tool", cel.StringType),
		cel.Variable("client", cel.StringType),
		// Whether a client writes 1 or 1.0 must not matter.
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.RegexProgramSizeLimit(maxPattern),
	)
})

// newCondition compiles and checks the text of a condition.
func newCondition(text string) (*condition, error) {
	if len(text) > maxCondition {
		return nil, fmt.Errorf("a condition has at most %d bytes", maxCondition)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("not valid UTF-8")
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if found := issues.Errors(); len(found) > 0 {
		first := found[0]
		if first.Location == nil || first.Location.Line() < 1 {
			return nil, errors.New(first.Message)
		}
		return nil, fmt.Errorf("line %d, column %d: %s; the variables are args, claims, server, tool, client", first.Location.Line(), first.Location.Column()+1, first.Message)
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("a condition is true or false, and this is of type %s: compare it with something, such as args.x == true", cel.FormatCELType(checked.OutputType()))
	}
	tree := checked.NativeRep()
	if err := checkPatterns(tree.Expr()); err != nil {
		return nil, err
	}
	c := &condition{fixes: fixed(tree.Expr()), names: memberNames(tree.Expr())}
	for _, reference := range tree.ReferenceMap() {
		c.args = c.args || reference.Name == "args"
		c.claims = c.claims || reference.Name == "claims"
	}
	c.program, err = env.Program(checked, cel.OptimizeRegex(shortText), cel.CostTracking(costs{}), cel.CostLimit(maxConditionCost))
	return c, err
}

// shortText makes a regular expression fail on a long text.
var shortText = &interpreter.RegexOptimization{
	Function:   "matches",
	RegexIndex: 1,
	Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
			text, ok := values[0].(types.String)
			switch {
			case !ok:
				return types.MaybeNoSuchOverloadErr(values[0])
			case len(text) > maxPatternText:
				return types.NewErr("the cost of a pattern on more than %d bytes is too high", maxPatternText)
			}
			return types.Bool(compiled.MatchString(string(text)))
		}), nil
	},
}

// costs counts what the calls of a condition cost. CEL's own count takes calls on
// values whose type is known only when they are there for cheap, and the length of
// a text for known.
type costs struct{}

// CallCost returns the cost of a call.
func (costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	cost := uint64(1)
	deep := function == operators.Equals || function == operators.NotEquals || function == operators.In
	for _, arg := range args {
		cost += weight(arg, deep, maxConditionCost)
	}
	return &cost
}

// weight returns how much there is to look at in a value, up to a limit: in text,
// and in lists and maps if they are looked into.
func weight(v ref.Val, deep bool, limit uint64) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	}
	container, ok := v.(traits.Iterable)
	if !ok || !deep || limit == 0 {
		return 0
	}
	values, isMap := v.(traits.Mapper)
	var sum uint64
	for it := container.Iterator(); it.HasNext() == types.True && sum < limit; {
		next := it.Next()
		sum += 1 + weight(next, true, limit-sum)
		if isMap {
			sum += weight(values.Get(next), true, limit-min(sum, limit))
		}
	}
	return sum
}

// checkPatterns refuses a regular expression that is not a literal: the cost of
// one from a client would be known only after it has been run.
func checkPatterns(e ast.Expr) error {
	var err error
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "matches" {
			return
		}
		if args := e.AsCall().Args(); args[len(args)-1].Kind() != ast.LiteralKind {
			err = errors.New("write the pattern of matches out as text: a pattern that comes from elsewhere could take any time")
		}
	}))
	return err
}

// variables are the values of the variables. They are a cel.Activation.
type variables struct {
	args, claims         map[string]any
	server, tool, client string
}

// ResolveName returns the value of a variable.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "args":
		return v.args, true
	case "claims":
		return v.claims, true
	case "server":
		return v.server, true
	case "tool":
		return v.tool, true
	case "client":
		return v.client, true
	}
	return nil, false
}

// Parent returns nil: there are no other variables.
func (*variables) Parent() cel.Activation { return nil }

var errNoArguments = errors.New("the arguments are not known")

// evaluate reports whether the condition holds.
func (q *question) evaluate(c *condition) (bool, error) {
	if c.args && !q.known.args {
		q.known.args = true
		if q.arguments == nil {
			q.argsErr = errNoArguments
		} else if q.vars.args, q.argsErr = q.arguments(); q.argsErr == nil && q.vars.args == nil {
			q.vars.args = map[string]any{}
		}
		q.written = make(spellings)
		q.written.add(q.vars.args)
	}
	if c.claims && !q.known.claims {
		q.known.claims = true
		if q.claims != nil {
			q.vars.claims = q.claims()
		}
		if q.vars.claims == nil {
			q.vars.claims = map[string]any{}
		}
	}
	if c.args && q.argsErr != nil {
		return false, q.argsErr
	}
	if c.args && q.written.differ(c.names) {
		return false, errSpelling
	}
	// A copy, so that the question itself stays on the stack.
	vars := q.vars
	vars.server, vars.tool, vars.client = q.server, q.object, q.client
	result, _, err := c.program.Eval(&vars)
	if err != nil {
		return false, err
	}
	if holds, ok := result.(types.Bool); ok {
		return bool(holds), nil
	}
	return false, fmt.Errorf("the condition gave %s instead of true or false", result.Type().TypeName())
}

// Interface guard.
var _ cel.Activation = (*variables)(nil)
