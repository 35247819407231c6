package policy

import "slices"

// Outlook is the answer to a [Question] as far as it does not depend on arguments.
type Outlook struct {
	// Reason is Granted, Denied, HiddenObject or NoRule when no arguments change that, else empty.
	Reason Reason
	// Hidden is the object, as it is written in [Config.Visibility], that is not for
	// the principal; empty unless the reason is HiddenObject.
	Hidden string
	// Rule is the rule that decided, or that allows unless one of DenyIf holds.
	Rule *Rule
	// AllowIf are the rules one of whose conditions has to hold when none allows
	// without a condition, DenyIf those none of whose conditions may.
	AllowIf, DenyIf []*Rule
}

// Outlook answers what [Policy.Judge] would, and names the conditions that the answer
// depends on instead of evaluating them. It is for comparing policies, not for
// requests.
func (p *Policy) Outlook(rs RoleSet, asked Question) Outlook {
	q, ok := p.newQuestion(rs, &asked)
	if !ok {
		return Outlook{Reason: NoRule}
	}
	if p.ask(&p.deny, &q) {
		if q.rule.hides() {
			return Outlook{Reason: HiddenObject, Hidden: q.rule.object}
		}
		return Outlook{Reason: Denied, Rule: q.rule}
	}
	var o Outlook
	if q.rule = nil; p.ask(&p.allow, &q) {
		o.Rule = q.rule
	} else if q.kind != KindNone {
		o.AllowIf = p.collected(&p.allowIf, q)
	}
	if o.Rule == nil && o.AllowIf == nil {
		return Outlook{Reason: NoRule}
	}
	if q.kind == KindNone {
		if p.ask(&p.denyIf, &q) {
			return Outlook{Reason: Denied, Rule: q.rule}
		}
	} else {
		o.DenyIf = p.collected(&p.denyIf, q)
	}
	if o.Rule != nil && o.DenyIf == nil {
		o.Reason = Granted
	}
	return o
}

// collected returns all rules that match, in the order of the policy.
func (p *Policy) collected(r *rules, q question) []*Rule {
	q.mode, q.tried = collecting, nil
	p.ask(r, &q)
	slices.SortFunc(q.tried, func(a, b *Rule) int {
		if a.role != b.role {
			return a.role - b.role
		}
		return a.Index - b.Index
	})
	return q.tried
}
