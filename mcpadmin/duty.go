package mcpadmin

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

// duty is an operation of administrators. It is written once, and asked for in two
// places: below /admin by administrators who have logged in, and below /mcp_gateway on
// Caddy's own admin endpoint by whoever may use that.
type duty struct {
	method, path, summary string
	query                 []string
	body, answer          any
	status                int
	// refusals are the statuses of errors beside those that every duty can have; see
	// errorsOf.
	refusals []int
	// optional is whether the body may be left out.
	optional bool
	// do does it. What it returns is the body of the answer.
	do func(ctx context.Context, e *errand) (any, error)
}

// duties are all of them.
func duties() []duty {
	return slices.Concat(userDuties, roleDuties, teamDuties, tokenDuties, sessionDuties, keyDuties, revocationDuties, serverDuties)
}

// errand is one request for a duty.
type errand struct {
	// by is who asks. They may.
	by     account.Actor
	app    *mcpauth.App
	logger *zap.Logger
	query  url.Values
	w      http.ResponseWriter
	r      *http.Request
}

// entrance finds out who sends a request, and of which gateway it asks. It refuses
// whoever may not.
type entrance func(r *http.Request) (*errand, error)

// operation is the duty, asked for below a path by those whom the entrance lets in.
func (d duty) operation(below string, enter entrance) operation {
	o := operation{
		method: d.method, path: below + d.path, summary: d.summary, body: d.body, answer: d.answer, status: d.status,
		access: administering, refusals: d.refusals, optional: d.optional,
		act: func(w http.ResponseWriter, r *http.Request) (*answer, error) {
			e, err := enter(r)
			if err != nil {
				return nil, err
			}
			e.w, e.r = w, r
			if e.query, err = readQuery(r.URL.RawQuery, d.query); err != nil {
				return nil, err
			}
			body, err := d.do(r.Context(), e)
			if err != nil {
				return nil, err
			}
			return &answer{d.status, body}, nil
		},
	}
	if len(d.query) > 0 {
		o.query = d.query
	}
	return o
}

// readQuery refuses parameters that mean nothing, and those that are there twice.
func readQuery(raw string, known []string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badQuery("the query can't be read")
	}
	for name, value := range values {
		if !slices.Contains(known, name) {
			return nil, badQuery("the query has an unknown parameter")
		}
		if len(value) > 1 {
			return nil, badQuery("the query has a parameter twice: " + name)
		}
	}
	return values, nil
}

func badQuery(message string) error {
	return &refusal{status: http.StatusBadRequest, reason: "query_invalid", message: message}
}

// value is a part of the path.
func (e *errand) value(name string) string { return e.r.PathValue(name) }

// read reads the body. No member of it may be null: what is not to be changed is left
// out.
func (e *errand) read(into any) error {
	body, err := load(e.w, e.r, "application/json")
	if err != nil {
		return err
	}
	if err := decode(body, into); err != nil {
		return err
	}
	members := jsontext.NewDecoder(strings.NewReader(string(body)))
	for {
		token, err := members.ReadToken()
		if err != nil {
			return nil // the end: it was decoded before
		}
		if token.Kind() == 'n' {
			return malformed("a member of the body is null; leave it out")
		}
	}
}

var (
	errNoAccounts = &refusal{status: http.StatusNotFound, reason: "accounts_off", message: "the running configuration has no accounts"}
	errNoIssuer   = &refusal{status: http.StatusNotFound, reason: "tokens_off", message: "the running configuration makes no tokens"}
)

// desk is where accounts are changed.
func (e *errand) desk() (*login.Desk, error) {
	if desk := e.app.Desk(); desk != nil {
		return desk, nil
	}
	return nil, errNoAccounts
}

func (e *errand) issuer() (*issue.Issuer, error) {
	if issuer := e.app.Issuer(); issuer != nil {
		return issuer, nil
	}
	return nil, errNoIssuer
}

// audit logs what was done, where what does it does not.
func (e *errand) audit(action string, fields ...zap.Field) {
	e.logger.Info("audit", append([]zap.Field{
		zap.String("action", action), zap.String("actor", e.by.Name), zap.String("actor_id", e.by.ID), zap.String("client_ip", e.by.Address),
	}, fields...)...)
}

// The limits of lists.
const (
	defaultLimit = 50
	maxLimit     = 1000
	maxOffset    = 1_000_000
)

// paging are the parameters of a list.
var paging = []string{"limit", "offset"}

// list returns the part of a list that the query asks for, and where the next one
// begins; 0 if there is none. Scan returns what comes after an element.
func list[T any](e *errand, scan func(after string, limit int) ([]T, string, error)) (items []T, next int, err error) {
	limit, err := e.number("limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return nil, 0, err
	}
	offset, err := e.number("offset", 0, 0, maxOffset)
	if err != nil {
		return nil, 0, err
	}
	skip, after := offset, ""
	for len(items) <= limit {
		batch, rest, err := scan(after, state.MaxScan)
		if err != nil {
			return nil, 0, err
		}
		n := min(skip, len(batch))
		skip -= n
		items = append(items, batch[n:]...)
		if rest == "" {
			break
		}
		after = rest
	}
	if len(items) > limit {
		return items[:limit], offset + limit, nil
	}
	return items, 0, nil
}

func (e *errand) number(name string, otherwise, least, most int) (int, error) {
	if !e.query.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(e.query.Get(name))
	if err != nil || n < least || n > most {
		return 0, badQuery(name + " must be a number from " + strconv.Itoa(least) + " to " + strconv.Itoa(most))
	}
	return n, nil
}
