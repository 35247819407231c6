package mcpauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// Layer is what refused a request.
type Layer string

// The layers, in the order in which they are asked.
const (
	// LayerToken: the token is not accepted.
	LayerToken Layer = "token"
	// LayerVisibility: the token does not see the server, or the object on it.
	LayerVisibility Layer = "visibility"
	// LayerTokenScope: what is asked for is beyond what the token itself is bound to.
	LayerTokenScope Layer = "token_scope"
	// LayerMessage: the message is not one that is carried.
	LayerMessage Layer = "message"
	// LayerRoles: the roles do not allow it.
	LayerRoles Layer = "roles"
)

func layerOf(cause scope.Cause) Layer {
	if cause == scope.CauseVisibility {
		return LayerVisibility
	}
	return LayerTokenScope
}

// Explanation is an answer of the gate, and why it is so. Unlike an answer to a
// client it hides nothing.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Method  string `json:"method"`
	Server  string `json:"server"`
	Object  string `json:"object,omitempty"`

	// Who asks. Empty when the token is refused.
	Issuer  string   `json:"issuer,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Client  string   `json:"client,omitempty"`
	Roles   []string `json:"roles,omitempty"`

	// Team is the one to which the object belongs and in which the rule's role holds,
	// empty if that role holds everywhere.
	Team string `json:"team,omitempty"`
	// Permission is what was asked for last.
	Permission string `json:"permission,omitempty"`
	// Layer is what refused, empty when nothing did.
	Layer Layer `json:"layer,omitempty"`
	// Reason is a stable word of that layer, Detail says it to a person.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Rule is the rule that decided, if one did.
	Rule *WrittenRule `json:"rule,omitempty"`
	// Hides is what hides the server or the object, if it is hidden.
	Hides *WrittenVisibility `json:"hides,omitempty"`
	// Scopes are the OAuth scopes without which it is refused and with which it
	// would be allowed: those the token lacks. None when no scope would help.
	Scopes []string `json:"scopes,omitempty"`
	// Answer is what the client is told, nil when it is told nothing: an item
	// is left out of a list, a message of the server is dropped.
	Answer *RefusalAnswer `json:"answer,omitempty"`
}

// RefusalAnswer is the answer to a client whose request is refused.
type RefusalAnswer struct {
	Status int    `json:"status"`
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// WrittenRule is a rule as it was written.
type WrittenRule struct {
	// Role is the role of the principal, From the one it has the rule from, if that
	// is another.
	Role string `json:"role"`
	From string `json:"from,omitempty"`
	// Teams are those in which the role holds, * for every team; none if it holds
	// everywhere.
	Teams []string `json:"teams,omitempty"`
	// At is where it was written, such as Caddyfile:12.
	At string `json:"at,omitempty"`
	// Text is what was written, in the Caddyfile's words.
	Text string `json:"text"`
	// Objects are those of the text, nil for everything on every server.
	Objects []string `json:"-"`
}

// Written returns a rule of the handler's policy as it was written.
func (h *Handler) Written(rule *policy.Rule) *WrittenRule {
	if rule == nil {
		return nil
	}
	w := &WrittenRule{Role: rule.Role, At: rule.Source}
	if rule.From != rule.Role {
		w.From = rule.From
	}
	find := func(roles []policy.Role) {
		for _, role := range roles {
			grants, n := role.Allow, rule.Index
			if rule.Deny {
				grants = role.Deny
			}
			if role.Name == rule.From && n < len(grants) && grants[n].Permission == rule.Permission && grants[n].Source == rule.Source {
				w.Objects = grants[n].Objects
				return
			}
		}
	}
	if builtIn, ok := policy.BuiltIn(rule.From); ok {
		find([]policy.Role{builtIn})
	}
	find(h.Roles)
	if at := slices.IndexFunc(h.Roles, func(r policy.Role) bool { return r.Name == rule.Role }); at >= 0 {
		w.Teams = h.Roles[at].Teams
	}
	words := []string{"allow", rule.Permission}
	if rule.Deny {
		words[0] = "deny"
	}
	for _, object := range w.Objects {
		words = append(words, inCaddyfile(object))
	}
	if rule.If != "" {
		words = append(words, "if", rule.If)
	}
	w.Text = strings.Join(words, " ")
	return w
}

// Explain asks the gate a question. An error means that there is no such question.
func (i *Inquiry) Explain(q Question) (*Explanation, error) {
	asked, err := q.compose()
	if err != nil {
		return nil, err
	}
	x := &Explanation{Method: q.Method, Server: i.endpoint.server, Object: q.Object}
	if i.refusal != nil {
		x.Layer, x.Reason, x.Detail = LayerToken, i.refusal.Reason, i.refusal.Message
		x.Answer = answerOf(i.refusal)
		return x, nil
	}
	p := i.principal
	x.Issuer, x.Subject, x.Client, x.Roles = p.Issuer, p.Subject, p.ClientID, i.Roles()
	v := i.try(asked)
	x.Allowed, x.Answer = v.allowed, answerOf(v.refusal)
	if err := i.why(v, x); err != nil {
		return nil, err
	}
	if !x.Allowed {
		x.Scopes = i.helpful(asked, v)
	}
	return x, nil
}

func answerOf(f *Refusal) *RefusalAnswer {
	if f == nil {
		return nil
	}
	return &RefusalAnswer{f.Status, f.Code, f.Reason}
}

// ruling is what the gate said.
type ruling struct {
	allowed bool
	// refusal is the answer to the client, nil if there is none.
	refusal *Refusal
	cause   scope.Cause
	// last is what was asked last of the principal, which decided if anything did.
	last *policy.Question
}

// try has the gate decide on a message.
func (i *Inquiry) try(asked *composed) ruling {
	var v ruling
	p := *i.principal
	p.asked = func(q policy.Question) { v.last = &q }
	call := i.call(&p)
	r := i.request(context.Background(), asked.body)
	asked.header(r.Header)
	if asked.body == nil {
		r.Method = http.MethodGet
	}
	v.refusal = i.handler.decide(call, silent{}, r, i.at.Now)
	v.cause = call.cause
	switch {
	case v.refusal != nil:
	case asked.received != nil:
		v.allowed = call.mayReceive(asked.received)
	case asked.item != nil:
		v.allowed = call.filter().Keep(asked.list, *asked.item)
	case asked.followed != "":
		v.allowed = slices.Contains(call.Messages[0].Params.Notifications.ResourceSubscriptions, asked.followed)
	default:
		v.allowed = true
	}
	return v
}

// silent is where nothing is written to.
type silent struct{}

func (silent) Header() http.Header         { return http.Header{} }
func (silent) Write(b []byte) (int, error) { return len(b), nil }
func (silent) WriteHeader(int)             {}

var errContradiction = errors.New("the gate's answer and its policy's contradict each other; this is a mistake in the gateway, please report it")

// why asks the policy for what the gate's answer is made of.
func (i *Inquiry) why(v ruling, x *Explanation) error {
	if v.last != nil {
		x.Permission = v.last.Permission.String()
	}
	if v.cause != "" {
		x.Layer, x.Reason, x.Detail = layerOf(v.cause), string(v.cause), i.describe(v.cause, x.Permission)
		if v.cause == scope.CauseVisibility {
			x.Hides = i.handler.Hides(x.Server)
		}
		return nil
	}
	if v.last != nil {
		if refused := i.principal.Scope.Permit(scope.Of(v.last.Permission)); refused != nil {
			x.Layer, x.Reason, x.Detail = layerOf(refused.Cause), string(refused.Cause), i.describe(refused.Cause, x.Permission)
		} else if d := i.principal.policy.Judge(i.principal.set, *v.last); !d.Allowed {
			x.Layer, x.Reason, x.Detail = LayerRoles, string(d.Reason), i.describeDecision(d, x.Permission)
			if d.Reason == policy.HiddenObject {
				x.Layer, x.Hides = LayerVisibility, i.handler.Hides(d.Hidden)
			}
			x.Rule, x.Team = i.handler.Written(d.Rule), d.Team
		} else if v.allowed {
			x.Rule, x.Team = i.handler.Written(d.Rule), d.Team
			return nil
		}
	}
	switch {
	case v.allowed && x.Layer != "":
		return errContradiction
	case v.allowed || x.Layer != "":
	case v.refusal == nil:
		return errContradiction
	default:
		x.Layer, x.Reason, x.Detail = LayerMessage, v.refusal.Reason, v.refusal.Message
	}
	return nil
}

// holder is what bounds the principal.
func (i *Inquiry) holder() string {
	if i.principal.vouched {
		return "this principal"
	}
	return "the token"
}

func (i *Inquiry) describe(cause scope.Cause, permission string) string {
	switch cause {
	case scope.CauseVisibility:
		return i.holder() + " does not see the server"
	case scope.CauseServer:
		return "the token is for another server"
	case scope.CauseAddress:
		if !i.at.ClientIP.IsValid() {
			return "the token is for certain client addresses, and none was given"
		}
		return "the token is not for this client address"
	case scope.CauseTime:
		return "the token is not for this time"
	case scope.CausePermission:
		return "the token's own permissions lack " + permission
	case scope.CauseOAuth:
		return "the token's OAuth scopes do not give " + permission
	default:
		return "this is beyond the token"
	}
}

func (i *Inquiry) describeDecision(d policy.Decision, permission string) string {
	switch d.Reason {
	case policy.HiddenObject:
		return i.holder() + " does not see " + d.Hidden
	case policy.Denied:
		if d.Err != nil {
			return "a rule denies it, because its condition cannot be evaluated: " + d.Err.Error()
		}
		return "a rule denies it"
	case policy.ConditionFalse:
		return "the condition of the rule does not hold"
	case policy.ConditionFailed:
		return "the condition of the rule cannot be evaluated: " + d.Err.Error()
	default:
		if i.principal.set.IsEmpty() {
			if i.principal.vouched {
				return "this principal has no role"
			}
			return "the token gives no role"
		}
		return "no rule allows " + permission
	}
}

// helpful returns the scopes that the token lacks, none of which can be left out, so
// that the gate allows it.
func (i *Inquiry) helpful(asked *composed, v ruling) []string {
	const most = 20
	var scopes []string
	for at := i; !v.allowed; v = at.try(asked) {
		if v.last == nil || len(scopes) > most {
			return nil
		}
		if at.principal.scopeless() {
			return nil
		}
		more := at.principal.missingScopes([]policy.Question{*v.last})
		if len(more) == 0 {
			return nil
		}
		scopes = append(scopes, more...)
		if at = i.with(scopes); at == nil {
			return nil
		}
	}
	for n := len(scopes) - 1; n >= 0 && len(scopes) > 1; n-- {
		fewer := slices.Delete(slices.Clone(scopes), n, n+1)
		if at := i.with(fewer); at != nil && at.try(asked).allowed {
			scopes = fewer
		}
	}
	slices.Sort(scopes)
	return scopes
}

// Interface guard
var _ http.ResponseWriter = silent{}
