package scope

import "testing"

func (s *Scope) counted() bool {
	_, _, counted := s.Usage()
	return counted
}

// Of tokens without limits nothing is counted; tokens are counted apart, those of two
// issuers with the same jti included. How it is counted, stores know (state.Counter).
func TestUsage(t *testing.T) {
	if parse(t, `{"jti":"1"}`, Config{}).counted() || scoped(t, `"usage_limits":{}`).counted() {
		t.Error("a token without limits is counted")
	}
	if !scoped(t, `"usage_limits":{"requests_per_day":1}`).counted() {
		t.Error("a token with a limit is not counted")
	}
	seen := map[Key]bool{}
	for _, names := range [][2]string{{"a", "1"}, {"a", "2"}, {"b", "1"}, {"", "a1"}, {"a1", ""}, {"", ""}} {
		key := UsageKey(names[0], names[1])
		if seen[key] {
			t.Errorf("%q is counted as another token", names)
		}
		seen[key] = true
	}
}
