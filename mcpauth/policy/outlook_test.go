package policy

import "testing"

// TestOutlook: evaluating the conditions that an outlook names gives what Judge says.
func TestOutlook(t *testing.T) {
	settled, open := 0, 0
	policies(t, 300, func(g generator, _ []Role, p *Policy) {
		for range 3 {
			rs := p.RolesOf(claims(map[string][]string{"g": g.values(), "h": g.values()}), g.values(), nil)
			for range 60 {
				q := g.question()
				d, o := p.Judge(rs, q.question()), p.Outlook(rs, q.question())
				if o.Reason != "" {
					settled++
					// A rule without a condition is named before one with.
					if d.Allowed != (o.Reason == Granted) || o.AllowIf != nil || o.DenyIf != nil || (o.Rule == nil) != (o.Reason == NoRule) {
						t.Errorf("%v: %+v, but %+v", q, o, d)
					}
					continue
				}
				open++
				allowed := o.Rule != nil
				for _, r := range o.AllowIf {
					holds, err := naiveConditions[r.If](q)
					allowed = allowed || holds && err == nil
				}
				for _, r := range o.DenyIf {
					holds, err := naiveConditions[r.If](q)
					allowed = allowed && !holds && err == nil
				}
				if allowed != d.Allowed || len(o.AllowIf)+len(o.DenyIf) == 0 || o.Rule != nil && (o.Rule.Deny || o.AllowIf != nil) {
					t.Errorf("%v: %+v, but %+v", q, o, d)
				}
			}
		}
	})
	if open < 500 || settled < 10*open {
		t.Errorf("%d depend on a condition, %d do not: the generator asks too little", open, settled)
	}
}
