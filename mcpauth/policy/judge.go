package policy

import (
	"slices"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Question asks whether a principal may do something with these arguments.
type Question struct {
	Permission mcp.Permission
	Server     string
	// Kind and Object say what it is done to, as in [Policy.Allows].
	Kind   ObjectKind
	Object string

	// Arguments returns the arguments of the call, an empty map when it has none.
	// It is asked at most once, and only if a condition that decides looks at
	// them. The values are those of JSON: nil, bool, string, a number as int64,
	// uint64 or float64, []any and map[string]any; they are read, not changed. A
	// whole number that none of these holds exactly should be an error, because
	// the server may read another one than was judged. An error, or a nil function,
	// means that no condition on arguments can be evaluated.
	Arguments func() (map[string]any, error)
	// Claims returns the claims of the token, and is asked in the same way. A nil
	// function stands for no claims.
	Claims func() map[string]any
	// Client is the id of the client.
	Client string
}

// Decision is the answer to a [Question].
type Decision struct {
	Allowed bool
	// Rule is the rule that decided: the one that allows, or the one that denies,
	// or with ConditionFalse and ConditionFailed the one that would have allowed.
	// Nil when none matches. Of several, which is always the same one for the same
	// configuration.
	Rule   *Rule
	Reason Reason
	// Team is the team to which the object belongs and in which the rule's role
	// holds; empty if that role holds everywhere. Of several, the first in order.
	Team string
	// Hidden is the object, as it is written in [Config.Visibility], that is not for
	// the principal; empty unless the reason is HiddenObject.
	Hidden string
	// Err says why a condition could not be evaluated. It can hold text of the
	// arguments.
	Err error
}

// Reason says how a decision came about.
type Reason string

// The reasons.
const (
	// Granted is for a rule that allows, and none that denies.
	Granted Reason = "granted"
	// Denied is for a rule that denies. Err is set when it does so because its
	// condition could not be evaluated.
	Denied Reason = "denied"
	// HiddenObject is for an object that is not for the principal, whatever its
	// roles allow.
	HiddenObject Reason = "hidden"
	// NoRule is for nothing that matches, and for a question that makes no sense,
	// such as one with the roles of another policy.
	NoRule Reason = "no_rule"
	// ConditionFalse is for rules that match, with conditions that do not hold.
	ConditionFalse Reason = "condition_false"
	// ConditionFailed is for the same, when a condition could not be evaluated:
	// that of Rule.
	ConditionFailed Reason = "condition_failed"
)

// Judge answers a question, and says why. It takes no lock and no allocation
// unless a condition decides.
//
// With KindNone no condition is evaluated: a grant with one does not count, a deny
// with one does, as in [Policy.Allows].
func (p *Policy) Judge(rs RoleSet, asked Question) Decision {
	q, ok := p.newQuestion(rs, &asked)
	if !ok {
		return Decision{Reason: NoRule}
	}
	q.arguments, q.claims, q.client = asked.Arguments, asked.Claims, asked.Client
	reason := p.settle(&q, true)
	if reason == HiddenObject {
		return Decision{Reason: reason, Hidden: q.rule.object}
	}
	d := Decision{Allowed: reason == Granted, Rule: q.rule, Reason: reason, Err: q.cause}
	if d.Rule != nil {
		d.Team = p.teamOf(&q, d.Rule)
	}
	return d
}

// settle answers. Conditions are evaluated only as far as the answer depends on
// them, and not at all if evaluate is false.
func (p *Policy) settle(q *question, evaluate bool) Reason {
	if p.ask(&p.deny, q) {
		if q.rule.hides() {
			return HiddenObject
		}
		return Denied
	}
	reason := p.grant(q, evaluate)
	if reason != Granted {
		return reason
	}
	if p.refuses(&p.denyIf, q, evaluate) {
		return Denied
	}
	return Granted
}

// grant answers as far as what is allowed goes.
func (p *Policy) grant(q *question, evaluate bool) Reason {
	if q.mode, q.rule = matching, nil; p.ask(&p.allow, q) {
		return Granted
	}
	if !evaluate || q.kind == KindNone || !p.allowIf.any {
		return NoRule
	}
	q.mode = evaluating
	if p.ask(&p.allowIf, q) {
		q.cause = nil
		return Granted
	}
	q.rule = q.unmet
	switch {
	case q.unmet == nil:
		return NoRule
	case q.cause != nil:
		return ConditionFailed
	}
	return ConditionFalse
}

// refuses asks rules with conditions that deny.
func (p *Policy) refuses(r *rules, q *question, evaluate bool) bool {
	if q.mode = matching; evaluate && q.kind != KindNone {
		q.mode = evaluating
	}
	return p.ask(r, q)
}

// trial is what a question needs for its conditions.
type trial struct {
	arguments func() (map[string]any, error)
	claims    func() map[string]any
	client    string

	// known is set once the variables are.
	known struct{ args, claims bool }
	vars  variables
	// argsErr is why there are no arguments.
	argsErr error
	// tried are the rules evaluated, or collected.
	tried []*Rule
	// unmet is the first of the rules that would allow and whose condition does
	// not hold, those that could not be evaluated before all others; cause is the
	// error of its condition, or of the one that denies.
	unmet *Rule
	cause error
}

// holds evaluates a rule's condition, and reports whether it decides: an error
// denies.
func (q *question) holds(r *Rule) bool {
	if slices.Contains(q.tried, r) {
		return false
	}
	q.tried = append(q.tried, r)
	holds, err := q.evaluate(r.condition)
	switch {
	case q.deny:
		q.cause = err
		return holds || err != nil
	case holds:
		return true
	}
	before := q.unmet == nil
	switch {
	case before:
	case (err != nil) != (q.cause != nil):
		before = err != nil
	default:
		before = r.role < q.unmet.role || r.role == q.unmet.role && r.Index < q.unmet.Index
	}
	if before {
		q.unmet, q.cause = r, err
	}
	return false
}

func (q *question) collect(r *Rule) {
	if !slices.Contains(q.tried, r) {
		q.tried = append(q.tried, r)
	}
}
