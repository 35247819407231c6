package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// scopeClaim is the claim name that stands for the token's scopes.
const scopeClaim = "scope"

// Compile turns roles into a policy. The roles are not kept: changing them
// afterwards changes nothing. An error is an [*Error]; the first one found is
// returned.
func Compile(roles []Role) (*Policy, error) {
	p := &Policy{conditions: make(map[string]map[string][]int32)}
	names := make(map[string]int, len(roles))
	for i, r := range roles {
		at := Error{Role: r.Name, RoleIndex: i, Condition: -1, Grant: -1, Object: -1}
		if err := checkRoleName(r.Name); err != nil {
			return nil, at.because(err)
		}
		if first, taken := names[r.Name]; taken {
			return nil, at.because(fmt.Errorf("the name is already taken by role number %d: give each role its own name, and all its grants in one place", first+1))
		}
		names[r.Name] = i
	}

	// A role's number is its place among the sorted names, so that the order of
	// the configuration shows nowhere.
	order := make([]string, 0, len(roles))
	for _, r := range roles {
		order = append(order, r.Name)
	}
	slices.Sort(order)
	p.words = (len(roles) + 63) / 64
	p.roles = make([]role, len(roles))

	for i, r := range roles {
		at := Error{Role: r.Name, RoleIndex: i, Condition: -1, Grant: -1, Object: -1}
		id, _ := slices.BinarySearch(order, r.Name)
		p.roles[id].name = r.Name
		for c, condition := range r.When {
			at.Condition = c
			if err := p.addCondition(&p.roles[id], condition); err != nil {
				return nil, at.because(err)
			}
		}
		at.Condition = -1
		for g, grant := range r.Allow {
			at.Grant = g
			object, err := p.allow.add(id, grant)
			if err != nil {
				at.Object = object
				return nil, at.because(err)
			}
		}
	}
	p.allow.seal()
	return p, nil
}

// because returns a copy of e with err as its reason.
func (e Error) because(err error) *Error {
	e.Reason = err.Error()
	return &e
}

func checkRoleName(name string) error {
	if name == "" {
		return errors.New("a role needs a name")
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ',' {
			return errors.New("a role name is made of visible ASCII characters other than the comma, because it is sent to upstream servers in a header")
		}
	}
	return nil
}

// addCondition numbers the condition and enters its values in the table that
// leads from a claim's value to the conditions it satisfies.
func (p *Policy) addCondition(r *role, c Condition) error {
	if c.Claim == "" {
		return errors.New("name the claim to look at")
	}
	if len(c.Values) == 0 {
		return fmt.Errorf("claim %q: list at least one value", c.Claim)
	}
	byValue := p.conditions[c.Claim]
	if byValue == nil {
		byValue = make(map[string][]int32)
		p.conditions[c.Claim] = byValue
	}
	id := p.conditionCount
	p.conditionCount++
	for _, v := range c.Values {
		if v == "" {
			return fmt.Errorf("claim %q: a value is empty; is a placeholder unset?", c.Claim)
		}
		if c.Claim == scopeClaim && strings.ContainsAny(v, " \t\r\n") {
			return fmt.Errorf("scope %q has a space in it: list scopes as separate values", v)
		}
		if !slices.Contains(byValue[v], id) {
			byValue[v] = append(byValue[v], id)
		}
	}
	if c.Claim == scopeClaim {
		values := slices.Clone(c.Values)
		slices.Sort(values)
		r.scopes = append(r.scopes, scopeCondition{id, slices.Compact(values)})
	} else {
		r.others = append(r.others, id)
	}
	return nil
}

// parsePermission returns the permission of a grant; PermissionNone is "*".
func parsePermission(name string) (mcp.Permission, error) {
	if name == "*" {
		return mcp.PermissionNone, nil
	}
	if perm, ok := mcp.ParsePermission(name); ok {
		return perm, nil
	}
	valid := []string{"*"}
	nearest, distance := "", 4
	for _, perm := range mcp.Permissions() {
		valid = append(valid, perm.String())
		if d := editDistance(strings.ToLower(name), perm.String()); d < distance {
			nearest, distance = perm.String(), d
		}
	}
	hint := ""
	if nearest != "" {
		hint = fmt.Sprintf("did you mean %q? ", nearest)
	}
	return 0, fmt.Errorf("unknown permission %q: %sthe permissions are %s", name, hint, strings.Join(valid, ", "))
}

// editDistance is the number of bytes to insert, remove or replace to get from
// a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
