package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// scopeClaim is the claim name that stands for the token's scopes.
const scopeClaim = "scope"

// Compile turns roles into a policy in which nothing belongs to a team and nothing
// is hidden. See [Config.Compile].
func Compile(roles []Role) (*Policy, error) {
	return Config{Roles: roles}.Compile()
}

// Compile turns a configuration into a policy. The configuration is not kept:
// changing it afterwards changes nothing. An error is an [*Error] when it is about a
// role, and an [*ObjectError] when it is not; the first one found is returned.
func (c Config) Compile() (*Policy, error) {
	roles := c.Roles
	p := &Policy{conditions: make(map[string]map[string][]int32)}
	p.deny.deny, p.denyIf.deny = true, true
	names := make(map[string]int, len(roles))
	for i, r := range roles {
		at := place(i, r)
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
	order := slices.Sorted(maps.Keys(names))
	p.words = (len(roles) + 63) / 64
	p.roles = make([]role, len(roles))
	var err error
	if err = p.addHidden(c.Visibility); err != nil {
		return nil, err
	}
	if p.teams, err = newTeams(p.words, c.Teams); err != nil {
		return nil, err
	}
	number := func(name string) int {
		id, _ := slices.BinarySearch(order, name)
		return id
	}

	all := inheritance{roles: roles, names: names, parsed: make([]*parsedRole, len(roles))}
	for i, r := range roles {
		at := place(i, r)
		id := number(r.Name)
		p.roles[id].name = r.Name
		for c, condition := range r.When {
			at.Condition = c
			if err := p.addCondition(&p.roles[id], condition); err != nil {
				return nil, at.because(err)
			}
		}
		at.Condition = -1
		if at.Team, err = p.teams.addRole(id, r.Teams); err != nil {
			return nil, at.because(err)
		}
		parsed, err := parseRole(at, r)
		if err != nil {
			return nil, err
		}
		if err := p.teams.checkGrants(at, r, parsed); err != nil {
			return nil, err
		}
		all.parsed[i] = parsed
	}
	for i, r := range roles {
		sources, err := all.of(i)
		if err != nil {
			return nil, err
		}
		for _, source := range sources {
			p.add(Rule{Role: r.Name, From: source.name, role: number(r.Name)}, source)
		}
	}
	for _, r := range []*rules{&p.allow, &p.deny, &p.allowIf, &p.denyIf} {
		r.seal()
	}
	return p, nil
}

// place returns an error at a role.
func place(i int, r Role) Error {
	return Error{Role: r.Name, RoleIndex: i, Condition: -1, Team: -1, Grant: -1, Object: -1, Extends: -1}
}

// parsedRole is a role's own grants, as read.
type parsedRole struct {
	name        string
	allow, deny []parsed
}

func parseRole(at Error, r Role) (*parsedRole, error) {
	p := &parsedRole{name: r.Name}
	for _, list := range []struct {
		grants []Grant
		deny   bool
		to     *[]parsed
	}{{r.Allow, false, &p.allow}, {r.Deny, true, &p.deny}} {
		at.Deny = list.deny
		for i, g := range list.grants {
			at.Grant = i
			read, object, err := parseGrant(g, list.deny)
			if err != nil {
				at.Object = object
				return nil, at.because(err)
			}
			*list.to = append(*list.to, read)
		}
	}
	return p, nil
}

// add enters the grants of a source, as rules like this one.
func (p *Policy) add(like Rule, source *parsedRole) {
	rule := func(i int, g parsed) *Rule {
		r := like
		r.Index, r.Permission, r.If, r.Source, r.condition = i, g.grant.Permission, g.grant.If, g.grant.Source, g.condition
		return &r
	}
	for i, g := range source.allow {
		r := rule(i, g)
		always := &p.allow
		if g.perm == mcp.PermissionNone {
			p.every.add(r.role)
		}
		for _, o := range g.objects {
			if g.condition != nil {
				p.allowIf.add(r, o, g.perm)
			} else {
				always.add(r, o, g.perm)
			}
			// Whatever the condition, what it could allow may be seen.
			for implied := g.perm.Implies(); implied != mcp.PermissionNone; implied = implied.Implies() {
				always.add(r, o, implied)
			}
		}
	}
	like.Deny = true
	for i, g := range source.deny {
		r, to := rule(i, g), &p.deny
		if g.condition != nil {
			to = &p.denyIf
		}
		for _, o := range g.objects {
			to.add(r, o, deniedWith(g.perm)...)
		}
	}
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
		if c.Claim == scopeClaim && strings.ContainsFunc(v, notOfScope) {
			// No token can have it, and a challenge that names it would be malformed.
			return fmt.Errorf("scope %q may hold visible ASCII without quotes and backslashes only (RFC 6749 section 3.3)", v)
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

// notOfScope reports whether a character cannot be in a scope-token (RFC 6749
// section 3.3).
func notOfScope(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }

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
