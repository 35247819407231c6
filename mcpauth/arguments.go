package mcpauth

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// question is what a message asks to be done to an object. A rule's condition sees
// the arguments, which are not decoded otherwise.
func (c *Call) question(m *jsonrpc.Message, perm mcp.Permission, kind policy.ObjectKind, name string) policy.Question {
	return policy.Question{
		Permission: perm,
		Server:     c.Server,
		Kind:       kind,
		Object:     name,
		Arguments: func() (map[string]any, error) {
			c.looked = true
			return arguments(m.Params.Arguments)
		},
		Claims: c.Principal.All,
		Client: c.Principal.ClientID,
	}
}

// mayUse decides on a question, and notes which rule did.
func (c *Call) mayUse(asked policy.Question) bool {
	if c.wanted != nil {
		*c.wanted = append(*c.wanted, asked)
		return true
	}
	p := c.Principal
	if p.asked != nil {
		p.asked(asked)
	}
	if !p.Scope.Permits(scope.Of(asked.Permission)) {
		return false
	}
	decision := p.policy.Judge(p.set, asked)
	c.rule, c.team = decision.Rule, decision.Team
	if decision.Reason == policy.HiddenObject {
		c.logBeyond(scope.CauseVisibility)
	}
	return decision.Allowed
}

// errAmbiguous is for arguments that the server could read as others than were
// judged.
var errAmbiguous = errors.New("the arguments are ambiguous")

// arguments decodes a call's arguments for a condition. It refuses what two readers
// could take for different values: names that differ only in case, which some
// readers take for the same, whole numbers that floating point rounds, and __proto__,
// which some readers leave out and others take for more than a name.
func arguments(text []byte) (map[string]any, error) {
	args := map[string]any{}
	if text == nil {
		return args, nil
	}
	if err := json.Unmarshal(text, &args, json.WithUnmarshalers(json.UnmarshalFromFunc(exactNumber))); err != nil {
		return nil, err
	}
	if !distinct(args) {
		return nil, errAmbiguous
	}
	return args, nil
}

// exactNumber decodes whole numbers as such, and everything else as usual.
func exactNumber(d *jsontext.Decoder, value *any) error {
	if d.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	number := string(raw)
	if strings.ContainsAny(number, ".eE") {
		*value, err = strconv.ParseFloat(number, 64)
		return err
	}
	whole, err := strconv.ParseInt(number, 10, 64)
	const exact = 1 << 53
	if err != nil || whole > exact || whole < -exact {
		return errAmbiguous
	}
	*value = whole
	return nil
}

// distinct reports whether no two names in any object are alike but for case, and none
// is __proto__.
func distinct(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		folded := make(map[string]struct{}, len(value))
		for name, inner := range value {
			key := strings.ToLower(strings.ToUpper(name))
			if _, twice := folded[key]; twice || name == "__proto__" || !distinct(inner) {
				return false
			}
			folded[key] = struct{}{}
		}
	case []any:
		for _, inner := range value {
			if !distinct(inner) {
				return false
			}
		}
	}
	return true
}
